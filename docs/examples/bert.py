"""BERT, from transformers to paddlenlp, tiny and with random weights; a fault is planted: ours has another epsilon."""

import numpy as np
from paddlenlp.transformers import BertConfig as OurConfig
from paddlenlp.transformers import BertModel as OurModel
from transformers import BertConfig, BertModel

SIZES = {"vocab_size": 101, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 48, "max_position_embeddings": 64, "type_vocab_size": 2}  # fmt: skip


def theirs():
    return BertModel(BertConfig(**SIZES))


def ours():
    return OurModel(OurConfig(**SIZES, layer_norm_eps=1e-5))


def batch():
    ids = np.random.default_rng(0).integers(1, 101, (3, 12))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}
