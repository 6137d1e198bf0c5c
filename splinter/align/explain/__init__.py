"""Why a step fails: where the fault lies, and of which kind it is.

forward.py judges the layers of a forward pass by themselves; causes.py looks at gradients, updates and initial laws;
diagnosis.py tells the kind of one difference, by kinds.py (two arrays), formulas.py (norms, activations, attention) and
products.py (matrix products); telling.py says what a record holds.
"""

from .causes import cause
from .forward import Explanation, explain
from .telling import stored, told

__all__ = ["Explanation", "cause", "explain", "stored", "told"]
