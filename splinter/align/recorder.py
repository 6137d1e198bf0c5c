"""alignment.json written: the records of all processes gathered, and what is known of machine and versions.

pytest imports this file in every project, so what has weight is imported when there is a record.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import splinter

HASHES = pytest.StashKey[dict[str, str]]()
"""`system/mode` -> sha256 of the reference's source, of the pairs that this process made."""
SHARED = pytest.StashKey[dict[str, list[str]]]()
"""System -> what its two sides have in common, of the pairs that this process made."""
CASES = pytest.StashKey[dict[str, list[str]]]()
"""Test id -> system, mode, step, checkpoint, dtype, of the cases that this process collected."""

COLORS = {"FAIL": {"red": True}, "xfail": {"yellow": True}, "ok": {"green": True}, "skip": {"light": True}}
"""Of the words in the matrix; pytest leaves them out where standard output is no terminal."""


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
            shared = {**self.environment.get("shared", {}), **sent["shared"]}
            self.environment.update(
                {**sent, "reference_sha256": dict(sorted(hashes.items())), "shared": dict(sorted(shared.items()))}
            )

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if not self.path:
            return
        from .files import write_whole

        document = self.document(exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR))
        path = Path(self.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: json.dump(document, file, indent=1, allow_nan=False), "w")

    def document(self, interrupted: bool) -> dict[str, Any]:
        """What alignment.json holds: systems and modes as they were collected, steps in the order of the checklist."""
        from .steps import STEPS

        own: dict[str, list[str]] = self.config.stash[CASES]
        cases = {**own, **self.cases}
        for name, case in cases.items():
            if name not in self.told:
                self.results.append(_lost(case, name in self.broken))
        order = {step: place for place, step in enumerate(STEPS)}
        modes = list(dict.fromkeys((system, mode) for system, mode, *_ in cases.values()))

        def place(result: dict[str, Any]) -> tuple[Any, ...]:
            of = result["system"], result["mode"]
            known = modes.index(of) if of in modes else len(modes)
            return known, *of, result["checkpoint"], order[result["step"]], result["dtype"]

        self.results.sort(key=place)
        environment = {**common_environment(), **(self.environment or loaded_environment(self.config))}
        document: dict[str, Any] = {"schema": 1, "environment": environment, "results": self.results}
        if interrupted:
            document["interrupted"] = True  # under xdist nobody knows any more what was still to run
        if self.kills or self.floors:
            self.kills.sort(key=lambda k: (k["system"], order[k["expected"]], k["bug"]))
            self.floors.sort(key=lambda f: (order[f["step"]], f["what"], f["system"], f["dtype"]))
            document |= {"kills": self.kills, "floors": self.floors}
        return document

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
    from .judging import unjudged

    why = "it broke off without a result: its process ended" if broken else "the run ended before it"
    system, mode, step, checkpoint, dtype = case
    return unjudged(system, mode, step, checkpoint, dtype, "failed" if broken else "skipped", why)


def loaded_environment(config: pytest.Config) -> dict[str, Any]:
    """Versions and switches of the frameworks in this process, and hashes of the references used."""
    found: dict[str, Any] = {}
    for name in ("torch", "paddle"):
        side = sys.modules.get(f"splinter.align.{name}_side")
        if side is not None:
            found[name] = side.DRIVER.environment()
    runtime = sys.modules.get("splinter.runtime")  # where nobody has imported it, it has applied nothing
    found["runtime"] = runtime.applied() if runtime is not None else {}
    found["reference_sha256"] = dict(sorted(config.stash[HASHES].items()))
    found["shared"] = dict(sorted(config.stash[SHARED].items()))
    return found


def common_environment() -> dict[str, Any]:
    """The machine and the installed versions."""
    versions = {"splinter": splinter.__version__}  # by that name the index has another project
    for name in ("paddlepaddle", "torch", "transformers", "tokenizers", "numpy", "paddlenlp"):
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
