"""From logits to answers, and from answers to exact match and F1.

Pure Python and numpy. `decode_paper` is what the paper's numbers were made with, `decode_hf` what users of
Hugging Face's question answering example get; `evaluate` (splinter/ports/answers.py) scores the strings of either.

Source: Rajpurkar et al., EMNLP 2016 and ACL 2018 (SQuAD metrics); Devlin et al., NAACL 2019 (span decoding,
basic tokenizer); Ram et al., ACL 2021 (Splinter). Every value equals transformers 4.57.6 to the last bit.
"""

import functools

import numpy as np

from splinter.ports.common.answers import Span, candidates, checked, column, softmax
from splinter.ports.common.answers import evaluate as evaluate
from splinter.ports.common.answers import oracle as oracle
from splinter.ports.common.text import BasicTokenizer

CASED = BasicTokenizer(lower_case=False)


# -- logits to answers, as in the paper -------------------------------------------------------------------


def decode_paper(example, rows, start_logits, end_logits, pieces, basic=CASED, n_best=20, max_answer_length=10):
    """The best answers to one question, as strings of space-joined document tokens.

    Args:
        example: id, context (str), tokens (document tokens), offsets (their slices of the context).
        rows: R windows of the example in order, objects or mappings with input_ids, attention_mask (0 on
            padding), token_of_piece (document token or -1) and max_context, each (T,).
        start_logits, end_logits: (R, T) float.
        pieces: ids -> word pieces as in the vocabulary.
        basic: how the tokenizer that made the pieces tells words apart, its case above all.
        n_best: boundaries tried per window and side, and answers kept.
        max_answer_length: in pieces.

    Returns:
        At most n_best Spans with distinct texts, best first; ties go to the earlier window, then the better
        start, then the better end, equal logits to the lower index. One Span `empty` if none is admissible.

    Raises:
        ValueError: a limit below 1, shapes that do not fit, logits that are NaN or +inf.

    Source: Devlin et al., run_squad of BERT; as used by oriram/splinter finetuning at 1df4c13.
    """
    # float64, because they add Python floats
    start_logits, end_logits = checked(rows, start_logits, end_logits, n_best, max_answer_length, np.float64)
    may_start, inside = where_paper(rows)
    strings = functools.cache(lambda window: pieces(column(rows[window], "input_ids").tolist()))
    kept: dict[str, tuple] = {}  # text -> logits and characters
    for window, first, last in candidates(start_logits, end_logits, may_start, inside, n_best, max_answer_length):
        if len(kept) == n_best:
            break
        text, *characters = span_text(example, rows[window], strings(window), first, last, basic)
        if text not in kept:
            kept[text] = (float(start_logits[window, first]), float(end_logits[window, last]), *characters)

    if not kept:
        kept = {"empty": (0.0, 0.0, None, None)}
    scores = [start + end for start, end, *_ in kept.values()]
    probabilities = softmax(scores)
    return [
        Span(text, probability, start, end, score, start_char, end_char)
        for (text, (start, end, start_char, end_char)), score, probability in zip(
            kept.items(), scores, probabilities, strict=True
        )
    ]


def where_paper(rows):
    """Where an answer may start and where it may end: two lists of (T,) bool, one of each for a row."""
    inside = [(column(row, "token_of_piece") >= 0) & (column(row, "attention_mask") > 0) for row in rows]
    return [one & column(row, "max_context").astype(bool) for one, row in zip(inside, rows, strict=True)], inside


def span_text(example, row, strings, first, last, basic=CASED):
    """The answer that a span of pieces is: (text, first character, character after the last) in the raw context.

    Args:
        example, row, basic: as in `decode_paper`.
        strings: the pieces of the row.
        first, last: pieces of the row.
    """
    found = " ".join(" ".join(strings[first : last + 1]).replace(" ##", "").split())
    token_of_piece = column(row, "token_of_piece")
    held = slice(int(token_of_piece[first]), int(token_of_piece[last]) + 1)
    tokens = example.tokens[held]
    begin, end = final_slice(found, tokens, basic)
    return " ".join(tokens)[begin:end], *_characters(tokens, example.offsets[held], begin, end)


def final_slice(found, tokens, basic=CASED):
    """Where `found`, the text of word pieces, lies in `" ".join(tokens)`: a slice in characters.

    Pieces come from the basic tokenizer, which splits punctuation off and may drop characters. If it dropped
    none, both texts agree character by character once spaces are gone; else the whole text is the answer.
    """
    original = " ".join(tokens)
    spoken = " ".join(filter(None, [basic_text(token, basic) for token in tokens]))
    begin = spoken.find(found)
    if begin < 0 or not found:
        return 0, len(original)
    if spoken == original:
        return begin, begin + len(found)
    solid = [position for position, character in enumerate(original) if character != " "]
    if len(solid) != len(spoken) - spoken.count(" "):
        return 0, len(original)
    first = begin - spoken.count(" ", 0, begin)
    last = first + len(found) - found.count(" ") - 1
    return solid[first], solid[last] + 1


@functools.lru_cache(maxsize=1 << 16)
def basic_text(text, basic=CASED):
    """What BERT's basic tokenizer makes of a text, its words joined by spaces."""
    if text.isascii() and text.isalnum():
        return text.lower() if basic.lower_case else text
    return " ".join(basic.words(text))


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


# -- logits to answers, as in Hugging Face's example ------------------------------------------------------


def where_hf(rows):
    """As `where_paper`: the pieces of the context, for both ends."""
    inside = [column(row, "offsets")[:, 0] >= 0 for row in rows]
    return inside, inside


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
    start_logits, end_logits = checked(rows, start_logits, end_logits, n_best, max_answer_length)
    offsets = [column(row, "offsets") for row in rows]  # (T, 2) each
    inside, _ = where_hf(rows)
    entries: list[tuple] = []
    ranked = candidates(start_logits, end_logits, inside, inside, n_best, max_answer_length)
    for window, first, last in ranked[:n_best]:
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
