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
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .compare import Alignment, Tolerance
from .steps import STEPS
from .weights import SafetensorsFile

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
MAY_BE_EQUAL = ("dev_data", "train_data", "metric", "lr", "regularization", "init")
"""Steps in which bit-equal floats are what is asked for."""
FRAMEWORKS = {"paddle", "paddlepaddle", "torch", "pytorch", "ref", "reference", "ours", "theirs"}


class StoredError(ValueError):
    """A file of arrays that cannot be used; one line with the file and the way out."""


class _Dtype:
    """Stands in for numpy's in a pickle: `numpy.dtype("f4", ...)`, then its byte order."""

    def __init__(self, text: Any, *rest: Any):
        self.text, self.order = str(text), "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1] if state[1] in "<>" else "="

    def real(self) -> np.dtype:
        made = np.dtype(self.text)
        if made.kind not in "biufcSU":
            raise pickle.UnpicklingError(f"its numbers are of type {self.text}")
        return made.newbyteorder("<" if self.order == "<" else ">" if self.order == ">" else "=")


class _Array:
    """Stands in for `numpy.ndarray`: numbers out of bytes, or the one object that `numpy.save` wraps a dict in."""

    array: np.ndarray | None = None
    wrapped: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        if isinstance(raw, list) and len(raw) == 1 and shape == ():
            self.wrapped = raw[0]
        elif isinstance(dtype, _Dtype) and isinstance(raw, bytes):
            self.array = np.frombuffer(raw, dtype.real()).reshape(shape, order="F" if fortran else "C")
        else:
            raise pickle.UnpicklingError("an array holds objects")


def _buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """Stands in for `numpy._core.numeric._frombuffer`, of pickle protocol 5."""
    made = _Array()
    made.__setstate__((1, shape, dtype, order == "F", bytes(raw)))
    return made


def _scalar(dtype: Any, raw: Any) -> _Array:
    return _buffer(raw, dtype, (), "C")


NUMPY = {
    "ndarray": _Array,
    "dtype": _Dtype,
    "_reconstruct": lambda *ignored: _Array(),
    "_frombuffer": _buffer,
    "scalar": _scalar,
}
"""What a pickle of arrays asks numpy for -> what it gets: nothing of numpy itself, whose own functions trust a file."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "numpy" and name in NUMPY:
            return NUMPY[name]
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if (module, name) == ("_codecs", "encode"):  # bytes, as protocol 2 has them
            return lambda text, encoding: text.encode("latin1")
        raise pickle.UnpicklingError(f"it asks to run {module}.{name}")


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
            _, _, dtype = readers[version](file)
            if dtype.hasobject:
                return _named(_Unpickler(file).load(), path)
            file.seek(0)
            return {"array": np.load(file, allow_pickle=False)}
    except FileNotFoundError:
        raise StoredError(f"{path}: no such file; give one of {', '.join(SUFFIXES)}") from None
    except pickle.UnpicklingError as error:
        raise StoredError(f"{path} is refused: not a plain file of arrays ({error}); save it as .npz") from None
    except StoredError:
        raise
    # numpy and zipfile answer to a damaged file with nearly any exception
    except Exception as error:
        raise StoredError(f"{path} cannot be read ({error}); expected {', '.join(SUFFIXES)}") from None


def _named(found: Any, path: Path) -> dict[str, np.ndarray]:
    """The arrays of what was pickled: a dict, or an array of one object that is a dict."""
    found = found.wrapped if isinstance(found, _Array) else found
    if not isinstance(found, Mapping):
        kind = type(found).__name__
        raise StoredError(f"{path} holds a {kind}, expected a dict of arrays as reprod_log saves it")
    return {str(name): _plain_array(value) for name, value in found.items()}


def _plain_array(value: Any) -> np.ndarray:
    if isinstance(value, _Array) and value.array is not None:
        return value.array
    if isinstance(value, (bool, int, float, str, list, tuple)):
        made = np.asarray(value)
        if made.dtype.kind != "O":
            return made
    raise pickle.UnpicklingError("a value is neither an array nor a number")


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
                raise StoredError(f"{side[name]} and {path} would both be {name!r}; judge them one by one")
            side[name] = path
        sides.append(side)
    lonely = sorted(sides[0].keys() ^ sides[1].keys())
    if lonely or not sides[0]:
        raise StoredError(
            f"{theirs} and {ours} do not hold the same files: {', '.join(lonely[:4]) or 'none at all'} "
            "on one side only; judge single files, or move it away"
        )
    return [(path, sides[1][name]) for name, path in sides[0].items()]


def _plain(path: Path) -> str:
    """The path without the names of frameworks, so that forward_torch.npy and forward_paddle.npy are one."""
    parts = [re.split(r"([^A-Za-z]+)", part) for part in path.with_suffix("").parts]
    kept = ["".join(w for w in part if w.lower() not in FRAMEWORKS).strip("_-. ") for part in parts]
    return "/".join(kept)


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
        alignment.problems += [f"{name}: {why}" for why in _doubts(a[name], b[name], tolerance)]
    if len(both) < max(len(a), len(b)):
        lonely = sorted(set(a) ^ set(b))
        alignment.problems.append(f"on one side only: {', '.join(lonely[:4])}")
    floats = [name for name in both if a[name].dtype.kind == "f"]
    equal = all(a[n].shape == b[n].shape and np.array_equal(a[n], b[n]) for n in floats)
    if floats and equal and step not in MAY_BE_EQUAL and sum(a[n].size for n in floats) > 1:
        alignment.problems.append("every floating-point array is bit-equal: two implementations hardly ever are")
    for name in both:
        alignment.add(name, a[name].copy(), b[name].copy())
    alignment.judge(tolerance)
    if alignment.values == 1:  # a single loss is what such files often hold
        alignment.problems = [why for why in alignment.problems if not why.startswith("every compared number")]
    return alignment


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
        elif not array.any() and (theirs.any() or ours.any()):
            found.append(f"{side} holds nothing but zeros")
    difference = np.abs(theirs.astype(np.float64) - ours)
    mean, largest, size = float(difference.mean()), float(difference.max()), float(np.abs(theirs).max())
    if np.isfinite(mean) and mean <= 1e-6 < largest and largest > tolerance.atol + tolerance.rtol * size:
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
