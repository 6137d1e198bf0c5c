"""Which tests there are: the decorator `cases`, all tests of ports at once, and the cases that each runs on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from . import defaults, steps
from .compare import Tolerance
from .port import PRECISIONS, Port
from .steps import ROUNDED, STEPS

Row = Tolerance | Mapping[str, Tolerance]
CHECKPOINT_FREE = ("dev_data", "metric", "lr", "optimizer", "train_data")
"""Steps that never look at the weights: running them again for another checkpoint would prove nothing."""


class MissingTolerance(LookupError):
    """A port without a row in the tolerance table."""


class Case(NamedTuple):
    """What one test runs on: the parameter of the fixture `pair`."""

    port: Port
    mode: str
    checkpoint: str
    dtype: str
    step: str
    float32: Tolerance | None = None
    """The step's row in float32: a float64 run with float32 inside is worth no more."""

    @property
    def names(self) -> tuple[str, str, str, str, str]:
        """As a record names it: system, mode, step, checkpoint, dtype."""
        return self.port.name, self.mode, self.step, self.checkpoint, self.dtype


def cases(ports: Iterable[Port], tolerances: Mapping[str, Mapping[str, Row]], step: str) -> pytest.MarkDecorator:
    """Parametrize a test over ports, modes, checkpoints and precisions.

    Args:
        ports: light descriptions.
        tolerances: step -> system -> Tolerance, or for steps that round precision -> Tolerance; a key
            `precision/checkpoint` goes before `precision`.
        step: one of the eleven words.

    Raises:
        MissingTolerance: stops the collection and says which row is missing.
    """
    assert step in STEPS, step
    chosen = [port for port in ports if step in port.steps]
    for port in chosen:
        row = tolerances.get(step, {}).get(port.name)
        wanted = PRECISIONS if step in ROUNDED else ()
        if row is None or (wanted and (isinstance(row, Tolerance) or set(wanted) - set(row))):
            raise MissingTolerance(
                f"no tolerance for step {step!r} of {port.name!r}: add TOLERANCES[{step!r}][{port.name!r}]"
            )
    return pytest.mark.align_step(step=step, ports=chosen, rows=tolerances.get(step, {}))


def checklist(
    ports: Iterable[Port], tolerances: Mapping[str, Mapping[str, Row]] | None = None
) -> dict[str, Callable[..., None]]:
    """All tests of ports at once, for a project of its own: `globals().update(checklist(PORTS, TOLERANCES))`.

    Args:
        tolerances: as `cases` wants them; None: those of defaults.py, for the first verdict.

    Returns:
        `test_<step>` -> test, for the steps that any of the ports has.
    """
    ports = list(ports)
    tolerances = defaults.table(port.name for port in ports) if tolerances is None else tolerances
    return {f"test_{s}": _test(s, cases(ports, tolerances, s)) for s in STEPS if any(s in p.steps for p in ports)}


def _test(step: str, mark: pytest.MarkDecorator) -> Callable[..., None]:
    run = getattr(steps, step)

    def test(pair, tolerance, align):
        align(run(pair), tolerance)

    test.__doc__ = run.__doc__
    return mark(test)


def limit(row: Row, dtype: str, checkpoint: str) -> Tolerance:
    """What a row allows in a precision, at a checkpoint."""
    return row if isinstance(row, Tolerance) else row.get(f"{dtype}/{checkpoint}", row[dtype])


def parametrize(metafunc: pytest.Metafunc, marker: pytest.Mark) -> None:
    """Give a test that `cases` marked its pairs and tolerances; ids read `splinter-hf-tiny-float64-atol=...`."""
    step, rows, ports = marker.kwargs["step"], marker.kwargs["rows"], marker.kwargs["ports"]
    built_in = {name for port in ports for name in port.checkpoints}
    asked = [name for name in metafunc.config.getoption("--checkpoint") if name not in built_in]
    parameters = []
    for port in ports:
        names = [*port.checkpoints, *asked]
        for mode in port.modes:
            for checkpoint in names[:1] if step in CHECKPOINT_FREE else names:
                row = rows[port.name]
                for dtype in PRECISIONS if step in ROUNDED else ("exact",):
                    tolerance, narrow = (limit(row, name, checkpoint) for name in (dtype, "float32"))
                    marks = [pytest.mark.base] if checkpoint != names[0] else []
                    label = f"{port.name}-{mode}-{Path(checkpoint).name}-{dtype}-{tolerance}"
                    case = Case(port, mode, checkpoint, dtype, step, narrow)
                    parameters.append(pytest.param(case, tolerance, id=label, marks=marks))
    metafunc.parametrize(("pair", "tolerance"), parameters, indirect=["pair"])
