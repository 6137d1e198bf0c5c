"""Weights on their way from one framework to the other: names, transposes, drops; strict both ways.

A `WeightMap` is a list of rules `theirs -> ours`. A `*` in a rule stands for a layer number. Conversion is
a bijection with a list of named exceptions: every tensor of ours is filled exactly once, every tensor of
theirs is used exactly once or dropped by a rule that says why, and shapes and dtypes are checked. A tensor
that would stay random is an error, never a warning: Paddle's `set_state_dict` only returns a list of names.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FLOATING = ("float16", "float32", "float64")


class WeightError(ValueError):
    """A checkpoint that does not fit; the message names the tensors and the way out."""


@dataclass(frozen=True)
class Rule:
    """One line of the map: `theirs` feeds `ours`; `transpose` swaps the two axes of a matrix."""

    theirs: str
    ours: str
    transpose: bool = False


@dataclass(frozen=True)
class Link:
    """A rule applied to one tensor: the two concrete names and whether the matrix is transposed."""

    theirs: str
    ours: str
    transpose: bool


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.escape(template).replace(r"\*", r"(\d+)") + r"\Z")


def _fill(template: str, numbers: Iterable[str]) -> str:
    for number in numbers:
        template = template.replace("*", number, 1)
    return template


class WeightMap:
    """The renaming between two models.

    Args:
        rules: in any order; both sides of a rule hold the same number of `*`.
        drop: template of their names -> reason why they have no place with us (an unused pooler, say).
    """

    def __init__(self, rules: Iterable[Rule], drop: Mapping[str, str] | None = None):
        self.rules = tuple(rules)
        self.drop = dict(drop or {})
        self._by_ours = [(_pattern(rule.ours), rule) for rule in self.rules]
        self._by_theirs = [(_pattern(rule.theirs), rule) for rule in self.rules]
        self._dropped = [_pattern(template) for template in self.drop]

    def links(self, ours: Iterable[str]) -> list[Link]:
        """The concrete link for each of our tensor names, in their order.

        Raises:
            WeightError: one of our tensors has no rule, or more than one.
        """
        found = []
        for name in ours:
            matches = [(rule, m) for pattern, rule in self._by_ours if (m := pattern.match(name))]
            if len(matches) != 1:
                raise WeightError(f"the weight map has {len(matches)} rules for our tensor {name!r}, needs one")
            rule, match = matches[0]
            found.append(Link(_fill(rule.theirs, match.groups()), name, rule.transpose))
        return found

    def links_from(self, theirs: Iterable[str]) -> dict[str, Link]:
        """Their tensor name -> its link, for those that a rule takes."""
        found = {}
        for name in theirs:
            for pattern, rule in self._by_theirs:
                if match := pattern.match(name):
                    found[name] = Link(name, _fill(rule.ours, match.groups()), rule.transpose)
        return found

    def reason_dropped(self, theirs: str) -> str | None:
        """Why their tensor is left behind, or None when it is not dropped."""
        for pattern, reason in zip(self._dropped, self.drop.values(), strict=True):
            if pattern.match(theirs):
                return reason
        return None

    def plan(self, theirs: Iterable[str], ours: Iterable[str], source: str = "the checkpoint") -> list[Link]:
        """Match every name of both sides, or say what is wrong.

        Raises:
            WeightError: a tensor missing from theirs, surplus in theirs, or used twice.
        """
        links, have = self.links(ours), set(theirs)
        wanted = [link.theirs for link in links]
        twice = sorted({name for name in wanted if wanted.count(name) > 1}) if len(set(wanted)) < len(wanted) else []
        missing = [name for name in wanted if name not in have]
        surplus = sorted(name for name in have - set(wanted) if self.reason_dropped(name) is None)
        problems = [
            f"{len(names)} {what}: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"
            for what, names in (("missing", missing), ("surplus", surplus), ("used twice", twice))
            if names
        ]
        if problems:
            raise WeightError(f"{source} does not fit: tensors {'; '.join(problems)}")
        return links

    def convert(
        self,
        theirs: Mapping[str, np.ndarray],
        ours: Mapping[str, tuple[int, ...]],
        source: str = "the checkpoint",
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (our name, array in our layout), one tensor at a time so that memory stays flat.

        Args:
            theirs: their arrays; a lazy mapping is read once per tensor.
            ours: our tensor names and the shapes that the model expects.
            source: what to call the checkpoint in an error.

        Raises:
            WeightError: names, shapes or dtypes do not fit.
        """
        for link in self.plan(theirs.keys(), ours.keys(), source):
            array = theirs[link.theirs]
            if array.dtype.name not in FLOATING:
                raise WeightError(
                    f"{source}: tensor {link.theirs!r} has dtype {array.dtype}, expected one of {', '.join(FLOATING)}"
                )
            if link.transpose:
                array = array.T
            if tuple(array.shape) != tuple(ours[link.ours]):
                raise WeightError(
                    f"{source}: tensor {link.theirs!r} has shape {tuple(array.shape)} in our layout, "
                    f"the configuration asks for {tuple(ours[link.ours])}"
                )
            yield link.ours, array

    def revert(self, ours: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        """The way back: yield (their name, array in their layout)."""
        for link in self.links(ours.keys()):
            array = ours[link.ours]
            yield link.theirs, array.T if link.transpose else array

    def modules(self, ours: Iterable[str]) -> dict[str, str]:
        """Our module path -> their module path, for each pair of modules that owns linked tensors.

        This is how the forward step knows, for any port, which two activations to compare: a Linear of
        theirs whose weight feeds a Linear of ours must also produce the same output. A tensor whose last name
        differs (a bare parameter there, a Linear's weight here) says nothing about modules.
        """
        pairs: dict[str, str] = {}
        for link in self.links(ours):
            (mine, _, leaf), (other, _, their_leaf) = link.ours.rpartition("."), link.theirs.rpartition(".")
            if leaf == their_leaf:
                pairs.setdefault(mine, other)
        return pairs


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
    """Write a safetensors file tensor by tensor, beside the target, then rename it over the target.

    `safetensors.numpy.save_file` wants all arrays at once; Linear weights are transposed copies, so that
    would hold the model twice. The format is a length, a JSON header and the bytes.

    Args:
        path: the target; an older file there stays whole until the new one is complete.
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

    write_whole(path, body)


def write_whole(path: Path, body: Callable, mode: str = "wb") -> None:
    """Write a file beside `path` and rename it over `path`: readers see the old file or the new one, never half.

    Args:
        path: the target.
        body: receives the open file.
        mode: "wb" or "w" (then UTF-8 with bare newlines).

    Raises:
        OSError: disk full and the like; the old file is untouched and the partial one removed.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    try:
        with open(partial, mode, **text) as file:
            body(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # the name that the user knows
        raise
