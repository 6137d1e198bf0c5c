"""What answering systems share after the logits: spans that may be answers, and scores of the texts chosen.

Pure Python and numpy. Source: Rajpurkar et al., EMNLP 2016 and ACL 2018 (SQuAD metrics); Devlin et al., NAACL
2019 (span decoding). Every value equals transformers 4.57.6 to the last bit.
"""

from __future__ import annotations

import functools
import math
import re
import string
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

ARTICLES = re.compile(r"\b(?:a|an|the)\b")
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Span:
    """One candidate answer to one question.

    Attributes:
        text: the answer; `empty` when no span was admissible.
        probability: softmax of `score` over the candidates kept for this question.
        start_logit, end_logit: logits of the first and last piece.
        score: their sum.
        start_char, end_char: slice of the raw context in characters, end exclusive; None for `empty`.
    """

    text: str
    probability: float
    start_logit: float
    end_logit: float
    score: float
    start_char: int | None
    end_char: int | None


# -- scores -----------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1 << 16)
def normalize(text):
    """Lower-case, drop ASCII punctuation, then the words a, an, the, then surplus whitespace."""
    bare = text.lower().translate(NO_PUNCTUATION)
    return " ".join(ARTICLES.sub(" ", bare).split())


def exact(prediction, gold):
    """1 if the normalised strings are equal, else 0."""
    return int(normalize(prediction) == normalize(gold))


def f1(prediction, gold):
    """Harmonic mean of precision and recall over bags of normalised words, 0 to 1.

    Two answers without a word agree (1); one without and one with disagree (0).
    """
    predicted, wanted = normalize(prediction).split(), normalize(gold).split()
    if not predicted or not wanted:
        return int(predicted == wanted)
    shared = sum((Counter(predicted) & Counter(wanted)).values())
    if shared == 0:
        return 0
    precision, recall = shared / len(predicted), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)


def evaluate(golds, predictions, no_answer_odds=None, threshold=1.0):
    """Score one prediction per question, the best over its gold answers.

    Golds that normalise to nothing are ignored; a question left without any wants the empty string. Questions
    without a prediction are counted in one warning and left out of every figure. transformers means to do the
    same but stops with a KeyError, so there is nothing of theirs to equal in that case.

    Args:
        golds: question id -> gold answers; an empty list marks a question without answer.
        predictions: question id -> answer; "" says that there is none.
        no_answer_odds: question id -> any number that grows with the belief that there is no answer.
        threshold: with odds above it the prediction counts as "".

    Returns:
        exact, f1 (points 0-100) and total (questions), the same as HasAns_* and NoAns_* where there are such
        questions, then best_exact and best_f1 (points) with the odds at which they are reached.

    Raises:
        ValueError: no golds, golds that are no list, no question with a prediction, odds missing.
    """
    answered = _answered(golds, predictions)
    odds = dict.fromkeys(predictions, 0.0) if no_answer_odds is None else no_answer_odds
    without_odds = [question for question in answered if question not in odds]
    if without_odds:
        raise ValueError(f"{len(without_odds)} questions have no no-answer odds, the first is {without_odds[0]!r}")

    raw: dict[str, dict[str, float]] = {"exact": {}, "f1": {}}
    for question in answered:
        texts = [text for text in golds[question] if normalize(text)] or [""]
        raw["exact"][question] = max(exact(predictions[question], text) for text in texts)
        raw["f1"][question] = max(f1(predictions[question], text) for text in texts)
    final = {
        name: {q: float(not golds[q]) if odds[q] > threshold else score for q, score in scores.items()}
        for name, scores in raw.items()
    }

    result = _means(final, answered)
    for prefix, wanted in (("HasAns_", True), ("NoAns_", False)):
        group = [question for question in answered if bool(golds[question]) == wanted]
        if group:
            result |= {prefix + name: value for name, value in _means(final, group).items()}
    for name, scores in raw.items():
        best, at = _best_threshold(scores, golds, predictions, odds)
        result |= {f"best_{name}": best, f"best_{name}_thresh": at}
    return result


