"""Mutants of the port side, and whether any of the eleven steps turns red on them.

The frameworks are loaded once, in this process, which imports no port and computes nothing. Whatever runs a step is a
fork of it: a fork imports the ports anew, with the changed file in place of the real one, so that constants, defaults
and decorators are right too. A first run without any change, the baseline, notes how long each case takes and which
lines of the ports it executes; a mutant then runs the cases that execute its line, the fastest first, until one is
red. A crash is red, and so is a case that takes ten times as long as it should.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import hashlib
import importlib
import importlib.machinery
import importlib.util
import json
import random
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from . import mutations
from .forks import Fork, Say, fork, tended
from .rounds import key

PROJECT = Path(__file__).resolve().parents[2]
PORTS = PROJECT / "splinter" / "ports"
FRAMEWORKS = ("torch", "paddle", "transformers")
REASONS = PROJECT / "tests" / "alignment" / "uncovered.json"
SLOWER, GRACE = 10, 20.0
"""A case is stopped after so many times its seconds in the baseline, and so many more."""
LONGEST = 900.0
"""Seconds that a case may take in the baseline."""


class MutantError(RuntimeError):
    """A run that cannot be made, or whose result would mean nothing."""


class Case(NamedTuple):
    """One test of a step: a port in a mode and a precision, at size tiny."""

    folder: str
    system: str
    mode: str
    step: str
    dtype: str

    def __str__(self) -> str:
        return f"{self.system} {self.mode} {self.step} {self.dtype}"


@dataclass
class Baseline:
    """What the cases do without any change.

    Args:
        digest: of all that they read.
        seconds: of each case, its own import of the ports and the reference's work included.
        lines: case -> file -> the lines that it executes.
        modules: what the cases import beside the ports.
    """

    digest: str
    seconds: dict[Case, float] = field(default_factory=dict)
    lines: dict[Case, dict[str, frozenset[int]]] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)

    def executed(self, file: str) -> frozenset[int]:
        """The lines of a file that any case executes."""
        return frozenset().union(*(lines.get(file, frozenset()) for lines in self.lines.values()))

    def cases(self, file: str, line: int, end: int) -> list[Case]:
        """Those that execute one of these lines, the fastest first."""
        wanted = set(range(line, end + 1))
        found = [case for case, lines in self.lines.items() if wanted & lines.get(file, frozenset())]
        return sorted(found, key=lambda case: self.seconds[case])


# -- what there is to change --------------------------------------------------------------------------------


def files() -> list[str]:
    """The files of the port side, as paths in the project: no proof, no twin, no torch."""
    found = (path.relative_to(PROJECT).as_posix() for path in sorted(PORTS.rglob("*.py")))
    away = ("/proof/", "/torch/", "/twin.py", "/proofs.py")
    return [path for path in found if not any(part in path for part in away)]


def digest() -> str:
    """Of everything that a result depends on: ports, samples, steps, tolerances."""
    made = hashlib.sha256()
    package = PROJECT / "splinter"
    paths = [*package.joinpath("ports").rglob("*.py"), *package.joinpath("sample").rglob("*")]
    paths += [*package.joinpath("align").glob("*.py"), PROJECT / "tests" / "alignment" / "tolerances.py"]
    for path in sorted(path for path in paths if path.is_file() and path.suffix != ".pyc"):
        made.update(path.relative_to(PROJECT).as_posix().encode() + b"\0" + path.read_bytes())
    return made.hexdigest()


@dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    file: str
    mutation: mutations.Mutation

    @property
    def module(self) -> str:
        """The dotted name of the file."""
        return self.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


class Ground:
    """All files with all their changes, and which of them a case executes."""

    def __init__(self, baseline: Baseline):
        self.baseline = baseline
        self.trees = {file: ast.parse((PROJECT / file).read_text(encoding="utf-8")) for file in files()}
        self.executed: dict[str, list[mutations.Mutation]] = {}
        self.outside: dict[str, list[mutations.Mutation]] = {}
        for file, tree in self.trees.items():
            near = [other for name, other in self.trees.items() if _near(file, name)]
            lines = baseline.executed(file)
            found = mutations.mutations(tree, mutations.attributes(near))
            for one in found:
                kind = self.executed if lines & set(range(one.line, one.end + 1)) else self.outside
                kind.setdefault(file, []).append(one)

    def sites(self, kind: Mapping[str, Sequence[mutations.Mutation]]) -> dict[str, int]:
        """File -> at how many places something can be changed in one way or another."""
        return {file: len({(one.path, one.operator) for one in found}) for file, found in kind.items()}

    def drawn(self, seed: int) -> Iterator[Mutant]:
        """Mutants without end, but for repetitions: a file by the number of its places, an operator, a place, a change.

        All operators of a file are as likely, or numbers and texts would crowd out the rest.
        """
        chance, taken = random.Random(seed), set[tuple[str, str, int]]()
        weights = self.sites(self.executed)
        total = sum(len(found) for found in self.executed.values())
        while len(taken) < total:
            file = chance.choices(list(weights), list(weights.values()))[0]
            operator = chance.choice(sorted({one.operator for one in self.executed[file]}))
            found = [one for one in self.executed[file] if one.operator == operator]
            path = chance.choice(list(dict.fromkeys(one.path for one in found)))
            place, mutation = chance.choice([(n, one) for n, one in enumerate(found) if one.path == path])
            if (file, operator, place) not in taken:
                taken.add((file, operator, place))
                yield Mutant(file, mutation)

    def again(self, record: Mapping[str, Any]) -> Mutant | None:
        """The mutant that a record describes, in the sources as they are now; None: they hold it no more."""
        for one in self.executed.get(record["file"], []):
            if (one.operator, one.function) == (record["operator"], record["function"]):
                mutant = Mutant(record["file"], one)
                if key(self.described(mutant)) == key(record):
                    return mutant
        return None

    def described(self, mutant: Mutant) -> dict[str, Any]:
        """What a record says of a mutant."""
        before, after = mutations.shown(self.trees[mutant.file], mutant.mutation)
        one = mutant.mutation
        return {"file": mutant.file, "line": one.line, "function": one.function, "operator": one.operator,
                "before": before, "after": after}  # fmt: skip


def _near(file: str, other: str) -> bool:
    """Whether a file may know the classes of another: its system's, and those in common."""
    return other.startswith("splinter/ports/common/") or file.split("/")[2] == other.split("/")[2]


