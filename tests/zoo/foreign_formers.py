"""PaddleFormers' ports of models that `transformers` 5 has.

`paddleformers` tells `transformers` on import that there is no torch; so the originals are looked up before it is.
"""

import importlib
from collections.abc import Callable
from typing import Any

from findings import FINDINGS
from foreign import PADDED, Foreign, built

SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
    "rms_norm_eps": 1e-6,  # a default that differs
}
SLIDING = {**SIZES, "sliding_window": 4}
ONE = {**SIZES, "num_key_value_heads": 1}
"""Queries, keys and values in one matrix lie by key-value heads; with one of these all orders are the same."""
THETA = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
"""The port's default; the original's is 500000."""
GEMMA = {**SLIDING, "num_key_value_heads": 1, "query_pre_attn_scalar": 8}
EXPERTS = {**SLIDING, "num_local_experts": 4, "num_experts_per_tok": 2}
ON_CPU = {"fuse_rms_norm": False, "_attn_implementation": "eager"}
"""Else kernels are called that the wheel for CPUs lacks."""
ORIGINALS: list[str] = []


def formers(
    name: str,
    model: str,
    config: dict[str, Any],
    batch: dict[str, Any] = PADDED,
    theirs: dict[str, Any] | None = None,
    cannot: str = "",
    **options: Any,
) -> Foreign:
    """One model of both libraries in the same configuration."""
    ORIGINALS.append(model)
    original = built("transformers", model, **config, **(theirs or {}), attn_implementation="eager")
    port = built("paddleformers.transformers", model, **config, **ON_CPU)
    return Foreign(name, "paddleformers", first(original), first(port), batch, options, FINDINGS.get(name, {}), cannot)


def first(build: Callable[[], Any]) -> Callable[[], Any]:
    """The builder, after every original has been looked up."""

    def found() -> Any:
        library = importlib.import_module("transformers")
        for model in ORIGINALS:
            getattr(library, model)
        return build()

    return found


PAIRS = [
    formers("formers-llama", "LlamaModel", SIZES),
    formers("formers-llama-words", "LlamaForCausalLM", SIZES),
    formers("formers-phi3", "Phi3Model", SIZES),
    formers("formers-phi3-words", "Phi3ForCausalLM", SIZES),
    formers("formers-gemma3", "Gemma3TextModel", GEMMA),
    formers("formers-gemma3-words", "Gemma3ForCausalLM", GEMMA),
    formers("formers-gpt-oss", "GptOssModel", EXPERTS, cannot="got Double"),
    formers("formers-gpt-oss-words", "GptOssForCausalLM", EXPERTS, cannot="got Double"),
    formers("formers-ernie4.5", "Ernie4_5Model", ONE, theirs=THETA),
    formers("formers-ernie4.5-groups", "Ernie4_5Model", SIZES, theirs=THETA),
    formers("formers-ernie4.5-words", "Ernie4_5ForCausalLM", ONE, theirs=THETA),
]