def oracle(golds, nbest, k):
    """Exact match and F1 if the best of the first k candidates were always chosen.

    Args:
        golds: question id -> gold answers.
        nbest: question id -> candidates, best first, as Span or str.
        k: how many candidates may be looked at; 1 gives the plain scores.

    Returns:
        exact, f1 (points 0-100) and total (questions); questions without candidates as in `evaluate`.

    Raises:
        ValueError: k below 1, and as in `evaluate`.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    best: dict[str, dict[str, float]] = {"exact": {}, "f1": {}}
    for question in _answered(golds, nbest):
        texts = [text for text in golds[question] if normalize(text)] or [""]
        tried = [getattr(entry, "text", entry) for entry in nbest[question][:k]]
        best["exact"][question] = max(exact(answer, text) for answer in tried for text in texts)
        best["f1"][question] = max(f1(answer, text) for answer in tried for text in texts)
    return _means(best, best["exact"])


def _answered(golds, predictions):
    """Questions of `golds` that have a prediction, in the order of `golds`; warns once about the others."""
    if not golds:
        raise ValueError("no gold answers: nothing to evaluate")
    for question, texts in golds.items():
        if isinstance(texts, str):
            raise ValueError(f"golds of {question!r} must be a list of strings, not the string {texts!r}")
    answered = [question for question in golds if question in predictions]
    missing = len(golds) - len(answered)
    if not answered:
        raise ValueError(f"none of the {missing} questions has a prediction")
    if missing:
        warnings.warn(f"{missing} of {len(golds)} questions have no prediction and are left out", stacklevel=3)
    return answered


def _means(scores, questions):
    # `sum` in the order of the golds over ints and floats as they come: the last bit depends on all three
    means = {name: 100.0 * sum(of[question] for question in questions) / len(questions) for name, of in scores.items()}
    return means | {"total": len(questions)}


def _best_threshold(scores, golds, predictions, odds):
    """Best mean (points) if everything with odds above a threshold is answered by "", and that threshold."""
    current = best = sum(not golds[question] for question in scores)
    threshold = 0.0
    for question in sorted(odds, key=odds.__getitem__):  # equal odds stay in the caller's order
        if question not in scores:
            continue
        if golds[question]:
            current += scores[question]
        elif predictions[question]:
            current -= 1
        if current > best:
            best, threshold = current, odds[question]
    return 100.0 * best / len(scores), threshold


# -- spans ------------------------------------------------------------------------------------------------


def candidates(start_logits, end_logits, may_start, may_end, n_best, max_answer_length):
    """Admissible (window, first piece, last piece), highest sum of logits first, ties as they were found."""
    starts = np.argsort(-start_logits, axis=1, kind="stable")[:, :n_best]  # (R, n)
    ends = np.argsort(-end_logits, axis=1, kind="stable")[:, :n_best]  # (R, n)
    found: list[tuple[int, int, int]] = []
    scores = []
    for window, (first, last) in enumerate(zip(starts, ends, strict=True)):
        length = last[None, :] - first[:, None] + 1  # (n, n)
        admissible = (length >= 1) & (length <= max_answer_length)
        admissible &= may_start[window][first][:, None] & may_end[window][last][None, :]
        row, column = np.nonzero(admissible)
        first, last = first[row], last[column]  # (C,)
        scores.append(start_logits[window, first] + end_logits[window, last])
        found += zip([window] * len(first), first.tolist(), last.tolist(), strict=True)
    if not scores:
        return []
    return [found[index] for index in np.argsort(-np.concatenate(scores), kind="stable")]


def checked(rows, start_logits, end_logits, n_best, max_answer_length, dtype=None):
    """Both logits as (R, T) arrays for R rows.

    Raises:
        ValueError: a limit below 1, shapes that do not fit, logits that are NaN or +inf.
    """
    if max_answer_length < 1 or n_best < 1:
        raise ValueError(f"max_answer_length ({max_answer_length}) and n_best ({n_best}) must be at least 1")
    start_logits, end_logits = np.asarray(start_logits, dtype), np.asarray(end_logits, dtype)
    if not (start_logits.ndim == 2 and start_logits.shape == end_logits.shape and len(start_logits) == len(rows)):
        raise ValueError(
            f"logits {start_logits.shape} and {end_logits.shape} must both be (R, T), R = {len(rows)} rows"
        )
    if not ((start_logits < np.inf).all() and (end_logits < np.inf).all()):
        raise ValueError("logits hold NaN or +inf")
    return start_logits, end_logits


def column(row, name):
    """A column of one row, which is an object or a mapping."""
    return np.asarray(row[name] if isinstance(row, Mapping) else getattr(row, name))


def softmax(scores):
    """Of a list, summed from left to right in float64."""
    # math.exp and a running sum: numpy's exp and pairwise sum, or 3.12's `sum`, may end in another last bit
    top = max(scores)
    exponentials = [math.exp(score - top) for score in scores]
    total = 0.0
    for value in exponentials:
        total += value
    return [value / total for value in exponentials]
