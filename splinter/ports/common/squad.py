"""Questions on contexts in files: the layouts that are read, and how a long context is cut.

Framework-free; Splinter and Funnel read through it. The layout is told by what is in the file, plain or `.gz`:

    SQuAD JSON   {"data": [{"paragraphs": [{"context": ..., "qas": [{"id": ..., "question": ..., "answers":
                 [{"text": ..., "answer_start": ...}]}]}]}]}, or a plain list of the articles or the paragraphs
    MRQA lines   a header, then {"context": ..., "context_tokens": ..., "qas": [{"qid": ..., "question": ...,
                 "answers": [text], "detected_answers": [{"text": ..., "char_spans": ..., "token_spans": ...}]}]}
    rows         {"question": ..., "context": ..., "id": optional, "answers": {"text": [...], "answer_start":
                 [...]}} as `datasets` writes them; as lines, as a list, or as a list under "data"
    plain rows   the same with "answer": text, looked up in its context
    tables       the same columns separated by commas, semicolons or tabs, named in a first line; standard quoting

Source: Rajpurkar et al., EMNLP 2016 and ACL 2018 (SQuAD 1.1 and 2.0); Fisch et al., MRQA 2019.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unicodedata import normalize as unicode_form

from . import reading
from .answers import normalize
from .text import DataError, DataErrors, as_record, decoded, existing, from_json, is_empty, listed, open_bytes, required

LAYOUTS = "MRQA lines, SQuAD JSON, rows of `datasets`, or question, context and answer as JSON lines or CSV"
ASKED = 'lines such as {"question": "Who?", "context": "Ann did."}, or a table (CSV) with these columns'
FILE = "a file of questions: JSON lines, JSON or a table (CSV)"
SKIP_BAD = "--skip-bad"
SHOWN = 10
"""How many bad examples of a file are told."""


@dataclass(frozen=True, slots=True)
class Example:
    """One question on one context, as in the file.

    `answers` are the gold texts, none for an `impossible` question (SQuAD 2.0). Filled only when training:
    `answer_text` at `answer_start` (characters). `where` is its place, for errors.
    """

    id: str
    question: str
    context: str
    answers: list[str]
    answer_text: str | None = None
    answer_start: int | None = None
    impossible: bool = False
    where: str = field(default="", compare=False)


def read_examples(path, training: bool = False, answers: bool = True) -> Iterator[Example]:
    """The questions of a file of any layout, in raw text.

    Args:
        path: a file, or `-` for standard input.
        training: one answer to each question must stand where the file says.
        answers: False = the questions are to be answered; answers in the file are not looked at.

    Raises:
        DataError: see `read`.
    """

    def on_context(where, record):
        context, mrqa = context_of(record, where), is_mrqa(record)
        return partial(question_of, context=context, mrqa=mrqa, training=training, answers=answers)

    return read(path, on_context, answers, LAYOUTS if answers else ASKED)


# -- files ------------------------------------------------------------------------------------------------

OnContext = Callable[[str, dict[str, Any]], Callable[[str, dict[str, Any]], Any]]


def read(
    path, on_context: OnContext, answers: bool = True, layouts: str = LAYOUTS, refused: Refused | None = None
) -> Iterator[Any]:
    """The examples of a file as they come. JSON lines stream, a whole document is parsed at once.

    The bad examples of a file are told together at its end; once there is one, no more good ones come, unless the bad
    ones are left out. Standard input ends at the first one, if they are not.

    Args:
        path: a file, or `-` for standard input.
        on_context: (place, record) of a context -> what makes an example of (place, record) of a question on it.
            Both raise DataError for a bad one.
        answers: the questions must have answers, and ids of their own.
        layouts: what the file should hold, for the error of one without questions.
        refused: notes the bad examples, and may leave them out.

    Raises:
        DataError: no such file, said at once. On the way: an unreadable file, bad JSON, another layout, a bad example,
            question id used twice, no answers, or no question at all.
    """
    if str(path) != "-":
        path = existing(path, FILE)
    return _read(path, on_context, answers, layouts, Refused() if refused is None else refused)


def _read(path, on_context, answers, layouts, refused):
    ids: set[str] = set()
    some = answered = False
    refused.path = path
    for number, where, found in _records(path):
        with refused:
            if isinstance(found, DataError):
                raise found
            value = from_json(decoded(found, where), where) if isinstance(found, bytes) else found
            record = as_record(value, where, "a record")
            make = on_context(where, record)
            for place, qa in questions_of(record, where, number):
                some = True
                with refused:
                    example = make(place, as_record(qa, place, "a question"))
                    if answers:
                        _keep_apart(example.id, ids, where)
                        answered = answered or bool(example.answers or example.impossible)
                    if refused.leave_out or not refused.count:
                        refused.good = True
                        yield example
    if answers and some and not answered and refused.count == refused.unanswered:
        needed = "which training and scoring need; predict --input answers them"
        raise DataError(f"{_named(path)}: its questions have no answers, {needed}")
    refused.tell()
    if not some:
        raise DataError(f"{_named(path)}: no questions; give {layouts}")


def _named(path) -> str:
    return "standard input" if str(path) == "-" else str(path)


def _keep_apart(name, ids, where):
    if name in ids:
        raise DataError(f"{where}: question id {name[:60]!r} was used before; make ids unique")
    ids.add(name)


class Unanswered(DataError):
    """A question without answers, where they are needed."""


class Refused:
    """The bad examples of a file: `with` notes a DataError instead of raising it, but for standard input.

    Args:
        path: the file; `read` fills it in.
        leave_out: go on without them, on standard input as well.
        option: what asks for that on the command line, for the error.

    Attributes:
        good: whether there was an example that is not bad.
        count: how many bad ones there are.
        unanswered: how many of them are questions without answers.
    """

    def __init__(self, path: Any = None, leave_out: bool = False, option: str = ""):
        self.path, self.leave_out, self.option = path, leave_out, option
        self.good, self.count, self.unanswered = False, 0, 0
        self._first: list[DataError] = []

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace) -> bool:
        if not isinstance(error, DataError) or (str(self.path) == "-" and not self.leave_out):
            return False
        self.count += 1
        self.unanswered += isinstance(error, Unanswered)
        self._first += [error] * (self.count <= SHOWN)
        return True

    @property
    def lines(self) -> list[str]:
        """How many there are, ending in a colon, and the first of them; empty where there is none."""
        if not self.count:
            return []
        name, gone = _named(self.path), self.leave_out and self.good
        lines = [str(error).removeprefix(f"{name}, ") for error in self._first]
        told = " left out" if gone else f" ({self.option} goes on without them)" if self.option and self.good else ""
        told += f", the first {SHOWN}" if self.count > SHOWN else ""
        return [f"{name}: {self.count} bad example{'s' * (self.count > 1)}{told}:", *lines]

    def tell(self) -> None:
        """Raise what was noted, one error as it was and several together, unless the others go on without them."""
        if self.leave_out and self.good:
            return
        if self.count == 1:
            raise self._first[0]
        if self.count:
            head, *lines = self.lines
            raise DataErrors(head, lines)


def _records(path) -> Iterator[tuple[int, str, Any]]:
    """(number from 1, place, record) of each context or row; a line of JSON lines as bytes, to be parsed; an error for
    a row that is none."""
    name = _named(path)
    with open_bytes(path) as file:
        lines = enumerate(file, 1)
        number, line = next(((number, line) for number, line in lines if line.strip()), (1, b""))
        where = f"{name}, line {number}"
        text = decoded(line, where)
        if (columns := table_columns(text)) is not None:
            yield from _rows(lines, number, *columns, name)
            return
        try:
            head = _head(text, where) if text.strip() else None
        except DataError as error:
            yield number, where, error
            following = next(((number, line) for number, line in lines if line.strip()), (0, b""))
            if following[1].lstrip()[:1] == b"{":  # the bad one is a line among others
                yield from _lines(itertools.chain([following], lines), name)
            return
        if head is None or _is_document(head):
            rest = decoded(file.read(), name)
            if (text + rest).strip():
                whole = head is not None and not rest.strip()
                document = head if whole else from_json("\n" * (number - 1) + text + rest, name, lines=True)
                yield from _entries(document, name)
            return
        if not _is_header(head):
            yield number, where, head
        yield from _lines(lines, name)


def _lines(lines: Iterable[tuple[int, bytes]], name: str) -> Iterator[tuple[int, str, bytes]]:
    """(line, place, record) of JSON lines."""
    for number, line in lines:
        if line.strip():
            yield number, f"{name}, line {number}", line


def _head(text, where):
    """The JSON value of a first line, None if it is the beginning of a longer one.

    Raises:
        DataError: it is neither.
    """
    text = text.rstrip()
    if text.lstrip()[0] not in "[{":
        raise DataError(
            f"{where}: neither JSON nor the columns of a table, question and context among them (found {text[:40]!r}); "
            f"give {LAYOUTS}; a table begins with a line such as question,context,answer"
        )
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if error.pos == len(text):
            return None
    except (ValueError, RecursionError):  # said by from_json
        pass
    return from_json(text, where)


COLUMNS = ("id", "question", "context", "answer", "answer_start")
"""Of a table; others are passed over."""
SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab"}


def table_columns(text: str) -> tuple[list[str], str] | None:
    """The columns of a table and what separates them, by its first line; None where it is none."""
    if text.lstrip()[:1] in ("[", "{"):  # JSON, perhaps the whole file
        return None
    with contextlib.suppress(csv.Error):
        for mark in SEPARATORS:
            names = [name.strip().lower() for name in next(csv.reader([text], delimiter=mark), [])]
            names = ["answer" if name == "answers" else name for name in names]
            if {"question", "context"} <= {*names}:
                return names, mark
    return None


def _rows(
    lines: Iterable[tuple[int, bytes]], head: int, columns: list[str], mark: str, name
) -> Iterator[tuple[int, str, Any]]:
    """(line, place, record) of each row of a table below line `head`; a text may hold ends of lines."""
    last = head  # the line that was read last

    def texts() -> Iterator[str]:
        nonlocal last
        for last, line in lines:
            yield decoded(line, f"{name}, line {last}")

    csv.field_size_limit(reading.most())
    reader = csv.reader(texts(), delimiter=mark, strict=True)
    while True:
        before = last
        try:
            row = next(reader)
        except StopIteration:
            return
        except (csv.Error, DataError) as error:  # goes on with the next line
            reader = csv.reader(texts(), delimiter=mark, strict=True)
            number, where = before + 1, f"{name}, line {before + 1}"
            unread = f"{where}: the row that begins here cannot be read ({error}); put a text with separators or line "
            unread += "ends in double quotes, and double the quotes in it"
            yield number, where, DataError(unread) if isinstance(error, csv.Error) else error
            continue
        number, where = before + 1, f"{name}, line {before + 1}"
        if not any(cell.strip() for cell in row):  # an empty line, or one that a spreadsheet left below its data
            continue
        if len(row) == len(columns):
            yield number, where, _row(dict(zip(columns, row, strict=True)))
        else:
            uneven = f"{len(row)} cells, the first line names {len(columns)} columns"
            more = len(row) > len(columns)
            way_out = f"put a text that holds {SEPARATORS[mark]} in double quotes" if more else "add the missing cells"
            yield number, where, DataError(f"{where}: {uneven}; {way_out}")


def _row(cells: dict[str, str]) -> dict[str, Any]:
    """A row of a table as a record: an empty cell is none, a place is a number."""
    record: dict[str, Any] = {key: cells[key] for key in COLUMNS if cells.get(key)}
    if re.fullmatch(r"\s*-?[0-9]{1,18}\s*", record.get("answer_start", "")):
        record["answer_start"] = int(record["answer_start"])
    return record


def _is_document(head):
    """Whether the first line of a file is all of it, not one of many: a list, or an object that holds one."""
    if isinstance(head, list):
        return not _is_header(head)
    return isinstance(head, dict) and ("data" in head or "paragraphs" in head) and "context" not in head


def _is_header(head):
    """MRQA's first line: a header, bare or in a list, holding a dict or a list."""
    head = head[0] if isinstance(head, list) and head else head
    return isinstance(head, dict) and "header" in head


