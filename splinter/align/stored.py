"""Arrays that two runs have saved, judged together: the logs of `reprod_log`, and what else holds named arrays.

The old way of proving a port: each side writes a file per step, a script prints the mean difference. That evidence can
be read again, and often says something else: a file compared with itself, NaN, one wrong number behind a small mean,
magnitudes that make 1e-3 rounding and 1e-6 a fault.

Format of reprod_log 1.0.1 (`ReprodLogger.save`): `numpy.save` of a dict, name -> array, which is a pickle (pickled.py).
"""

from __future__ import annotations

import filecmp
import os
import pickle
import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from . import compare
from .compare import Alignment, Tolerance
from .files import SafetensorsFile
from .pickled import KINDS, arrays_of
from .steps import STEPS
from .terminal import printable
from .twin import BITS, DATA, Twin, alike, fits

SUFFIXES = (".npy", ".npz", ".safetensors")
WORDS = {
    "forward": "forward",
    "dev": "dev_data",
    "data": "dev_data",
    "metric": "metric",
    "loss": "loss",
    "losses": "loss",
    "lr": "lr",
    "optim": "optimizer",
    "optimizer": "optimizer",
    "regularization": "regularization",
    "bp": "backward",
    "backward": "backward",
    "init": "init",
    "train": "training",
    "training": "training",
}
"""Words in the names of such files -> step; the first that fits."""
MAY_BE_EQUAL = (*DATA, "metric", "lr", "regularization", "init")
"""Steps in which bit-equal floats are what is asked for."""
MAY_BE_CONSTANT = ("metric", "lr")
"""Steps in which one number again and again is nothing strange: a constant rate, a perfect score."""
BY_CHANCE = 8
"""Fewer numbers than these may be equal in every bit by chance: of 400 float32 losses of torch and Paddle 49 % were."""
FRAMEWORKS = {"paddle", "paddlepaddle", "torch", "pytorch", "ref", "reference", "ours", "theirs"}
COPIES = "the two files are copies of each other, byte for byte"


class StoredError(ValueError):
    """A file of arrays that cannot be used; one line with the file and the way out."""


