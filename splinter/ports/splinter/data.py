"""Questions and contexts to model inputs, for both worlds of Splinter (numpy and the Rust `tokenizers` only).

    examples = read_examples("train_qass.jsonl.gz", "paper", training=True)
    for kept, rows in features(examples, Tokenizer("vocab.txt", "paper"), "paper", training=True):
        ...

"paper" is the authors' code: MRQA tokens, a literal ` [MASK].` after the question, the old SQuAD windows, the
pieces of transformers' Python BertTokenizer. "hf" is transformers' question-answering script: raw text, token
104 put in after the question, windows and pieces of SplinterTokenizerFast.

Source: Ram et al., ACL 2021; oriram/splinter finetuning/mrqa_processor.py; transformers 4.57.6
data/processors/squad.py, models/splinter/tokenization_splinter_fast.py and run_qa.py. Spec section 2.
"""

import hashlib
import operator
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import chain, islice, pairwise
from typing import Any

import numpy as np

from splinter.ports.common import squad
from splinter.ports.common.squad import no_room, window_starts
from splinter.ports.common.squad import read_context as read_context
from splinter.ports.common.text import DataError, VocabularyError, WordPieces, required
from splinter.ports.common.text import existing as existing

MODES = ("paper", "hf")
MASK_SUFFIX = " [MASK]."
MASK_ID = 103  # what paper-mode text carries; the model reads it as 104
QUESTION_ID = 104
FIRST_UNIQUE_ID = 1_000_000_000
CACHED_CONTEXTS = 4096  # streaming stays bounded: about 100 MB when both are full


# -- text to examples -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Example:
    """One question on one context. Questions on one context share its lists: do not change them.

    `question` is the file's string, without a trailing ` [MASK].` in mode hf. `answers` are the gold texts of
    this world (paper on MRQA: tokens joined by spaces; else raw), `raw_answers` the file's `answers`. Filled
    only when training: `answer_text` at `answer_start` (characters) and, in mode paper, its first and last
    doc token, inclusive. An `impossible` question (SQuAD 2.0) has none. `where` is its place, for errors.
    """

    id: str
    question: str
    context: str
    tokens: list[str]
    offsets: list[tuple[int, int]]  # of each token in context; characters, end exclusive
    answers: list[str]
    raw_answers: list[str]
    answer_text: str | None = None
    answer_start: int | None = None
    start_token: int | None = None
    end_token: int | None = None
    impossible: bool = False
    where: str = field(default="", compare=False)


def question_with_mask(question):
    """The question as the paper's model reads it: ` [MASK].` at the end, once."""
    return question if question.endswith(MASK_SUFFIX) else question + MASK_SUFFIX


Check = Callable[[Example], Example]
"""Gives an example back, or raises DataError for one that is bad; see `room`."""


def read_examples(
    path, mode, training=False, refused: squad.Refused | None = None, check: Check | None = None
) -> Iterator[Example]:
    """Stream the questions of a file of any layout of `splinter.ports.common.squad`, told by its content.

    `.gz` is unpacked. JSON lines, such as MRQA's, and tables stream line by line; a SQuAD v1.1 or v2.0 file is parsed
    whole.

    Args:
        refused: notes bad examples, and may leave them out.
        check: tells more bad examples than the layout does.

    Raises:
        DataError: unreadable file, bad JSON, missing key, empty context, training answer outside its context,
            question id used twice, or no question at all. All but a missing file are raised on the way.
    """
    _check_mode(mode)
    make = partial(_on_context, mode=mode, training=training, answers=True, check=check)
    return squad.read(path, make, refused=refused)


def read_questions(path, mode, refused: squad.Refused | None = None, check: Check | None = None) -> Iterator[Example]:
    """The same without a look at answers; a line may be {"question": ..., "context": ..., "id": optional}.

    Args:
        path: a file, or `-` for standard input, whose lines are read one by one.
        refused, check: see `read_examples`.

    Raises:
        DataError: as `read_examples`, or a question or a context is empty.
    """
    _check_mode(mode)
    ask = partial(_on_context, mode=mode, training=False, answers=False, check=check)
    return squad.read(path, ask, answers=False, layouts=squad.ASKED, refused=refused)


