"""What the engine needs of torch, beyond what driver.py has for every framework; and `.bin` files, read safely."""

from __future__ import annotations

import contextlib
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .compare import SHORT
from .driver import Driver
from .framework import Arrays, Drop


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


class _Operations(TorchDispatchMode):
    """Shows every operation, below autograd, with its tensors."""

    def __init__(self, see: Callable[[str, list, list], None]):
        super().__init__()
        self.see = see

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        made = function(*arguments, **(named or {}))
        given, outputs = (
            [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
            for tree in ((arguments, named), made)
        )
        self.see(function.overloadpacket.__name__, given, outputs)
        return made


class Torch(Driver):
    """torch; models stay where it makes them."""

    Tensor = torch.Tensor
    functional = torch.nn.functional
    framework, home = "torch", "torch.nn"
    drops = (
        *(Drop(name) for name in ("dropout", "dropout1d", "dropout2d", "dropout3d")),
        *(Drop(name) for name in ("alpha_dropout", "feature_alpha_dropout")),
        # a builtin, which does not tell its arguments
        Drop(
            "scaled_dot_product_attention", "dropout_p", ("query", "key", "value", "attn_mask", "dropout_p"), fused=True
        ),
    )
    recurrent = (torch.nn.RNNBase,)
    hook_tables = ("_forward_hooks", "_forward_pre_hooks")

    def environment(self) -> dict[str, Any]:
        device = torch.get_default_device().type
        return {
            "version": torch.__version__,
            "device": torch.cuda.get_device_name() if device == "cuda" else device,
            "threads": torch.get_num_threads(),
            "tf32": bool(torch.backends.cuda.matmul.allow_tf32) if device == "cuda" else False,
        }

    def settle(self) -> None:
        """No TF32."""
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False

    def seed(self, number: int) -> None:
        torch.manual_seed(number)

    def tensor(self, array: np.ndarray, dtype: str | None = None) -> torch.Tensor:
        return torch.tensor(array, dtype=dtype and getattr(torch, dtype))

    def like(self, array: np.ndarray, tensor: torch.Tensor) -> torch.Tensor:
        return torch.tensor(array, dtype=tensor.dtype, device=tensor.device)

    def require_gradient(self, tensor: torch.Tensor, required: bool) -> None:
        tensor.requires_grad_(required)

    def to_numpy(self, tensor: torch.Tensor) -> np.ndarray:
        short = tensor.dtype in [getattr(torch, name) for name in SHORT]
        return (tensor.detach().float() if short else tensor.detach()).cpu().numpy().copy()

    def cast(self, model: torch.nn.Module, dtype: str) -> torch.nn.Module:
        # not `to`, which makes complex numbers real and drops half of a rotary table
        return model._apply(lambda tensor: tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor)

    def layers(self, model: torch.nn.Module) -> dict[str, torch.nn.Module]:
        return dict(model.named_modules(remove_duplicate=False))

    def buffers(self, model: torch.nn.Module) -> dict[str, torch.Tensor]:
        return {name: tensor for name, tensor in model.named_buffers() if tensor.is_floating_point()}

    @torch.no_grad()
    def fill(self, tensor: torch.Tensor, array: np.ndarray) -> None:
        tensor.copy_(torch.tensor(array))

    def hook(self, layer: torch.nn.Module, function: Callable) -> Any:
        return layer.register_forward_hook(function)

    def clear_gradients(self, model: torch.nn.Module) -> None:
        model.zero_grad(set_to_none=True)

    def free_parameters(self, arrays: Arrays, dtype: str) -> dict[str, torch.nn.Parameter]:
        return {name: torch.nn.Parameter(self.tensor(array, dtype)) for name, array in arrays.items()}

    def no_gradients(self) -> contextlib.AbstractContextManager:
        return torch.no_grad()

    def computing(self) -> contextlib.AbstractContextManager:
        return float64_softmax()

    def operations(self, see: Callable[[str, list, list], None]) -> contextlib.AbstractContextManager:
        return _Operations(see)

    def tables(self, layer: torch.nn.Module) -> list[torch.Tensor]:
        return [t for name, t in layer.named_buffers(recurse=False) if name in layer._non_persistent_buffers_set]

    def compiled(self, model: torch.nn.Module) -> Any:
        return torch.compile(model)

    def learns(self, tensor: torch.Tensor) -> bool:
        return tensor.requires_grad


DRIVER = Torch()
cast, from_numpy, to_numpy = DRIVER.cast, DRIVER.from_numpy, DRIVER.to_numpy
state, parameters = DRIVER.state, DRIVER.parameters
