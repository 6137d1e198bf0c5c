"""From logits to answers, and from answers to exact match and F1.

Pure Python and numpy. `decode_paper` is what the paper's numbers were made with, `decode_hf` what users of
Hugging Face's question answering example get; `evaluate` scores the strings of either.

Source: Rajpurkar et al., EMNLP 2016 and ACL 2018 (SQuAD metrics); Devlin et al., NAACL 2019 (span decoding,
basic tokenizer); Ram et al., ACL 2021 (Splinter). Every value equals transformers 4.57.6 to the last bit.
"""

import functools
import math
import re
import string
import unicodedata
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

ARTICLES = re.compile(r"\b(?:a|an|the)\b")
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
IDEOGRAPHS = (  # the ranges BERT sets apart; not every ideograph of today's Unicode
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF)),
    *((0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0x2F800, 0x2FA1F)),
)


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


# ---- scores ------------------------------------------------------------------------------------------------


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


# ---- logits to answers, as in the paper --------------------------------------------------------------------


def decode_paper(example, rows, start_logits, end_logits, pieces, n_best=20, max_answer_length=10, lower_case=False):
    """The best answers to one question, as strings of space-joined document tokens.

    Args:
        example: id, context (str), tokens (document tokens), offsets (their slices of the context).
        rows: R windows of the example in order, objects or mappings with input_ids, attention_mask (0 on
            padding), token_of_piece (document token or -1) and max_context, each (T,).
        start_logits, end_logits: (R, T) float.
        pieces: ids -> word pieces as in the vocabulary.
        n_best: boundaries tried per window and side, and answers kept.
        max_answer_length: in pieces.
        lower_case: whether the pieces come from an uncased model.

    Returns:
        At most n_best Spans with distinct texts, best first; ties go to the earlier window, then the better
        start, then the better end, equal logits to the lower index. One Span `empty` if none is admissible.

    Raises:
        ValueError: a limit below 1, shapes that do not fit, logits that are NaN or +inf.

    Source: Devlin et al., run_squad of BERT; as used by oriram/splinter finetuning at 1df4c13.
    """
    # float64, because they add Python floats
    start_logits, end_logits = _checked(rows, start_logits, end_logits, n_best, max_answer_length, np.float64)
    inside, may_start = [], []
    for row in rows:
        inside.append((_column(row, "token_of_piece") >= 0) & (_column(row, "attention_mask") > 0))
        may_start.append(inside[-1] & _column(row, "max_context").astype(bool))

    strings = {}  # window -> its pieces, only for windows with a candidate
    kept: dict[str, tuple] = {}  # text -> logits and characters
    for window, first, last in _candidates(start_logits, end_logits, may_start, inside, n_best, max_answer_length):
        if len(kept) == n_best:
            break
        row = rows[window]
        if window not in strings:
            strings[window] = pieces(_column(row, "input_ids").tolist())
        found = " ".join(" ".join(strings[window][first : last + 1]).replace(" ##", "").split())
        token_of_piece = _column(row, "token_of_piece")
        first_token, last_token = int(token_of_piece[first]), int(token_of_piece[last])
        tokens = example.tokens[first_token : last_token + 1]
        begin, end = final_slice(found, tokens, lower_case)
        text = " ".join(tokens)[begin:end]
        if text not in kept:
            characters = _characters(tokens, example.offsets[first_token : last_token + 1], begin, end)
            kept[text] = (float(start_logits[window, first]), float(end_logits[window, last]), *characters)

    if not kept:
        kept = {"empty": (0.0, 0.0, None, None)}
    scores = [start + end for start, end, *_ in kept.values()]
    probabilities = _softmax(scores)
    return [
        Span(text, probability, start, end, score, start_char, end_char)
        for (text, (start, end, start_char, end_char)), score, probability in zip(
            kept.items(), scores, probabilities, strict=True
        )
    ]


def final_slice(found, tokens, lower_case=False):
    """Where `found`, the text of word pieces, lies in `" ".join(tokens)`: a slice in characters.

    Pieces come from the basic tokenizer, which splits punctuation off and may drop characters. If it dropped
    none, both texts agree character by character once spaces are gone; else the whole text is the answer.
    """
    original = " ".join(tokens)
    basic = " ".join(filter(None, [basic_text(token, lower_case) for token in tokens]))
    begin = basic.find(found)
    if begin < 0 or not found:
        return 0, len(original)
    if basic == original:
        return begin, begin + len(found)
    solid = [position for position, character in enumerate(original) if character != " "]
    if len(solid) != len(basic) - basic.count(" "):
        return 0, len(original)
    first = begin - basic.count(" ", 0, begin)
    last = first + len(found) - found.count(" ") - 1
    return solid[first], solid[last] + 1