def example(name, question, context, mode, where):
    """One question that is in no file, as an example without answers.

    Args:
        where: what to call its place in an error.

    Raises:
        DataError: the context or the question is empty.
    """
    squad.refuse_empty(question, context, where)
    ask = _on_context(where, {"context": context}, mode, training=False, answers=False)
    return ask(where, {"id": name, "question": question})


def _on_context(where, record, mode, training, answers, check=None):
    """What makes an example of each question on a context: (place, record of the question) -> Example."""
    context, mrqa = squad.context_of(record, where), squad.is_mrqa(record)
    tokens, offsets = _mrqa_tokens(record, where) if mrqa else _words(context)

    def make(place, qa):
        raw = squad.question_of(place, qa, context=context, mrqa=mrqa, training=training, answers=answers)
        one = Example(
            **{name: getattr(raw, name) for name in _RAW},
            question=_plain(raw.question, mode),
            tokens=tokens,
            offsets=offsets,
            raw_answers=raw.answers,
        )
        if mode != "hf" and answers:
            one = _by_mrqa_tokens(one, qa) if mrqa else _by_words(one)
        return one if check is None else check(one)

    return make


_RAW = ("id", "context", "answers", "answer_text", "answer_start", "impossible", "where")


def _by_words(one):
    """An example of SQuAD layout with the words that its answer begins and ends in; -1 lies before the first."""
    if one.answer_start is None:
        return one
    ends = (one.answer_start, one.answer_start + len(one.answer_text) - 1)
    start, end = (bisect_right(one.offsets, char, key=_first) - 1 for char in ends)
    return replace(one, start_token=start, end_token=end)


def _by_mrqa_tokens(one, qa):
    """An MRQA example whose answers are tokens, joined by spaces; spec 2.2."""
    golds = _mrqa_golds(qa, one.tokens, one.offsets, one.where)
    if one.answer_start is None:
        return replace(one, answers=golds)
    if one.answer_start >= one.offsets[-1][1]:
        raise DataError(f"{one.where}: char_spans start at {one.answer_start}, after the last token; correct them")
    # joined text may be longer than raw text, so its end may fall on the next token: improved later
    ends = (one.answer_start, one.answer_start + len(golds[0]) - 1)
    start, end = (max(0, bisect_right(one.offsets, char, key=_first) - 1) for char in ends)
    return replace(one, answers=golds, answer_text=golds[0], start_token=start, end_token=end)


def _words(context):
    """Doc tokens of SQuAD and their offsets: the words between the five blanks SquadExample splits at."""
    offsets = [match.span() for match in re.finditer("[^ \t\r\n\u202f]+", context)]
    return [context[start:end] for start, end in offsets], offsets


def _mrqa_golds(qa, tokens, offsets, where):
    """The tokens of each answer. Its span is the authority: `text` may differ by article, punctuation or case."""
    golds = []
    for one in squad.detected_of(qa, where):
        first, last = squad.span_of(one, "token_spans", where)
        if not 0 <= first <= last < len(tokens):
            there = _tokens_of(one, offsets, where)
            raise squad.outside([first, last], "token_spans", f"{len(tokens)} tokens", where, there)
        golds.append(" ".join(tokens[first : last + 1]))
    return golds


def _tokens_of(detected, offsets, where):
    """Which tokens the `char_spans` of a detected answer are, for an error."""
    ends = squad.span_of(detected, "char_spans", where)
    first, last = (bisect_right(offsets, char, key=_first) - 1 for char in ends)
    return f"; its char_spans {list(ends)} are tokens {[max(first, 0), max(last, 0)]}"


def _mrqa_tokens(record, where):
    """Token strings and their offsets, in order and apart."""
    pairs = required(record, "context_tokens", list, where)
    try:
        tokens = [token + "" for token, _ in pairs]
        offsets = [(operator.index(start), start + len(token)) for token, start in pairs]
    except (TypeError, ValueError):
        raise DataError(f"{where}: 'context_tokens' are not [token, character] pairs; correct them") from None
    if not tokens:
        raise DataError(f"{where}: 'context_tokens' is empty; remove the line or tokenize its context")
    for (_, end), (start, _) in pairwise(offsets):
        if start < end:
            raise DataError(f"{where}: context tokens overlap at character {start}; put them in order")
    return tokens, offsets