def _entries(document, name):
    """(number, place, record) of each paragraph or row of a document."""
    under_data = isinstance(document, dict) and "data" in document
    found = required(document, "data", list, name) if under_data else document
    number = 0
    for i, entry in enumerate(found if isinstance(found, list) else [found]):
        where = f"{name}, {'data' if under_data else ''}[{i}]" if isinstance(found, list) else name
        inner = entry.get("paragraphs") if isinstance(entry, dict) else None
        for j, record in enumerate(inner if isinstance(inner, list) else [entry]):
            number += 1
            yield number, f"{where}.paragraphs[{j}]" if isinstance(inner, list) else where, record


# -- parts of a record ------------------------------------------------------------------------------------


def is_mrqa(record) -> bool:
    """Whether a context's record has MRQA's layout."""
    found = record.get("qas")
    some = found if isinstance(found, list) else []
    return "context_tokens" in record or any(isinstance(qa, dict) and "detected_answers" in qa for qa in some)


def context_of(record, where) -> str:
    """The text of a context's record, not empty."""
    if "context" not in record:
        raise DataError(f"{where}: key 'context' is missing (found {sorted(record)[:12]}); give {LAYOUTS}")
    context = required(record, "context", str, where)
    if is_empty(context):
        raise DataError(f"{where}: 'context' is empty ({context[:40]!r}); remove the line or give its text")
    return context


