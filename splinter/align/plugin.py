"""The pytest plugin: `cases`, the fixtures `pair`, `align` and `kill`, `--align-json`, `--checkpoint`, `--kill-matrix`.

A test of a step is three lines: `@cases(PORTS, TOLERANCES, "forward")`, a sentence, and
`align(steps.forward(pair), tolerance)`. Results travel as user properties of the test reports, so a run under
pytest-xdist gives the same single JSON file as a run in one process.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from splinter import runtime

from . import steps
from .compare import EXACT, Alignment, Tolerance
from .explain import Explanation, explain
from .files import write_whole
from .kill import Kill
from .port import PRECISIONS, Pair, Port, edited
from .steps import ROUNDED, STEPS

Row = Tolerance | Mapping[str, Tolerance]
CHECKPOINT_FREE = ("dev_data", "metric", "lr", "optimizer", "train_data")
"""Steps that never look at the weights: running them again for another checkpoint would prove nothing."""

COLORS = {"FAIL": {"red": True}, "xfail": {"yellow": True}, "ok": {"green": True}, "skip": {"light": True}}
"""Of the words in the matrix; pytest leaves them out where standard output is no terminal."""

_RECORD = pytest.StashKey[dict[str, Any]]()
_HASHES = pytest.StashKey[dict[str, str]]()
_CASES = pytest.StashKey[dict[str, list[str]]]()


class MissingTolerance(LookupError):
    """A port without a row in the tolerance table."""


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


def checklist(ports: Iterable[Port], tolerances: Mapping[str, Mapping[str, Row]]) -> dict[str, Callable[..., None]]:
    """All tests of ports at once, for a project of its own: `globals().update(checklist(PORTS, TOLERANCES))`.

    Returns:
        `test_<step>` -> test, for the steps that any of the ports has.
    """
    ports = list(ports)
    return {f"test_{s}": _test(s, cases(ports, tolerances, s)) for s in STEPS if any(s in p.steps for p in ports)}


def _test(step: str, mark: pytest.MarkDecorator) -> Callable[..., None]:
    run = getattr(steps, step)

    def test(pair, tolerance, align):
        align(run(pair), tolerance)

    test.__doc__ = run.__doc__
    return mark(test)


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
    config.stash[_HASHES] = {}
    config.stash[_CASES] = {}
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(config), "align-recorder")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("align_step")
    if marker is None:
        return
    step, rows = marker.kwargs["step"], marker.kwargs["rows"]
    built_in = {name for port in marker.kwargs["ports"] for name in port.checkpoints}
    asked = [name for name in metafunc.config.getoption("--checkpoint") if name not in built_in]
    parameters = []
    for port in marker.kwargs["ports"]:
        names = [*port.checkpoints, *asked]
        for mode in port.modes:
            for checkpoint in names[:1] if step in CHECKPOINT_FREE else names:
                row = rows[port.name]
                for dtype in PRECISIONS if step in ROUNDED else ("exact",):
                    tolerance = row if isinstance(row, Tolerance) else row.get(f"{dtype}/{checkpoint}", row[dtype])
                    marks = [pytest.mark.base] if checkpoint != names[0] else []
                    label = f"{port.name}-{mode}-{Path(checkpoint).name}-{dtype}-{tolerance}"
                    parameters.append(
                        pytest.param((port, mode, checkpoint, dtype, step), tolerance, id=label, marks=marks)
                    )
    metafunc.parametrize(("pair", "tolerance"), parameters, indirect=["pair"])


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


def _case(item: pytest.Item) -> tuple | None:
    """(port, mode, checkpoint, dtype, step) of a test that aligns; None where no port has its step."""
    if not item.get_closest_marker("align_step") or not isinstance(item, pytest.Function):
        return None
    case = item.callspec.params["pair"] if hasattr(item, "callspec") else None
    return case if isinstance(case, tuple) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Every case that is about to run: one that ends without a word must not be missing from the record."""
    for item in session.items:
        if case := _case(item):
            port, mode, checkpoint, dtype, step = case
            session.config.stash[_CASES][item.nodeid] = [port.name, mode, step, checkpoint, dtype]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Whatever becomes of a step, a skip by a mark included, leaves a record; no verdict but a skip is there yet."""
    if case := _case(item):
        port, mode, checkpoint, dtype, step = case
        record = Alignment(port.name, mode, step, checkpoint, dtype).record(EXACT, "skipped")
        item.stash[_RECORD] = {**record, "tolerance": None}


@pytest.fixture
def pair(request: Any) -> Pair:
    """Both sides of one case; skips with the reason when its checkpoint is not to be had."""
    port, mode, checkpoint, dtype, _ = request.param
    if checkpoint in port.checkpoints:
        if checkpoint != next(iter(port.checkpoints)) and checkpoint not in request.config.getoption("--checkpoint"):
            pytest.skip(f"checkpoint {checkpoint!r} takes minutes: run with --checkpoint {checkpoint}")
        folder = port.checkpoints[checkpoint]()
    else:
        try:
            folder = port.fetch(checkpoint)
        except ValueError as error:
            pytest.skip(f"checkpoint {checkpoint!r} is not to be had: {error}")
    made = Pair(port, mode, checkpoint, folder, dtype)
    if changed := [source for source in made.theirs.sources if edited(source)]:
        pytest.fail(f"the reference was edited: {', '.join(changed)} is not as installed; reinstall its package")
    request.node.stash[_RECORD]["reference"] = made.theirs.kind
    request.config.stash[_HASHES][f"{port.name}/{mode}"] = made.theirs.source_hash()
    return made


@pytest.fixture
def align(request: pytest.FixtureRequest) -> Callable[[Alignment, Tolerance], None]:
    """Judge an alignment, keep its record for the report, fail with the first divergence."""

    def judge(alignment: Alignment, tolerance: Tolerance) -> None:
        alignment.judge(tolerance)
        verdict = "passed" if alignment.passed else "failed"
        message = "" if alignment.passed else alignment.message()
        record = alignment.record(tolerance, verdict, message)
        if alignment.first_divergence and alignment.step == "forward" and "pair" in request.fixturenames:
            found = _explained(request.getfixturevalue("pair"), tolerance, alignment.first_divergence.name)
            message += f"\n  {found.sentence}"
            record |= {"reason": message, "explanation": found.record()}
        request.node.stash[_RECORD] = record
        if not alignment.passed:
            pytest.fail(message, pytrace=False)

    return judge


def _explained(pair: Pair, tolerance: Tolerance, tensor: str) -> Explanation:
    """The explanation of a failed forward pass; whatever goes wrong in it, the failure itself is told."""
    try:
        return explain(pair, tolerance, tensor.partition("/")[0])
    except Exception as error:
        return Explanation("unknown", "", f"unknown: looking for the cause ended in {type(error).__name__}: {error}")


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


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    outcome = yield
    report = outcome.get_result()
    record = item.stash.get(_RECORD, None)
    if record is None or not (report.when == "call" or (report.when == "setup" and report.outcome != "passed")):
        return
    if hasattr(report, "wasxfail"):
        record = {**record, "verdict": "xfailed" if report.skipped else "failed", "reason": report.wasxfail}
    elif report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        record = {**record, "verdict": "skipped", "reason": reason.removeprefix("Skipped: ")}
    elif report.failed and record["verdict"] != "failed":
        # without an exception: a strict xfail that passes
        reason = call.excinfo.exconly() if call.excinfo else str(report.longrepr)
        record = {**record, "verdict": "failed", "reason": reason}
    report.user_properties.append(("alignment", json.dumps(record)))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker sends home what only it knows: the frameworks that it loaded, and the sources that it compared."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["align_environment"] = json.dumps(loaded_environment(session.config))
        output["align_cases"] = json.dumps(session.config.stash[_CASES])


def loaded_environment(config: pytest.Config) -> dict[str, Any]:
    """Versions and switches of the frameworks in this process, and hashes of the references used."""
    found: dict[str, Any] = {}
    for name in ("torch", "paddle"):
        side = sys.modules.get(f"splinter.align.{name}_side")
        if side is not None:
            found[name] = side.DRIVER.environment()
    found["runtime"] = runtime.applied()
    found["reference_sha256"] = dict(sorted(config.stash[_HASHES].items()))
    return found


class Recorder:
    """Gathers the records of all processes and writes one file at the end."""

    def __init__(self, config: pytest.Config):
        self.config, self.path = config, config.getoption("--align-json")
        self.results: list[dict[str, Any]] = []
        self.told: set[str] = set()  # test ids that left a record
        self.broken: set[str] = set()  # that failed without one
        self.cases: dict[str, list[str]] = {}
        self.kills: list[dict[str, Any]] = []
        self.floors: list[dict[str, Any]] = []
        self.environment: dict[str, Any] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        lists = {"alignment": self.results, "kill": self.kills, "floor": self.floors}
        told = any(key == "alignment" for key, _ in report.user_properties)
        if told:
            self.told.add(report.nodeid)
        elif report.failed:
            self.broken.add(report.nodeid)
        for key, value in report.user_properties:
            if key in lists and (key == "alignment" or report.when == "call"):
                lists[key].append(json.loads(str(value)))
        report.user_properties[:] = [pair for pair in report.user_properties if pair[0] not in lists]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        sent = getattr(node, "workeroutput", {}).get("align_environment")
        self.cases |= json.loads(getattr(node, "workeroutput", {}).get("align_cases", "{}"))
        if sent:
            sent = json.loads(sent)
            hashes = {**self.environment.get("reference_sha256", {}), **sent["reference_sha256"]}
            self.environment.update({**sent, "reference_sha256": dict(sorted(hashes.items()))})

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if not self.path:
            return
        order = {step: i for i, step in enumerate(STEPS)}
        own: dict[str, list[str]] = self.config.stash[_CASES]
        cases = {**own, **self.cases}
        for name, case in cases.items():
            if name not in self.told:
                self.results.append(_lost(case, name in self.broken))
        self.results.sort(key=lambda r: (r["system"], r["mode"], r["checkpoint"], order[r["step"]], r["dtype"]))
        environment = {**common_environment(), **(self.environment or loaded_environment(self.config))}
        document = {"schema": 1, "environment": environment, "results": self.results}
        if exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR):
            document["interrupted"] = True  # under xdist nobody knows any more what was still to run
        if self.kills or self.floors:
            self.kills.sort(key=lambda k: (k["system"], order[k["expected"]], k["bug"]))
            self.floors.sort(key=lambda f: (order[f["step"]], f["what"], f["system"], f["dtype"]))
            document |= {"kills": self.kills, "floors": self.floors}
        path = Path(self.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: json.dump(document, file, indent=1, allow_nan=False), "w")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.kills:
            from .report import kill_table

            terminalreporter.section("kill matrix")
            terminalreporter.write_line(kill_table(self.kills, self.floors))
            if self.path:
                terminalreporter.write_line(f"written to {self.path}")
        if self.results and self.path:
            from .report import matrix

            terminalreporter.section("alignment")
            width = min(100, terminalreporter._tw.fullwidth)
            text = matrix({"schema": 1, "environment": {}, "results": self.results}, width)
            for word in re.split(r"(\bFAIL\b|\bxfail\b|\bok\b|\bskip\b)", text):
                terminalreporter.write(word, **COLORS.get(word, {}))
            terminalreporter.write_line("")
            for result in self.results:
                if result["verdict"] == "passed" and result["reason"]:
                    case = f"{result['step']}/{result['system']} ({result['mode']})"
                    terminalreporter.write_line(f"{case}: passed {result['reason']}")
            terminalreporter.write_line(f"written to {self.path}")


def _lost(case: Sequence[str], broken: bool) -> dict[str, Any]:
    """The record of a case that was to run and left none."""
    system, mode, step, checkpoint, dtype = case
    why = "it broke off without a result: its process ended" if broken else "the run ended before it"
    verdict = "failed" if broken else "skipped"
    return {**Alignment(system, mode, step, checkpoint, dtype).record(EXACT, verdict, why), "tolerance": None}


def common_environment() -> dict[str, Any]:
    """The machine and the installed versions."""
    versions = {}
    for name in ("paddlepaddle", "torch", "transformers", "tokenizers", "numpy", "paddlenlp", "splinter"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "versions": versions,
    }
