"""paddlenlp's ports of models that `transformers` has."""

from typing import Any

import numpy as np
from findings import FINDINGS
from foreign import PADDED, PADDING, TEXT, WHOLE, Foreign, built, ids, mask

SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "initializer_range": 0.2,  # at 0.02 so small a model attends to all tokens alike, and much would go unseen
}
UNTYPED = {name: value for name, value in SIZES.items() if name != "type_vocab_size"}
RELATIVE = {**SIZES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
SEQ2SEQ = {
    "vocab_size": 99,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 64,
    "init_std": 0.2,
    "activation_function": "gelu",
    "scale_embedding": False,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
T5 = {
    "vocab_size": 99,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 40,
    "num_layers": 2,
    "num_heads": 4,
    "bos_token_id": 0,
    "decoder_start_token_id": 0,
}

LABELS = {"labels": np.array([1, 0])}
TAGS = {"labels": ids(words=8) - 6}
SPAN = {"start_positions": np.array([1, 2]), "end_positions": np.array([4, 5])}
BOTH = {**PADDED, "decoder_input_ids": ids(tokens=7, seed=1)}
TWELVE = {"input_ids": ids(tokens=12), "attention_mask": mask(12, 7, tokens=12)}
SQUARES = np.sort(np.random.default_rng(2).integers(0, 60, size=(2, 9, 2, 2)), axis=2).reshape(2, 9, 4)
"""(2, 9, 4) int64: left, top, right, bottom of each token's box."""


def text(
    name: str,
    model: str,
    config: dict[str, Any],
    batch: dict[str, Any] = TEXT,
    *,
    theirs: dict[str, Any] | None = None,
    ours: dict[str, Any] | None = None,
    our_model: str = "",
    cannot: str = "",
    **options: Any,
) -> Foreign:
    """One model of both libraries: the same configuration but for what each names its own way."""
    return Foreign(
        name,
        "paddlenlp",
        built("transformers", model, **{**config, "attn_implementation": "eager", **(theirs or {})}),
        built("paddlenlp.transformers", our_model or model, **{**config, **(ours or {})}),
        batch,
        options,
        FINDINGS.get(name, {}),
        cannot,
    )


ENCODERS = [
    text("bert", "BertModel", SIZES, PADDING),
    text("bert-qa", "BertForQuestionAnswering", SIZES, {**TEXT, **SPAN}),
    text("bert-classes", "BertForSequenceClassification", SIZES, {**TEXT, **LABELS}),
    text("bert-tags", "BertForTokenClassification", SIZES, {**TEXT, **TAGS}),
    text("bert-words", "BertForMaskedLM", SIZES, {**TEXT, "labels": ids(seed=3)}),
    text("roberta", "RobertaModel", SIZES, PADDING),
    text("roberta-classes", "RobertaForSequenceClassification", SIZES, {**TEXT, **LABELS}),
    text("roberta-qa", "RobertaForQuestionAnswering", SIZES, {**TEXT, **SPAN}),
    text("electra", "ElectraModel", {**SIZES, "embedding_size": 16}),
    text("electra-classes", "ElectraForSequenceClassification", {**SIZES, "embedding_size": 16}, {**TEXT, **LABELS}),
    text("albert", "AlbertModel", {**SIZES, "embedding_size": 16, "hidden_act": "gelu"}),
    text("distilbert", "DistilBertModel", UNTYPED, PADDED, theirs={"hidden_dim": 40}),
    text("ernie", "ErnieModel", SIZES),
    text("ernie-tags", "ErnieForTokenClassification", SIZES, {**TEXT, **TAGS}),
    text("convbert", "ConvBertModel", {**SIZES, "embedding_size": 32, "conv_kernel_size": 3, "head_ratio": 2}),
    text("nystromformer", "NystromformerModel", {**SIZES, "num_landmarks": 4, "segment_means_seq_len": 12}, TWELVE),
    text("squeezebert", "SqueezeBertModel", {**SIZES, "embedding_size": 32}),
    text("mobilebert", "MobileBertModel", {**SIZES, "embedding_size": 16, "intra_bottleneck_size": 16,
                                           "classifier_activation": True, "initializer_range": 0.05},
         ours={"true_hidden_size": 16}),
    text("megatronbert", "MegatronBertModel", SIZES),
    text("layoutlm", "LayoutLMModel", {**SIZES, "max_2d_position_embeddings": 64}, {**TEXT, "bbox": SQUARES}),
    text("roformer", "RoFormerModel", {**SIZES, "embedding_size": 32}),
    text("rembert", "RemBertModel", {**SIZES, "input_embedding_size": 16}, cannot="must be Tensor, but got tuple"),
    text("mpnet", "MPNetModel", {**UNTYPED, "layer_norm_eps": 1e-12, "pad_token_id": 1},
         {**PADDED, "input_ids": np.where(mask(9, 6), ids(), 1)},  # their padding has id 1, whatever is configured
         skip=r"^encoder$"),  # hands on a list of all layers' states
    text("fnet", "FNetModel", {n: v for n, v in SIZES.items() if n != "num_attention_heads"}, WHOLE),
    text("bigbird", "BigBirdModel", SIZES, theirs={"attention_type": "original_full", "hidden_act": "gelu"},
         ours={"attention_type": "default_attention", "activation": "gelu", "act_dropout": 0.0}),
    text("nezha", "NezhaModel", {**SIZES, "max_relative_position": 8}, our_model="NeZhaModel",
         ours={"use_relative_position": True}, skip=r"^encoder$"),
    text("ernie-m", "ErnieMModel", {**UNTYPED, "intermediate_size": 128}, PADDED),
    text("ernie-m-narrow", "ErnieMModel", UNTYPED, PADDED, cannot="linear1"),
    text("deberta", "DebertaModel", {**RELATIVE, "position_biased_input": False}),
    text("deberta-v2", "DebertaV2Model", RELATIVE),
    text("xlnet", "XLNetModel", {"vocab_size": 99, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 40,
                                 "initializer_range": 0.2}, cannot="type of data we are trying to retrieve (float64)"),
    text("xlm", "XLMModel", {"vocab_size": 99, "emb_dim": 32, "n_layers": 2, "n_heads": 4,
                             "max_position_embeddings": 64}, PADDED),
    text("reformer", "ReformerModel", {"vocab_size": 99, "hidden_size": 32, "attn_layers": ["local", "local"],
        "num_attention_heads": 4, "attention_head_size": 8, "feed_forward_size": 40, "max_position_embeddings": 64,
        "axial_pos_shape": [8, 8], "axial_pos_embds_dim": [16, 16], "local_attn_chunk_length": 4, "is_decoder": False,
        "num_hidden_layers": 2},
        {"input_ids": ids(tokens=16)},
         steps=("weights", "forward", "init")),
]  # fmt: skip

DECODERS = [
    text("gpt2", "GPT2Model", {"vocab_size": 99}, PADDED, our_model="GPTModel",
         theirs={"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 40, "n_positions": 64,
                 "activation_function": "gelu_new", "initializer_range": 0.2},
         ours={**UNTYPED, "hidden_activation": "gelu"}),
    text("gpt2-words", "GPT2LMHeadModel", {"vocab_size": 99}, WHOLE, our_model="GPTForCausalLM",
         theirs={"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 40, "n_positions": 64,
                 "activation_function": "gelu_new", "initializer_range": 0.2},
         ours={**UNTYPED, "hidden_activation": "gelu"}),
    text("opt", "OPTModel", UNTYPED, PADDED, theirs={"ffn_dim": 40, "init_std": 0.2}, ours={"word_embed_proj_dim": 32}),
    text("opt-words", "OPTForCausalLM", UNTYPED, PADDED, theirs={"ffn_dim": 40, "init_std": 0.2},
         ours={"word_embed_proj_dim": 32}),
    text("llama", "LlamaModel", UNTYPED, PADDED),
    text("llama-words", "LlamaForCausalLM", {**UNTYPED, "num_key_value_heads": 2}, PADDED),
    text("mixtral", "MixtralForCausalLM", {**UNTYPED, "num_key_value_heads": 2, "num_local_experts": 4}, PADDED,
         cannot="Broadcast dimension mismatch"),
    text("bloom", "BloomModel", {"vocab_size": 99, "hidden_size": 32, "n_layer": 2, "n_head": 4,
                                 "initializer_range": 0.2}, PADDED),
    text("bloom-words", "BloomForCausalLM", {"vocab_size": 99, "hidden_size": 32, "n_layer": 2, "n_head": 4,
                                             "initializer_range": 0.2}, PADDED),
    text("ctrl", "CTRLModel", {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "dff": 40,
                               "n_positions": 64, "initializer_range": 0.2}, PADDED),
    text("gptj", "GPTJModel", {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4,
                               "n_positions": 64, "initializer_range": 0.2}, PADDED,
         cannot="expected to be a boolean Tensor"),
    text("codegen", "CodeGenModel", {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4,
                                     "n_positions": 64, "n_ctx": 64, "initializer_range": 0.2}, PADDED,
         cannot="expected to be a boolean Tensor"),
    text("falcon", "FalconModel", {"vocab_size": 99, "hidden_size": 32, "initializer_range": 0.2, "bias": True,
                                   "parallel_attn": True, "multi_query": True, "alibi": False}, PADDED,
         our_model="RWModel", theirs={"num_hidden_layers": 2, "num_attention_heads": 4},
         ours={"n_layer": 2, "n_head": 4}),
]  # fmt: skip

SEQ2SEQS = [
    text("t5", "T5Model", T5, BOTH),
    text("t5-words", "T5ForConditionalGeneration", T5, {**PADDED, "labels": ids(tokens=7, seed=1)}),
    text("mt5", "MT5Model", {**T5, "feed_forward_proj": "gated-gelu"}, BOTH),
    text("bart", "BartModel", SEQ2SEQ, BOTH),
    text("bart-classes", "BartForSequenceClassification", {**SEQ2SEQ, "num_labels": 3, "classifier_dropout": 0.1},
         {"input_ids": np.where(np.arange(9) == 8, 2, ids()), **LABELS}),
    text("mbart", "MBartModel", SEQ2SEQ, BOTH),
    text("pegasus", "PegasusModel", SEQ2SEQ, BOTH),
    text("blenderbot", "BlenderbotModel", SEQ2SEQ, BOTH,
         ours={"num_encoder_layers": 2, "num_decoder_layers": 2}),
    text("blenderbot-small", "BlenderbotSmallModel", SEQ2SEQ, BOTH,
         ours={"num_encoder_layers": 2, "num_decoder_layers": 2}),
    text("prophetnet", "ProphetNetModel", {"vocab_size": 99, "hidden_size": 32, "encoder_ffn_dim": 40,
        "decoder_ffn_dim": 40, "num_encoder_layers": 2, "num_decoder_layers": 2, "num_encoder_attention_heads": 4,
        "num_decoder_attention_heads": 4, "max_position_embeddings": 64, "init_std": 0.2, "pad_token_id": 0},
        {n: BOTH[n] for n in ("input_ids", "decoder_input_ids")}),  # in float64 their mask makes NaN
]  # fmt: skip

PAIRS = [*ENCODERS, *DECODERS, *SEQ2SEQS]