def questions_of(record, where, number: int) -> Iterator[tuple[str, Any]]:
    """(place, record) of each question on a context; a row is both, and has its number for an id if it has none."""
    if "question" in record and "qas" not in record:
        yield where, record if record.get("id") is not None else {**record, "id": str(number)}
        return
    if "qas" not in record:
        raise DataError(f"{where}: neither 'question' nor 'qas' (found {sorted(record)[:12]}); give {LAYOUTS}")
    for i, qa in enumerate(required(record, "qas", list, where)):
        yield f"{where}, qas[{i}]", qa


def name_of(qa, where) -> str:
    """A question's `id` or `qid`; a whole number counts as its digits."""
    key = "qid" if "qid" in qa and "id" not in qa else "id"
    if key in qa and (not isinstance(qa[key], str | int) or isinstance(qa[key], bool)):
        raise DataError(f"{where}: {key!r} is {str(qa[key])[:60]!r}, not a string or a whole number; correct it")
    return str(qa[key]) if isinstance(qa.get(key), int) else required(qa, key, str, where)


def question_of(place, qa, *, context: str, mrqa: bool, training: bool, answers: bool) -> Example:
    """An example in raw text of a question's record."""
    name, question = name_of(qa, place), required(qa, "question", str, place)
    if not answers:
        refuse_empty(question, context, place)
        return Example(name, question, context, [], where=place)
    impossible, golds, text, start = False, [], None, None
    if mrqa:
        golds = texts_of(qa, place)
        if training:
            text, start = detected_answer(detected_of(qa, place)[0], context, place)
    elif not (impossible := is_impossible(qa, place)):
        records = answers_of(qa, place)
        golds = [required(one, "text", str, place) for one in records]
        if training:
            text, start = placed_answer(records, context, place)
    return Example(name, question, context, golds, text, start, impossible, place)


