"""What the engine needs of Paddle, beyond what driver.py has for every framework."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import paddle

from .compare import SHORT
from .driver import Driver
from .framework import Arrays, Drop, numpy_dtype

STATISTICS = ("_mean", "_variance")
"""What Paddle's norms call their running statistics: parameters without gradient, where torch has buffers."""

OPERATORS = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")
"""Of a tensor that Paddle computes without its `_C_ops`."""


def _seen(function: Callable, name: str, see: Callable[[str, list, list], None]) -> Callable:
    """The function, which shows its tensors when it has run."""

    def run(*arguments, **named):
        made = function(*arguments, **named)
        see(name, list(_tensors((arguments, tuple(named.values())))), list(_tensors(made)))
        return made

    return run


def _tensors(values: Any) -> Iterator[paddle.Tensor]:
    if isinstance(values, paddle.Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for one in values:
            yield from _tensors(one)


class Paddle(Driver):
    """Paddle."""

    Tensor = paddle.Tensor
    functional = paddle.nn.functional
    framework, home = "paddle", "paddle.nn"
    drops = (
        *(Drop(name) for name in ("dropout", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")),
        Drop("scaled_dot_product_attention", "dropout_p", fused=True),
    )
    recurrent = (paddle.nn.LSTM, paddle.nn.GRU, paddle.nn.SimpleRNN)
    hook_tables = ("_forward_post_hooks", "_forward_pre_hooks")

    @functools.cached_property
    def unbiased(self) -> bool:  # type: ignore[override]
        """Not on a CPU (paddle 3.3.1); measured, for a GPU's kernel is another one."""
        norm = paddle.nn.BatchNorm1D(1, momentum=0.0)
        norm(paddle.to_tensor([[0.0], [2.0]]))
        return bool(norm._variance.item() > 1.5)  # 2 of n - 1, 1 of n

    def environment(self) -> dict[str, Any]:
        device = paddle.device.get_device()
        return {
            "version": paddle.__version__,
            "device": device,
            "tf32": device != "cpu" and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0",
        }

    def settle(self) -> None:
        """Deterministic kernels where there is a choice.

        TF32 is off where NVIDIA_TF32_OVERRIDE is 0, as tox sets it; the record says whether it is.
        """
        if paddle.device.get_device() != "cpu":
            paddle.set_flags({"FLAGS_cudnn_deterministic": True})

    def seed(self, number: int) -> None:
        paddle.seed(number)

    def tensor(self, array: np.ndarray, dtype: str | None = None) -> paddle.Tensor:
        return paddle.to_tensor(array, dtype=dtype)

    def like(self, array: np.ndarray, tensor: paddle.Tensor) -> paddle.Tensor:
        return paddle.to_tensor(array, dtype=tensor.dtype)

    def require_gradient(self, tensor: paddle.Tensor, required: bool) -> None:
        tensor.stop_gradient = not required

    def to_numpy(self, tensor: paddle.Tensor) -> np.ndarray:
        short = tensor.dtype in [getattr(paddle, name) for name in SHORT]  # numpy() of bfloat16 is its bits, as uint16
        return np.array((tensor.astype("float32") if short else tensor).numpy())

    def cast(self, model: paddle.nn.Layer, dtype: str) -> paddle.nn.Layer:
        # not `to`, which makes floats of position ids, masks and the dropout state of recurrent layers (paddle 3.3.1)
        return model._to_impl(dtype=dtype, floating_only=True)

    def layers(self, model: paddle.nn.Layer) -> dict[str, paddle.nn.Layer]:
        return dict(model.named_sublayers(include_self=True))

    def buffers(self, model: paddle.nn.Layer) -> dict[str, paddle.Tensor]:
        floating = {name: tensor for name, tensor in model.named_buffers() if paddle.is_floating_point(tensor)}
        return floating | {name: tensor for name, tensor in model.named_parameters() if _running(name, tensor)}

    def parameters(self, model: paddle.nn.Layer) -> dict[str, paddle.Tensor]:
        return {name: tensor for name, tensor in model.named_parameters() if not _running(name, tensor)}

    def fill(self, tensor: paddle.Tensor, array: np.ndarray) -> None:
        tensor.set_value(paddle.to_tensor(array, dtype=tensor.dtype))

    def hook(self, layer: paddle.nn.Layer, function: Callable) -> Any:
        return layer.register_forward_post_hook(function)

    def clear_gradients(self, model: paddle.nn.Layer) -> None:
        for parameter in model.parameters():
            parameter.grad = None  # clear_gradients leaves zeros (paddle 3.3.1): an unused one would seem to have one

    def free_parameters(self, arrays: Arrays, dtype: str) -> dict[str, paddle.Tensor]:
        made = {}
        for name, array in arrays.items():
            initial = paddle.nn.initializer.Assign(np.asarray(array, numpy_dtype(dtype)))
            made[name] = paddle.create_parameter(list(array.shape), dtype, default_initializer=initial)
        return made

    def no_gradients(self) -> contextlib.AbstractContextManager:
        return paddle.no_grad()

    @contextlib.contextmanager
    def operations(self, see: Callable[[str, list, list], None]) -> Iterator[None]:
        """Paddle has no mode for it: its functions call what is in `_C_ops`, its operators what is in Tensor."""
        replaced = [(paddle._C_ops, name) for name in dir(paddle._C_ops) if not name.startswith("__")]
        replaced += [(paddle.Tensor, f"__{side}{name}__") for name in OPERATORS for side in ("", "r")]
        replaced = [(home, name) for home, name in replaced if callable(getattr(home, name, None))]
        plain = [getattr(home, name) for home, name in replaced]
        for (home, name), function in zip(replaced, plain, strict=True):
            setattr(home, name, _seen(function, name.strip("_"), see))
        try:
            yield
        finally:
            for (home, name), function in zip(replaced, plain, strict=True):
                setattr(home, name, function)

    def tables(self, layer: paddle.nn.Layer) -> list[paddle.Tensor]:
        return [layer._buffers[name] for name in layer._non_persistable_buffer_names_set if name in layer._buffers]

    def compiled(self, model: paddle.nn.Layer) -> Any:
        return paddle.jit.to_static(model, full_graph=True)

    def learns(self, tensor: paddle.Tensor) -> bool:
        return not tensor.stop_gradient


def _running(name: str, parameter: paddle.Tensor) -> bool:
    """Whether a parameter is a running statistic; others that are frozen stay parameters."""
    return name.rpartition(".")[2] in STATISTICS and parameter.stop_gradient


DRIVER = Paddle()
cast, from_numpy, to_numpy = DRIVER.cast, DRIVER.from_numpy, DRIVER.to_numpy
state, parameters = DRIVER.state, DRIVER.parameters
