"""The checklist: eleven steps, each a test over every port, mode, checkpoint and precision."""

from tolerances import TOLERANCES

from splinter.align import steps
from splinter.align.plugin import cases
from splinter.ports import proofs

PORTS = proofs.load_all()  # light objects; frameworks load when a pair is built


@cases(PORTS, TOLERANCES, "forward")
def test_forward(pair, tolerance, align):
    """The same batch through the same weights gives the same tensors, layer by layer."""
    align(steps.forward(pair), tolerance)


@cases(PORTS, TOLERANCES, "dev_data")
def test_dev_data(pair, tolerance, align):
    """Whole evaluation files become the same arrays on both sides."""
    align(steps.dev_data(pair), tolerance)


@cases(PORTS, TOLERANCES, "metric")
def test_metric(pair, tolerance, align):
    """The same predictions get the same scores, the same logits the same predictions."""
    align(steps.metric(pair), tolerance)


@cases(PORTS, TOLERANCES, "loss")
def test_loss(pair, tolerance, align):
    """The same logits and labels give the same loss and the same gradient of the logits."""
    align(steps.loss(pair), tolerance)


@cases(PORTS, TOLERANCES, "lr")
def test_lr(pair, tolerance, align):
    """Every update uses the same learning rate."""
    align(steps.lr(pair), tolerance)


@cases(PORTS, TOLERANCES, "optimizer")
def test_optimizer(pair, tolerance, align):
    """1000 updates from the same gradients give the same weights and moments."""
    align(steps.optimizer(pair), tolerance)


@cases(PORTS, TOLERANCES, "regularization")
def test_regularization(pair, tolerance, align):
    """The same parameters decay by the same factor, dropout stands in the same places."""
    align(steps.regularization(pair), tolerance)


@cases(PORTS, TOLERANCES, "backward")
def test_backward(pair, tolerance, align):
    """Every parameter gets the same gradient, and twenty updates leave the same weights."""
    align(steps.backward(pair), tolerance)


@cases(PORTS, TOLERANCES, "train_data")
def test_train_data(pair, tolerance, align):
    """Whole training files become the same arrays and labels on both sides."""
    align(steps.train_data(pair), tolerance)


@cases(PORTS, TOLERANCES, "init")
def test_init(pair, tolerance, align):
    """Freshly built models follow the same laws."""
    align(steps.init(pair), tolerance)


@cases(PORTS, TOLERANCES, "training")
def test_training(pair, tolerance, align):
    """A whole few-shot run gives the same curve, the same answers and the same scores."""
    align(steps.training(pair), tolerance)