def is_impossible(qa, where) -> bool:
    """Whether a question has no answer: it says so, or it is a row of `datasets` with empty lists."""
    said = qa.get("is_impossible")
    if not isinstance(said, bool | None):
        raise DataError(f"{where}: 'is_impossible' is {str(said)[:60]!r}, not true or false; correct it")
    answers = qa.get("answers")
    return said is True or (isinstance(answers, dict) and answers.get("text") == [])


def answers_of(qa, where) -> list[dict[str, Any]]:
    """The answers to a question as records of `text` and, where the file gives it, `answer_start`.

    Raises:
        Unanswered: there is neither `answers` nor `answer`.
        DataError: they are something else.
    """
    answers = qa.get("answers")
    if answers is None and qa.get("answer") is not None:
        return [{"text": required(qa, "answer", str, where)} | {k: qa[k] for k in ("answer_start",) if k in qa}]
    if answers is None:
        raise unanswered(qa, where)
    if isinstance(answers, dict):  # a row of `datasets`: columns
        texts, starts = (required(answers, key, list, where) for key in ("text", "answer_start"))
        if len(texts) != len(starts):
            raise DataError(f"{where}: 'answers' has {len(texts)} texts, {len(starts)} answer_start; correct them")
        return [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    records = required(qa, "answers", list, where)
    return [{"text": one} if isinstance(one, str) else as_record(one, where, "an answer") for one in records]


def unanswered(qa, where) -> Unanswered:
    """What to raise for a question without answers."""
    found = sorted(qa)[:12]
    return Unanswered(
        f"{where}: there is neither 'answers' nor 'answer' (found {found}); add one, or ask with predict --input"
    )


def texts_of(qa, where) -> list[str]:
    """MRQA's gold texts."""
    if qa.get("answers") is None:
        raise unanswered(qa, where)
    texts = required(qa, "answers", list, where)
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"{where}: 'answers' is {str(texts)[:60]!r}, not a list of texts; correct it")
    return texts


