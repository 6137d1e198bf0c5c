"""What the engine needs of a framework: arrays in and out, traces, gradients, updates. One base, a subclass for each.

`torch_side.py` and `paddle_side.py` write what differs; `steps.py` calls whichever a Side names.
"""

from __future__ import annotations

import contextlib
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

Arrays = Mapping[str, np.ndarray]


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
        functional: the module whose `dropout` all layers call when they run.
    """

    Tensor: ClassVar[Any]
    functional: ClassVar[Any]

    def __init__(self) -> None:
        # read here: what stands in place of `dropout` later need not name its arguments
        self.signature = inspect.signature(self.functional.dropout)

    # What a framework writes

    def environment(self) -> dict[str, Any]:
        """Versions and switches that decide what the numbers mean."""
        raise NotImplementedError

    def settle(self) -> None:
        """Set the switches for comparing."""
        raise NotImplementedError

    def seed(self, number: int) -> None:
        """Seed the generators."""
        raise NotImplementedError

    def tensor(self, array: np.ndarray, dtype: str | None = None) -> Any:
        """A tensor of a copy of the array, in `dtype`; None: the array's own."""
        raise NotImplementedError

    def like(self, array: np.ndarray, tensor: Any) -> Any:
        """The array as a tensor of another one's dtype, where that one lies."""
        raise NotImplementedError

    def require_gradient(self, tensor: Any, required: bool) -> None:
        """Whether a backward pass leaves a gradient on this leaf."""
        raise NotImplementedError

    def to_numpy(self, tensor: Any) -> np.ndarray:
        """A copy on the CPU; live tensors change under the comparison otherwise."""
        raise NotImplementedError

    def cast(self, model: Any, dtype: str) -> Any:
        """The model with its floating-point tensors in `dtype`."""
        raise NotImplementedError

    def layers(self, model: Any) -> dict[str, Any]:
        """Every layer by its path, the model itself as ""."""
        raise NotImplementedError

    def buffers(self, model: Any) -> dict[str, Any]:
        """Named tensors that a model keeps and no optimizer moves: running statistics, tables; each once."""
        raise NotImplementedError

    def fill(self, tensor: Any, array: np.ndarray) -> None:
        """Give a parameter or buffer these numbers, in place and in its own dtype."""
        raise NotImplementedError

    def hook(self, layer: Any, function: Callable) -> Any:
        """Call function(layer, inputs, output) whenever the layer has run; what it returns, if anything, is handed on.

        Returns:
            What has `remove()`.
        """
        raise NotImplementedError

    def clear_gradients(self, model: Any) -> None:
        """Leave no parameter with a gradient, not even of zeros."""
        raise NotImplementedError

    def free_parameters(self, arrays: Arrays, dtype: str) -> dict[str, Any]:
        """Parameters outside any model, for feeding an optimizer."""
        raise NotImplementedError

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

    # What follows from it

    def from_numpy(self, batch: Arrays, dtype: str, gradient: bool = False) -> dict[str, Any]:
        """Arrays as tensors; floats take `dtype`, all others keep theirs."""
        tensors = {}
        for name, array in batch.items():
            floating = array.dtype.kind == "f"
            tensors[name] = self.tensor(array, dtype if floating else None)
            self.require_gradient(tensors[name], gradient and floating)
        return tensors

    def parameters(self, model: Any) -> dict[str, Any]:
        """Named parameters, each once."""
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
        recurrent layer, say) `path#0.0`, `path#0.1`, ...

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
        return own, {name: self.to_numpy(tensor) for name, tensor in outputs.items()}

    def _tensors(self, output: Any) -> Iterator[Any]:
        """The tensors in what a layer returned, a tuple of tuples, say."""
        if isinstance(output, self.Tensor):
            yield output
        elif isinstance(output, tuple | list):
            for one in output:
                yield from self._tensors(one)

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
        hooks = [layer.register_forward_pre_hook(begin(path)) for path, layer in layers.items() if path]
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
            if _is(tensor, "float32") and not unrounded(self.to_numpy(tensor)):
                found.setdefault("", f"{name} is left in float32")
        return found, before

    def gradients(
        self, model: Any, forward: Callable, loss: Callable, batch: Arrays, dtype: str
    ) -> tuple[float, dict[str, np.ndarray]]:
        """Loss and the gradient of every parameter that got one, dropout off."""
        model.eval()
        self.clear_gradients(model)
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
        model.eval()
        losses, norms, snapshots = [], [], {}
        for count, (rate, batch) in enumerate(zip(rates, batches, strict=True), 1):
            losses.append(self._backward(model, forward, loss, batch, dtype))
            norms.append(float(optimizer.step(rate)))
            if count in keep:
                snapshots[count] = self.state(model)
        return losses, norms, snapshots

    def dropouts(self, model: Any, forward: Callable, batch: Arrays, dtype: str) -> list[tuple[float, np.ndarray]]:
        """(rate, input) of each dropout of a pass in training mode, in the order they run; nothing is dropped."""
        plain, found = self.functional.dropout, []

        def keep(*arguments, **named):
            bound = self.signature.bind(*arguments, **named)
            bound.apply_defaults()
            given = next(iter(bound.arguments.values()))
            if bound.arguments["training"]:
                found.append((float(bound.arguments["p"]), self.to_numpy(given)))
            return given

        self.functional.dropout = keep
        try:
            model.train()
            with self.no_gradients(), self.computing():
                forward(model, self.from_numpy(batch, dtype))
        finally:
            self.functional.dropout = plain
            model.eval()
        return found

    def dropout_of_ones(self, rate: float, count: int) -> np.ndarray:
        """What training-mode dropout makes of `count` ones."""
        return self.to_numpy(self.functional.dropout(self.tensor(np.ones(count)), rate, training=True))
