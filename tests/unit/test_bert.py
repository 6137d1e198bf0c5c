"""bert.py: a plain BERT in every layout that transformers has written, read as transformers reads it."""

from dataclasses import fields

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import save_file

from splinter.ports.common import bert, checkpoint
from splinter.ports.common.checkpoint import BertConfig, CheckpointError
from splinter.ports.jointbert.config import JointConfig
from splinter.ports.multitask.config import MultitaskConfig

SIZES = {
    "vocab_size": 40,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
}


@pytest.fixture
def pretraining(tmp_path):
    """(folder, tensors) of a BertForPreTraining with every tensor distinct, under the names of 2019."""
    model = transformers.BertForPreTraining(transformers.BertConfig(**SIZES))
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(size=tuple(parameter.shape)).astype("float32")))
    model.config.save_pretrained(tmp_path)
    return tmp_path, {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}


def old_names(name):
    """LayerNorm's weight and bias were gamma and beta."""
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


@pytest.mark.parametrize("layout", ["new names", "gamma and beta", "bare"])
def test_a_plain_bert_is_read_as_transformers_reads_it(pretraining, layout):
    """
    Tensor by tensor what BertModel.from_pretrained loads from the same file; heads and constants left behind.
    """
    folder, tensors = pretraining
    stored = {"new names": tensors, "gamma and beta": {old_names(n): a for n, a in tensors.items()}}.get(layout)
    if layout == "bare":
        stored = {n.removeprefix("bert."): a for n, a in tensors.items() if n.startswith("bert.")}
    stored = {name: np.ascontiguousarray(array) for name, array in stored.items()}
    prefix = "" if layout == "bare" else "bert."
    stored[f"{prefix}embeddings.position_ids"] = np.arange(16)[None]
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    values, found, head = bert.read_bert(folder, r"^intent_classifier\.")
    theirs = transformers.BertModel.from_pretrained(folder).state_dict()
    assert found.keys() == {f"bert.{name}" for name in theirs}
    for name, tensor in theirs.items():
        assert np.array_equal(found[f"bert.{name}"], tensor.numpy()), name
    assert (values["hidden_size"], head) == (8, False)


def test_without_a_pooler_a_bert_is_refused(pretraining):
    """
    A BertForMaskedLM has none; the heads here read it.
    """
    folder, tensors = pretraining
    kept = {n: np.ascontiguousarray(a) for n, a in tensors.items() if "pooler" not in n}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="holds no pooler"):
        bert.read_bert(folder, "^head")


@pytest.mark.parametrize("kind", [BertConfig, JointConfig, MultitaskConfig])
def test_defaults_are_those_of_transformers(kind):
    """
    The twins are built from our configuration, so a wrong default would be equal on both sides.
    """
    theirs = transformers.BertConfig()
    shared = [field.name for field in fields(BertConfig)]
    ours = checkpoint.config_from_dict(kind, {"vocab_size": 30522}, "here")
    assert {name: getattr(ours, name) for name in shared} == {name: getattr(theirs, name) for name in shared}


def test_the_heads_have_the_dropout_of_their_sources():
    """
    monologg/JointBERT 0.1, minBERT 0.3; encoder's rates are another matter.
    """
    assert JointConfig(vocab_size=9).dropout_rate == 0.1
    assert JointConfig(vocab_size=9).slot_loss_coef == 1.0
    assert MultitaskConfig().head_dropout_prob == 0.3


def test_the_head_of_another_system_is_named(pretraining):
    """
    A model of a sibling system is no plain BERT.
    """
    folder, tensors = pretraining
    kept = {n: np.ascontiguousarray(a) for n, a in tensors.items() if n.startswith("bert.")}
    save_file(kept | {"intent_classifier.linear.bias": np.zeros(3, "float32")}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"'intent_classifier\.linear\.bias', the head of another model; take"):
        bert.read_bert(folder, r"^similarity_")
