"""From logits to labels and answers, and from these to accuracy, exact match and F1.

Pure Python and numpy. Decoding is the offset pipeline of chfhf/funnel-paddle (answers are slices of the raw
context, texts may repeat), with and without questions that have no answer; among equal logits the lower index
goes first, where that code leaves it to an unstable sort. Scores are those of SQuAD's own script.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from splinter.ports.common import answers
from splinter.ports.common.answers import Span, candidates, checked, column, softmax


def accuracy(labels: np.ndarray, logits: np.ndarray) -> float:
    """Share of rows (points, 0-100) whose largest logit is the label's; the first of equal ones counts.

    Args:
        labels: (N,) integers.
        logits: (N, classes) floats.

    Raises:
        ValueError: nothing to score, shapes that do not fit, or NaN.
    """
    labels, logits = np.asarray(labels), np.asarray(logits)
    if not len(labels) or logits.ndim != 2 or len(logits) != len(labels):
        raise ValueError(f"labels {labels.shape} and logits {logits.shape} must be (N,) and (N, classes), N > 0")
    if np.isnan(logits).any():
        raise ValueError("logits hold NaN")
    return 100.0 * int((logits.argmax(axis=-1) == labels).sum()) / len(labels)


@dataclass(frozen=True)
class Decoded:
    """What a model says to one question.

    Attributes:
        spans: candidates, best first, at most n_best, one more where the null answer was appended or a made-up
            `empty` put in front.
        odds: score of the null answer minus that of the best other one; 0 where null answers are not asked for.
        best: the first candidate with a text.
    """

    spans: tuple[Span, ...]
    odds: float
    best: Span
    null: bool

    def text(self, threshold: float = 0.0) -> str:
        """The answer: "" where null answers are asked for and the odds exceed the threshold."""
        if not self.null:
            return self.spans[0].text
        return "" if self.odds > threshold else self.best.text


def decode(
    example, rows: Sequence, start_logits, end_logits, null: bool = False, n_best: int = 20, max_answer_length: int = 30
) -> Decoded:
    """The best answers to one question, as slices of the raw context. Sums are made in float64.

    Args:
        example: context (str).
        rows: R windows of the example, objects or mappings with offsets (T, 2), -1 outside the context.
        start_logits, end_logits: (R, T) float.
        null: whether "no answer" is a candidate: [CLS] as start and end, the window where that scores least.
        n_best: boundaries tried per window, of starts and of ends each, and candidates kept.
        max_answer_length: in pieces.

    Raises:
        ValueError: a limit below 1, shapes that do not fit, logits that are NaN or +inf.
    """
    start_logits, end_logits = checked(rows, start_logits, end_logits, n_best, max_answer_length, np.float64)
    offsets = [column(row, "offsets") for row in rows]  # (T, 2) each
    inside = [of[:, 0] >= 0 for of in offsets]
    entries: list[tuple] = []
    for window, first, last in candidates(start_logits, end_logits, inside, inside, n_best, max_answer_length)[:n_best]:
        begin, end = int(offsets[window][first, 0]), int(offsets[window][last, 1])
        entries.append((start_logits[window, first], end_logits[window, last], example.context[begin:end], begin, end))
    score = 0.0
    if null:
        entries, score = _with_null(entries, start_logits[:, 0], end_logits[:, 0], n_best)
    if not any(text for _, _, text, *_ in entries):
        entries.insert(0, (0.0, 0.0, "empty", None, None))  # nothing else to say
    scores = [float(start + end) for start, end, *_ in entries]
    spans = tuple(
        Span(text, probability, float(start), float(end), total, begin, stop)
        for (start, end, text, begin, stop), total, probability in zip(entries, scores, softmax(scores), strict=True)
    )
    best = next(span for span in spans if span.text)
    return Decoded(spans, score - best.score if null else 0.0, best, null)


def _with_null(entries: list[tuple], starts, ends, n_best: int) -> tuple[list[tuple], float]:
    """The candidates with the null answer among them, after those it ties with, and its score."""
    window = int(np.argmin(starts + ends))  # the first on ties
    score = float(starts[window] + ends[window])
    answer = (starts[window], ends[window], "", None, None)
    place = sum(start + end >= score for start, end, *_ in entries)
    kept = [*entries[:place], answer, *entries[place:]]
    # cut to n_best like all others, but never left out: then it comes back at the end
    return (kept[:n_best] if place < n_best else [*entries[:n_best], answer]), score


def score(golds: Mapping[str, list[str]], texts: Mapping[str, str], odds: Mapping[str, float]) -> dict[str, float]:
    """Scores of answers as they are, and `best_*` over all thresholds of the odds.

    Args:
        golds: question id -> gold answers; an empty list marks a question without answer.
        texts: question id -> answer, "" for none.
        odds: question id -> null odds. They are no probabilities: with the default limit of 1, meant for those,
            every answer with odds above 1 would silently be scored as "".

    Returns:
        As `answers.evaluate`.
    """
    return answers.evaluate(golds, texts, odds, threshold=math.inf)


def evaluate(
    golds: Mapping[str, list[str]], decoded: Mapping[str, Decoded], threshold: float = 0.0
) -> dict[str, float]:
    """Scores of the answers at a null threshold.

    `best_*` are computed from the answers at `threshold`, as everywhere: a question answered "" there stays so.
    """
    texts = {name: one.text(threshold) for name, one in decoded.items()}
    return score(golds, texts, {name: one.odds for name, one in decoded.items()})