def read(path: Path) -> dict[str, np.ndarray]:
    """The named arrays of a file; a plain array is called `array`.

    Raises:
        StoredError: no such file, of another kind, damaged, or with code in it.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a FIFO would wait, a device never end
        raise StoredError(f"{path} is no regular file; give one of {', '.join(SUFFIXES)}")
    try:
        arrays = _read(path)
        for name, array in arrays.items():
            if array.dtype.kind not in KINDS:
                raise StoredError(f"{path} is refused: {name!r} is of type {array.dtype}; save numbers or words")
            if array.dtype.kind == "U" and not _is_text(array):
                raise StoredError(f"{path} is refused: {name!r} holds invalid characters; the file is damaged")
        return arrays
    except FileNotFoundError:
        raise StoredError(f"{path}: no such file; give one of {', '.join(SUFFIXES)}") from None
    except pickle.UnpicklingError as error:
        raise StoredError(f"{path} is refused: not a plain file of arrays ({error}); save it as .npz") from None
    except StoredError:
        raise
    # numpy and zipfile answer to a damaged file with nearly any exception
    except Exception as error:
        why = str(error) or type(error).__name__
        raise StoredError(f"{path} cannot be read ({why}); expected {', '.join(SUFFIXES)}") from None


def _read(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".safetensors":
        return dict(SafetensorsFile(path))
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"version {version} of the format is not known")
        _, _, dtype = readers[version](file)
        if dtype.hasobject:
            return arrays_of(file, path.stat().st_size)
        file.seek(0)
        return {"array": np.load(file, allow_pickle=False)}


def _is_text(array: np.ndarray) -> bool:
    """Whether all characters exist: numpy looks when it shows one, and dies of it."""
    return bool((np.frombuffer(array.tobytes(), f"{array.dtype.str[0]}u4") <= sys.maxunicode).all())


def step_of(path: Path) -> str:
    """The step that a file is about, by its name; forward where it tells nothing."""
    words = _words(path.stem)
    if "train" in words and "data" in words:
        return "train_data"
    return next((WORDS[word] for word in words if word in WORDS), "forward")


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[^a-z]+", text.lower()) if word]


def pairs(theirs: Path, ours: Path) -> list[tuple[Path, Path]]:
    """Files that belong together: the two given, or in two folders those of one name, the names of frameworks apart.

    Raises:
        StoredError: a folder and a file, or folders without a common name.
    """
    if theirs.is_dir() != ours.is_dir():
        raise StoredError(f"{theirs} and {ours}: give two files or two folders")
    if not theirs.is_dir():
        return [(theirs, ours)]
    sides: list[dict[str, Path]] = []
    for folder in (theirs, ours):
        side: dict[str, Path] = {}
        for path in sorted(folder.rglob("*")):
            if path.suffix not in SUFFIXES:
                continue
            name = _plain(path.relative_to(folder))
            if name in side:
                raise StoredError(
                    f"{side[name]} and {path} would have the same name {name!r}; judge them one at a time"
                )
            side[name] = path
        sides.append(side)
    lonely = sorted(sides[0].keys() ^ sides[1].keys())
    if lonely or not sides[0]:
        raise StoredError(
            f"{theirs} and {ours} do not hold the same files: {', '.join(lonely[:4]) or 'none at all'} "
            "on one side only; judge single files, or move the extra files away"
        )
    return [(path, sides[1][name]) for name, path in sides[0].items()]


def _plain(path: Path) -> str:
    """The path without the names of frameworks, so that forward_torch.npy and forward_paddle.npy are one."""
    parts = [re.split(r"([^A-Za-z]+)", part) for part in path.with_suffix("").parts]
    kept = ["".join(w for w in part if w.lower() not in FRAMEWORKS).strip("_-. ") for part in parts]
    return "/".join(kept)


@dataclass
class Stored(Alignment):
    """The alignment of two files.

    Args:
        notes: what was saved differently, and how it was compared; no reason to fail.
    """

    notes: list[str] = field(default_factory=list)


def judge(theirs: Path, ours: Path, tolerance: Tolerance, step: str = "") -> Stored:
    """Put two files beside each other.

    Args:
        tolerance: for floating-point arrays; all others must be equal.
        step: one of the eleven; "" = what the file's name tells.

    Returns:
        A judged alignment; what makes it worthless as evidence stands in `problems`.

    Raises:
        StoredError: see `read`; or no such step.
    """
    step = step or step_of(ours)
    if step not in STEPS:
        raise StoredError(f"{step!r} is none of the steps {', '.join(STEPS)}")
    a, b = read(theirs), read(ours)
    found = Stored(ours.stem, "stored", step, theirs.name, "stored", reference=str(theirs.parent.name))
    if os.path.samefile(theirs, ours):
        found.problems.append("both sides are one and the same file")
    both = [name for name in a if name in b]
    if not both:
        found.problems.append(f"no name in common (there {sorted(a)[:3]}, here {sorted(b)[:3]})")
    if len(both) < max(len(a), len(b)):
        found.problems.append(f"on one side only: {', '.join(sorted(set(a) ^ set(b))[:4])}")
    twins = [alike(a[name], b[name], step) for name in both]
    limits = [_limit(tolerance, twin.rounded) for twin in twins]
    for name, twin, limit in zip(both, twins, limits, strict=True):
        one, other = twin.arrays
        found.notes += [f"{name}: {note}" for note in twin.notes]
        found.problems += [f"{name}: {why}" for why in _doubts(one, other, limit)]
        found.add(name, one, other, exact=twin.exact)
    found.judge(tolerance)
    for comparison, limit in zip(found.comparisons, limits, strict=True):
        compare.judge(comparison, limit)
        if limit is not tolerance:
            comparison.ulp = None  # of float32, in which shorter numbers were compared
    if found.values == 1 or step in MAY_BE_CONSTANT:  # a single loss is what such files often hold
        found.problems = [why for why in found.problems if not why.startswith("every compared number")]
    _weigh_equality(found, twins, filecmp.cmp(theirs, ours, shallow=False))
    return found


def _limit(tolerance: Tolerance, rounded: float) -> Tolerance:
    """The tolerance with room for rounding; one of 0 asks for equal bits."""
    return replace(tolerance, rtol=tolerance.rtol + rounded) if tolerance.rtol and rounded else tolerance


def _weigh_equality(found: Stored, twins: list[Twin], copies: bool) -> None:
    """Equal bits are right in integers, rates and scores; floats that two programs have computed hardly have them."""
    floats = [twin.arrays for twin in twins if twin.arrays[0].dtype.kind == "f"]
    equal = all(np.array_equal(one, other) for one, other in floats)
    telling = sum(int((~fits(one, "float16")).sum()) for one, _ in floats)
    computed = bool(floats) and found.step not in MAY_BE_EQUAL
    if equal and computed and telling >= BY_CHANCE:
        what = COPIES if copies else "every floating-point array is bit-equal"
        found.problems.append(f"{what}: two implementations hardly ever are")
    elif copies and found.passed:
        few = f"too few of their floats have more than {BITS['float16']} bits to tell"
        why = few if computed else "integers, words, rates and scores are equal in two programs"
        found.notes.append(f"the two files are equal byte for byte, which is no wonder: {why}")


def _doubts(theirs: np.ndarray, ours: np.ndarray, tolerance: Tolerance) -> list[str]:
    """What a mean difference would not have told."""
    if theirs.shape != ours.shape:
        if sorted(theirs.shape) == sorted(ours.shape):
            return [f"the axes are in another order, theirs {theirs.shape}, ours {ours.shape}"]
        if theirs.size == ours.size:
            return [f"shapes {theirs.shape} and {ours.shape}: subtracting them broadcasts, or hides an axis"]
        return []
    if theirs.dtype.kind != "f" or ours.dtype.kind != "f" or not theirs.size:
        return []
    found = []
    for side, array in (("theirs", theirs), ("ours", ours)):
        if np.isnan(array).any():
            found.append(f"{side} holds {int(np.isnan(array).sum())} NaN, and a comparison with NaN is never true")
        elif np.isinf(array).any():
            found.append(
                f"{side} holds {int(np.isinf(array).sum())} infinite numbers, and two of them have no difference"
            )
        elif not array.any() and (theirs.any() or ours.any()):
            found.append(f"{side} holds nothing but zeros")
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(theirs.astype(np.float64) - ours)
    mean, largest, size = float(difference.mean()), float(difference.max()), float(np.abs(theirs).max())
    if np.isfinite(mean) and mean <= 1e-6 < largest and largest > tolerance.atol + tolerance.rtol * size:
        found.append(f"the mean difference {mean:.1e} hides {largest:.1e} on numbers up to {size:.3g}")
    return found


def verdict(alignment: Stored) -> str:
    """What the files prove, in a few lines; what a terminal would act on in their names is shown."""
    measured = any(not one.passed and not one.problem for one in alignment.comparisons)
    failure = "differs" if measured or not alignment.problems else "proves nothing"
    lines = [
        f"{alignment.step}: {'agrees' if alignment.passed else failure}, "
        f"{alignment.values:,} numbers in {len(alignment.comparisons)} arrays"
    ]
    lines += [f"  {line}" for line in (*alignment.problems, *alignment.notes)]
    for one in alignment.comparisons:
        lines.append(f"  {one.sentence()}" + ("" if one.problem else f"; relative {one.max_rel:.1e}"))
    return "\n".join(printable(line, keep="") for line in lines)
