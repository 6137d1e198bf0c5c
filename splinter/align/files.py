"""Files: written whole or not at all, several as one, into what is no regular file; and safetensors, read and written.

A file is written beside its target, under a name that `target_of` knows, and renamed: what a kill leaves can be told
from the files of the user.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np


class WeightError(ValueError):
    """A checkpoint that does not fit; the message names the tensors and the way out."""


def write_whole(path: Path, body: Callable, mode: str = "wb") -> None:
    """Write a file beside `path` and rename it over `path`: readers see the old file or the new one, never half.

    A device, a pipe, or the file that standard output goes to is written into. A symbolic link stays: what it leads to
    is written.

    Args:
        path: the target.
        body: receives the open file.
        mode: "wb" or "w" (then UTF-8 with bare newlines).

    Raises:
        OSError: disk full and the like; the old file is untouched and the partial one removed.
    """
    straight = _straight(path)
    if straight is None:
        write_together({path: body}, mode)
        return
    try:
        with open(straight, mode, **_text(mode)) as file:
            body(file)
    except OSError as error:
        if isinstance(straight, Path):  # else it is our own output, of which whoever writes there knows what to say
            error.filename = str(path)
        raise


def write_together(bodies: Mapping[Path, Callable], mode: str = "wb") -> None:
    """Write files that are of use only together, each beside its target until all are complete.

    While some are old and some are new, the last one is missing: it should be the one without which nothing is read.

    Args:
        bodies: target -> what receives the open file; see `write_whole`.

    Raises:
        OSError: names the file; where the disk is full, the old files are untouched.
    """
    partials: dict[Path, Path] = {}
    try:
        for path, body in bodies.items():
            partials[path] = partial = _target(path).with_name(f".{_target(path).name}.{os.getpid()}.partial")
            with open(partial, mode, **_text(mode)) as file:
                body(file)
                file.flush()
                os.fsync(file.fileno())
        if len(bodies) > 1:
            _target(path).unlink(missing_ok=True)
        for path, partial in partials.items():
            os.replace(partial, _target(path))
    except BaseException as error:
        for partial in partials.values():
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # the name that the user knows
        raise


PARTIAL = re.compile(r"\.(.+)\.\d+\.partial")


def target_of(name: str) -> str | None:
    """The name that a partial file was to get; None: it is no such file."""
    found = PARTIAL.fullmatch(name)
    return found and found[1]


def sweep(folder: Path, names: Collection[str]) -> None:
    """Remove what a kill left of files of these names; only for the one that writes into the folder."""
    for path in folder.iterdir():
        if target_of(path.name) in names:
            path.unlink()


def _text(mode: str) -> dict[str, Any]:
    return {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}


def _target(path: Path) -> Path:
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _straight(path: Path) -> int | Path | None:
    """What to open where nothing may be renamed over `path`; None: it is a regular file, or nothing yet."""
    try:
        there = os.stat(path)
    except OSError:
        return None
    for stream in (1, 2):
        with contextlib.suppress(OSError):  # closed
            if os.path.samestat(there, os.fstat(stream)):
                return os.dup(stream)  # opened by its name, the file would be written from its beginning again
    return None if stat.S_ISREG(there.st_mode) else path


class SafetensorsFile(Mapping[str, np.ndarray]):
    """A checkpoint file read one tensor at a time.

    Read by `pread`, not mapped: every page of a mapping that is touched counts as resident, and a conversion
    would need twice the memory of the checkpoint.

    Attributes:
        headers: name -> (shape, numpy dtype name, or the file's own for what numpy lacks); nothing is read for it.

    Raises:
        WeightError: the file is not safetensors.
    """

    def __init__(self, path: Path):
        from safetensors import SafetensorError

        self.path = path
        self._file: Any = None
        try:
            with self._open() as file:
                self._names = list(file.keys())
                slices = ((name, file.get_slice(name)) for name in self._names)
                self.headers = {
                    name: (tuple(one.get_shape()), _NUMPY_DTYPE.get(one.get_dtype(), one.get_dtype()))
                    for name, one in slices
                }
                self.metadata = file.metadata() or {}
        except SafetensorError as error:
            raise WeightError(f"{path} is not a whole safetensors file ({error}); fetch or convert it again") from error

    def _open(self):
        from safetensors import safe_open

        return safe_open(self.path, framework="np", backend="pread")

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        if self._file is None:  # opened once: a model has hundreds of tensors
            self._file = self._open()
        try:
            return self._file.get_tensor(name)
        except TypeError as error:
            raise WeightError(
                f"{self.path}: tensor {name!r} cannot be read into numpy ({error}); convert it to float32"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


_SAFETENSORS_DTYPE = {"float16": "F16", "float32": "F32", "float64": "F64", "int64": "I64", "int32": "I32"}
_NUMPY_DTYPE = {theirs: ours for ours, theirs in _SAFETENSORS_DTYPE.items()}


def save_safetensors(
    path: Path,
    shapes: Mapping[str, tuple[tuple[int, ...], str]],
    tensors: Callable[[], Iterable[tuple[str, np.ndarray]]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file, whole or not at all; see `safetensors_body`."""
    write_whole(path, safetensors_body(path, shapes, tensors, metadata))


def safetensors_body(
    path: Path,
    shapes: Mapping[str, tuple[tuple[int, ...], str]],
    tensors: Callable[[], Iterable[tuple[str, np.ndarray]]],
    metadata: Mapping[str, str] | None = None,
) -> Callable[[Any], None]:
    """What writes a safetensors file tensor by tensor.

    `safetensors.numpy.save_file` wants all arrays at once; Linear weights are transposed copies, so that
    would hold the model twice. The format is a length, a JSON header and the bytes.

    Args:
        path: of the file, for errors.
        shapes: name -> (shape, numpy dtype name), in the order of `tensors`.
        tensors: called once; yields the same names with their arrays.
        metadata: strings kept in the header (`format` tells transformers that the file is complete).
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    offset = 0
    for name, (shape, dtype) in shapes.items():
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        header[name] = {
            "dtype": _SAFETENSORS_DTYPE[dtype],
            "shape": list(shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    expected = iter(shapes.items())

    def body(file) -> None:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, array in tensors():
            wanted, (shape, dtype) = next(expected, ("nothing more", ((), "")))
            if name != wanted or array.shape != tuple(shape) or array.dtype.name != dtype:
                raise WeightError(f"writing {path}: got {name} {array.shape} {array.dtype}, announced {wanted} {shape}")
            file.write(np.ascontiguousarray(array).data)
        if next(expected, None) is not None:
            raise WeightError(f"writing {path}: fewer tensors than announced")

    return body
