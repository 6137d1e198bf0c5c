"""One process of a team that pretrains: started by the launchers of both frameworks in test_pretraining_team.py.

arguments: torch or paddle, and the folder where the first process writes shared.npz, and unshared.npz from a
second run in which every process keeps its gradients to itself.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from splinter.ports import recipe, tasks
from splinter.ports.splinter import cases, pretraining, pretraining_cases


def run(framework: str, target: Path) -> None:
    """Five updates in float64, without dropout."""
    side = tasks.backend("splinter", framework)
    driver = __import__(f"splinter.align.{framework}_side", fromlist=["cast"])
    folder, team = cases.tiny(), side.Team()
    model = driver.cast(side.load(folder, "paper", "pretraining"), "float64")
    # 34 passages in batches of 11: the shares of two processes differ, the last micro-batch is smaller, and of the
    # last batch, of one row, one process has nothing
    hyper = replace(pretraining_cases.training_recipe(folder), batch_size=11, micro_batch=4, max_steps=5)
    feed = pretraining.Passages(pretraining_cases.corpus("sample/train"), hyper, model.config.question_token_id)
    trainer = side.pretrainer(model, hyper, team=team)
    log = recipe.fit(trainer, feed, hyper, lead=team.rank == 0)
    if team.rank == 0:
        curves = {f"curve/{name}": np.array([entry[name] for entry in log]) for name in ("loss", "norm")}
        np.savez(target, size=team.size, **trainer.state(), **curves)


def main(framework: str, folder: str) -> None:
    run(framework, Path(folder) / "shared.npz")
    tasks.backend("splinter", framework).Team.add_up = lambda self, loss, parameters, updates: loss
    run(framework, Path(folder) / "unshared.npz")


if __name__ == "__main__":
    main(*sys.argv[1:])
