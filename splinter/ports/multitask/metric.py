"""Scores of the three tasks: accuracy, macro F1, Pearson's correlation, and a histogram of predictions. Numpy only."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np

NAMES = {"sentiment": "accuracy", "paraphrase": "accuracy", "similarity": "Pearson correlation"}
"""Task -> what its score is."""


def decisions(task: str, outputs: np.ndarray) -> np.ndarray:
    """What is predicted from a task's outputs.

    Args:
        outputs: (N, C) logits -> (N,) classes, ties to the lower one; (N,) of paraphrase: one logit, its sigmoid
            rounded half to even, so 0 is class 0; (N,) of similarity: the scores themselves.
    """
    if task == "similarity":
        return outputs
    return outputs.argmax(axis=1) if outputs.ndim == 2 else (outputs > 0).astype(np.int64)


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Share of right classes, 0 to 1.

    Raises:
        ValueError: not one prediction per label: logits of two classes, flattened, say.
    """
    _paired(predicted, labels)
    return float((predicted == labels).mean())


def macro_f1(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes that occur, among predictions or labels, of their F1; 0 to 1."""
    _paired(predicted, labels)
    found = []
    for kind in np.union1d(predicted, labels):
        hits = float(((predicted == kind) & (labels == kind)).sum())
        found.append(2 * hits / float((predicted == kind).sum() + (labels == kind).sum()))
    return float(np.mean(found))


def pearson(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Pearson's correlation over the whole set, in float64; nan, with a warning, where one side is constant."""
    _paired(predicted, labels)
    x, y = np.asarray(predicted, np.float64), np.asarray(labels, np.float64)
    for name, values in (("predictions", x), ("labels", y)):
        if (values == values[0]).all():
            warnings.warn(f"Pearson's correlation is undefined (nan): all {name} are {values[0]:g}", stacklevel=2)
            return float("nan")
    x, y = x - x.mean(), y - y.mean()
    # scaled first: squares of differences near 1e-200 would vanish
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip((x @ y) / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def _paired(predicted: np.ndarray, labels: np.ndarray) -> None:
    if predicted.shape != labels.shape or predicted.ndim != 1 or not len(labels):
        raise ValueError(f"predictions {predicted.shape} do not pair with labels {labels.shape}; one per row is needed")


def histogram(task: str, predicted: np.ndarray, classes: int = 2) -> dict[str, int]:
    """How often each class is predicted; of similarity, each unit from 0 to 5 (beyond: in the outer ones)."""
    kinds = np.clip(np.rint(predicted), 0, 5).astype(np.int64) if task == "similarity" else predicted
    counts = np.bincount(kinds, minlength=6 if task == "similarity" else classes)
    return {str(kind): int(count) for kind, count in enumerate(counts)}


def score(task: str, predicted: np.ndarray, labels: np.ndarray) -> float:
    """The score that counts for a task."""
    return pearson(predicted, labels) if task == "similarity" else accuracy(predicted, labels)


def mean(scores: Mapping[str, float]) -> float:
    """Mean of the tasks' scores; nan where one is."""
    return float(np.mean(list(scores.values())))
