"""One process of a team that pretrains: started by the launchers of both frameworks in test_pretraining_team.py.

arguments: torch or paddle, and the folder where the first process writes an .npz file of each run: shared in float64
and in float32, and in float64 one of each fault.
"""

import importlib
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np

from splinter.ports.common import backend
from splinter.ports.common.training import trainer as trainers
from splinter.ports.common.training.feed import parts
from splinter.ports.common.training.fit import fit
from splinter.ports.splinter.pretraining.objective import Passages
from splinter.ports.splinter.pretraining.proof import cases as pretraining_cases
from splinter.ports.splinter.proof import cases


def run(framework: str, target: Path, dtype: str) -> None:
    """Five updates, without dropout."""
    computing = backend.opened("splinter.pretraining", framework)
    driver = importlib.import_module(f"splinter.align.{framework}_side")
    team = computing.team()
    model = driver.cast(computing.open_model(cases.tiny(), dropout=0.0), dtype)
    # 34 passages in batches of 11: the shares of two processes differ, the last micro-batch is smaller, and of the
    # last batch, of one row, one process has nothing
    hyper = replace(pretraining_cases.training_recipe(cases.tiny()), batch_size=11, micro_batch=4, max_steps=5)
    feed = Passages(pretraining_cases.corpus("sample/train"), hyper, model.config.question_token_id)
    trainer = computing.trainer(model, hyper, team=team)
    log = fit(trainer, feed, hyper)
    if team.rank == 0:
        curves = {f"curve/{name}": np.array([entry[name] for entry in log], dtype) for name in ("loss", "norm")}
        np.savez(target, size=team.size, **trainer.state(), **curves)


@contextmanager
def nothing_is_exchanged(team):
    """Each process goes its own way."""
    with patch.object(team, "add_up", lambda self, loss, parameters, updates: loss):
        yield


@contextmanager
def the_mean_of_the_processes(team):
    """What data parallel wrappers do by default; here losses are sums."""
    plain = team.add_up

    def mean(self, loss, parameters, updates):
        parameters = list(parameters)
        loss = plain(self, loss, parameters, updates)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = parameter.grad / self.size
        return loss / self.size

    with patch.object(team, "add_up", mean):
        yield


@contextmanager
def each_weighs_its_own_rows(team):
    """Weights that add up to one over the rows of a process, then the mean of the two: wrong where shares differ."""
    plain = parts

    def reweighed(batch, rows):
        weights = batch["weights"]
        return plain({**batch, "weights": weights / max(weights.sum(), 1e-5) / 2}, rows)

    with patch.object(trainers, "parts", reweighed):
        yield


FAULTS = (nothing_is_exchanged, the_mean_of_the_processes, each_weighs_its_own_rows)


def main(framework: str, folder: str) -> None:
    for dtype in ("float64", "float32"):
        run(framework, Path(folder) / f"{dtype}.npz", dtype)
    for fault in FAULTS:
        with fault(type(backend.opened("splinter.pretraining", framework).team())):
            run(framework, Path(folder) / f"{fault.__name__}.npz", "float64")


if __name__ == "__main__":
    main(*sys.argv[1:])
