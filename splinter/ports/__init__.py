"""The systems that splinter ports, by name. Adding one: a folder here, its name below, a row per step."""

from __future__ import annotations

import importlib

from splinter.align.port import Port

SYSTEMS = {"splinter": ("PORT", "PRETRAINING")}
"""Folder name -> the ports that its port.py describes."""


def load_all() -> tuple[Port, ...]:
    """Every port; light objects, frameworks load when a pair is built."""
    found = []
    for folder, names in SYSTEMS.items():
        module = importlib.import_module(f"splinter.ports.{folder}.port")
        found += [getattr(module, name) for name in names]
    return tuple(found)
