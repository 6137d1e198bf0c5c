"""PaddleFormers' ports of models that `transformers` 5 has.

`paddleformers` tells `transformers` on import that there is no torch; so the originals are looked up before it is.
"""

import importlib
from collections.abc import Callable
from typing import Any

from findings import FINDINGS
from foreign import PADDED, Foreign, built, ids

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
}
SLIDING = {**SIZES, "sliding_window": 4}
GEMMA = {**SLIDING, "query_pre_attn_scalar": 8}
EXPERTS = {**SLIDING, "num_local_experts": 4, "num_experts_per_tok": 2}
ON_CPU = {"fuse_rms_norm": False, "_attn_implementation": "eager"}
"""Else kernels are called that the wheel for CPUs lacks."""
ORIGINALS: list[str] = []


def formers(
    name: str,
    model: str,
    config: dict[str, Any],
    batch: dict[str, Any] = PADDED,
    cannot: str = "",
    **options: Any,
) -> Foreign:
    """One model of both libraries in the same configuration."""
    ORIGINALS.append(model)
    theirs = built("transformers", model, **config, attn_implementation="eager")
    ours = built("paddleformers.transformers", model, **config, **ON_CPU)
    return Foreign(name, "paddleformers", first(theirs), first(ours), batch, options, FINDINGS.get(name, {}), cannot)


def first(build: Callable[[], Any]) -> Callable[[], Any]:
    """The builder, after every original has been looked up."""

    def found() -> Any:
        library = importlib.import_module("transformers")
        for model in ORIGINALS:
            getattr(library, model)
        return build()

    return found


LABELS = {**PADDED, "labels": ids(seed=3)}

PAIRS = [
    formers("formers-llama", "LlamaModel", SIZES),
    formers("formers-llama-words", "LlamaForCausalLM", SIZES, LABELS),
    formers("formers-phi3", "Phi3Model", SIZES),
    formers("formers-phi3-words", "Phi3ForCausalLM", SIZES),
    formers("formers-gemma3", "Gemma3TextModel", GEMMA),
    formers("formers-gemma3-words", "Gemma3ForCausalLM", GEMMA),
    formers("formers-gpt-oss", "GptOssModel", EXPERTS),
    formers("formers-gpt-oss-words", "GptOssForCausalLM", EXPERTS),
    formers("formers-ernie4.5", "Ernie4_5Model", SIZES),
    formers("formers-ernie4.5-words", "Ernie4_5ForCausalLM", SIZES),
]
