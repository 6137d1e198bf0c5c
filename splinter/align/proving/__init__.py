"""Prove anybody's port: two models and a batch in, a verdict out that names the layer and the kind of fault."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .error import ProveError
    from .prover import as_port, prove
    from .result import Check, Proof

__all__ = ["Check", "Proof", "ProveError", "as_port", "prove"]

_HOMES = {"Check": "result", "Proof": "result", "as_port": "prover", "prove": "prover", "ProveError": "error"}


def __getattr__(name: str) -> Any:
    """Load what does the work when it is asked for: the command line reads the options alone."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
