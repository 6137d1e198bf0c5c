"""`splinter prove`: what is run and printed."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..weights import Rule
from .error import ProveError
from .named import Named, from_classes, from_file, read_config
from .options import Options
from .prover import KEPT, prove
from .result import Proof


def run(chosen: argparse.Namespace) -> int:
    """Prove what the command line names; returns the exit code."""
    named = _named(chosen)
    options = {**named.options, **_options(chosen)}
    names = [one.name for one in fields(Options)]
    if unknown := sorted(set(options) - set(names)):
        raise ProveError(f"OPTIONS holds {', '.join(unknown)}, which prove does not take; it takes {', '.join(names)}")
    if chosen.kill:
        from .killing import kill

        return kill(named.theirs, named.ours, named.batch(), options)
    proof = prove(named.theirs, named.ours, named.batch(), **options)
    proof.command = shlex.join(["splinter", *sys.argv[1:]])
    print(proof.markdown() if chosen.markdown else proof)
    if chosen.report is not None:
        print(f"\nreport: {proof.save(chosen.report)}")
    if chosen.write_suite is not None:
        _write_suite(proof, named, options, chosen.write_suite)
    return 0 if proof.passed else 1


def _named(chosen: argparse.Namespace) -> Named:
    classes = [chosen.theirs, chosen.ours, chosen.config]
    if chosen.file is not None and not any(classes):
        return from_file(chosen.file)
    if chosen.file is None and all(classes):
        return from_classes(chosen.theirs, chosen.ours, read_config(chosen.config))
    raise ProveError("name a file with theirs(), ours() and batch(), or --theirs, --ours and --config, all three")


def _options(chosen: argparse.Namespace) -> dict[str, Any]:
    """What the command line sets; it goes before what the file sets."""
    found: dict[str, Any] = {
        "weights": chosen.weights,
        "rules": [_rule(text) for text in chosen.rule] or None,
        "drop": dict.fromkeys(chosen.drop, "left out by --drop") or None,
        "steps": chosen.steps,
        "dtypes": chosen.dtypes,
        "updates": chosen.updates,
        "hostile": False if chosen.no_hostile else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _rule(text: str) -> Rule:
    theirs, equals, ours = text.partition("=")
    if not equals or not theirs or not ours:
        raise ProveError(f"--rule {text!r}: write THEIRS=OURS, 'encoder.*.fc.weight=layers.*.linear.weight^T' say")
    return Rule(theirs, ours.removesuffix("^T"), transpose=ours.endswith("^T"))


def _write_suite(proof: Proof, named: Named, options: dict[str, Any], folder: Path) -> None:
    from .suite import write

    plain = {name: value for name, value in options.items() if isinstance(value, (str, bool, int, float, list, tuple))}
    files = write(proof, folder, named.source, plain, tuple(one for one in KEPT if one in proof.kept_steps))
    print(f"\nwritten: {', '.join(map(str, files))}\nrun it: cd {shlex.quote(str(folder))} && pytest")
