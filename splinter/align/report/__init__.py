"""alignment.json -> one HTML page, badges for shields.io, and a matrix for the terminal.

Every result here is a pure function of the JSON that `--align-json` wrote; only `write` and `main` touch files, and
only the page needs jinja2. A result without proof is never green: a skip is grey, and a pass that compared nothing
counts as a failure.

    python -m splinter.align.report alignment.json --out report --badges badges
"""

from ..record import CELLS, ReportError, read
from ..steps import STEPS
from .command import main, write
from .matrix import kill_table, matrix
from .page import render
from .verdict import badge, headline
from .words import number

__all__ = [
    "CELLS",
    "STEPS",
    "ReportError",
    "badge",
    "headline",
    "kill_table",
    "main",
    "matrix",
    "number",
    "read",
    "render",
    "write",
]