def _plain(question, mode):
    """Mode hf puts the question token in itself: with a `_qass` file's suffix it would stand there twice."""
    return question.removesuffix(MASK_SUFFIX) if mode == "hf" else question


def _first(pair):
    return pair[0]


def _check_mode(mode):
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; choose one of {MODES}")


# -- text to pieces ---------------------------------------------------------------------------------------


class Tokenizer(WordPieces):
    """BERT word pieces of one world, without the special tokens around them.

    Mode hf is the Rust tokenizer itself; mode paper equals the Python BertTokenizer.

    Args:
        vocabulary: a vocab.txt, cased unless the files beside it say otherwise, or a folder with one, which is read
            as transformers reads it. Mode hf reads [QUESTION] for the `[unused100]` on line 104 of BERT's own file.
        mode: "paper" or "hf". Literal [QUESTION] in a text is one token only in hf, as in
            SplinterTokenizerFast (the slow SplinterTokenizer splits it).
        literal, lower_case: see `WordPieces`.

    Attributes:
        pad, unk, cls, sep, mask, question, period: token ids. `question` is 104 in both modes.
        size: number of vocabulary lines.

    Raises:
        VocabularyError: no file, a special token is missing, or line 104 cannot be the question token.
    """

    def __init__(self, vocabulary, mode, literal=False, lower_case=None):
        _check_mode(mode)
        self.mode, paper = mode, mode == "paper"
        added = () if paper else ("[QUESTION]",)
        super().__init__(vocabulary, lower_case, python=paper, added=added, bare_lower_case=False, literal=literal)
        self.question, self.period = QUESTION_ID, self.vocabulary["."]

    def adapt(self, vocabulary):
        """Check that line 104 can be the question token; in mode hf, call it so."""
        if "." not in vocabulary:
            raise VocabularyError(f"{self.path}: lacks .; use the cased BERT vocabulary Splinter was made with")
        if self.mode == "paper" and vocabulary["[MASK]"] != MASK_ID:
            raise VocabularyError(
                f"{self.path}: [MASK] is on line {vocabulary['[MASK]']} (from 0), but the paper's model needs it on 103"
            )
        there = next((piece for piece, number in vocabulary.items() if number == QUESTION_ID), "nothing")
        elsewhere = vocabulary.get("[QUESTION]", QUESTION_ID) != QUESTION_ID
        if elsewhere or not re.fullmatch(r"\[QUESTION\]|\[unused\d+\]", there):
            raise VocabularyError(
                f"{self.path}: line 104 (from 0) holds {there!r}, but the question token needs it; "
                "put [QUESTION] or an [unusedN] entry there and nowhere else"
            )
        if self.mode == "hf":
            vocabulary.pop(there)
            vocabulary["[QUESTION]"] = QUESTION_ID
        return vocabulary


# -- pieces to features -----------------------------------------------------------------------------------


@dataclass
class Features:
    """N windows of T positions, as columns. `len()` is N.

    Columns that only one mode has are None in the other; the two labels are None unless training. In mode
    paper `input_ids` hold 103 at the question token, as the reference's do: the model replaces it. Labels are
    row indices, 0 ([CLS]) in a window without the answer. `skipped` holds the ids of examples that mode paper
    gives no row: the answer is not in its doc tokens, or the context has no piece.
    """

    input_ids: np.ndarray  # (N, T) int64
    attention_mask: np.ndarray  # (N, T) int64
    token_type_ids: np.ndarray  # (N, T) int64; 1 on the window and its [SEP]
    start_positions: np.ndarray | None  # (N,) int64, the answer's first piece
    end_positions: np.ndarray | None  # (N,) int64, its last piece, inclusive
    question_positions: np.ndarray  # (N,) int64 first question token in the row, 0 where lost
    question_lost: np.ndarray  # (N,) bool; the row holds no question token (its question was cut)
    example_index: np.ndarray  # (N,) int64, counts the examples that have rows, over all blocks
    unique_id: np.ndarray  # (N,) int64, from 1_000_000_000 in row order
    paragraph_len: np.ndarray  # (N,) int64, context pieces in the window
    token_of_piece: np.ndarray | None = None  # paper: (N, T) int32 doc token of each context piece, else -1
    max_context: np.ndarray | None = None  # paper: (N, T) bool, this window sees most around the piece
    offsets: np.ndarray | None = None  # hf: (N, T, 2) int32 characters of each context piece, else -1
    skipped: tuple[str, ...] = ()

    def __len__(self):
        return len(self.input_ids)