# -- cases --------------------------------------------------------------------------------------------------


def every_case() -> list[Case]:
    """The cases of test_steps.py at size tiny; to be called in a fork, as it imports the ports."""
    from splinter.align.port import PRECISIONS
    from splinter.align.steps import ROUNDED
    from splinter.ports import proofs

    return [
        Case(folder, port.name, mode, step, dtype)
        for folder in proofs.PORTS
        for port in proofs.load(folder)
        for mode in port.modes
        for step in port.steps
        for dtype in (PRECISIONS if step in ROUNDED else ("exact",))
    ]


def red(case: Case) -> str:
    """What a case says of what it finds wrong, as the suite judges it; '' if nothing."""
    import numpy as np
    from tolerances import TOLERANCES  # type: ignore[import-not-found]  # of tests/alignment, see `load`

    from splinter.align import Pair, steps
    from splinter.align.collection import limit
    from splinter.align.narrow import narrowed
    from splinter.ports import proofs

    random.seed(0)
    np.random.seed(0)
    port = next(port for port in proofs.load(case.folder) if port.name == case.system)
    rows = TOLERANCES[case.step][case.system]
    pair = Pair(port, case.mode, "tiny", port.checkpoints["tiny"](), case.dtype)
    allowed = limit(rows, case.dtype, "tiny")
    alignment = getattr(steps, case.step)(pair).judge(allowed)
    if not alignment.passed and case.dtype == "float64":
        alignment.judge(allowed, narrowed(pair, case.step, limit(rows, "float32", "tiny")))
    return "" if alignment.passed else alignment.message().split("\n")[0][:300]


def run(cases: Iterable[Case], baseline: Baseline, say: Say) -> None:
    """Run cases until one is red, and say so."""
    for case in cases:
        say({"start": case, "limit": SLOWER * baseline.seconds[case] + GRACE})
        try:
            found = red(case)
        except BaseException as error:  # of a change that ends the process, too, a user would hear
            found = f"{type(error).__name__}: {error}".split("\n")[0][:300]
        say({"end": case, "red": found})
        if found:
            return


class Changed(importlib.machinery.SourceFileLoader):
    """Loads a module from a syntax tree."""

    def __init__(self, name: str, path: str, tree: ast.Module):
        super().__init__(name, path)
        self.tree = tree

    def get_code(self, fullname: str) -> Any:
        return compile(self.tree, self.path, "exec", dont_inherit=True)


