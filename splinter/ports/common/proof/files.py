"""What the cases.py of all systems share: checkpoints of random numbers, which files a step reads, rows of an example.

Numpy only.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splinter import datasets
from splinter.align.files import save_safetensors
from splinter.ports.common import checkpoint

Scaled = Callable[[str, np.ndarray], np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]


def bert_like(name: str, values: np.ndarray, std: float) -> np.ndarray:
    """Standard normal numbers at the size that the tensor `name` of a BERT has, about.

    Nothing comes out zero or one as in a fresh model: biases, LayerNorm weights and segment rows are all
    distinct, so that a swapped, dropped or untransposed tensor shows.

    Args:
        std: of the dense matrices; BERT's 0.02 fits its width, a narrow model needs more to be alive.
    """
    if "LayerNorm.weight" in name:
        return 1 + 0.1 * values
    if name.endswith("bias"):
        return 0.05 * values
    if "embeddings" in name:
        return 0.1 * values
    return values * np.float32(std)


def write_random(folder: Path, shapes: Shapes, seed: int, scaled: Scaled, vocabulary: Path | None) -> None:
    """Write the tensors and the vocabulary of a random checkpoint, from numpy's generator alone.

    Args:
        shapes: name -> shape, in the order in which they are drawn.
        scaled: name and standard normal float32 numbers -> the tensor.
        vocabulary: file to copy; None: the checkpoint has none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)

    def tensors():
        for name, shape in shapes.items():
            yield name, scaled(name, rng.standard_normal(shape, dtype=np.float32))

    save_safetensors(folder / checkpoint.WEIGHTS, {n: (s, "float32") for n, s in shapes.items()}, tensors)
    if vocabulary is not None:
        shutil.copyfile(vocabulary, folder / checkpoint.VOCABULARY)


@dataclass(frozen=True)
class DataSources:
    """Which files a step of data or the metric reads: the shipped samples always, real ones where a folder has them.

    Args:
        samples, real: step -> mode -> names of sources; what follows a space says how to read the file.
        vocabulary: what real files need besides, in the data folder.
        file: name of a real source -> its file in the data folder.
    """

    samples: Mapping[str, Mapping[str, Sequence[str]]]
    real: Mapping[str, Mapping[str, Sequence[str]]]
    vocabulary: str
    file: Callable[[str], str] = lambda name: name.partition(" ")[0]

    def _there(self, name: str) -> bool:
        try:
            datasets.find(self.file(name))
            datasets.find(self.vocabulary)
        except datasets.DataMissing:
            return False
        return True

    def __call__(self, step: str, mode: str) -> list[str]:
        """The sources that can be read now."""
        return [*self.samples[step][mode], *filter(self._there, self.real[step][mode])]

    def missing(self, step: str, mode: str) -> list[str]:
        """The real files that the step does without; none of a step that reads no file."""
        return [name for name in self.real.get(step, {}).get(mode, ()) if not self._there(name)]


def vocabulary_or_none(name: str) -> Path | None:
    """A vocabulary of the data folder, None where it is not to be had."""
    try:
        return datasets.find(name)
    except datasets.DataMissing:
        return None


def rows_by_example(columns: Mapping[str, np.ndarray]) -> dict[int, list[int]]:
    """Example number -> its row numbers, both in order."""
    found: dict[int, list[int]] = {}
    for row, example in enumerate(columns["example_index"].tolist()):
        found.setdefault(example, []).append(row)
    return found