def room(tokenizer: Tokenizer, max_length: int, doc_stride: int, max_query_length: int) -> Check:
    """A check that windows of these sizes hold a whole question and something of its context.

    `features` cuts what is longer where its reference does, and the question token with it.
    """

    def check(example):
        paper = tokenizer.mode == "paper"
        size = len(tokenizer.encode([question_with_mask(example.question) if paper else example.question])[0])
        if paper:
            if size > max_query_length:
                raise too_long(example, max_query_length)
            bad = max_length - size - 3 < 1
        else:
            capacity = max_length - size - 5
            bad = capacity < 1 or (capacity <= doc_stride and len(tokenizer.encode([example.context])[0]) > capacity)
        if bad:
            raise no_room(example, size, max_length)
        return example

    return check


def too_long(example: Example, max_query_length: int) -> DataError:
    """What to raise for a question that is longer than it may be in mode paper."""
    return DataError(
        f"{example.where}: question {example.id!r} lost its [QUESTION] token: it is longer than --max-query-length "
        f"{max_query_length} pieces; shorten it ({example.question[:40]!r}...) or raise the limit"
    )


@dataclass(slots=True)
class _Plan:
    """One example, ready to be cut into rows."""

    head: list[int]  # [CLS] question ... [SEP]
    pieces: np.ndarray  # (n,) int64 context
    track: np.ndarray  # (n,) int32 doc tokens, or (n, 2) int32 offsets
    starts: range  # first piece of each window
    capacity: int
    answer: tuple[int, int] | None  # first and last piece, or first and past-the-last character


def features(
    examples: Iterable[Example],
    tokenizer: Tokenizer,
    mode,
    max_length=384,
    doc_stride=128,
    max_query_length=64,
    training=False,
    block=256,
) -> Iterator[tuple[list[Example], Features]]:
    """Cut examples into windows, `block` examples at a time, in order.

    paper: the question with ` [MASK].` is cut to `max_query_length` pieces, windows *start* every
    `doc_stride`. hf: the question is never cut, windows *overlap* by `doc_stride`. Labels follow each
    reference exactly, with hf's flaw: an answer starting on the last piece of a window gets start T - 1
    (run_qa.py walks on over [SEP] and padding).

    Yields:
        (examples that have rows, Features). `example_index` counts those examples from the first block on, so
        that after `concatenate` it indexes them.

    Raises:
        DataError: a question leaves no room for its context.
        ValueError: the tokenizer is of the other mode, or a size is not positive.
    """
    _check_mode(mode)
    if tokenizer.mode != mode:
        raise ValueError(f"the tokenizer is of mode {tokenizer.mode!r}; build one for {mode!r}")
    if min(max_length, max_query_length, block) < 1 or doc_stride < (mode == "paper"):
        raise ValueError(f"not positive: {max_length=}, {doc_stride=}, {max_query_length=} or {block=}")
    return _blocks(iter(examples), tokenizer, max_length, doc_stride, max_query_length, training, block)


def _blocks(examples, tokenizer, max_length, doc_stride, max_query_length, training, block):
    plan = _paper_plans if tokenizer.mode == "paper" else _hf_plans
    contexts: dict[str, tuple] = {}
    example_index = row = 0
    while chunk := list(islice(examples, block)):
        if len(contexts) > CACHED_CONTEXTS:
            contexts.clear()
        plans = list(plan(chunk, tokenizer, contexts, max_length, doc_stride, max_query_length, training))
        kept = [example for example, one in zip(chunk, plans, strict=True) if one]
        rows = _rows([one for one in plans if one], tokenizer, max_length, training)
        rows.skipped = tuple(example.id for example, one in zip(chunk, plans, strict=True) if not one)
        rows.example_index += example_index
        rows.unique_id += FIRST_UNIQUE_ID + row
        example_index, row = example_index + len(kept), row + len(rows)
        yield kept, rows


