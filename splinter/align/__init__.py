"""The alignment engine: numpy and pytest, for anybody's port."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compare import EXACT, Alignment, Comparison, Tolerance
    from .port import Pair, Port, Side
    from .proving import Proof, prove
    from .weights import Rule, WeightMap

__all__ = [
    "EXACT",
    "Alignment",
    "Comparison",
    "Pair",
    "Port",
    "Proof",
    "Rule",
    "Side",
    "Tolerance",
    "WeightMap",
    "prove",
]

_HOMES = {"compare": ("EXACT", "Alignment", "Comparison", "Tolerance"), "port": ("Pair", "Port", "Side"),
          "proving": ("Proof", "prove"), "weights": ("Rule", "WeightMap")}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load numpy when a name is asked for: pytest imports `splinter.align.plugin` in projects that have no port."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
