"""What the engine needs of a framework: arrays in and out, traces, gradients, updates. One base, a subclass for each.

`torch_side.py` and `paddle_side.py` write what differs; `steps.py` calls whichever a Side names.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np

Arrays = Mapping[str, np.ndarray]
SHORT = ("bfloat16", "float16")
"""Numbers of 16 bits; on this side of a driver they are float32."""
F = TypeVar("F", bound=Callable[..., Any])


def numpy_dtype(dtype: str) -> str:
    """What a framework's numbers are here."""
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
        name: where it lies in the framework's `functional`.
        rate: the argument that is the rate.
        arguments: their names in order, where the function itself does not tell.
        fused: it drops inside of something else, attention say: its rate is seen, but not what it falls on.
    """

    name: str
    rate: str = "p"
    arguments: tuple[str, ...] = ()
    fused: bool = False


class Dropped(NamedTuple):
    """One dropout of a pass."""

    rate: float
    given: np.ndarray | None
    """What it falls on; None where it lies inside of attention or of a recurrent layer."""
    path: str
    """The innermost layer that was running."""


def run_of(key: str) -> str:
    """Which run of a layer a traced tensor is of: 'norm' -> 'norm#0', 'lstm#1.0' -> 'lstm#1'."""
    path, _, rest = key.partition("#")
    return f"{path}#{rest.partition('.')[0] or 0}"


def unrounded(array: np.ndarray) -> bool:
    """Whether these are numbers that float32 need not have rounded: whole, of few bits, or so large that they mask."""
    with np.errstate(over="ignore", invalid="ignore"):
        short = array.astype("float16") == array  # 0.5, 0.125: of 11 bits
    return bool((short | (array == np.round(array)) | ~(np.abs(array) < 1e30)).all())


def widened(array: np.ndarray) -> bool:
    """Whether float64 numbers were float32 numbers before, and rounded ones."""
    return bool((array.astype("float32") == array).all()) and not unrounded(array)


def _is(tensor: Any, dtype: str) -> bool:
    return str(tensor.dtype).rpartition(".")[2] == dtype


class Driver:
    """The functions that are the same in every framework, in terms of those that each writes itself.

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
        # read here: what stands in place of a function later need not name its arguments
        self.signatures = {
            drop.name: drop.arguments or tuple(inspect.signature(getattr(self.functional, drop.name)).parameters)
            for drop in self.drops
            if hasattr(self.functional, drop.name)
        }

    # What a framework writes

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

    def compiled(self, model: Any) -> Any:
        """The model through the framework's compiler."""
        raise NotImplementedError

    def learns(self, tensor: Any) -> bool:
        """Whether a backward pass leaves a gradient on a parameter."""
        raise NotImplementedError

    # What follows from it

    def from_numpy(self, batch: Mapping[str, Any], dtype: str, gradient: bool = False) -> dict[str, Any]:
        """Arrays as tensors, those in lists and dicts too; floats take `dtype`, all others keep theirs.

        What is no array (None, a number, a word) is handed on as it is.
        """
        return {name: self._given(value, dtype, gradient) for name, value in batch.items()}

    def _given(self, value: Any, dtype: str, gradient: bool) -> Any:
        if isinstance(value, dict):
            return {name: self._given(one, dtype, gradient) for name, one in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self._given(one, dtype, gradient) for one in value)
        if not isinstance(value, np.ndarray | np.generic):
            return value
        floating = value.dtype.kind == "f"
        tensor = self.tensor(np.asarray(value), dtype if floating else None)
        self.require_gradient(tensor, gradient and floating)
        return tensor

    def parameters(self, model: Any) -> dict[str, Any]:
        """What an optimizer moves, by name, each once; frozen ones included."""
        return dict(model.named_parameters())

    def state(self, model: Any) -> dict[str, np.ndarray]:
        """Named parameters as arrays."""
        return {name: self.to_numpy(parameter) for name, parameter in self.parameters(model).items()}

    def set_gradients(self, named: Mapping[str, Any], arrays: Arrays, dtype: str) -> None:
        """Inject gradients."""
        for name, parameter in named.items():
            parameter.grad = self.tensor(arrays[name], dtype)

    def trace(
        self,
        model: Any,
        forward: Callable,
        batch: Arrays,
        dtype: str,
        paths: Iterable[str],
        inputs: dict[str, np.ndarray] | None = None,
        put: Arrays | None = None,
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Outputs of the layers at `paths` in the order they ran, then the outputs of `forward`.

        A layer that runs more than once gives `path`, `path#1`, `path#2`, ...; one that returns several tensors (a
        recurrent layer, say), in a tuple, a dict or the like, `path#0.0`, `path#0.1`, ... What is no tensor counts as
        if it were not there, an output of the model that is None too.

        Args:
            inputs: filled with the first input of each of them, under the same names.
            put: what the layers hand on instead of their outputs, where it has their shape.
        """
        own: dict[str, np.ndarray] = {}
        runs: Counter[str] = Counter()
        hooks = []
        layers = self.layers(model)

        def keep(path):
            def hook(layer, given, output):
                run, key = runs[path], f"{path}#{runs[path]}" if runs[path] else path
                runs[path] += 1
                if not isinstance(output, self.Tensor):
                    own.update({f"{path}#{run}.{k}": self.to_numpy(one) for k, one in enumerate(self._tensors(output))})
                    return None
                own[key] = self.to_numpy(output)
                if inputs is not None and given and isinstance(given[0], self.Tensor):
                    inputs[key] = self.to_numpy(given[0])
                if put is None or key not in put or put[key].shape != tuple(output.shape):
                    return None
                return self.like(put[key], output)

            return hook

        for path in paths:
            hooks.append(self.hook(layers[path], keep(path)))
        try:
            model.eval()
            with self.no_gradients(), self.computing():
                outputs = forward(model, self.from_numpy(batch, dtype))
        finally:
            for hook in hooks:
                hook.remove()
        return own, {name: self.to_numpy(tensor) for name, tensor in outputs.items() if tensor is not None}

    def _tensors(self, output: Any) -> Iterator[Any]:
        """The tensors in what a layer returned: a tuple of tuples, a dict, the output object of a library."""
        if isinstance(output, self.Tensor):
            yield output
            return
        if isinstance(output, Mapping):
            output = list(output.values())
        elif is_dataclass(output):
            output = list(vars(output).values())
        if isinstance(output, tuple | list):
            for one in output:
                yield from self._tensors(one)

    # A model, held still

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
    def without_dropout(self, model: Any) -> Iterator[list[Dropped]]:
        """Nothing is dropped in training mode; the list fills with each dropout that would have fallen.

        Seen are the functions in `drops`, whoever calls them, and the dropout of recurrent layers. A model that has its
        own (a kernel that drops inside, numbers drawn by hand) still draws.
        """
        found: list[Dropped] = []
        running: list[str] = []
        plain = {name: getattr(self.functional, name) for name in self.signatures}
        hooks = [hook for path, layer in self.layers(model).items() for hook in self._follow(path, layer, running)]
        for path, layer in self._recurrent(model).items():
            if layer.dropout and layer.num_layers > 1:
                hooks.append(self._note_inside(layer, Dropped(layer.dropout, None, path), found))
        for drop in self.drops:
            if drop.name in plain:
                setattr(self.functional, drop.name, self._held(drop, plain[drop.name], found, running))
        try:
            with self._undropped(model):
                yield found
        finally:
            for name, function in plain.items():
                setattr(self.functional, name, function)
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

    def _held(self, drop: Drop, plain: Callable, found: list[Dropped], running: list[str]) -> Callable:
        """A function that notes its dropout and does all else that it does."""

        def held(*arguments: Any, **named: Any) -> Any:
            bound = {**dict(zip(self.signatures[drop.name], arguments, strict=False)), **named}
            if not bound.get("training", True):
                return plain(*arguments, **named)
            first = next(iter(bound.values()))
            rate = float(bound.get(drop.rate, 0.0 if drop.fused else 0.5))
            if rate or not drop.fused:  # attention that is told no rate is not known to drop at all
                given = None if drop.fused else self.to_numpy(first)
                found.append(Dropped(rate, given, running[-1] if running else ""))
            return plain(**{**bound, drop.rate: 0.0}) if drop.fused else first

        return held

    def narrow(self, model: Any, forward: Callable, batch: Arrays) -> tuple[dict[str, str], set[str]]:
        """Where numbers that float32 has rounded come into a pass in float64.

        What is computed in float32 does no harm by itself (a mask, the bucket of a position); it does where it meets
        float64. A table that float32 computed and a cast has widened is met as its layer begins.

        Returns:
            Path of each such layer, the innermost, -> the operation, in the order they run.
            Runs, as `run_of` names them, of all layers that were through before the first: they hold nothing of it.
        """
        found: dict[str, str] = {}
        before: set[str] = set()
        runs: Counter[str] = Counter()
        running = [""]

        def see(operation, given, made):
            if any(_is(tensor, "float64") for tensor in made) and any(
                _is(tensor, "float32") and not unrounded(self.to_numpy(tensor)) for tensor in given
            ):
                cast = operation in ("cast", "_to_copy", "copy_")
                found.setdefault(running[-1], "a cast of float32 back" if cast else f"{operation} with float32 numbers")

        def begin(path):
            def hook(layer, *_):
                running.append(path)
                for table in self.tables(layer):
                    if _is(table, "float64") and widened(self.to_numpy(table)):
                        found.setdefault(path, "a table computed in float32")

            return hook

        def end(path):
            def hook(*_):
                running.pop()
                if not found:
                    before.add(f"{path}#{runs[path]}")
                runs[path] += 1

            return hook

        layers = self.layers(model)
        hooks = [self.before(layer, begin(path)) for path, layer in layers.items() if path]
        hooks += [self.hook(layer, end(path)) for path, layer in layers.items() if path]
        try:
            model.eval()
            tensors = self.from_numpy(batch, "float64")
            with self.no_gradients(), self.computing(), self.operations(see):
                outputs = forward(model, tensors)
        finally:
            for hook in hooks:
                hook.remove()
        for name, tensor in outputs.items():
            if tensor is not None and _is(tensor, "float32") and not unrounded(self.to_numpy(tensor)):
                found.setdefault("", f"{name} is left in float32")
        return found, before

    def gradients(
        self, model: Any, forward: Callable, loss: Callable, batch: Arrays, dtype: str
    ) -> tuple[float, dict[str, np.ndarray]]:
        """Loss and the gradient of every parameter that got one, dropout off."""
        self.clear_gradients(model)
        with self.differentiable(model):
            value = self._backward(model, forward, loss, batch, dtype)
        named = self.parameters(model).items()
        return value, {name: self.to_numpy(p.grad) for name, p in named if p.grad is not None}

    def _backward(self, model: Any, forward: Callable, loss: Callable, batch: Arrays, dtype: str) -> float:
        tensors = self.from_numpy(batch, dtype)
        with self.computing():
            value = loss(model, forward(model, tensors), tensors)
            value.backward()
        return value.item()

    def loss_and_gradient(
        self, model: Any, loss: Callable, outputs: Arrays, batch: Arrays, dtype: str
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Loss of injected outputs and its gradient with respect to each of them."""
        model.eval()
        leaves = self.from_numpy(outputs, dtype, gradient=True)
        value = loss(model, leaves, self.from_numpy(batch, dtype))
        value.backward()
        return self.to_numpy(value), {n: self.to_numpy(t.grad) for n, t in leaves.items() if t.grad is not None}

    def updates(
        self,
        model: Any,
        forward: Callable,
        loss: Callable,
        optimizer: Any,
        rates: Iterable[float],
        batches: Iterable[Arrays],
        dtype: str,
        keep: Iterable[int] = (),
    ) -> tuple[list[float], list[float], dict[int, dict[str, np.ndarray]]]:
        """Train on `batches` with dropout off: losses and norms before each update, parameters after some.

        Args:
            optimizer: has `step(rate) -> global gradient norm` and clears the gradients itself.
            rates: learning rate of each update.
            keep: update numbers, counted from 1, after which all parameters are copied.
        """
        losses, norms, snapshots = [], [], {}
        with self.differentiable(model):
            for count, (rate, batch) in enumerate(zip(rates, batches, strict=True), 1):
                losses.append(self._backward(model, forward, loss, batch, dtype))
                norms.append(float(optimizer.step(rate)))
                if count in keep:
                    snapshots[count] = self.state(model)
        return losses, norms, snapshots

    def passes(
        self, model: Any, forward: Callable, batches: Iterable[Arrays], dtype: str
    ) -> list[dict[str, np.ndarray]]:
        """Outputs of forward passes in training mode in which nothing is dropped; running statistics move."""
        found = []
        try:
            model.train()
            with self.without_dropout(model), self.no_gradients(), self.computing():
                for batch in batches:
                    outputs = forward(model, self.from_numpy(batch, dtype))
                    found.append({name: self.to_numpy(one) for name, one in outputs.items() if one is not None})
        finally:
            model.eval()
        return found

    def dropouts(self, model: Any, forward: Callable, batch: Arrays, dtype: str) -> list[Dropped]:
        """Each dropout of a pass in training mode, in the order they run, those of rate 0 too; nothing is dropped."""
        try:
            model.train()
            with self.unmoved(model), self.without_dropout(model) as found, self.no_gradients(), self.computing():
                forward(model, self.from_numpy(batch, dtype))
        finally:
            model.eval()
        return found

    def dropout_of_ones(self, rate: float, count: int) -> np.ndarray:
        """What training-mode dropout makes of `count` ones."""
        return self.to_numpy(self.functional.dropout(self.tensor(np.ones(count)), rate, training=True))