def _paper_plans(chunk, tokenizer, contexts, max_length, doc_stride, max_query_length, training):
    """A plan per example, None for those the old SQuAD code gives no feature (spec 2.3)."""
    questions = tokenizer.encode([question_with_mask(example.question) for example in chunk])
    for example, question in zip(chunk, questions, strict=True):
        known = contexts.get(example.context)
        if known is None or known[0] != example.tokens:
            known = contexts[example.context] = (example.tokens, *_word_pieces(example.tokens, tokenizer))
        _, pieces, owner, first_piece = known
        labelled = training and not example.impossible
        if not len(pieces) or (labelled and not _answer_found(example)):
            yield None
            continue
        question = question[:max_query_length]  # may cut [MASK] off: question_lost
        capacity = max_length - len(question) - 3
        if capacity < 1:
            raise no_room(example, len(question), max_length)
        answer = _answer_pieces(example, pieces, first_piece, tokenizer) if labelled else None
        head = [tokenizer.cls, *question, tokenizer.sep]
        yield _Plan(head, pieces, owner, window_starts(len(pieces), capacity, doc_stride), capacity, answer)


def _word_pieces(tokens, tokenizer):
    """(pieces (n,) int64, doc token of each (n,) int32, first piece of every doc token int64)."""
    words = tokenizer.encode_words(tokens)
    counts = np.fromiter(map(len, words), np.int64, len(words))
    pieces = np.fromiter(chain.from_iterable(words), np.int64, counts.sum())
    return pieces, np.repeat(np.arange(len(words), dtype=np.int32), counts), np.cumsum(counts) - counts


def _answer_found(example):
    text = " ".join(example.tokens[example.start_token : example.end_token + 1])
    return " ".join(example.answer_text.split()) in text


def _answer_pieces(example, pieces, first_piece, tokenizer):
    """(first, last) piece: the range of the answer's doc tokens, or its first part that spells the answer."""
    low = int(first_piece[example.start_token])
    inner = example.end_token < len(example.tokens) - 1
    high = int(first_piece[example.end_token + 1]) - 1 if inner else len(pieces) - 1
    spelled = tokenizer.encode([example.answer_text])[0]
    span, size = pieces[low : high + 1].tolist(), len(spelled)
    for start in range(len(span) - size + 1) if size else ():
        if span[start : start + size] == spelled:
            return low + start, low + start + size - 1
    return low, high


def _hf_plans(chunk, tokenizer, contexts, max_length, doc_stride, max_query_length, training):
    """A plan per example: [CLS] question [QUESTION] . [SEP] context [SEP]."""
    questions = tokenizer.encode([example.question for example in chunk])
    new = dict.fromkeys(example.context for example in chunk if example.context not in contexts)
    contexts.update(zip(new, tokenizer.encode_offsets(new), strict=True))
    for example, question in zip(chunk, questions, strict=True):
        pieces, offsets = contexts[example.context]
        capacity = max_length - len(question) - 5
        if capacity < 1 or (len(pieces) > capacity and capacity <= doc_stride):
            raise no_room(example, len(question), max_length)
        answer = None
        if training and not example.impossible:
            answer = (example.answer_start, example.answer_start + len(example.answer_text))
        head = [tokenizer.cls, *question, tokenizer.question, tokenizer.period, tokenizer.sep]
        starts = window_starts(len(pieces), capacity, max(capacity - doc_stride, 1))
        yield _Plan(head, pieces, offsets, starts, capacity, answer)


