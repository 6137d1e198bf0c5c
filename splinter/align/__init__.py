"""The alignment engine: numpy and pytest, for anybody's port."""

from .compare import EXACT, Alignment, Comparison, Tolerance
from .port import Pair, Port, Side
from .weights import Rule, WeightMap

__all__ = ["EXACT", "Alignment", "Comparison", "Pair", "Port", "Rule", "Side", "Tolerance", "WeightMap"]
