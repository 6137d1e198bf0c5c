"""What models return, whatever it is, as named tensors; and which of two models' outputs belong together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

ONE = "output"
"""The name of a tensor that is returned alone."""


def flattened(output: Any, kind: type, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """(name, tensor) of all tensors in an output, in order; what is None, or holds no tensor, is passed over.

    Args:
        output: a tensor, tuple, list, mapping (a ModelOutput is one), an object that turns itself into a tuple, nested
            at will.
        kind: the framework's class of tensors.
    """
    if isinstance(output, kind):
        yield ".".join(path) or ONE, output
    elif isinstance(output, Mapping):
        for name, value in output.items():
            yield from flattened(value, kind, (*path, str(name)))
    elif isinstance(output, (tuple, list)):
        names = getattr(output, "_fields", None) or range(len(output))  # a named tuple has names
        for name, value in zip(names, output, strict=True):
            yield from flattened(value, kind, (*path, str(name)))
    elif hasattr(output, "to_tuple"):
        yield from flattened(output.to_tuple(), kind, path)
    elif hasattr(output, "to_legacy_cache"):  # the keys and values that transformers keeps between tokens
        yield from flattened(output.to_legacy_cache(), kind, path)


@dataclass(frozen=True)
class Pairing:
    """Which outputs are compared, by the names of both.

    Args:
        pairs: label -> (their name, our name), in the order of theirs.
        notes: what one side alone returns, and how the rest was paired.
    """

    pairs: dict[str, tuple[str, str]]
    notes: tuple[str, ...] = ()


def paired(theirs: Mapping[str, Sequence[int]], ours: Mapping[str, Sequence[int]]) -> Pairing:
    """Pair two lists of outputs, name -> shape: by name where both have names, else by position.

    By position, where one side returns more than the other, the shapes tell which of them have a counterpart. What
    has none is said and not compared: a port may return less, and a reviewer should know.
    """
    common = [name for name in theirs if name in ours]
    if common and any(not _numbered(name) for name in common):
        pairs = {name: (name, name) for name in common}
    else:
        a, b = list(theirs), list(ours)
        if len(a) == len(b):
            found = list(zip(a, b, strict=True))
        else:
            shapes = [tuple(theirs[name]) for name in a], [tuple(ours[name]) for name in b]
            blocks = SequenceMatcher(None, *shapes, autojunk=False).get_matching_blocks()
            found = [(a[i + k], b[j + k]) for i, j, size in blocks for k in range(size)]
        # the name says more than the number
        pairs = {(our if _numbered(their) else their): (their, our) for their, our in found}
        if len(pairs) < len(found):
            pairs = {f"{their}={our}": (their, our) for their, our in found}
    notes = []
    for side, names, used in (("theirs", theirs, {t for t, _ in pairs.values()}),
                              ("ours", ours, {o for _, o in pairs.values()})):  # fmt: skip
        if alone := [name for name in names if name not in used]:
            notes.append(f"only {side} returns {', '.join(alone[:6])}{', ...' if len(alone) > 6 else ''}: not compared")
    return Pairing(pairs, tuple(notes))


def _numbered(name: str) -> bool:
    """Whether a name is a place in a tuple alone."""
    return name == ONE or name.replace(".", "").isdigit()
