"""How far to trust the probabilities of splinter-mini-qa: what is measured, kept in results/ and shown in its card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from splinter.ports.common.answers import exact, f1
from splinter.ports.splinter import data, tasks
from splinter.ports.splinter.answering import percent

from .experiments import RESULTS

RECORD = RESULTS / "calibration.json"
THRESHOLDS = (0.25, 0.5, 0.75, 0.9)
BINS = 10
DRAWN, SEED = 20, 42
"""Questions of the dev file that are kept one by one, by id, and the seed that they are drawn with."""
SHIFTED = 1000
"""Questions of each of the other files, and of those without an answer."""


def asked(answerer: tasks.Answerer, examples: Iterable[data.Example]) -> list[dict[str, Any]]:
    """Each question with its answer, probability, whether it is right (exact match) and its F1, 0 to 1.

    A question without an answer has probability 0 and is wrong.
    """
    found = []
    for reply in answerer.ask(examples):
        best = reply.answers[0] if reply.answers else None
        text, golds = best.text if best else "", reply.example.answers
        right, score = (max((metric(text, one) for one in golds), default=0) for metric in (exact, f1))
        told = {"id": reply.example.id, "question": reply.example.question, "answer": text}
        half = int(hashlib.sha256(reply.example.context.encode()).hexdigest(), 16) % 2
        found.append(
            {**told, "probability": best.probability if best else 0.0, "right": right, "f1": float(score), "half": half}
        )
    return found


def reliability(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How often answers of like probability are right.

    Returns:
        questions; bins, each with `from`, questions, and the means of probability and right; error: the mean distance
        of these two over all questions (expected calibration error).
    """
    probability, right = (np.array([one[key] for one in found], float) for key in ("probability", "right"))
    number = np.minimum((probability * BINS).astype(int), BINS - 1)
    bins, error = [], 0.0
    for lowest in range(BINS):
        mine = number == lowest
        if mine.any():
            means = {"probability": float(probability[mine].mean()), "right": float(right[mine].mean())}
            bins.append({"from": lowest / BINS, "questions": int(mine.sum()), **means})
            error += abs(means["probability"] - means["right"]) * float(mine.mean())
    return {"questions": len(found), "error": error, "bins": bins}


def cost(found: Sequence[dict[str, Any]], least: float) -> dict[str, Any]:
    """What `--min-probability` changes: shares of all questions that are answered, of answers that are right, and of
    the right answers that are still given."""
    given = [one for one in found if one["probability"] >= least]
    right, before = (sum(one["right"] for one in some) for some in (given, found))
    return {
        "at": least,
        "answered": len(given) / len(found),
        "right": right / len(given) if given else 0.0,
        "kept": right / before if before else 0.0,
    }


