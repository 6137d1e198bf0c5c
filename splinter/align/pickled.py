"""A dict of arrays that `numpy.save` has pickled, read without running or trusting anything.

A pickle is a program. This one may build dicts, lists, words, numbers and arrays; it may call nothing, not even numpy,
whose own `__setstate__` takes a forged type for a pointer.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import IO, Any, ClassVar

import numpy as np

KINDS = "biufcSU"
"""Kinds of numpy's types that are compared: numbers, and strings."""
DEPTH, PROPORTION = 32, 64
"""How deeply the lists of a file may be nested, and how many times its size they may unpack to."""


def arrays_of(file: IO[bytes], size: int) -> dict[str, np.ndarray]:
    """The named arrays of a pickle, from where `file` stands.

    Args:
        size: of the file in bytes; what is unpacked stays in proportion to it.

    Raises:
        pickle.UnpicklingError: with what it asks for; whatever else a damaged pickle leads to.
    """
    return _Unpickler(file, size).arrays()


class _Dtype:
    """Stands in for numpy's in a pickle: `numpy.dtype("f4", ...)`, then its byte order."""

    def __init__(self, text: Any, *rest: Any):
        if not isinstance(text, str):
            raise pickle.UnpicklingError("a type of numbers has no name")
        self.text, self.order = text, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1] if state[1] in "<>" else "="

    def real(self) -> np.dtype:
        made = np.dtype(self.text)
        if made.kind not in KINDS:
            raise pickle.UnpicklingError(f"it holds neither numbers nor words, but type {self.text}")
        return made.newbyteorder("<" if self.order == "<" else ">" if self.order == ">" else "=")


class _Array:
    """Stands in for `numpy.ndarray`: numbers out of bytes, or the one object that `numpy.save` wraps a dict in."""

    array: np.ndarray | None = None
    wrapped: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        if isinstance(raw, list) and len(raw) == 1 and shape == ():
            self.wrapped = raw[0]
        elif isinstance(dtype, _Dtype) and isinstance(raw, (bytes, bytearray)):
            self.array = np.frombuffer(raw, dtype.real()).reshape(shape, order="F" if fortran else "C")
        else:
            raise pickle.UnpicklingError("an array holds objects")


def _buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """Stands in for `numpy._core.numeric._frombuffer`, of pickle protocol 5."""
    made = _Array()
    made.__setstate__((1, shape, dtype, order == "F", raw))
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


DISPATCH: dict[int, Callable] = pickle._Unpickler.dispatch
NEEDLESS = (
    pickle.EMPTY_SET,
    pickle.ADDITEMS,
    pickle.FROZENSET,
    pickle.INST,
    pickle.OBJ,
    pickle.NEWOBJ,
    pickle.NEWOBJ_EX,
)
"""What no file of arrays does: sets, and objects made in other ways than numpy's."""


class _Unpickler(pickle._Unpickler):
    """Reads what `numpy.save` writes of a dict of arrays.

    The one written in Python, for it has a table of what it does: what no such file needs is refused there. Nothing but
    words and numbers is hashed, and what is built stays in proportion to the file: a tuple of twice the tuple before,
    forty times over, has 2^40 numbers in 200 bytes.
    """

    stack: list[Any]

    def __init__(self, file: Any, size: int):
        super().__init__(file)
        self.left = PROPORTION * size
        self.leaves = self.longest = 0

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "numpy" and name in NUMPY:
            return NUMPY[name]
        if (module, name) == ("collections", "OrderedDict"):
            return self._ordered
        if (module, name) == ("_codecs", "encode"):
            return self._encoded
        raise pickle.UnpicklingError(f"it asks to run {module}.{name}")

    def _ordered(self, pairs: Any = ()) -> dict[Any, Any]:
        self._named([key for key, _ in pairs])
        return dict(pairs)

    def _encoded(self, text: str, encoding: str) -> bytes:
        """Bytes, as protocol 2 has them."""
        self._spend(len(text))
        return text.encode("latin1")

    def _spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise pickle.UnpicklingError(f"it unpacks to more than {PROPORTION} times its size")

    def _named(self, names: list[Any]) -> None:
        if not all(isinstance(name, (str, int, float)) for name in names):
            raise pickle.UnpicklingError("a name is neither a word nor a number")

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("it does what no file of arrays needs")

    def _build(self) -> None:
        if not isinstance(self.stack[-2], (_Array, _Dtype)):
            self._refuse()
        DISPATCH[pickle.BUILD[0]](self)

    def _set(self) -> None:
        self._named(self.stack[-2:-1])
        DISPATCH[pickle.SETITEM[0]](self)

    def _set_many(self) -> None:
        self._named(self.stack[::2])
        DISPATCH[pickle.SETITEMS[0]](self)

    def _dict(self) -> None:
        self._named(self.stack[::2])
        DISPATCH[pickle.DICT[0]](self)

    dispatch: ClassVar[dict[int, Callable]] = {
        **DISPATCH,
        **dict.fromkeys((code[0] for code in NEEDLESS), _refuse),
        pickle.BUILD[0]: _build,
        pickle.SETITEM[0]: _set,
        pickle.SETITEMS[0]: _set_many,
        pickle.DICT[0]: _dict,
    }

    def arrays(self) -> dict[str, np.ndarray]:
        """The named arrays: of a dict, or of an array of one object that is a dict."""
        found = self.load()
        found = found.wrapped if isinstance(found, _Array) else found
        if not isinstance(found, Mapping):
            raise TypeError(f"it holds a {type(found).__name__}, expected a dict of arrays as reprod_log saves it")
        return {str(name): self._array(str(name), value) for name, value in found.items()}

    def _array(self, name: str, value: Any) -> np.ndarray:
        """What stands under a name: an array, a number, a word, or lists of them."""
        self.leaves, self.longest = 0, 1
        value = self._plain(name, value)
        self._spend(self.leaves * self.longest)
        return np.asarray(value)

    def _plain(self, name: str, value: Any, depth: int = 0) -> Any:
        """The value with numpy's own arrays and numbers in it; what it will take is counted."""
        if depth > DEPTH:
            raise pickle.UnpicklingError(f"{name!r} holds lists more than {DEPTH} deep")
        if isinstance(value, _Array) and value.array is None:
            value = value.wrapped
        if isinstance(value, _Array) and value.array is not None:
            self.leaves, self.longest = self.leaves + value.array.size, max(self.longest, value.array.itemsize)
            return value.array
        if isinstance(value, (list, tuple)):
            self._spend(len(value))
            return [self._plain(name, one, depth + 1) for one in value]
        if not isinstance(value, (bool, int, float, str)):
            raise pickle.UnpicklingError(f"{name!r} is neither an array nor a number")
        self.leaves, self.longest = self.leaves + 1, max(self.longest, len(value) if isinstance(value, str) else 1)
        return value
