"""A model that a checkpoint fills draws no weights; one with new parts draws as a whole new one does."""

import numpy as np
import paddle
import pytest
from paddle import nn

from splinter.ports.common.paddle.model import to_numpy
from splinter.ports.funnel import model as funnel
from splinter.ports.funnel.proof import cases as funnel_cases
from splinter.ports.jointbert import model as jointbert
from splinter.ports.jointbert.proof import cases as jointbert_cases
from splinter.ports.multitask import model as multitask
from splinter.ports.multitask.proof import cases as multitask_cases
from splinter.ports.splinter import model as splinter
from splinter.ports.splinter.proof import cases as splinter_cases

MODELS = {
    "splinter": (splinter.SplinterForQuestionAnswering, splinter_cases),
    "jointbert": (jointbert.JointBert, jointbert_cases),
    "funnel": (funnel.FunnelForQuestionAnswering, funnel_cases),
    "multitask": (multitask.MultitaskBert, multitask_cases),
}
systems = pytest.mark.parametrize(("kind", "cases"), MODELS.values(), ids=MODELS)


@systems
def test_a_whole_checkpoint_draws_no_matrices(kind, cases, monkeypatch):
    """
    Opening takes no random numbers for what is read; a model that is built afterwards draws again.
    """
    drawn, plain = [], nn.initializer.Normal.forward
    monkeypatch.setattr(nn.initializer.Normal, "forward", lambda self, *given: drawn.append(1) or plain(self, *given))
    model = kind.from_pretrained(cases.tiny())
    assert not drawn
    kind(model.config)
    assert drawn


def test_a_fresh_head_is_that_of_a_whole_new_model():
    """
    The same numbers for the same seed: runs with a new head stay what they were.
    """
    kind, cases = MODELS["splinter"]
    paddle.seed(7)
    opened = kind.from_pretrained(cases.tiny(), head="fresh")
    paddle.seed(7)
    new = kind(opened.config)
    head = [name for name in to_numpy(new) if name.startswith("cls.")]
    assert head and all(np.array_equal(to_numpy(opened)[name], to_numpy(new)[name]) for name in head)
