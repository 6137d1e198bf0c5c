"""A model held still: left as it was found, with a gradient in evaluation mode, without dropout in training mode."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .framework import Drop, Framework


class Dropped(NamedTuple):
    """One dropout of a pass."""

    rate: float
    given: np.ndarray | None
    """What it falls on; None where it lies inside of attention or of a recurrent layer."""
    path: str
    """The innermost layer that was running."""
    call: Callable[[Any], Any] | None = None
    """The same call, all its other arguments as they were, on another tensor; None as `given` is."""


class Held(Framework):
    """Contexts in which a model can be looked at without being changed."""

    def before(self, layer: Any, function: Callable) -> Any:
        """Call function(layer, inputs) whenever the layer is about to run; returns what has `remove()`."""
        return layer.register_forward_pre_hook(function)

    @contextlib.contextmanager
    def preserved(self, model: Any) -> Iterator[None]:
        """Leave a model as it was found: the mode of each layer, gradients, hooks."""
        layers = list(self.layers(model).values())
        modes = [layer.training for layer in layers]
        tables = [getattr(layer, name) for layer in layers for name in self.hook_tables]
        hooks = [dict(table) for table in tables]
        # copies: what Paddle hands out as a gradient is emptied together with its parameter's
        gradients = [(p, None if p.grad is None else p.grad.clone()) for p in self.parameters(model).values()]
        self.clear_gradients(model)
        try:
            yield
        finally:
            for layer, mode in zip(layers, modes, strict=True):
                layer.training = mode
            for table, found in zip(tables, hooks, strict=True):
                table.clear()
                table.update(found)
            for parameter, gradient in gradients:
                parameter.grad = gradient

    @contextlib.contextmanager
    def unmoved(self, model: Any) -> Iterator[None]:
        """Leave the buffers of a model as they were: passes in training mode move its running statistics.

        A table that it makes when it runs, or makes anew for a longer row, stays as it is.
        """
        before = {name: self.to_numpy(tensor) for name, tensor in self.buffers(model).items()}
        try:
            yield
        finally:
            for name, tensor in self.buffers(model).items():
                if name in before and before[name].shape == tuple(tensor.shape):
                    self.fill(tensor, before[name])

    def _recurrent(self, model: Any) -> dict[str, Any]:
        return {path: layer for path, layer in self.layers(model).items() if isinstance(layer, self.recurrent)}

    @contextlib.contextmanager
    def _undropped(self, model: Any) -> Iterator[None]:
        """Recurrent layers with their own dropout at nothing."""
        rates = [(layer, layer.dropout) for layer in self._recurrent(model).values()]
        for layer, _ in rates:
            layer.dropout = 0.0
        try:
            yield
        finally:
            for layer, rate in rates:
                layer.dropout = rate

    @contextlib.contextmanager
    def differentiable(self, model: Any) -> Iterator[None]:
        """Evaluation mode, in which recurrent layers have a gradient all the same.

        Paddle's rnn operator and cudnn's keep what their gradient needs in training mode alone; so they are in that
        mode, and their own dropout is held at nothing.
        """
        model.eval()
        with self._undropped(model):
            for layer in self._recurrent(model).values():
                layer.train()
            try:
                yield
            finally:
                model.eval()

    @contextlib.contextmanager
    def without_dropout(self, model: Any, idle: bool = False) -> Iterator[list[Dropped]]:
        """Nothing is dropped in training mode; the list fills with each dropout that would have fallen.

        Seen are the functions in `drops`, whoever calls them, those that a port has told of by `watch`, and the dropout
        of recurrent layers. A model that has its own (a kernel that drops inside, numbers drawn by hand) still draws.

        Args:
            idle: a call that is told not to train hands on what it got as well, whatever it makes of that itself.
        """
        found: list[Dropped] = []
        running: list[str] = []
        plain = {drop: getattr(drop.home or self.functional, drop.name) for drop in self.signatures}
        hooks = [hook for path, layer in self.layers(model).items() for hook in self._follow(path, layer, running)]
        for path, layer in self._recurrent(model).items():
            if layer.dropout and layer.num_layers > 1:
                hooks.append(self._note_inside(layer, Dropped(layer.dropout, None, path), found))
        for drop, function in plain.items():
            setattr(drop.home or self.functional, drop.name, self._held(drop, function, found, running, idle))
        try:
            with self._undropped(model):
                yield found
        finally:
            for drop, function in plain.items():
                setattr(drop.home or self.functional, drop.name, function)
            for hook in hooks:
                hook.remove()

    def _follow(self, path: str, layer: Any, running: list[str]) -> tuple[Any, Any]:
        """Hooks that keep `running` the layers that are at work, the innermost last."""

        def left(layer: Any, given: Any, output: Any) -> None:
            running.pop()

        return self.before(layer, lambda layer, given: running.append(path)), self.hook(layer, left)

    def _note_inside(self, layer: Any, dropped: Dropped, found: list[Dropped]) -> Any:
        """A hook that notes the dropout between the layers of a recurrent layer."""
        return self.before(layer, lambda layer, given: found.append(dropped) if layer.training else None)

    def _held(self, drop: Drop, plain: Callable, found: list[Dropped], running: list[str], idle: bool) -> Callable:
        """A function that notes its dropout and does all else that it does."""

        def held(*arguments: Any, **named: Any) -> Any:
            bound = {**dict(zip(self.signatures[drop], arguments, strict=False)), **named}
            name = next(name for name, value in bound.items() if isinstance(value, self.Tensor))
            first = bound.pop(name)
            if not bound.get("training", True):
                return first if idle and not drop.fused else plain(*arguments, **named)
            rate = float(bound.get(drop.rate, 0.0 if drop.fused else 0.5))
            path = running[-1] if running else ""
            if drop.fused:
                if rate:  # attention that is told no rate is not known to drop at all
                    found.append(Dropped(rate, None, path))
                return plain(**{name: first, **bound, drop.rate: 0.0})
            # not what it falls on itself: a tensor of the pass would be kept as long as the list
            found.append(Dropped(rate, self.to_numpy(first), path, lambda other: plain(**{name: other, **bound})))
            return first

        return held