@functools.lru_cache(maxsize=1 << 16)
def basic_text(text, lower_case=False):
    """What BERT's basic tokenizer makes of a text, its tokens joined by spaces.

    tokenizers' BertNormalizer would not do: it composes no characters (NFC) and has other Unicode tables.
    """
    if text.isascii() and text.isalnum():
        return text.lower() if lower_case else text
    words = unicodedata.normalize("NFC", text.translate(_CLEAN)).split()
    if lower_case:
        words = [_without_accents(word.lower()) for word in words]
    return " ".join(" ".join(words).translate(_SPLIT).split())


def _without_accents(word):
    return "".join(c for c in unicodedata.normalize("NFD", word) if unicodedata.category(c) != "Mn")


class _CharacterTable(dict):
    """A table for str.translate that decides about each character once, on first sight."""

    def __init__(self, rule):
        super().__init__()
        self.rule = rule

    def __missing__(self, code):
        self[code] = self.rule(code, unicodedata.category(chr(code)))
        return self[code]


def _clean(code, category):
    if chr(code) in "\t\n\r" or category == "Zs":
        return " "
    if code == 0xFFFD or category.startswith("C"):
        return ""
    return f" {chr(code)} " if any(low <= code <= high for low, high in IDEOGRAPHS) else chr(code)


def _split(code, category):
    # ASCII symbols such as $ and ^ are punctuation here, beyond Unicode's own view
    is_punctuation = chr(code) in string.punctuation or category.startswith("P")
    return f" {chr(code)} " if is_punctuation else chr(code)


_CLEAN, _SPLIT = _CharacterTable(_clean), _CharacterTable(_split)


def _characters(tokens, offsets, begin, end):
    """Slice [begin, end) of the joined tokens -> slice of the raw context."""
    raw = []
    for position in (begin, end - 1):
        index = 0
        while position > len(tokens[index]):  # the space after a token still counts as its own
            position -= len(tokens[index]) + 1
            index += 1
        low, high = offsets[index]
        raw.append((int(min(low + position, high)), int(high)))
    (start, _), (last, limit) = raw
    return start, min(last + 1, limit)


def _softmax(scores):
    # math.exp and a running sum: numpy's exp and pairwise sum, or 3.12's `sum`, may end in another last bit
    top = max(scores)
    exponentials = [math.exp(score - top) for score in scores]
    total = 0.0
    for value in exponentials:
        total += value
    return [value / total for value in exponentials]


# ---- logits to answers, as in Hugging Face's example -------------------------------------------------------


def decode_hf(example, rows, start_logits, end_logits, n_best=20, max_answer_length=30):
    """The best answers to one question, as slices of the raw context.

    Unlike `decode_paper`, a span may start where its window sees little context, texts may repeat, and sums
    and softmax stay in the dtype of the logits.

    Args:
        example: context (str).
        rows: R windows of the example, objects or mappings with offsets (T, 2), -1 outside the context.
        start_logits, end_logits: (R, T) float.
        n_best: boundaries tried per window and side, and answers kept.
        max_answer_length: in pieces.

    Returns:
        At most n_best Spans, best first. run_qa leaves equal logits to numpy's unstable sort; here the lower
        index comes first. One Span `empty` if nothing is admissible.

    Raises:
        ValueError: as in `decode_paper`.

    Source: postprocess_qa_predictions, transformers' examples/pytorch/question-answering/utils_qa.py.
    """
    start_logits, end_logits = _checked(rows, start_logits, end_logits, n_best, max_answer_length)
    offsets = [_column(row, "offsets") for row in rows]  # (T, 2) each
    inside = [of[:, 0] >= 0 for of in offsets]
    entries: list[tuple] = []
    candidates = _candidates(start_logits, end_logits, inside, inside, n_best, max_answer_length)
    for window, first, last in candidates[:n_best]:
        begin, end = int(offsets[window][first, 0]), int(offsets[window][last, 1])
        start, stop = start_logits[window, first], end_logits[window, last]
        entries.append((example.context[begin:end], start, stop, start + stop, begin, end))
    if not entries or [text for text, *_ in entries] == [""]:
        entries.insert(0, ("empty", 0.0, 0.0, 0.0, None, None))

    scores = np.array([score for _, _, _, score, _, _ in entries])
    exponentials = np.exp(scores - np.max(scores))
    probabilities = exponentials / exponentials.sum()
    return [
        Span(text, float(probability), float(start), float(stop), float(score), begin, end)
        for (text, start, stop, score, begin, end), probability in zip(entries, probabilities, strict=True)
    ]


# ---- shared by both ----------------------------------------------------------------------------------------


def _candidates(start_logits, end_logits, may_start, may_end, n_best, max_answer_length):
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


def _checked(rows, start_logits, end_logits, n_best, max_answer_length, dtype=None):
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


def _column(row, name):
    return np.asarray(row[name] if isinstance(row, Mapping) else getattr(row, name))
