"""The systems that splinter ports, by name. Adding one: a folder here, its name below, a row per step."""

from __future__ import annotations

import importlib

from splinter.align.port import Port

SYSTEMS = {
    "splinter": ("PORT", "PLAIN", "PRETRAINING", "PRETRAINING_HF"),
    "funnel": ("PORT", "FACTORIZED"),
    "jointbert": ("PORT",),
    "multitask": ("PORT", "FROZEN"),
}
"""Folder name -> the ports that its port.py describes."""


def load(folder: str) -> tuple[Port, ...]:
    """The ports of one system."""
    module = importlib.import_module(f"splinter.ports.{folder}.port")
    return tuple(getattr(module, name) for name in SYSTEMS[folder])


def load_all() -> tuple[Port, ...]:
    """Every port; light objects, frameworks load when a pair is built."""
    return tuple(port for folder in SYSTEMS for port in load(folder))