def scored(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Exact match and F1, in points."""
    exact_match, f1_score = (100 * sum(one[key] for one in found) / len(found) for key in ("right", "f1"))
    return {"questions": len(found), "exact": exact_match, "f1": f1_score}


def measure_dev(answerer: tasks.Answerer, file: Path) -> dict[str, Any]:
    """Of a dev file: scores, reliability of each half (by a hash of the context), costs, and some questions by id."""
    found = asked(answerer, data.read_examples(file, answerer.config.mode))
    halves = [reliability([one for one in found if one["half"] == half]) for half in (0, 1)]
    rows = np.sort(np.random.RandomState(SEED).permutation(len(found))[:DRAWN])
    some = [{key: found[row][key] for key in ("id", "probability", "right")} for row in rows]  # no text of the file
    costs = [cost(found, least) for least in THRESHOLDS]
    return {**scored(found), "halves": halves, "thresholds": costs, "drawn": some, "seed": SEED}


def measure_other(answerer: tasks.Answerer, file: Path) -> dict[str, Any]:
    """Of a file that the model is far from: scores and reliability of some questions, always the same ones."""
    examples = list(data.read_examples(file, answerer.config.mode))
    found = asked(answerer, tasks.drawn(examples, SHIFTED))
    right = [one["right"] for one in found if one["probability"] >= 0.9]
    sure = {"sure": len(right), "sure_right": sum(right) / max(len(right), 1)}
    return {**scored(found), "of": len(examples), "error": reliability(found)["error"], **sure}


def measure_unanswerable(answerer: tasks.Answerer, file: Path) -> dict[str, Any]:
    """Of questions that their text does not answer, always the same ones: the shares that are answered all the same."""
    examples = [one for one in data.read_examples(file, answerer.config.mode) if one.impossible]
    found = [one["probability"] for one in asked(answerer, tasks.drawn(examples, SHIFTED))]
    given = [{"at": least, "answered": sum(p >= least for p in found) / len(found)} for least in THRESHOLDS]
    return {"questions": len(found), "of": len(examples), "thresholds": given}


def measure_own(answerer: tasks.Answerer, file: Path) -> list[dict[str, Any]]:
    """Of questions on a text of our own: all of it, to be read."""
    keys = ("question", "answer", "probability", "right", "f1")
    found = asked(answerer, data.read_examples(file, answerer.config.mode))
    return [{key: one[key] for key in keys} for one in found]


# -- tables -----------------------------------------------------------------------------------------------


def recorded() -> dict[str, Any]:
    """The record."""
    return json.loads(RECORD.read_text(encoding="utf-8"))


def tables(record: dict[str, Any]) -> dict[str, str]:
    """Those of the model card."""
    return {
        "reliability": reliability_table(record),
        "thresholds": cost_table(record),
        "other-texts": other_table(record),
        "own-text": own_table(record),
    }


def reliability_table(record: dict[str, Any]) -> str:
    """Both halves of the dev file beside each other."""
    first, second = ({one["from"]: one for one in half["bins"]} for half in record["dev"]["halves"])
    lines = ["| probability | answers, first half | of these right | answers, second half | of these right |"]
    lines += ["|---|---|---|---|---|"]
    for lowest in sorted({*first, *second}):
        cells = []
        for half in (first, second):
            one = half.get(lowest)
            cells += [f"{one['questions']:,}", f"{one['right']:.1%}"] if one else ["0", ""]
        lines.append(f"| {lowest:.0%} to {lowest + 1 / BINS:.0%} | {' | '.join(cells)} |")
    questions, errors = ([half[key] for half in record["dev"]["halves"]] for key in ("questions", "error"))
    means = " and ".join(f"{error:.1%}" for error in errors)
    lines += ["", f"Halves of {questions[0]:,} and {questions[1]:,} questions. Probability and share of right answers "]
    lines[-1] += f"are {means} apart in the mean (expected calibration error)."
    return "\n".join(lines)


def cost_table(record: dict[str, Any]) -> str:
    """What a threshold costs and brings."""
    head = ["`--min-probability`", "questions answered", "of these right", "right answers kept"]
    head += ["questions without an answer that get one"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    everything = {"at": 0.0, "answered": 1.0, "right": record["dev"]["exact"] / 100, "kept": 1.0}
    none = [{"answered": 1.0}, *record["unanswerable"]["thresholds"]]
    for one, wrong in zip((everything, *record["dev"]["thresholds"]), none, strict=True):
        shares = (one["answered"], one["right"], one["kept"], wrong["answered"])
        lines.append(f"| {one['at']:g} | {' | '.join(f'{share:.1%}' for share in shares)} |")
    questions, of = record["unanswerable"]["questions"], record["unanswerable"]["of"]
    lines += [
        "",
        f"The last column is of {questions:,} of the {of:,} questions of SQuAD 2.0's dev file that have none.",
    ]
    return "\n".join(lines)


def other_table(record: dict[str, Any]) -> str:
    """Files of other kinds of text."""
    lines = ["| text | questions | exact | F1 | calibration error | answers at 90 % and more | of these right |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for name, one in record["other"].items():
        scores = f"{one['exact']:.1f} | {one['f1']:.1f} | {one['error']:.1%}"
        lines.append(
            f"| {name} | {one['questions']:,} of {one['of']:,} | {scores} | {one['sure']:,} | {one['sure_right']:.1%} |"
        )
    return "\n".join(lines)


def own_table(record: dict[str, Any]) -> str:
    """Ten questions that anybody can ask again, and how many of the drawn ones were right."""
    lines = ["| question | answer | probability | |", "|---|---|---|---|"]
    for one in record["own"]:
        verdict = "right" if one["right"] else f"F1 {100 * one['f1']:.0f}" if one["f1"] else "wrong"
        lines.append(f"| {one['question']} | {one['answer']} | {percent(one['probability'])} | {verdict} |")
    drawn = record["dev"]["drawn"]
    right, sure = [one for one in drawn if one["right"]], [one for one in drawn if one["probability"] >= 0.5]
    both = [one for one in sure if one["right"]]
    lines += ["", f"Of {len(drawn)} questions of SQuAD's dev file, drawn with seed {record['dev']['seed']}, "]
    lines[-1] += f"{len(right)} were answered right; {len(both)} of the {len(sure)} with a probability of 50 % or more."
    return "\n".join(lines)
