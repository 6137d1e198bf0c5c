"""What every Paddle model here needs beside its layers: weights in and out of folders, and losses that do not clamp."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from splinter.align.files import WeightError
from splinter.align.weights import WeightMap
from splinter.ports.common import checkpoint

from .encoder import filled_later


def cross_entropy(logits, labels, ignore: int):
    """Cross entropy of each row, and which rows count.

    logsumexp(z) - z[y]: Paddle's CPU softmax clamps shifted logits at -64, so its cross_entropy never
    exceeds 64; QASS logits spread further than that. The row's maximum is taken off first, as inside torch's
    log_softmax: it costs the digits of logits near 1000 otherwise, and all of them in a row that is all fill.

    Args:
        logits: (N, T) floats.
        labels: (N,) integers in [0, T]; `ignore` marks a row that does not count.

    Returns:
        losses (N,), 0 where ignored, and counted (N,) of the dtype of the logits.
    """
    counted = labels != ignore
    logits = logits - logits.max(axis=-1, keepdim=True).detach()
    safe = paddle.where(counted, labels, paddle.zeros_like(labels)).unsqueeze(-1)  # (N, 1)
    picked = paddle.take_along_axis(logits, safe, axis=-1).squeeze(-1)  # (N,)
    losses = paddle.logsumexp(logits, axis=-1) - picked  # (N,)
    return paddle.where(counted, losses, paddle.zeros_like(losses)), counted.astype(logits.dtype)


def span_loss(start_logits, end_logits, start_positions, end_positions):
    """The answering loss: mean of the start and the end cross entropy, each over its own counted rows.

    Labels below 0 count as 0 ([CLS]); labels of T and more do not count. No row counted: nan, as in torch.

    Args:
        start_logits, end_logits: (B, T) floats.
        start_positions, end_positions: (B,) integers, left as they are (the references clamp them in place).

    Returns:
        A scalar, in nats.
    """
    tokens = start_logits.shape[1]

    def boundary(logits, labels):
        losses, counted = cross_entropy(logits, labels.clip(0, tokens), ignore=tokens)
        return losses.sum() / counted.sum()

    return (boundary(start_logits, start_positions) + boundary(end_logits, end_positions)) / 2


class Pretrained(nn.Layer):
    """A model that is read from folders and written to them; a system says under which names.

    Attributes:
        config: its configuration.
        folder: where it was loaded from; None: it was built.
    """

    config: Any
    folder: Path | None = None

    @classmethod
    def unfilled(cls, config, fresh: bool):
        """A model that `filled` will fill.

        Args:
            fresh: not all of it: what is new keeps the numbers that a seed gives it in a whole model.
        """
        with contextlib.nullcontext() if fresh else filled_later():
            return cls(config)

    def stored(self) -> WeightMap:
        """Names and layout in which the weights are written -> ours."""
        raise NotImplementedError

    def companions(self, source: Path | None) -> dict[str, bytes]:
        """What lies beside the weights, with the vocabulary of `source`; see `checkpoint.companions`."""
        raise NotImplementedError

    def filled(self, mapping: WeightMap, tensors: Mapping[str, np.ndarray], folder: Path, fresh: Sequence[str] = ()):
        """The model itself, in evaluation mode, with the weights of a checkpoint; see `load_weights`."""
        load_weights(self, mapping, tensors, str(folder), fresh)
        self.folder = folder
        self.eval()
        return self

    def save_pretrained(
        self, folder: str | os.PathLike[str], source: Path | None = None, dtype: str = "float32"
    ) -> Path:
        """Write config.json, model.safetensors (names and layout of the reference), vocabulary, tokenizer settings.

        Args:
            folder: made when missing; a model there is replaced, and cannot be read meanwhile.
            source: folder to take vocab.txt from; None = where the model was loaded from.
            dtype: "float32", or "float16" for half the size; read back, the numbers are those of float16.

        Returns:
            The folder.

        Raises:
            WeightError: a weight is too large for float16.
        """
        self.write(Path(folder), self.companions(source or self.folder), dtype)
        return Path(folder)

    def write(self, folder: Path, beside: Mapping[str, bytes], dtype: str = "float32") -> None:
        """Write the model with what lies beside its weights; see `checkpoint.write_model`."""
        save_model(self, self.stored(), folder, beside, dtype)

    def compile_method(self, name: str, inputs: Sequence[str]) -> None:
        """Run a method through Paddle's static graph: the same bits, fewer seconds per call, some to build it.

        Args:
            inputs: names of its arguments, each (B, T) int64, of any size.
        """
        # paddle 3.3.1 warns about its own look at `place` while it traces
        warnings.filterwarnings("ignore", message="Tensor do not have 'place' interface", category=UserWarning)
        sizes = [paddle.static.InputSpec([None, None], "int64", one) for one in inputs]
        setattr(self, name, paddle.jit.to_static(getattr(self, name), input_spec=sizes, full_graph=True))


def view(parameter) -> np.ndarray:
    """The parameter as a numpy array that shares its memory on the CPU, a copy elsewhere."""
    return np.from_dlpack(parameter.detach()) if parameter.place.is_cpu_place() else parameter.numpy()


def fill(parameter, array: np.ndarray) -> None:
    """Write an array into a parameter without a second copy of the model."""
    if parameter.place.is_cpu_place():
        np.copyto(view(parameter), array)
    else:
        parameter.set_value(np.ascontiguousarray(array, dtype=str(parameter.dtype).removeprefix("paddle.")))


def load_weights(model, mapping: WeightMap, tensors: Mapping[str, np.ndarray], source: str, fresh=()) -> None:
    """Fill a model from a checkpoint, one tensor at a time.

    Args:
        mapping: their names -> ours, for all that the checkpoint holds.
        fresh: prefixes of our parameters that stay as the initialiser left them.

    Raises:
        WeightError: a tensor missing, surplus, of another shape, or with NaN or infinity in it.
    """
    parameters = {n: p for n, p in model.named_parameters() if not n.startswith(tuple(fresh))}
    for name, array in mapping.convert(tensors, {n: tuple(p.shape) for n, p in parameters.items()}, source):
        if not np.isfinite(array).all():
            theirs = mapping.links([name])[0].theirs
            raise WeightError(f"{source}: tensor {theirs!r} holds NaN or infinity; the weights are broken, take others")
        fill(parameters[name], array)


def save_model(model, mapping: WeightMap, folder: Path, beside: Mapping[str, bytes], dtype: str = "float32") -> None:
    """Write the weights under their names and in their layout, and what lies beside them; see `write_model`.

    Raises:
        WeightError: a weight is too large for float16.
    """
    arrays = to_numpy(model)
    if dtype == "float16":
        largest = np.finfo(np.float16).max
        for name, array in arrays.items():
            if not np.abs(array).max(initial=0) <= largest:
                raise WeightError(f"{name} holds {np.abs(array).max()}, float16 ends at {largest}; write float32")
        arrays = {name: array.astype(np.float16) for name, array in arrays.items()}

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        return mapping.revert(arrays)

    shapes = {name: (array.shape, array.dtype.name) for name, array in tensors()}
    checkpoint.write_model(folder, beside, shapes, tensors)


def to_numpy(model) -> dict[str, np.ndarray]:
    """Our names -> arrays, views of the live weights where they lie on the CPU."""
    return {name: view(parameter) for name, parameter in model.named_parameters()}