def detected_of(qa, where) -> list[Any]:
    """MRQA's answers as they stand in the context, one at least."""
    detected = required(qa, "detected_answers", list, where)
    if not detected:
        raise DataError(f"{where}: 'detected_answers' is empty for {name_of(qa, where)!r}; remove the question")
    return detected


# -- where an answer stands -------------------------------------------------------------------------------


def placed_answer(records, context: str, where) -> tuple[str, int]:
    """Text and first character of the first answer, which is the one to train on.

    An answer whose place the file does not give must stand in its context once.

    Raises:
        DataError: there is none, it is empty, or it stands elsewhere; says where.
    """
    if not records:
        raise DataError(f"{where}: 'answers' is empty; training needs one answer, or \"is_impossible\": true")
    text = records[0]["text"]
    if not text.strip():
        raise DataError(f'{where}: answer {text[:60]!r} is empty; give its text, or mark "is_impossible": true')
    if "answer_start" not in records[0]:
        return text, _only_place(text, context, where)
    start = required(records[0], "answer_start", int, where)
    if start < 0 or not context.startswith(text, start):
        found = context[max(start, 0) :][: min(len(text), 60)]
        there = whereabouts(text, start, context, "answer_start")
        raise DataError(f"{where}: answer {text[:60]!r} is not at {start} (found {found!r}): {there}")
    return text, start


def _only_place(text, context, where):
    found = places(text, context)
    if len(found) > 1:
        raise DataError(f'{where}: answer {text[:60]!r} is at {listed(found)}; say which with "answer_start"')
    if not found or not context.startswith(text, found[0]):
        there = whereabouts(text, -1, context, "it")
        raise DataError(f"{where}: answer {text[:60]!r} cannot be looked up: {there}")
    return found[0]


def detected_answer(answer, context: str, where) -> tuple[str, int]:
    """Text and first character of a detected answer of MRQA, by its first `char_spans`.

    The span is the authority: `text` may differ from it by article, punctuation or case.

    Raises:
        DataError: the span lies outside the context, or counts something else than characters.
    """
    first, last = span_of(answer, "char_spans", where)
    text = answer.get("text")
    known = isinstance(text, str) and bool(text.strip())
    if not 0 <= first <= last < len(context):
        there = f"; {text[:60]!r}: {whereabouts(text, first, context, 'char_spans')}" if known else ""
        raise outside([first, last], "char_spans", f"{len(context)} characters", where, there)
    held = context[first : last + 1]
    if known and normalize(held) != normalize(text) and _unit(text, first, context) not in (None, CHARACTERS):
        there = whereabouts(text, first, context, "char_spans")
        raise DataError(f"{where}: char_spans {[first, last]} hold {held[:60]!r}, not {text[:60]!r}: {there}")
    return held, first


def span_of(answer, key: str, where) -> tuple[int, int]:
    """The first (first, last) span of a detected answer, both ends inclusive."""
    spans = required(as_record(answer, where, "a detected answer"), key, list, where)
    try:
        first, last = (int(end) for end in spans[0])
    except (IndexError, TypeError, ValueError, OverflowError):
        raise DataError(f"{where}: {key!r} is {str(spans)[:60]}, not [[first, last], ...]; correct it") from None
    return first, last