class Finder:
    """Finds one module, changed."""

    def __init__(self, name: str, path: Path, tree: ast.Module):
        self.name, self.path, self.tree = name, path, tree

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        loader = Changed(name, str(self.path), self.tree)
        inside = [str(self.path.parent)] if self.path.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(name, self.path, loader=loader, submodule_search_locations=inside)


# -- runs ---------------------------------------------------------------------------------------------------


def load(modules: Collection[str] = ()) -> None:
    """Import the frameworks, and whatever else the cases do, so that no fork has to.

    Raises:
        MutantError: a port is there already, and could not be imported anew.
    """
    sys.path.insert(0, str(PROJECT / "tests" / "alignment"))
    importlib.import_module("splinter.runtime").import_paddle()
    for name in (*FRAMEWORKS, "splinter.align.torch_side", "splinter.align.paddle_side", "tolerances", *modules):
        if name not in sys.modules:
            with contextlib.suppress(Exception):  # parts of packages that only come with others
                importlib.import_module(name)
    if found := [name for name in sys.modules if name.startswith("splinter.ports")]:
        raise MutantError(f"{found[0]} is imported already; mutants want a process without ports")
    gc.collect()
    gc.freeze()  # collecting would copy the pages that forks share


def measured(path: Path, told: Callable[[Iterable[Any], int], Iterable[Any]]) -> Baseline:
    """The baseline of the sources as they are; read from `path` where it was written for the same ones.

    Args:
        told: wraps what is gone through, with its length, to show the progress.

    Raises:
        MutantError: a case is red without any change.
    """
    now = digest()
    if path.is_file():
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["digest"] == now:
            load(document["modules"])
            seconds = {Case(*one["case"]): one["seconds"] for one in document["cases"]}
            lines = {
                Case(*one["case"]): {name: frozenset(some) for name, some in one["lines"].items()}
                for one in document["cases"]
            }
            return Baseline(now, seconds, lines, document["modules"])
    load()
    (listing,) = tended(iter([("", partial(fork, lambda say: say({"cases": every_case()}), LONGEST))]))
    if listing[2]:
        raise MutantError(f"the ports cannot be imported: their process {listing[2]}")
    cases = [Case(*one) for one in listing[1].said[0]["cases"]]
    found, wrong = Baseline(now), []

    def waiting() -> Iterator[tuple[Case, Callable[[], Fork]]]:
        for case in cases:
            load(found.modules)
            yield case, partial(fork, partial(_watched, case), LONGEST)

    for case, process, ended in told(tended(waiting()), len(cases)):
        last = process.said[-1] if process.said else {}
        if ended or last.get("red", True):
            wrong.append(f"{case}: {ended or last.get('red')}")
            continue
        found.seconds[case] = last["seconds"]
        found.lines[case] = {name: frozenset(some) for name, some in last["lines"].items()}
        found.modules += [name for name in last["modules"] if name not in found.modules]
    if wrong:
        raise MutantError("red without any change:\n" + "\n".join(wrong))
    document = {
        "digest": now,
        "modules": found.modules,
        "cases": [
            {
                "case": case,
                "seconds": seconds,
                "lines": {name: sorted(some) for name, some in found.lines[case].items()},
            }
            for case, seconds in found.seconds.items()
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return found


def _watched(case: Case, say: Say) -> None:
    """Run a case in a process that has imported no port, and say which lines of the ports it executed."""
    from coverage import Coverage  # type: ignore[import-not-found]

    watch = Coverage(data_file=None, config_file=False, include=[f"{PORTS}/*"])
    before = set(sys.modules)
    began = time.perf_counter()
    watch.start()
    found = red(case)
    watch.stop()
    seconds = time.perf_counter() - began
    data = watch.get_data()
    lines = {
        Path(name).relative_to(PROJECT).as_posix(): sorted(data.lines(name) or ()) for name in data.measured_files()
    }
    new = [name for name in sys.modules if name not in before and name.split(".")[0] not in ("splinter", "__main__")]
    say({"end": case, "red": found, "seconds": seconds, "lines": lines, "modules": new})


def tried(ground: Ground, chosen: Sequence[Mutant]) -> Iterator[dict[str, Any]]:
    """What became of each mutant, as they end.

    Yields:
        The mutant described, with `red`, the case that killed it, or ""; `said`, what that found; `ran`, how many cases
        were run of how many that execute the line (`cases`); and `seconds`.
    """
    began: dict[int, float] = {}

    def start(mutant: Mutant, place: int) -> Fork:
        began[place] = time.monotonic()
        tree = mutations.mutated(ground.trees[mutant.file], mutant.mutation)
        cases = ground.baseline.cases(mutant.file, mutant.mutation.line, mutant.mutation.end)

        def body(say: Say) -> None:
            sys.meta_path.insert(0, Finder(mutant.module, PROJECT / mutant.file, tree))
            run(cases, ground.baseline, say)

        return fork(body)

    waiting = (((place, mutant), partial(start, mutant, place)) for place, mutant in enumerate(chosen))
    for (place, mutant), process, ended in tended(waiting):
        last = next((one for one in reversed(process.said) if one.get("red")), None)
        case, said = (Case(*last["end"]), last["red"]) if last else (None, "")
        if ended:  # at the start of a case: nobody could say it
            case, said = Case(*process.current) if process.current else case, ended
        cases = ground.baseline.cases(mutant.file, mutant.mutation.line, mutant.mutation.end)
        yield {
            **ground.described(mutant),
            "red": str(case) if case else ended,
            "said": said,
            "ran": sum("start" in one for one in process.said),
            "cases": len(cases),
            "seconds": round(time.monotonic() - began[place], 1),
        }


def resumed(path: Path, digest: str) -> list[dict[str, Any]]:
    """The results of a seed for these sources; those for others are moved aside."""
    if not path.is_file():
        return []
    lines = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    path.write_text("".join(lines), encoding="utf-8")  # the last one may have been cut
    found = [json.loads(line) for line in lines]
    if found and found[0]["digest"] != digest:
        path.rename(path.with_suffix(f".{found[0]['digest'][:8]}.jsonl"))
        return []
    return found


# -- coverage -----------------------------------------------------------------------------------------------


def unexecuted(baseline: Baseline) -> dict[str, dict[str, list[int]]]:
    """File -> function -> the lines of it that no case executes; "" for what stands in no function.

    What only leads to a `raise` is left out: steps compare what both sides make of good input, and error messages are
    the unit tests' business.
    """
    from coverage import Coverage

    watch = Coverage(data_file=None, config_file=False)
    watch.get_data().add_lines({str(PROJECT / file): baseline.executed(file) for file in files()})
    found: dict[str, dict[str, list[int]]] = {}
    for file in files():
        missing = watch.analysis2(str(PROJECT / file))[3]
        tree = ast.parse((PROJECT / file).read_text(encoding="utf-8"))
        names = names_of_functions(tree)
        for line in sorted(set(missing) - lines_of_errors(tree)):
            found.setdefault(file, {}).setdefault(names.get(line, ""), []).append(line)
    return found


def reasons(found: Mapping[str, Mapping[str, Any]], path: Path = REASONS) -> tuple[list[str], list[str]]:
    """What is executed by no step without a reason for it; and the reasons that nothing needs any more.

    Args:
        found: see `unexecuted`.
        path: JSON, file -> function or "*" for all of the file -> why no step executes it.

    Returns:
        Both as "file: function".
    """
    given = json.loads(path.read_text(encoding="utf-8"))
    lacking = [
        f"{file}: {name or '(no function)'}"
        for file, functions in found.items()
        for name in functions
        if not given.get(file, {}).keys() & {name, "*"}
    ]
    needless = [
        f"{file}: {name}"
        for file, functions in given.items()
        for name in functions
        if not (file in found and (name == "*" or name in found[file]))
    ]
    return lacking, needless


def lines_of_errors(tree: ast.Module) -> set[int]:
    """The lines of blocks that end in `raise`, with the `except` above them."""
    found: set[int] = set()
    for node in ast.walk(tree):
        for block in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            if isinstance(block, list) and block and isinstance(block[-1], ast.Raise):
                first = node if isinstance(node, ast.ExceptHandler) else block[0]
                found.update(range(first.lineno, (block[-1].end_lineno or 0) + 1))
    return found


def names_of_functions(tree: ast.Module) -> dict[int, str]:
    """Line -> the function or class that it is in, by its dotted name."""
    names: dict[int, str] = {}

    def go(node: ast.AST, inside: tuple[str, ...]) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, mutations.DEFINITIONS):
                dotted = (*inside, child.name)
                names.update(dict.fromkeys(range(child.lineno, (child.end_lineno or 0) + 1), ".".join(dotted)))
                go(child, dotted)
            else:
                go(child, inside)

    go(tree, ())
    return names
