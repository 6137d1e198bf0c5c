"""The tables of docs/zoo.md: what became of ports that nobody here wrote, from results/zoo.json."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from .experiments import RESULTS

RECORD = RESULTS / "zoo.json"
Records = Mapping[str, Mapping[str, Any]]


def summary(records: Records) -> str:
    """How many pairs, how many agree, how many tensors were found without a rule."""
    ran = [one for one in records.values() if "cannot" not in one]
    aligned = sum(not one["failed"] for one in ran)
    tensors, by_rule = (sum(counts) for counts in zip(*map(mapped, ran), strict=True))
    failed = Counter(check for one in ran for check in one["failed"])
    return (
        f"{len(ran)} pairs ran: {aligned} are aligned in all that was compared, {len(ran) - aligned} are not. A check "
        f"failed so often: {', '.join(f'{check} {count}' for check, count in failed.most_common())}. So every layer "
        f"and output agrees in {len(ran) - failed['forward']} pairs. Of {tensors:,} tensors {tensors - by_rule:,} were "
        f"mapped without a rule. {len(records) - len(ran)} more pairs cannot be proven."
    )


def pairs(records: Records) -> str:
    """One row for each check that fails, one for each pair that is aligned."""
    lines = ["| pair | versions | tensors without a rule | verdict | first divergence | cause, read in | script | s |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for one in records.values():
        if "cannot" not in one:
            lines += rows(one)
    return "\n".join(lines)


def rows(one: Mapping[str, Any]) -> list[str]:
    """Of one pair."""
    tensors, by_rule = mapped(one)
    head = f"| {one['name']} | {', '.join(one['versions'])} | {tensors - by_rule} of {tensors} |"
    if not one["failed"]:
        return [f"{head} aligned | | | | {one['seconds']:.0f} |"]
    found = []
    for check, failure in one["failed"].items():
        script = failure.get("script", "")
        link = f"[{script}](../tests/zoo/faults/{script}.py)" if script else ""
        source = f" (`{failure['source']}`)" if script else ""
        cause = failure.get("cause", "not known") + source
        found.append(f"{head} **{check}** | {plain(failure['said'])} | {cause} | {link} | {one['seconds']:.0f} |")
        head = "| | | |"
    return found


def cannot(records: Records) -> str:
    """What the libraries offer that does not run."""
    lines = ["| pair | versions | what is said |", "|---|---|---|"]
    for one in records.values():
        if "cannot" in one:
            lines.append(f"| {one['name']} | {', '.join(one['versions'])} | {plain(one['cannot'])} |")
    return "\n".join(lines)


def mapped(one: Mapping[str, Any]) -> tuple[int, int]:
    """(tensors, those of them that a rule of ours paired)."""
    by_rule = re.search(r"(\d+) by (?:a|your) rule", one["weights"])
    return int(one["weights"].split()[0]), int(by_rule[1]) if by_rule else 0


def plain(text: str, longest: int = 160) -> str:
    """Text that breaks no table."""
    text = text.replace("|", "\\|").replace("<", "&lt;")
    return text if len(text) <= longest else text[: longest - 3] + "..."
