"""What each framework writes for itself: torch_side.py and paddle_side.py do, and a driver from outside may.

What is the same in all of them follows from it, in held.py and driver.py.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from .compare import SHORT

Arrays = Mapping[str, np.ndarray]
F = TypeVar("F", bound=Callable[..., Any])


def numpy_dtype(dtype: str) -> str:
    """What a framework's numbers are here: those of 16 bits are float32."""
    return "float32" if dtype in SHORT else dtype


def written_by_each(function: F) -> F:
    """A function without which a driver is none: where one lacks it, the error names it."""

    @functools.wraps(function)
    def missing(self: Any, *arguments: Any, **named: Any) -> Any:
        what = (function.__doc__ or "").partition("\n")[0]
        raise NotImplementedError(f"the driver {type(self).__qualname__} does not write {function.__name__}(): {what}")

    return missing  # type: ignore[return-value]


@dataclass(frozen=True)
class Drop:
    """A function of a framework that drops out.

    Args:
        name: where it lies in `home`.
        rate: the argument that is the rate.
        arguments: their names in order, where the function itself does not tell.
        fused: it drops inside of something else, attention say: its rate is seen, but not what it falls on.
        home: the module that it is called from; None: the framework's `functional`.
    """

    name: str
    rate: str = "p"
    arguments: tuple[str, ...] = ()
    fused: bool = False
    home: Any = None


class Framework:
    """The functions that a driver cannot do without, and what is to be known of its framework.

    Attributes:
        Tensor: the framework's class of tensors.
        functional: the module whose functions all layers call when they run.
        drops: which of them drop out; those that a version lacks are passed over.
        recurrent: classes of layers with a `dropout` of their own, whose gradient may want training mode.
        hook_tables: names of a layer's dicts of hooks.
        framework: its name.
        home: the package that holds its own layers.
        unbiased: whether the framework's BatchNorm keeps a running variance over n - 1 of n numbers.
    """

    Tensor: ClassVar[Any]
    functional: ClassVar[Any]
    drops: ClassVar[tuple[Drop, ...]] = (Drop("dropout"),)
    recurrent: ClassVar[tuple[type, ...]] = ()
    hook_tables: ClassVar[tuple[str, ...]] = ()
    framework: ClassVar[str]
    home: ClassVar[str]
    unbiased: bool = True

    def __init__(self) -> None:
        self.signatures: dict[Drop, tuple[str, ...]] = {}
        for drop in self.drops:
            if hasattr(self.functional, drop.name):
                self.watch(drop)

    def watch(self, drop: Drop) -> None:
        """Know one more function that drops out: a port's own, which its layers call by the name in its module."""
        # read here: what stands in place of a function later need not name its arguments
        function = getattr(drop.home or self.functional, drop.name)
        self.signatures[drop] = drop.arguments or tuple(inspect.signature(function).parameters)

    @written_by_each
    def environment(self) -> dict[str, Any]:
        """Versions and switches that decide what the numbers mean."""
        raise NotImplementedError

    @written_by_each
    def settle(self) -> None:
        """Set the switches for comparing."""
        raise NotImplementedError

    @written_by_each
    def seed(self, number: int) -> None:
        """Seed the generators."""
        raise NotImplementedError

    @written_by_each
    def tensor(self, array: np.ndarray, dtype: str | None = None) -> Any:
        """A tensor of a copy of the array, in `dtype`; None: the array's own."""
        raise NotImplementedError

    @written_by_each
    def like(self, array: np.ndarray, tensor: Any) -> Any:
        """The array as a tensor of another one's dtype, where that one lies."""
        raise NotImplementedError

    @written_by_each
    def require_gradient(self, tensor: Any, required: bool) -> None:
        """Whether a backward pass leaves a gradient on this leaf."""
        raise NotImplementedError

    @written_by_each
    def to_numpy(self, tensor: Any) -> np.ndarray:
        """A copy on the CPU, of numbers of 16 bits as float32; live tensors change under the comparison otherwise."""
        raise NotImplementedError

    @written_by_each
    def cast(self, model: Any, dtype: str) -> Any:
        """The model with its floating-point tensors in `dtype`; integers, booleans and complex numbers as they are."""
        raise NotImplementedError

    @written_by_each
    def layers(self, model: Any) -> dict[str, Any]:
        """Every layer by its path, the model itself as ""."""
        raise NotImplementedError

    @written_by_each
    def buffers(self, model: Any) -> dict[str, Any]:
        """Named floating-point tensors that no optimizer moves: running statistics, tables; each once."""
        raise NotImplementedError

    @written_by_each
    def fill(self, tensor: Any, array: np.ndarray) -> None:
        """Give a parameter or buffer these numbers, in place and in its own dtype."""
        raise NotImplementedError

    @written_by_each
    def hook(self, layer: Any, function: Callable) -> Any:
        """Call function(layer, inputs, output) whenever the layer has run; what it returns, if anything, is handed on.

        Returns:
            What has `remove()`.
        """
        raise NotImplementedError

    @written_by_each
    def clear_gradients(self, model: Any) -> None:
        """Leave no parameter with a gradient, not even of zeros."""
        raise NotImplementedError

    @written_by_each
    def free_parameters(self, arrays: Arrays, dtype: str) -> dict[str, Any]:
        """Parameters outside any model, for feeding an optimizer."""
        raise NotImplementedError

    @written_by_each
    def no_gradients(self) -> contextlib.AbstractContextManager:
        """The context of a forward pass alone."""
        raise NotImplementedError

    def computing(self) -> contextlib.AbstractContextManager:
        """The context of every pass."""
        return contextlib.nullcontext()

    def operations(self, see: Callable[[str, list, list], None]) -> contextlib.AbstractContextManager:
        """The context in which every operation calls see(its name, tensors it takes, tensors it makes)."""
        raise NotImplementedError

    def tables(self, layer: Any) -> list[Any]:
        """Tensors that a layer computes for itself when it is built, and no checkpoint holds."""
        raise NotImplementedError

    @written_by_each
    def compiled(self, model: Any) -> Any:
        """The model through the framework's compiler."""
        raise NotImplementedError

    def learns(self, tensor: Any) -> bool:
        """Whether a backward pass leaves a gradient on a parameter."""
        raise NotImplementedError

    def parameters(self, model: Any) -> dict[str, Any]:
        """What an optimizer moves, by name, each once; frozen ones included."""
        return dict(model.named_parameters())
