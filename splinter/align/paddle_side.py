"""What the engine needs of Paddle: arrays in and out, traces, gradients, updates.

`torch_side.py` has the same functions for torch; `steps.py` calls whichever a Side names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import paddle


def environment() -> dict[str, Any]:
    """Versions and switches that decide what the numbers mean."""
    return {
        "version": paddle.__version__,
        "device": paddle.device.get_device(),
        "tf32": False if paddle.device.get_device() == "cpu" else _tf32(),
    }


def _tf32() -> bool:
    import os

    return os.environ.get("NVIDIA_TF32_OVERRIDE") != "0"


def settle() -> None:
    """Switches for comparing: deterministic kernels where there is a choice.

    TF32 is off where NVIDIA_TF32_OVERRIDE is 0, as tox sets it; the record says whether it is.
    """
    if paddle.device.get_device() != "cpu":
        paddle.set_flags({"FLAGS_cudnn_deterministic": True})


def seed(number: int) -> None:
    """Seed Paddle's generators."""
    paddle.seed(number)


def to_numpy(tensor: paddle.Tensor) -> np.ndarray:
    """A copy on the CPU."""
    return np.array(tensor.numpy())


def from_numpy(batch: Mapping[str, np.ndarray], dtype: str, gradient: bool = False) -> dict[str, paddle.Tensor]:
    """Arrays as tensors; floats take `dtype`, integers stay int64."""
    tensors = {}
    for name, array in batch.items():
        floating = array.dtype.kind == "f"
        tensor = paddle.to_tensor(array, dtype=dtype if floating else None)
        tensor.stop_gradient = not (gradient and floating)
        tensors[name] = tensor
    return tensors


def cast(model: paddle.nn.Layer, dtype: str) -> paddle.nn.Layer:
    """The model with its floating-point tensors in `dtype`."""
    return model.to(dtype=dtype)


def parameters(model: paddle.nn.Layer) -> dict[str, paddle.Tensor]:
    """Named parameters, each once."""
    return dict(model.named_parameters())


def state(model: paddle.nn.Layer) -> dict[str, np.ndarray]:
    """Named parameters as arrays."""
    return {name: to_numpy(p) for name, p in model.named_parameters()}


def _tensors(output: Any) -> Iterator[paddle.Tensor]:
    """The tensors in what a layer returned, a tuple of tuples, say."""
    if isinstance(output, paddle.Tensor):
        yield output
    elif isinstance(output, tuple | list):
        for one in output:
            yield from _tensors(one)


def trace(
    model: paddle.nn.Layer,
    forward: Callable,
    batch: Mapping[str, np.ndarray],
    dtype: str,
    paths,
    inputs: dict[str, np.ndarray] | None = None,
    put: Mapping[str, np.ndarray] | None = None,
) -> tuple[dict, dict]:
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
    layers = dict(model.named_sublayers(include_self=True))

    def keep(path):
        def hook(layer, given, output):
            key = f"{path}#{runs[path]}" if runs[path] else path
            runs[path] += 1
            if not isinstance(output, paddle.Tensor):
                own.update({f"{path}#{runs[path] - 1}.{k}": to_numpy(one) for k, one in enumerate(_tensors(output))})
                return None
            own[key] = to_numpy(output)
            if inputs is not None and given and isinstance(given[0], paddle.Tensor):
                inputs[key] = to_numpy(given[0])
            if put is None or key not in put or put[key].shape != tuple(output.shape):
                return None
            return paddle.to_tensor(put[key], dtype=output.dtype)

        return hook

    for path in paths:
        hooks.append(layers[path].register_forward_post_hook(keep(path)))
    try:
        model.eval()
        with paddle.no_grad():
            outputs = forward(model, from_numpy(batch, dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return own, {name: to_numpy(tensor) for name, tensor in outputs.items()}


def gradients(model, forward: Callable, loss: Callable, batch: Mapping[str, np.ndarray], dtype: str):
    """Loss and the gradient of every parameter that got one, dropout off."""
    model.eval()
    for parameter in model.parameters():
        parameter.grad = None  # clear_gradients leaves zeros (paddle 3.3.1): an unused parameter would seem to have one
    tensors = from_numpy(batch, dtype)
    value = loss(model, forward(model, tensors), tensors)
    value.backward()
    return value.item(), {n: to_numpy(p.grad) for n, p in model.named_parameters() if p.grad is not None}


def loss_and_gradient(model, loss: Callable, outputs: Mapping[str, np.ndarray], batch, dtype: str):
    """Loss of injected outputs and its gradient with respect to each of them."""
    leaves = from_numpy(outputs, dtype, gradient=True)
    value = loss(model, leaves, from_numpy(batch, dtype))
    value.backward()
    return to_numpy(value), {n: to_numpy(t.grad) for n, t in leaves.items() if t.grad is not None}


def updates(model, forward: Callable, loss: Callable, optimizer: Any, rates, batches, dtype: str, keep=()):
    """Train on `batches` with dropout off: losses and norms before each update, parameters after some.

    Args:
        optimizer: has `step(rate) -> global gradient norm` and clears the gradients itself.
        rates: learning rate of each update.
        keep: update numbers, counted from 1, after which all parameters are copied.
    """
    model.eval()
    losses, norms, snapshots = [], [], {}
    for count, (rate, batch) in enumerate(zip(rates, batches, strict=True), 1):
        tensors = from_numpy(batch, dtype)
        value = loss(model, forward(model, tensors), tensors)
        value.backward()
        losses.append(value.item())
        norms.append(float(optimizer.step(rate)))
        if count in keep:
            snapshots[count] = state(model)
    return losses, norms, snapshots


def free_parameters(arrays: Mapping[str, np.ndarray], dtype: str) -> dict[str, paddle.Tensor]:
    """Parameters outside any model, for feeding an optimizer."""
    made = {}
    for name, array in arrays.items():
        initial = paddle.nn.initializer.Assign(np.asarray(array, dtype))
        made[name] = paddle.create_parameter(list(array.shape), dtype, default_initializer=initial)
    return made


def set_gradients(named: Mapping[str, paddle.Tensor], arrays: Mapping[str, np.ndarray], dtype: str) -> None:
    """Inject gradients."""
    for name, parameter in named.items():
        parameter.grad = paddle.to_tensor(arrays[name], dtype=dtype)


def dropouts(model: paddle.nn.Layer, forward: Callable, batch: Mapping[str, np.ndarray], dtype: str):
    """(rate, input) of each dropout of a forward pass in training mode, in the order they run; nothing is dropped."""
    plain, found = paddle.nn.functional.dropout, []

    def keep(x, p=0.5, axis=None, training=True, *rest, **more):
        if training:
            found.append((float(p), to_numpy(x)))
        return x

    paddle.nn.functional.dropout = keep
    try:
        model.train()
        with paddle.no_grad():
            forward(model, from_numpy(batch, dtype))
    finally:
        paddle.nn.functional.dropout = plain
        model.eval()
    return found


def dropout_of_ones(rate: float, count: int) -> np.ndarray:
    """What training-mode dropout makes of `count` ones."""
    ones = paddle.ones([count], dtype="float64")
    return to_numpy(paddle.nn.functional.dropout(ones, rate, training=True))
