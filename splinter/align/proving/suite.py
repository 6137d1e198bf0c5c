"""The kept suite: a proof written out as a folder of tests that a project runs from then on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from .. import defaults
from ..files import write_whole
from ..port import PRECISIONS
from ..steps import ROUNDED
from .error import ProveError
from .result import Proof

PORT = '''"""{name} described to the engine: two models, the names of their weights, what both are given."""

from models import batch, ours, theirs

from splinter.align import Rule, WeightMap
from splinter.align.proving import as_port

WEIGHTS = {rules}

PORT = as_port(theirs, ours, batch(), rules=WEIGHTS, name={name!r}, outputs={outputs!r}{options})
'''
TEST = '''"""The proof of {name}: one test for each step and precision.

    pytest
    pytest -k forward
"""

from port import PORT

from splinter.align import Tolerance
from splinter.align.plugin import checklist

# Begin strict: a row is loosened with a measured reason, and the reason stands beside it.
TOLERANCES = {{
{rows}
}}

globals().update(checklist([PORT], TOLERANCES))
'''
INI = "[pytest]\npythonpath = .\n"


def write(proof: Proof, folder: Path, source: str, options: Mapping[str, Any], steps: tuple[str, ...]) -> list[Path]:
    """Write models.py, port.py, test_port.py and pytest.ini; nothing that is there is written over.

    Args:
        source: Python source that defines theirs, ours and batch.
        options: keyword arguments of the proof that are plain values.
        steps: of the eleven, those of the port.

    Returns:
        The files.

    Raises:
        ProveError: one of them is there already.
    """
    more = "".join(f", {name}={value!r}" for name, value in options.items() if name not in ("rules", "name", "outputs"))
    texts = {
        "models.py": source,
        "port.py": PORT.format(name=proof.name, rules=proof.rules, outputs=dict(proof.outputs), options=more),
        "test_port.py": TEST.format(name=proof.name, rows="\n".join(_row(step, proof.name) for step in steps)),
        "pytest.ini": INI,
    }
    if there := [name for name in texts if (folder / name).exists()]:
        raise ProveError(f"{folder / there[0]} is there already; name another folder, nothing is written over")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_whole(folder / name, partial(_put, text), "w")
    return [folder / name for name in texts]


def _put(text: str, file: TextIO) -> None:
    file.write(text)


def _row(step: str, name: str) -> str:
    if step not in ROUNDED:
        return f'    "{step}": {{{name!r}: {defaults.tolerance(step, "exact")!r}}},'
    lines = [f'            "{dtype}": {defaults.tolerance(step, dtype)!r},' for dtype in PRECISIONS]
    return f'    "{step}": {{\n        {name!r}: {{\n' + "\n".join(lines) + "\n        }\n    },"
