"""The systems that splinter ports, by name. docs/add-a-system.md says how to add one."""

from __future__ import annotations

from pathlib import Path

SYSTEMS = ("splinter", "jointbert", "funnel", "multitask")
"""Names of their folders."""

SIGNS = {
    "splinter": ("Splinter", "StartEndSpanModel", "splinter."),
    "jointbert": ("JointBERT", "intent_classifier."),
    "funnel": ("Funnel", "funnel."),
    "multitask": ("MultitaskBert", "sentiment_classifier."),
}
"""How the architecture in config.json or a tensor of a system begins."""


def system_of(folder: Path) -> str | None:
    """Whose model a folder holds; None where it says so of no system: a plain BERT, no checkpoint at all."""
    from .common.checkpoint import CONFIG, WEIGHTS, CheckpointError, SafetensorsFile, WeightError, read_json

    if not folder.is_dir():
        return None
    try:
        named = read_json(folder / CONFIG).get("architectures")
        tensors = SafetensorsFile(folder / WEIGHTS) if (folder / WEIGHTS).is_file() else ()
    except (CheckpointError, WeightError, OSError):
        return None
    names = [str(name) for name in (*(named if isinstance(named, list) else ()), *tensors)]
    return next((system for system, signs in SIGNS.items() if any(name.startswith(signs) for name in names)), None)
