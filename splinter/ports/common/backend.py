"""What `--framework` chooses: one object per system and framework that opens, trains, asks and saves its models."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from splinter import runtime, stopping

from . import UsageError

ROOMS = {"paddle": "train", "torch": "twin"}
"""Framework -> the module of a system that holds its `BACKEND`."""

EXTRAS = {"paddle": "paddle", "torch": "align"}
"""Framework -> the extra that installs it."""


class Backend(Protocol):
    """What every system's has; its tasks.py says what more it asks of one. A model is whatever `open_model` returns."""

    def gpus(self) -> int:
        """How many GPUs the framework can use here."""

    def seed(self, number: int) -> None:
        """Seed what new weights are drawn from."""

    def save(self, model: Any, folder: Path, beside: Mapping[str, bytes]) -> None:
        """Write a model with what lies beside its weights; see `checkpoint.write_model`."""


def opened(system: str, framework: str) -> Any:
    """The backend that runs a system in a framework.

    Raises:
        UsageError: the framework is not installed.
    """
    try:
        if framework == "paddle":
            runtime.import_paddle()
        else:
            runtime.tune()  # torch, too, asks the system for every array anew
        room = importlib.import_module(f"splinter.ports.{system}.{ROOMS[framework]}")
        stopping.check()
        return room.BACKEND
    except ImportError as error:
        raise UsageError(
            f"--framework {framework} needs {error.name or error}, which is not installed; "
            f"in a clone of the project: pip install -e '.[{EXTRAS[framework]}]'"
        ) from None


def check_device(backend: Backend, device: str) -> str:
    """A device that is there.

    Raises:
        UsageError: this machine, or the installed framework, has no such GPU.
    """
    kind, _, number = device.partition(":")
    if kind == "gpu" and int(number or 0) >= backend.gpus():
        found = f"{backend.gpus()} GPU{'s' * (backend.gpus() != 1)}"
        raise UsageError(f"--device {device}: the framework finds {found} here; use --device cpu")
    return device


def told_precision(backend: Backend, device: str, precision: str) -> str:
    """The precision for a summary, with a warning where it costs time instead of saving it.

    One update of splinter-mini in bf16 took 50 s on an AMD EPYC with AVX2 alone, in float32 5 s (torch 2.13).
    """
    on_gpu = backend.gpus() > 0 and not device.startswith("cpu")
    if precision == "bf16" and not on_gpu and not runtime.computes_bfloat16():
        return f"{precision} (this processor has no products in bfloat16: float32 is many times faster)"
    return precision
