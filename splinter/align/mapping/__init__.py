"""The map of the weights between two models, found."""

from .inventory import Inventory, Tensor, take_inventory
from .search import PACKED, Found, Trial, find
from .trial import Ready, trial

__all__ = ["PACKED", "Found", "Inventory", "Ready", "Tensor", "Trial", "find", "take_inventory", "trial"]
