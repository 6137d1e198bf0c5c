"""What a reader is shown: an answer without stray punctuation, how sure it is, and whether its text could be read.

Pure Python and numpy. Scores come from metric.py, whose texts and shares are those of the references; nothing here
changes them. The first answer is always the one that `evaluate` scores.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from splinter.ports.common.answers import Span, normalize

from .data import Tokenizer

NEGLIGIBLE = 1e-6
"""Spans with less probability are not spelled out: a window of 384 pieces has at most 11,000 of them."""
UNREADABLE = 0.25
"""The share of unread pieces from which on a reader is warned. Of the 7,733 English contexts of SQuAD's dev file and of
SQuADShifts one has more (30 %), the next 20 %. With BERT's English vocabulary, texts in ten other scripts have 28 %
(Chinese) to 100 % (Thai); German (15 %) and other languages in Latin letters are mostly not noticed."""

FEW_WORDS = 10
"""Pieces of a text that is too short for one of them to tell of its language."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to one question.

    Attributes:
        text: a piece of the context, as it stands there.
        probability: that the answer reads so, 0 to 1, as far as the model knows; see `masses`.
        score: sum of the logits of its first and last piece.
        start, end: its slice of the context in characters, end exclusive.
    """

    text: str
    probability: float
    score: float
    start: int
    end: int


# -- how sure ---------------------------------------------------------------------------------------------


def span_scores(
    start_logits: np.ndarray, end_logits: np.ndarray, may_start, may_end, max_answer_length: int
) -> np.ndarray:
    """start[r, t] + end[r, t + l] of all spans of all windows.

    Args:
        start_logits, end_logits: (R, T) float, of R windows.
        may_start, may_end: (R, T) bool, where an answer may have its first and its last piece.
        max_answer_length: in pieces, L.

    Returns:
        (R, T, min(L, T)) float64: of the span from piece t to piece t + l of window r. -inf where no answer may be.
    """
    start = np.where(may_start, np.asarray(start_logits, np.float64), -np.inf)
    end = np.where(may_end, np.asarray(end_logits, np.float64), -np.inf)
    windows, length = start.shape
    scores = np.full((windows, length, min(max_answer_length, length)), -np.inf)
    for extra in range(scores.shape[2]):
        scores[:, : length - extra, extra] = start[:, : length - extra] + end[:, extra:]
    return scores


def once(scores: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """A span of the context that several windows hold counts in the one that scores it highest.

    Args:
        scores: see `span_scores`.
        begin, end: (R, T) int, characters of each piece.

    Returns:
        The scores, -inf for the other copies.
    """
    windows, first, extra = found = np.nonzero(scores > -np.inf)
    places = np.stack([begin[windows, first], end[windows, first + extra]], axis=1)  # (n, 2)
    best = np.lexsort((-scores[found], places[:, 1], places[:, 0]))
    copies = best[1:][(places[best[1:]] == places[best[:-1]]).all(axis=1)]
    kept = scores.copy()
    kept[tuple(axis[copies] for axis in found)] = -np.inf
    return kept


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """log p = score - logsumexp of all scores; -inf everywhere where no answer may be."""
    top = scores.max(initial=-np.inf)
    return scores if top == -np.inf else scores - top - np.log(np.exp(scores - top).sum())


def masses(log_p: np.ndarray, text_of: Callable[[int, int, int], str]) -> dict[str, float]:
    """The probability of each answer, with answers that read alike as one.

    "Ann", "Ann," and the same words elsewhere in the text are the same answer: their spans add up.

    Args:
        log_p: see `log_softmax`.
        text_of: (window, first piece, last piece) -> text.

    Returns:
        What an answer reads as, see `reads` -> probability, for spans that are not negligible.
    """
    found: dict[str, float] = {}
    for window, first, extra in np.argwhere(log_p > np.log(NEGLIGIBLE)).tolist():
        key = reads(text_of(window, first, first + extra))
        found[key] = found.get(key, 0.0) + float(np.exp(log_p[window, first, extra]))
    return found


def reads(text: str) -> str:
    """What an answer says, for comparing: as the metric normalises it, but a sign in front of a digit counts.

    The metric takes 1.5 for 15, -5 for 5, and a grade A for nothing.
    """
    signs = re.sub(r"([-+./:])(?=[0-9])", lambda found: f"\0{ord(found[1])}\0", text)
    return normalize(signs) or text.casefold().strip()


def shown(spans: Sequence[Span], mass: dict[str, float], context: str) -> list[Answer]:
    """What is shown of the spans of a decoder: the best one first, then the others by their probability.

    Args:
        spans: best first; where none was admissible, there is no answer.
        mass: see `masses`.
    """
    found: dict[str, Answer] = {}
    for span in spans:
        key = reads(span.text)
        if span.start_char is None or span.end_char is None or not span.text.strip() or key in found:
            continue
        there = trimmed(context[span.start_char : span.end_char])
        start, end = span.start_char + there.start, span.start_char + there.stop
        probability = min(mass.get(key, 0.0), 1.0)  # a sum may round to a little more
        found[key] = Answer(context[start:end], probability, span.score, start, end)
    first, others = list(found.values())[:1], list(found.values())[1:]
    return first + sorted(others, key=lambda one: -one.probability)


def percent(probability: float) -> str:
    """For a reader: nothing is certain, and nothing that was found is impossible."""
    if probability >= 0.9995:
        return ">99.9%"
    return f"{probability:.1%}" if probability >= 0.0005 else "<0.1%"


# -- where an answer ends ---------------------------------------------------------------------------------

STRAY = ",;:"
PARTNERS = {"(": ")", "[": "]", "{": "}"}


def trimmed(text: str) -> slice:
    """The part of an answer that is shown.

    What goes is what the metric does not see either, at both ends: blanks, commas, semicolons, colons, a bracket or a
    double quote without its partner, and the period of a sentence. A period stays behind a single letter and in a word
    of letters with another one ("J.", "U.S."). If nothing else is there, all stays.
    """
    begin, end = 0, len(text)
    while begin < end and _stray(text[begin:end], 0):
        begin += 1
    while begin < end and (_stray(text[begin:end], -1) or _full_stop(text[begin:end])):
        end -= 1
    return slice(begin, end) if begin < end else slice(0, len(text))


def _stray(text: str, end: int) -> bool:
    """Whether the character at one end of a text does not belong to it."""
    mark = text[end]
    for opening, closing in PARTNERS.items():
        if mark in (opening, closing):
            return _alone(text, opening, closing) if end == 0 else _alone(text[::-1], closing, opening)
    return mark.isspace() or mark in STRAY or (mark == '"' and text.count('"') % 2 == 1)


def _alone(text: str, bracket: str, partner: str) -> bool:
    """Whether no partner closes the bracket that a text begins with; any other bracket there is alone."""
    depth = 0
    for mark in text:
        depth += (mark == bracket) - (mark == partner)
        if depth <= 0:
            return depth < 0
    return True


def _full_stop(text: str) -> bool:
    word = text.split()[-1]
    abbreviated = any(map(str.isalpha, word)) and ("." in word[:-1] or len(word) == 2)
    return word.endswith(".") and not abbreviated


# -- whether a text could be read -------------------------------------------------------------------------


def unread(ids: np.ndarray, tokenizer: Tokenizer) -> float:
    """The share (0 to 1) of a text's pieces that tell a model little: [UNK], or a letter in the middle of a word.

    A vocabulary spells a script that it hardly knows letter by letter: BERT's English one has nearly all Cyrillic
    letters, but no Russian word. One such piece in a text of a few words is a rare name, and does not count.

    Args:
        ids: (n,) int, without special tokens.
    """
    pieces = tokenizer.pieces(ids)
    few = sum(bool(number == tokenizer.unk or _letter(piece)) for number, piece in zip(ids, pieces, strict=True))
    rare = few == 1 and 1 < len(pieces) < FEW_WORDS
    return 0.0 if rare else few / max(len(pieces), 1)


def _letter(piece: str) -> bool:
    return len(piece) == 3 and piece.startswith("##") and piece[2].isalpha()
