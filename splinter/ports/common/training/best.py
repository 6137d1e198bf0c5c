"""The weights that score best on dev data, kept while a run goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from splinter.align.files import SafetensorsFile, save_safetensors
from splinter.ports.common.checkpoint import CheckpointError, read_json, write_json

from .log import is_number
from .state import BEST, STATE, latest, open_state, refuse_misfits, weights_of
from .trainer import Trainer


class Best:
    """Keeps the weights of the best dev score; give it to `fit` as `watch`.

    Resuming needs no word about it: a run that goes on from a checkpoint sees the scores it saw before, and
    only a higher one replaces what is kept.

    Args:
        evaluate: () -> scores of the model as it is.
        key: which score chooses; the first of equal ones is kept.
        folder: where the weights are kept, in best/; None keeps them in memory.
    """

    def __init__(self, trainer: Trainer, evaluate: Callable[[], Mapping[str, Any]], key: str, folder: Path | None):
        self.trainer, self.evaluate, self.key = trainer, evaluate, key
        self.folder = None if folder is None else folder / BEST
        self.kept: dict[str, Any] = {}
        self.weights: Mapping[str, np.ndarray] = {}
        # without a training state the run starts anew, and what was best before is not this one's
        if self.folder is not None and latest(self.folder.parent) and (self.folder / STATE).is_file():
            self.kept, self.weights = self._read(self.folder / STATE)

    def __call__(self, updates: int) -> Mapping[str, Any]:
        scores = self.evaluate()
        if not self.kept or self._value(scores) > self._value(self.kept["scores"]):
            self._keep({"updates": updates, "scores": {k: None if v != v else v for k, v in scores.items()}})
        return scores

    def _read(self, path: Path) -> tuple[dict[str, Any], SafetensorsFile]:
        """What an interrupted run has kept.

        Raises:
            CheckpointError: it is not as it was written.
        """
        kept, way_out = read_json(path), "start in another folder"
        scores = kept.get("scores")
        value = scores.get(self.key, "missing") if isinstance(scores, dict) else "missing"
        if type(kept.get("updates")) is not int or not (value is None or is_number(value)):
            raise CheckpointError(f"{path} is damaged: it names no update with its score {self.key!r}; {way_out}")
        return kept, open_state(path.with_name(f"{kept['updates']}.safetensors"), way_out)

    def check(self) -> None:
        """That what was kept can be restored: told before the training, not after it.

        Raises:
            CheckpointError: it has other tensors than the model.
        """
        if isinstance(self.weights, SafetensorsFile):
            refuse_misfits(self.weights, weights_of(self.trainer).items(), "start in another folder")

    def _value(self, scores: Mapping[str, Any]) -> float:
        value = scores[self.key]
        return -math.inf if value is None or value != value else value  # any score is better than none

    def _keep(self, kept: dict[str, Any]) -> None:
        weights = weights_of(self.trainer)
        older, self.kept, self.weights = self.kept, kept, weights
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / f"{kept['updates']}.safetensors"
        shapes = {name: (array.shape, array.dtype.name) for name, array in weights.items()}
        save_safetensors(target, shapes, lambda: iter(weights.items()))
        write_json(self.folder / STATE, kept)  # names the file that counts, so a crash between the two loses nothing
        self.weights = SafetensorsFile(target)
        if older and older["updates"] != kept["updates"]:
            (self.folder / f"{older['updates']}.safetensors").unlink(missing_ok=True)

    def restore(self) -> dict[str, Any]:
        """Put the kept weights into the model; returns {"updates": ..., "scores": ...}."""
        self.trainer.load(self.weights, self.kept["updates"])
        return self.kept
