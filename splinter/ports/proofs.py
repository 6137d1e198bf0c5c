"""The ports that the suite proves: what each system's proof/port.py describes. A port needs a row per step."""

from __future__ import annotations

import importlib

from splinter.align.port import Port

from . import SYSTEMS

PORTS = {
    "splinter": ("PORT", "PLAIN", "PRETRAINING", "PRETRAINING_HF"),
    "jointbert": ("PORT",),
    "funnel": ("PORT", "FACTORIZED"),
    "multitask": ("PORT", "FROZEN"),
}
"""System -> the names of its ports; PORT is the system itself, the others differ from it by a setting."""


def load(system: str) -> tuple[Port, ...]:
    """The ports of one system; light objects, frameworks load when a pair is built."""
    module = importlib.import_module(f"splinter.ports.{system}.proof.port")
    return tuple(getattr(module, name) for name in PORTS[system])


def load_all() -> tuple[Port, ...]:
    """Every port."""
    return tuple(port for system in SYSTEMS for port in load(system))
