"""The few-shot experiment: one run per sampling seed, every run reported, mean with its 95 % interval.

Protocol of Ram et al. 2021, section 5: the training seed is fixed, the five training sets differ; each is
fine-tuned once and evaluated once. No run is repeated, none is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from splinter.experiments import summary
from splinter.ports.recipe import Recipe

from . import tasks


def run(
    settings: tasks.Settings,
    train_files: Mapping[int, Path],
    dev_file: Path,
    folder: Path,
    hyper: Recipe | None = None,
    head: str = "auto",
    limit: int | None = None,
    sample: int | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Fine-tune and evaluate once per training file; a run that is already in `folder` is finished, not repeated.

    Args:
        settings: the checkpoint to start from, framework, device.
        train_files: sampling seed -> training file.
        dev_file: questions to evaluate on.
        folder: one subfolder per seed; interrupted runs resume.
        hyper: the recipe; None = the paper's.
        limit, sample: only the first questions of `dev_file`, or so many of all; see `tasks.evaluate`.

    Returns:
        {"runs": [{"seed", "f1", "exact", "total", "seconds"}], "f1": summary, "exact": summary}.
    """
    runs = []
    for seed, train_file in train_files.items():
        output = folder / f"seed-{seed}"
        record = tasks.finetune(settings, train_file, output, hyper or Recipe(), head, resume=True, say=say)
        scores = tasks.evaluate(replace(settings, model=str(output), mode=None), dev_file, limit=limit, sample=sample)
        found = {"seed": seed, **{name: scores[name] for name in ("f1", "exact", "total")}}
        runs.append({**found, "seconds": record["seconds"] + scores["seconds"]})
        say(f"{train_file.name}: F1 {found['f1']:.2f}, exact {found['exact']:.2f}")
    both = {name: summary([one[name] for one in runs]) for name in ("f1", "exact")}
    return {"runs": runs, **both}
