"""What the engine needs of torch: arrays in and out, traces, gradients, updates.

`paddle_side.py` has the same functions for Paddle; `steps.py` calls whichever a Side names.
"""

from __future__ import annotations

import contextlib
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch


class UnsafeFile(ValueError):
    """A `.bin` file with more in it than tensors that numpy can hold."""


def read_bin(path: Path) -> dict[str, np.ndarray]:
    """Tensors of a torch checkpoint, memory-mapped; pickled code is refused.

    Raises:
        UnsafeFile: the file asks to run code, is damaged or no torch checkpoint, or numpy cannot hold its tensors.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a strange pickle, which is refused in one line below
            # files older than torch 1.6 are no zip archives and cannot be mapped
            tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (OSError, MemoryError):
        raise
    except Exception as error:  # torch answers to a damaged file with nearly any exception
        code = re.search(r"GLOBAL (\S+)", str(error))  # the rest of torch's text tells how to run it after all
        reason = f"it asks to run {code[1]}" if code else "damaged, or not saved by torch"
        raise UnsafeFile(
            f"{path} is refused: not a plain file of tensors ({reason}); ask its author for a safetensors file"
        ) from None
    if not isinstance(tensors, dict):
        raise UnsafeFile(f"{path} is refused: expected a dict of tensors, got a {type(tensors).__name__}")
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise UnsafeFile(f"{path} is refused: {name!r} holds a {type(value).__name__}, expected a tensor")
    return {name: _plain(path, name, tensor) for name, tensor in tensors.items()}


def _plain(path: Path, name: str, tensor: torch.Tensor) -> np.ndarray:
    """The array of a tensor; conjugated or negated on paper only, it is so in fact.

    Raises:
        UnsafeFile: numpy has no such array: bfloat16, sparse, quantized, nested, without data.
    """
    try:
        return tensor.detach().resolve_conj().resolve_neg().numpy()
    except (TypeError, RuntimeError):
        layout = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
        kind = f"{layout} {str(tensor.dtype).removeprefix('torch.')} on {tensor.device}"
        raise UnsafeFile(
            f"{path} is refused: numpy cannot hold its tensors ({name!r} is {kind}); convert it to float32, dense"
        ) from None


def environment() -> dict[str, Any]:
    """Versions and switches that decide what the numbers mean; models stay where torch makes them."""
    device = torch.get_default_device().type
    return {
        "version": torch.__version__,
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "threads": torch.get_num_threads(),
        "tf32": bool(torch.backends.cuda.matmul.allow_tf32) if device == "cuda" else False,
    }


def settle() -> None:
    """Switches for comparing: no TF32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def seed(number: int) -> None:
    """Seed torch's generators."""
    torch.manual_seed(number)


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A copy on the CPU; live tensors change under the comparison otherwise."""
    return tensor.detach().cpu().numpy().copy()


def from_numpy(batch: Mapping[str, np.ndarray], dtype: str, gradient: bool = False) -> dict[str, torch.Tensor]:
    """Arrays as tensors; floats take `dtype`, integers stay int64."""
    tensors = {}
    for name, array in batch.items():
        tensor = torch.tensor(array)
        if tensor.is_floating_point():
            tensor = tensor.to(getattr(torch, dtype))
            tensor.requires_grad_(gradient)
        tensors[name] = tensor
    return tensors


def cast(model: torch.nn.Module, dtype: str) -> torch.nn.Module:
    """The model with its floating-point tensors in `dtype`."""
    return model.to(getattr(torch, dtype))


def parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Named parameters, each once."""
    return dict(model.named_parameters())


def state(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Named parameters as arrays."""
    return {name: to_numpy(p) for name, p in model.named_parameters()}


@contextlib.contextmanager
def float64_softmax() -> Iterator[None]:
    """Lift the float32 that transformers forces on attention probabilities.

    transformers 4.57's eager attention calls `softmax(scores, dtype=torch.float32)` even in a float64 model,
    so a float64 run stalls at 2.5e-8. Inside this context a float64 input keeps its precision.
    """
    plain = torch.nn.functional.softmax

    def softmax(scores, dim=None, _stacklevel=3, dtype=None):
        return plain(scores, dim=dim, dtype=None if scores.dtype == torch.float64 else dtype)

    torch.nn.functional.softmax = softmax
    try:
        yield
    finally:
        torch.nn.functional.softmax = plain


def _tensors(output: Any) -> Iterator[torch.Tensor]:
    """The tensors in what a layer returned, a tuple of tuples, say."""
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, tuple | list):
        for one in output:
            yield from _tensors(one)


def trace(
    model: torch.nn.Module,
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

    def keep(path):
        def hook(layer, given, output):
            key = f"{path}#{runs[path]}" if runs[path] else path
            runs[path] += 1
            if not isinstance(output, torch.Tensor):
                own.update({f"{path}#{runs[path] - 1}.{k}": to_numpy(one) for k, one in enumerate(_tensors(output))})
                return None
            own[key] = to_numpy(output)
            if inputs is not None and given and isinstance(given[0], torch.Tensor):
                inputs[key] = to_numpy(given[0])
            if put is None or key not in put or put[key].shape != tuple(output.shape):
                return None
            return torch.from_numpy(put[key].copy()).to(output)

        return hook

    for path in paths:
        hooks.append(model.get_submodule(path).register_forward_hook(keep(path)))
    try:
        model.eval()
        with torch.no_grad(), float64_softmax():
            outputs = forward(model, from_numpy(batch, dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return own, {name: to_numpy(tensor) for name, tensor in outputs.items()}


def gradients(model, forward: Callable, loss: Callable, batch: Mapping[str, np.ndarray], dtype: str):
    """Loss and the gradient of every parameter that got one, dropout off."""
    model.eval()
    model.zero_grad(set_to_none=True)
    tensors = from_numpy(batch, dtype)
    with float64_softmax():
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
        with float64_softmax():
            value = loss(model, forward(model, tensors), tensors)
            value.backward()
        losses.append(value.item())
        norms.append(float(optimizer.step(rate)))
        if count in keep:
            snapshots[count] = state(model)
    return losses, norms, snapshots


def free_parameters(arrays: Mapping[str, np.ndarray], dtype: str) -> dict[str, torch.nn.Parameter]:
    """Parameters outside any model, for feeding an optimizer."""
    return {name: torch.nn.Parameter(torch.tensor(a, dtype=getattr(torch, dtype))) for name, a in arrays.items()}


def set_gradients(named: Mapping[str, torch.nn.Parameter], arrays: Mapping[str, np.ndarray], dtype: str) -> None:
    """Inject gradients."""
    for name, parameter in named.items():
        parameter.grad = torch.tensor(arrays[name], dtype=getattr(torch, dtype))


def dropouts(model: torch.nn.Module, forward: Callable, batch: Mapping[str, np.ndarray], dtype: str):
    """(rate, input) of each dropout of a forward pass in training mode, in the order they run; nothing is dropped."""
    plain, found = torch.nn.functional.dropout, []

    def keep(given, p=0.5, training=True, *rest, **more):
        if training:
            found.append((float(p), to_numpy(given)))
        return given

    torch.nn.functional.dropout = keep
    try:
        model.train()
        with torch.no_grad(), float64_softmax():
            forward(model, from_numpy(batch, dtype))
    finally:
        torch.nn.functional.dropout = plain
        model.eval()
    return found


def dropout_of_ones(rate: float, count: int) -> np.ndarray:
    """What training-mode dropout makes of `count` ones."""
    return torch.nn.functional.dropout(torch.ones(count, dtype=torch.float64), rate, training=True).numpy()
