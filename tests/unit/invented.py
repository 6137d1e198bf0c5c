"""Pairs of small models whose differences are put there by hand."""

from pathlib import Path

import numpy as np
import torch

from splinter.align import Pair, Port, Rule, Side, WeightMap

BATCH = {"x": np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")}


def pair_of(theirs, ours, batch=BATCH, dtype="float64", framework="torch", loss=None, build=(None, None)):
    """Two models (functions that build one) as a Pair; theirs is torch's and gives its weights to ours, by name.

    Args:
        framework: of ours; Paddle keeps a Linear's matrix the other way round.
        loss: (model, outputs, batch) -> scalar.
        build: what the initialisers leave, theirs and ours.
    """

    def names():
        return [name for name, _ in theirs().named_parameters()]

    def rules(mode):
        turned = {name for name, p in theirs().named_parameters() if framework == "paddle" and p.dim() == 2}
        return WeightMap([Rule(name, name, transpose=name in turned) for name in names()])

    def forward(model, batch):
        made = model(**batch)
        return made if isinstance(made, dict) else {"out": made}

    def side(kind, framework, load, built, sources):
        def own(model, batch):  # the two sides of a pair have no function in common
            return forward(model, batch)

        return Side(framework, sources, kind, lambda folder: load(), lambda folder: (built or load)(), own, loss)

    port = Port(
        name="invented",
        steps=("forward", "backward", "init"),
        weights=rules,
        batches=lambda folder, mode: {"batch": batch},
        train_batches=lambda folder, mode: [],
        theirs=lambda mode: side("toy", "torch", theirs, build[0], ("json",)),
        ours=lambda mode: side("port", framework, ours, build[1], ("csv",)),
    )
    return Pair(port, "hf", "tiny", Path("tiny"), dtype)


def seeded(make, seed=0):
    """A function that builds a torch model with weights of a seed, none of them zero or one."""

    def build():
        model = make()
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draw) / 2)
        return model

    return build
