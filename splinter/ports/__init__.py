"""The systems that splinter ports, by name. Adding one: a folder here, its name below, a row per step."""

from __future__ import annotations

import importlib
from pathlib import Path

from splinter.align.port import Port

SYSTEMS = {
    "splinter": ("PORT", "PLAIN", "PRETRAINING", "PRETRAINING_HF"),
    "jointbert": ("PORT",),
    "funnel": ("PORT", "FACTORIZED"),
    "multitask": ("PORT", "FROZEN"),
}
"""Folder name -> the ports that its port.py describes."""


SIGNS = {
    "splinter": ("Splinter", "StartEndSpanModel", "splinter."),
    "funnel": ("Funnel", "funnel."),
    "jointbert": ("JointBERT", "intent_classifier."),
    "multitask": ("MultitaskBert", "sentiment_classifier."),
}
"""How the architecture in config.json or a tensor of a system begins."""


def system_of(folder: Path) -> str | None:
    """Whose model a folder holds; None where it says so of no system: a plain BERT, no checkpoint at all."""
    from .checkpoint import CONFIG, WEIGHTS, CheckpointError, SafetensorsFile, WeightError, read_json

    if not folder.is_dir():
        return None
    try:
        named = read_json(folder / CONFIG).get("architectures")
        tensors = SafetensorsFile(folder / WEIGHTS) if (folder / WEIGHTS).is_file() else ()
    except (CheckpointError, WeightError, OSError):
        return None
    names = [str(name) for name in (*(named if isinstance(named, list) else ()), *tensors)]
    return next((system for system, signs in SIGNS.items() if any(name.startswith(signs) for name in names)), None)


def load(folder: str) -> tuple[Port, ...]:
    """The ports of one system."""
    module = importlib.import_module(f"splinter.ports.{folder}.port")
    return tuple(getattr(module, name) for name in SYSTEMS[folder])


def load_all() -> tuple[Port, ...]:
    """Every port; light objects, frameworks load when a pair is built."""
    return tuple(port for folder in SYSTEMS for port in load(folder))
