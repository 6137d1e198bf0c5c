"""The pytest plugin: `cases`, the fixtures `pair`, `align`, `prove`, `kill` and `floor`, and three options.

A test of a step is three lines: `@cases(PORTS, TOLERANCES, "forward")`, a sentence, and
`align(steps.forward(pair), tolerance)`. `--align-json FILE` writes what every alignment found, `--checkpoint NAME`
aligns one more checkpoint, `--kill-matrix` runs the tests that plant bugs, and no others.

pytest imports this file at its start, in projects without a port too. So it holds hooks and fixtures alone and imports
what does the work when a test asks for it: collection.py (which cases), judging.py (one case), recorder.py (the file).
Results travel as user properties of the test reports, so a run under pytest-xdist gives the same single JSON file as a
run in one process.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from .recorder import CASES, HASHES, SHARED, Recorder, loaded_environment

if TYPE_CHECKING:
    from .collection import Case, MissingTolerance, cases, checklist
    from .compare import Alignment, Tolerance
    from .kill import Kill
    from .port import Pair
    from .proving import Proof

__all__ = ["MissingTolerance", "cases", "checklist"]

_RECORD = pytest.StashKey[dict[str, Any]]()


def __getattr__(name: str) -> Any:
    """`cases` and its like, loaded when a project that has a port asks for them."""
    if name in __all__:
        from . import collection

        return getattr(collection, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("align", "alignment of ports")
    group.addoption("--align-json", metavar="FILE", help="write what every alignment found to one JSON file")
    group.addoption(
        "--checkpoint",
        action="append",
        default=[],
        metavar="NAME_OR_FOLDER",
        help="align this checkpoint too: 'base' for random weights at base size, a folder, or a hub name in the cache",
    )
    group.addoption(
        "--kill-matrix",
        action="store_true",
        help="run the tests marked `kill` and no others: plant each bug in turn, and see which steps turn red",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "align_step(step, ports, rows): one alignment step; use splinter.align.plugin.cases"
    )
    config.addinivalue_line("markers", "base: at base size, minutes each; runs with --checkpoint base")
    config.addinivalue_line("markers", "kill: plants bugs and runs all steps on them; runs with --kill-matrix, alone")
    config.stash[HASHES] = {}
    config.stash[SHARED] = {}
    config.stash[CASES] = {}
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(config), "align-recorder")


# -- collection -------------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if marker := metafunc.definition.get_closest_marker("align_step"):
        from .collection import parametrize

        parametrize(metafunc, marker)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The kill matrix is a run of its own: a bug survives or not, whatever the steps say of the port without it."""
    asked = config.getoption("--kill-matrix")
    chosen: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        (chosen if bool(item.get_closest_marker("kill")) == asked else left_out).append(item)
    if left_out:
        items[:] = chosen
        config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Every case that is about to run: one that ends without a word must not be missing from the record."""
    for item in session.items:
        if case := _case(item):
            session.config.stash[CASES][item.nodeid] = list(case.names)


def _case(item: pytest.Item) -> Case | None:
    """What a test that aligns runs on; None where no port has its step, and for all other tests."""
    if not item.get_closest_marker("align_step") or not isinstance(item, pytest.Function):
        return None
    case: Any = item.callspec.params["pair"] if hasattr(item, "callspec") else None
    return case if hasattr(case, "names") else None  # for no case at all pytest leaves a word of its own there


# -- one test ---------------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Whatever becomes of a step, a skip by a mark included, leaves a record; no verdict but a skip is there yet."""
    if case := _case(item):
        from .judging import unjudged

        item.stash[_RECORD] = unjudged(*case.names)


@pytest.fixture
def pair(request: Any) -> Pair:
    """Both sides of one case; skips with the reason when its checkpoint is not to be had."""
    from .judging import made

    case: Case = request.param
    found = made(case, request.config.getoption("--checkpoint"))
    request.node.stash[_RECORD]["reference"] = found.theirs.kind
    request.config.stash[HASHES][f"{case.port.name}/{case.mode}"] = found.theirs.source_hash()
    request.config.stash[SHARED][case.port.name] = list(case.port.shared)
    return found


@pytest.fixture
def align(request: pytest.FixtureRequest) -> Callable[[Alignment, Tolerance], None]:
    """Judge an alignment, keep its record for the report, fail with the first divergence."""

    def judge(alignment: Alignment, tolerance: Tolerance) -> None:
        from .judging import judged

        pair = request.getfixturevalue("pair") if "pair" in request.fixturenames else None
        case = _case(request.node)
        request.node.stash[_RECORD], message = judged(alignment, tolerance, pair, case.float32 if case else None)
        if message:
            pytest.fail(message, pytrace=False)

    return judge


@pytest.fixture
def prove(request: pytest.FixtureRequest) -> Callable[..., Proof]:
    """`splinter.align.prove` in a test: what it found is recorded as a step's is, and a port that differs fails."""

    def run(theirs: Any, ours: Any, batches: Any, **options: Any) -> Proof:
        from .proving import prove

        proof = prove(theirs, ours, batches, **options)
        for check in proof.checks:
            request.node.user_properties.append(("alignment", json.dumps(check.record)))
        if not proof.passed:
            pytest.fail(str(proof), pytrace=False)
        return proof

    return run


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    outcome = yield
    report = outcome.get_result()
    record = item.stash.get(_RECORD, None)
    if record is not None and (report.when == "call" or (report.when == "setup" and report.outcome != "passed")):
        from .judging import after

        report.user_properties.append(("alignment", json.dumps(after(record, report, call))))


# -- planted bugs -----------------------------------------------------------------------------------------


@pytest.fixture
def kill(request: pytest.FixtureRequest) -> Callable[[Kill], None]:
    """Keep what became of a planted bug for the report."""

    def keep(found: Kill) -> None:
        request.node.user_properties.append(("kill", json.dumps(found.record())))

    return keep


@pytest.fixture
def floor(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Keep the smallest error that a step still notices for the report: `floor(what=..., step=..., smallest=...)`."""

    def keep(**found: Any) -> None:
        request.node.user_properties.append(("floor", json.dumps(found)))

    return keep


# -- other processes --------------------------------------------------------------------------------------


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker sends home what only it knows: the frameworks that it loaded, and the sources that it compared."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["align_environment"] = json.dumps(loaded_environment(session.config))
        output["align_cases"] = json.dumps(session.config.stash[CASES])
