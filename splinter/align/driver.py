"""What the engine does with a model of any framework: arrays in and out, traces, gradients, updates.

`torch_side.py` and `paddle_side.py` write what differs (framework.py); `steps.py` calls whichever a Side names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

import numpy as np

from .framework import Arrays
from .held import Dropped, Held


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


class Driver(Held):
    """The functions that are the same in every framework, in terms of those that each writes itself."""

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

    def state(self, model: Any) -> dict[str, np.ndarray]:
        """Named parameters as arrays."""
        return {name: self.to_numpy(parameter) for name, parameter in self.parameters(model).items()}

    def set_gradients(self, named: Mapping[str, Any], arrays: Arrays, dtype: str) -> None:
        """Inject gradients; a parameter that `arrays` leaves out has none afterwards, whatever it had."""
        for name, parameter in named.items():
            parameter.grad = self.tensor(arrays[name], dtype) if name in arrays else None

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
                alone = isinstance(output, self.Tensor)
                made = {key: output} if alone else {f"{path}#{run}.{k}": t for k, t in enumerate(self._tensors(output))}
                own.update({name: self.to_numpy(tensor) for name, tensor in made.items()})
                if inputs is not None and given and isinstance(given[0], self.Tensor):
                    inputs.update(dict.fromkeys(made, self.to_numpy(given[0])))
                if not alone:
                    return None
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
        found = {name: self.to_numpy(p.grad) for name, p in named if p.grad is not None}
        self.clear_gradients(model)  # at base size a second set of them is gigabytes
        return value, found

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

    def undropped(
        self, model: Any, forward: Callable, batch: Arrays, dtype: str
    ) -> tuple[list[Dropped], dict[str, np.ndarray]]:
        """Each dropout that falls in evaluation mode, and what comes out where no call of one does anything at all."""
        with self.without_dropout(model, idle=True) as found:
            _, outputs = self.trace(model, forward, batch, dtype, ())
        return found, outputs

    def left_of_ones(self, dropped: Dropped, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """What a dropout of a pass makes of ones, with all the arguments of its call."""
        assert dropped.call is not None, "a dropout inside of another function has no call of its own"
        with self.no_gradients():
            return self.to_numpy(dropped.call(self.tensor(np.ones(shape), dtype)))

    def dropout_of_ones(self, rate: float, count: int) -> np.ndarray:
        """What training-mode dropout makes of `count` ones."""
        return self.to_numpy(self.functional.dropout(self.tensor(np.ones(count)), rate, training=True))