def outside(span, key: str, size: str, where, there: str = "") -> DataError:
    """What to raise for a span that is not inside its context."""
    return DataError(f"{where}: {key} {span} outside the context of {size}; ends are inclusive{there}")


CHARACTERS = "characters"
UNITS: dict[str, Callable[[str], int]] = {
    CHARACTERS: len,
    "UTF-8 bytes": lambda text: len(text.encode()),
    "UTF-16 code units": lambda text: len(text.encode("utf-16-le")) // 2,
    "characters of its NFC form": lambda text: len(unicode_form("NFC", text)),
    "characters of its NFD form": lambda text: len(unicode_form("NFD", text)),
}
"""What a place may have been counted in -> how many of them a text has."""


def whereabouts(text: str, start: int, context: str, key: str) -> str:
    """Where a text stands that is not at `start`, and what to do, for an error that names `key`."""
    unit = _unit(text, start, context)
    at = [_character(start, unit, context)] if unit else places(text, context)
    if not at:
        return "its context does not hold it; correct one of them"
    told = f"{start} counts {unit}, in characters it is" if unit not in (None, CHARACTERS) else "it is at"
    if context.startswith(text, at[0]):
        return f"{told} {listed(at)}; correct {key}"
    form = next(form for form in ("NFC", "NFD") if context.startswith(unicode_form(form, text), at[0]))
    there = "it is there" if unit == CHARACTERS else f"{told} {listed(at)}"
    return f"{there}, but in Unicode's {form} form; save answers and contexts in one form"


def _unit(text, start, context):
    """The unit in which `start` is the place of a text, None if in none."""
    forms = _forms(text)
    for unit in UNITS:
        at = _character(start, unit, context)
        if at is not None and any(context.startswith(form, at) for form in forms):
            return unit
    return None


def _character(start, unit, context):
    """The character that has `start` units before it, the last such one, None if there is none."""
    size = UNITS[unit]
    at = bisect_right(range(len(context) + 1), start, key=lambda end: size(context[:end])) - 1
    return at if at >= 0 and size(context[:at]) == start else None


def _forms(text):
    return {text, unicode_form("NFC", text), unicode_form("NFD", text)}


def places(text: str, context: str) -> list[int]:
    """The characters at which a text stands in a context, in any Unicode form."""
    spelled = "|".join(map(re.escape, _forms(text)))
    return [match.start() for match in re.finditer(f"(?={spelled})", context)]


# -- questions in no file ---------------------------------------------------------------------------------


def refuse_empty(question: str, context: str, where, text_key: str = "context") -> None:
    """Both must hold something that a tokenizer reads.

    Raises:
        DataError: one does not.
    """
    for what, text in (("question", question), (text_key, context)):
        if not text.isascii() and re.search("[\ud800-\udfff]", text):
            raise DataError(f"{where}: the {what} is not UTF-8 ({text[:40]!r}); correct it")
        if is_empty(text):
            raise DataError(f"{where}: the {what} is empty ({text[:40]!r}); give its text")


def read_context(path) -> str:
    """The text of a file, `-` for standard input.

    Raises:
        DataError: no such file, or not UTF-8.
    """
    name = "standard input" if str(path) == "-" else existing(path, "a text file")
    with open_bytes(path) as file:
        return decoded(file.read(), name)


# -- windows ----------------------------------------------------------------------------------------------


def window_starts(length: int, capacity: int, step: int) -> range:
    """First pieces of the windows over `length` pieces: every `step`, until one window reaches the end."""
    last = max(0, -(-(length - capacity) // step))
    return range(0, max(length, 1), step)[: last + 1]


def no_room(example, size: int, max_length: int) -> DataError:
    """What to raise for a question of `size` pieces that leaves none for its context."""
    return DataError(
        f"{example.where}: question {example.id!r} has {size} pieces and leaves no room for its context "
        f"in {max_length} ({example.question[:60]!r}); shorten it, raise max_length or lower doc_stride"
    )
