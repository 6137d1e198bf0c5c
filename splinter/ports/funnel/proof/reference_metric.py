"""The reference side of the metric step: transformers' SQuAD scores, and a plain restatement of the decoding.

The offset pipeline exists in no installed library in a form that can be called; `decode` is a twin, written from
its description candidate by candidate, on Python floats.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

from splinter.ports.common.proof.theirs import removed_in_5


def evaluate(golds, texts, odds) -> dict[str, float]:
    """`squad_evaluate` on gold texts, answers and odds by question id; no answer is turned into "" by its odds."""
    questions = [
        SimpleNamespace(qas_id=name, answers=[{"text": text} for text in found]) for name, found in golds.items()
    ]
    return dict(removed_in_5("data.metrics.squad_metrics").squad_evaluate(questions, texts, odds, math.inf))


def accuracy(labels, logits) -> float:
    """Right rows in a hundred, row by row."""
    right = 0
    for label, row in zip(labels.tolist(), logits.tolist(), strict=True):
        right += row.index(max(row)) == label
    return 100.0 * right / len(labels)


def decode(context, rows, start_logits, end_logits, null, n_best=20, max_answer_length=30, threshold=0.0):
    """Candidates, odds and answer to one question.

    Args:
        context: the raw text.
        rows: windows as mappings with offsets (T, 2).
        start_logits, end_logits: a list of logits per window.

    Returns:
        A dict: "entries" (dicts of text, start_logit, end_logit, start_char, end_char, probability), "odds", "text".
    """
    entries, null_score, null_entry = [], math.inf, {}
    nowhere = {"start_char": None, "end_char": None}
    for row, start, end in zip(rows, start_logits, end_logits, strict=True):
        if start[0] + end[0] < null_score:
            null_score = start[0] + end[0]
            null_entry = {"text": "", "start_logit": start[0], "end_logit": end[0], **nowhere}
        offsets = row["offsets"].tolist()
        for i in _largest(start, n_best):
            for j in _largest(end, n_best):
                if offsets[i][0] != -1 and offsets[j][0] != -1 and i <= j < i + max_answer_length:
                    place = {"start_char": offsets[i][0], "end_char": offsets[j][1]}
                    text = context[offsets[i][0] : offsets[j][1]]
                    entries.append({"text": text, "start_logit": start[i], "end_logit": end[j], **place})
    if null:
        entries.append(null_entry)
    entries = sorted(entries, key=_score, reverse=True)[:n_best]  # stable, reverse included
    if null and not any(entry is null_entry for entry in entries):
        entries.append(null_entry)
    if all(entry["text"] == "" for entry in entries):
        entries.insert(0, {"text": "empty", "start_logit": 0.0, "end_logit": 0.0, **nowhere})
    best = next(entry for entry in entries if entry["text"])
    odds = null_score - _score(best) if null else 0.0
    top = max(_score(entry) for entry in entries)
    weights = [math.exp(_score(entry) - top) for entry in entries]
    total = 0.0
    for weight in weights:
        total += weight
    entries = [{**entry, "probability": weight / total} for entry, weight in zip(entries, weights, strict=True)]
    text = entries[0]["text"] if not null else "" if odds > threshold else best["text"]
    return {"entries": entries, "odds": odds, "text": text}


def _score(entry):
    return entry["start_logit"] + entry["end_logit"]


def _largest(values, count):
    return sorted(range(len(values)), key=values.__getitem__, reverse=True)[:count]
