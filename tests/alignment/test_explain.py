"""A failed forward pass is explained: where the fault lies and of which kind it is."""

import planted
import pytest
from tolerances import BELOW_AN_EPSILON, row

from splinter.align import Pair, steps
from splinter.align.explain import explain
from splinter.ports import proofs

BUGS = {(bug.system, bug.name): bug for bug in planted.every()}
EXPECTED = [
    ("splinter", "square Linear copied without transpose", "layout", "bert.encoder.0.attention.query"),
    ("splinter", "query and key swapped in the name map", "weight", "bert.encoder.0.attention.query"),
    ("splinter", "encoder LayerNorm epsilon 1e-5 for 1e-12", "epsilon", "bert.encoder.0.attention.norm"),
    ("splinter", "tanh gelu for erf", "activation", "bert.encoder.0.outer"),
    ("splinter", "attention mask forgotten", "attention", "bert.encoder.0.attention.output"),
    ("splinter", "scores not scaled by the head width", "attention", "bert.encoder.0.attention.output"),
    ("splinter", "segment ids dropped", "data", "bert.embeddings.segment"),
    ("splinter", "TF32 products", "reduced precision", "bert.encoder.0.attention.output"),
    ("jointbert", "pooled without tanh", "activation", "intent"),
    ("funnel", "padding left out of the mean", "mask", "blocks.1.0.attention"),
]


@pytest.mark.parametrize(
    ("bug", "kind", "place"),
    [(BUGS[system, name], kind, place) for system, name, kind, place in EXPECTED],
    ids=lambda one: getattr(one, "name", None),
)
def test_forward_faults_are_named(bug, kind, place, port, monkeypatch):
    """The kind, the layer, and one line that says both."""
    bug.plant(monkeypatch)
    pair = Pair(port, bug.mode, "tiny", port.checkpoints["tiny"](), bug.dtype)
    allowed = row(port, "forward", bug.dtype)
    failed = steps.forward(pair).judge(allowed)
    found = explain(pair, allowed, failed.first_divergence.name.partition("/")[0])
    assert found.kind == kind, found.sentence
    assert place in found.place, found.sentence
    assert "\n" not in found.sentence and found.sentence.startswith(kind)


def test_a_small_fault_in_float32_is_not_taken_for_rounding(monkeypatch):
    """A wrong epsilon moves float32 by some hundred eps: float64 tells that from rounding."""
    bug = BUGS["splinter", "encoder LayerNorm epsilon 1e-5 for 1e-12"]
    bug.plant(monkeypatch)
    port = next(one for one in proofs.load_all() if one.name == "splinter")
    pair = Pair(port, bug.mode, "tiny", port.checkpoints["tiny"](), "float32")
    found = explain(pair, BELOW_AN_EPSILON)
    assert found.kind == "epsilon", found.sentence
    assert found.place == "bert.encoder.0.attention.norm"
    assert "in float64 as well" in found.sentence
