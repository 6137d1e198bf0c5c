"""The ports that the suite proves: what each system's proof/port.py describes. A port needs a row per step."""

from __future__ import annotations

import importlib

from splinter.align.port import Port

PORTS = {
    "splinter": ("PORT", "PLAIN"),
    "splinter.pretraining": ("PORT", "HF"),
    "jointbert": ("PORT", "FORBIDDEN"),
    "funnel": ("PORT", "FACTORIZED", "OPTIONS"),
    "multitask": ("PORT", "OPTIONS", "FROZEN"),
}
"""Folder -> the names of its ports; PORT is the system itself, the others differ from it by a setting."""


def load(folder: str) -> tuple[Port, ...]:
    """The ports of one folder; light objects, frameworks load when a pair is built."""
    module = importlib.import_module(f"splinter.ports.{folder}.proof.port")
    return tuple(getattr(module, name) for name in PORTS[folder])


def load_all() -> tuple[Port, ...]:
    """Every port."""
    return tuple(port for folder in PORTS for port in load(folder))