def best_windows(length, starts, capacity):
    """The window that sees most around each piece: largest min(left, right) + 0.01 * size, first on ties.

    Args:
        length: number of pieces, n.
        starts: range, first piece of each window.
        capacity: pieces in a full window.

    Returns:
        (n,) int64 window index; meaningless for a piece that no window holds.
    """
    if len(starts) == 1:  # nearly always
        return np.zeros(length, np.int64)
    piece = np.arange(length)
    newest = piece // starts.step
    reach = -(-capacity // starts.step)  # no more windows than this can share a piece
    window = newest + np.arange(1 - reach, 1)[:, None]  # (reach, n), oldest first
    size = np.minimum(capacity, length - window * starts.step)
    left = piece - window * starts.step
    right = size - 1 - left
    held = (window >= 0) & (window < len(starts)) & (right >= 0)
    score = np.where(held, np.minimum(left, right) + 0.01 * size, -np.inf)
    return window[score.argmax(0), piece]


def _rows(plans, tokenizer, length, training):
    """Features of the plans; example_index and unique_id count from 0."""
    paper = tokenizer.mode == "paper"
    total = sum(len(plan.starts) for plan in plans)
    ids = np.full((total, length), tokenizer.pad, np.int64)
    mask, segments = np.zeros_like(ids), np.zeros_like(ids)
    track = np.full((total, length) if paper else (total, length, 2), -1, np.int32)
    best = np.zeros((total, length), bool)
    label = _paper_label if paper else _hf_label
    example_index, sizes, labels = (np.zeros((total, *shape), np.int64) for shape in ((), (), (2,)))
    row = 0
    for index, plan in enumerate(plans):
        first = len(plan.head)
        if paper:
            windows = best_windows(len(plan.pieces), plan.starts, plan.capacity)
        for number, start in enumerate(plan.starts):
            part = slice(start, start + plan.capacity)
            window = plan.pieces[part]
            end = first + len(window)
            ids[row, :first], ids[row, first:end], ids[row, end] = plan.head, window, tokenizer.sep
            mask[row, : end + 1] = 1
            segments[row, first : end + 1] = 1
            track[row, first:end] = plan.track[part]
            if paper:
                best[row, first:end] = windows[part] == number
            if training and plan.answer:
                labels[row] = label(plan, part, first, length)
            example_index[row], sizes[row] = index, len(window)
            row += 1
    asked = (ids == tokenizer.mask) | (ids == tokenizer.question) if paper else ids == tokenizer.question
    return Features(
        ids,
        mask,
        segments,
        start_positions=labels[:, 0].copy() if training else None,
        end_positions=labels[:, 1].copy() if training else None,
        question_positions=asked.argmax(1),  # 0 where none
        question_lost=~asked.any(1),
        example_index=example_index,
        unique_id=np.arange(total),
        paragraph_len=sizes,
        token_of_piece=track if paper else None,
        max_context=best if paper else None,
        offsets=None if paper else track,
    )


def _paper_label(plan, part, first, length):
    """(start, end) row index of an answer wholly inside the window, else (0, 0)."""
    start, end = plan.answer
    last = min(part.stop, len(plan.pieces)) - 1
    inside = start >= part.start and end <= last
    return (start - part.start + first, end - part.start + first) if inside else (0, 0)


def _hf_label(plan, part, first, length):
    """(start, end) row index by characters, as in run_qa.py, flaw included; (0, 0) if not wholly inside."""
    offsets = plan.track[part]
    start, end = plan.answer
    if not len(offsets) or offsets[0, 0] > start or offsets[-1, 1] < end:
        return 0, 0
    begin = np.searchsorted(offsets[:, 0], start, side="right") - 1
    stop = np.searchsorted(offsets[:, 1], end)
    # run_qa.py looks for the next piece that begins later and finds none among [SEP] and padding
    return length - 1 if begin == len(offsets) - 1 else first + begin, first + stop


def concatenate(blocks):
    """(examples, Features) of the blocks of `features`; example_index then indexes examples."""
    examples, rows = zip(*blocks, strict=True)
    columns = {field.name: [getattr(one, field.name) for one in rows] for field in fields(Features)}
    skipped = tuple(chain.from_iterable(columns.pop("skipped")))
    joined: dict[str, Any] = {
        name: None if parts[0] is None else np.concatenate(parts) for name, parts in columns.items()
    }
    return list(chain.from_iterable(examples)), Features(**joined, skipped=skipped)


def digest(rows, field):
    """sha256 (hex) of one column: dtype, shape and values."""
    column = np.ascontiguousarray(getattr(rows, field))
    head = f"{column.dtype.str} {column.shape} ".encode()
    return hashlib.sha256(head + column.tobytes()).hexdigest()
