"""Arrays that two runs have saved, judged together: the logs of `reprod_log`, and what else holds named arrays.

The old way of proving a port: each side writes a file per step, a script prints the mean difference. That evidence can
be read again, and often says something else: a file compared with itself, NaN, one wrong number behind a small mean,
magnitudes that make 1e-3 rounding and 1e-6 a fault.

Format of reprod_log 1.0.1 (`ReprodLogger.save`): `numpy.save` of a dict, name -> array, which is a pickle. It is read
with an unpickler that knows numpy's arrays and nothing else.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .compare import Alignment, Tolerance
from .steps import STEPS
from .weights import SafetensorsFile, WeightError

ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
}
SUFFIXES = (".npy", ".npz", ".safetensors")
WORDS = {
    "forward": "forward",
    "metric": "metric",
    "loss": "loss",
    "lr": "lr",
    "optim": "optimizer",
    "regular": "regularization",
    "bp": "backward",
    "backward": "backward",
    "dev_data": "dev_data",
    "train_data": "train_data",
    "data": "dev_data",
    "init": "init",
    "train": "training",
}
"""What the names of such files hold -> step; the first that fits."""


class StoredError(ValueError):
    """A file of arrays that cannot be used; one line with the file and the way out."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks to run {module}.{name}")
        return super().find_class(module, name)


def read(path: Path) -> dict[str, np.ndarray]:
    """The named arrays of a file; a plain array is called `array`.

    Raises:
        StoredError: no such file, of another kind, damaged, or with code in it.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return dict(SafetensorsFile(path))
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            if version not in readers:
                raise ValueError(f"version {version} of the format is not known")
            shape, _, dtype = readers[version](file)
            if dtype.hasobject:
                found = _Unpickler(file).load()
            else:
                file.seek(0)
                return {"array": np.load(file, allow_pickle=False)}
    except FileNotFoundError:
        raise StoredError(f"{path}: no such file; give one of {', '.join(SUFFIXES)}") from None
    except pickle.UnpicklingError as error:
        raise StoredError(f"{path} is refused: not a plain file of arrays ({error}); save it as .npz") from None
    except (OSError, ValueError, EOFError, WeightError, KeyError, AttributeError, IndexError) as error:
        raise StoredError(f"{path} cannot be read ({error}); expected {', '.join(SUFFIXES)}") from None
    found = found.item() if isinstance(found, np.ndarray) and found.shape == () else found
    if not isinstance(found, Mapping) or shape != ():
        raise StoredError(f"{path} holds a {type(found).__name__}, expected a dict of arrays as reprod_log saves it")
    return {str(name): np.asarray(array) for name, array in found.items()}


def step_of(path: Path) -> str:
    """The step that a file is about, by its name; forward where it tells nothing."""
    words = path.stem.lower()
    return next((step for word, step in WORDS.items() if word in words), "forward")


def pairs(theirs: Path, ours: Path) -> list[tuple[Path, Path]]:
    """Files that belong together: the two given, or in two folders those of one name, the names of frameworks apart.

    Raises:
        StoredError: a folder and a file, or folders without a common name.
    """
    if theirs.is_dir() != ours.is_dir():
        raise StoredError(f"{theirs} and {ours}: give two files or two folders")
    if not theirs.is_dir():
        return [(theirs, ours)]
    sides = [
        {_plain(path): path for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES}
        for folder in (theirs, ours)
    ]
    common = [name for name in sides[0] if name in sides[1]]
    if not common:
        raise StoredError(
            f"{theirs} and {ours} have no file in common (there {sorted(sides[0])[:3]}, here {sorted(sides[1])[:3]})"
        )
    return [(sides[0][name], sides[1][name]) for name in common]


def _plain(path: Path) -> str:
    name = path.stem.lower()
    for word in ("paddle", "torch", "pytorch", "ref", "reference", "ours", "theirs"):
        name = name.replace(word, "")
    return name.strip("_-. ")


def judge(theirs: Path, ours: Path, tolerance: Tolerance, step: str = "") -> Alignment:
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
    alignment = Alignment(ours.stem, "stored", step, theirs.name, "stored", reference=str(theirs.parent.name))
    if theirs.resolve() == ours.resolve():
        alignment.problems.append("both sides are one and the same file")
    elif _sha256(theirs) == _sha256(ours):
        alignment.problems.append("the two files are copies of each other, byte for byte")
    a, b = read(theirs), read(ours)
    both = [name for name in a if name in b]
    if not both:
        alignment.problems.append(f"no name in common (there {sorted(a)[:3]}, here {sorted(b)[:3]})")
    for name in both:
        alignment.problems += [f"{name}: {why}" for why in _doubts(a[name], b[name])]
    if len(both) < max(len(a), len(b)):
        lonely = sorted(set(a) ^ set(b))
        alignment.problems.append(f"on one side only: {', '.join(lonely[:4])}")
    floats = [name for name in both if a[name].dtype.kind == "f"]
    if floats and all(a[n].shape == b[n].shape and np.array_equal(a[n], b[n]) for n in floats) and step != "lr":
        alignment.problems.append("every floating-point array is bit-equal: two implementations hardly ever are")
    for name in both:
        alignment.add(name, a[name].copy(), b[name].copy())
    return alignment.judge(tolerance)


def _doubts(theirs: np.ndarray, ours: np.ndarray) -> list[str]:
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
        elif not array.any():
            found.append(f"{side} holds nothing but zeros")
    difference = np.abs(theirs.astype(np.float64) - ours)
    mean, largest, size = float(difference.mean()), float(difference.max()), float(np.abs(theirs).max())
    if np.isfinite(mean) and mean <= 1e-6 < largest and largest > 1e-5 * size:
        found.append(f"the mean difference {mean:.1e} hides {largest:.1e} on numbers up to {size:.3g}")
    return found


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        raise StoredError(f"{path}: no such file; give one of {', '.join(SUFFIXES)}") from None


def verdict(alignment: Alignment) -> str:
    """What the files prove, in a few lines."""
    head = (
        f"{alignment.step}: {'agrees' if alignment.passed else 'proves nothing' if alignment.problems else 'differs'}"
    )
    lines = [f"{head}, {alignment.values:,} numbers in {len(alignment.comparisons)} arrays"]
    lines += [f"  {problem}" for problem in alignment.problems]
    for one in alignment.comparisons:
        lines.append(f"  {one.sentence()}" + ("" if one.problem else f"; relative {one.max_rel:.1e}"))
    return "\n".join(lines)
