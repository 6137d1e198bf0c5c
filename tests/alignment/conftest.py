"""What tests that plant bugs share."""

import importlib
from dataclasses import replace

import pytest

from splinter.align import steps
from splinter.ports import proofs
from splinter.ports.common.proof import ReferenceGone
from splinter.ports.common.proof.files import DataSources

PORTS = {port.name: port for port in proofs.load_all()}


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """A step whose reference transformers 5.0 removed is skipped, with that reason; see `tox -e align5`."""
    try:
        return (yield)
    except ReferenceGone as error:
        pytest.skip(str(error))


@pytest.fixture
def port(bug, monkeypatch):
    """The port to plant `bug` in: fewer updates, the shipped files alone, as a planted bug is coarse. Nothing computed
    with it may stay cached."""
    import planted  # loads paddle, which the conftest.py above this one has to tune first

    system = next(folder for folder in proofs.PORTS if PORTS[bug.system] in proofs.load(folder))
    cases = importlib.import_module(f"splinter.ports.{system}.proof.cases")
    monkeypatch.setattr(steps, "OPTIMIZER_UPDATES", 60)
    monkeypatch.setattr(cases, "data_sources", shipped(cases.data_sources))
    found = PORTS[bug.system]
    found = replace(found, data_sources=shipped(found.data_sources))
    planted.forget()
    yield found
    planted.forget()


def shipped(sources):
    """Data sources without the real files."""
    if not isinstance(sources, DataSources):
        return sources
    return replace(sources, real={step: dict.fromkeys(modes, ()) for step, modes in sources.real.items()})
