"""Decoding on models of a few lines: who decodes, what is proven, labels, a cache."""

import numpy as np
import pytest
import torch
from torch import nn

from splinter.align import prove


class Config:
    vocab_size = 11


class Words(nn.Module):
    """A causal model: each token sees the mean of itself and those before it; the cache is their sum."""

    def __init__(self, causal=True, forgets=False):
        super().__init__()
        self.config, self.causal, self.forgets = Config(), causal, forgets
        self.embed, self.head = nn.Embedding(11, 6), nn.Linear(6, 11)

    def forward(self, input_ids, labels=None, use_cache=False, past_key_values=None):
        states = self.embed(input_ids)
        total, count = past_key_values or (torch.zeros_like(states[:, 0]), 0)
        sums = states.cumsum(1) if self.causal else states.sum(1, keepdim=True).expand_as(states)
        places = torch.arange(1, states.shape[1] + 1) + count
        logits = self.head((sums + total.unsqueeze(1)) / places.view(1, -1, 1))
        found = {"logits": logits}
        if use_cache:
            kept = torch.zeros_like(total) if self.forgets else total + states.sum(1)
            found["past_key_values"] = (kept, count + states.shape[1])
        if labels is not None:
            found["loss"] = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return found


class Port(Words):
    pass


IDS = np.random.default_rng(0).integers(0, 11, (2, 5))


def checks(ours, **batch):
    proof = prove(lambda: Words(), ours, {"input_ids": IDS, **batch}, steps=["decode"], updates=1)
    return proof, {check.name: check.passed for check in proof.checks}


@pytest.mark.parametrize("batch", [{}, {"labels": IDS}], ids=["plain", "labels"])
def test_a_causal_model_decodes_with_a_cache_as_without(batch):
    """
    Ten tokens for two rows; labels do not grow with them, and are left out.
    """
    proof, found = checks(lambda: Port(), **batch)
    assert found == {"decode": True}, str(proof)
    names = [one.name for one in proof.checks[0].alignment.comparisons]
    assert "token 10/logits" in names and "with a cache/logits" in names
    assert "20 of 20 greedy tokens are proven by their gap" in str(proof)


def test_a_cache_that_forgets_is_caught():
    proof, found = checks(lambda: Port(forgets=True))
    assert found == {"decode": False}
    assert "with a cache/logits" in str(proof)


def test_a_model_that_looks_ahead_decodes_nothing():
    proof = prove(lambda: Words(causal=False), lambda: Port(causal=False), {"input_ids": IDS}, updates=1)
    assert proof.passed, str(proof)
    assert proof.left["decode"] == "no output of theirs is a next token's logits"
