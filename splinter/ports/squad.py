"""Questions on contexts in files: SQuAD's layout, lines of single questions, and how a long context is cut.

Framework-free; Splinter and Funnel read through it. Source: Rajpurkar et al., EMNLP 2016 and ACL
2018 (layouts 1.1 and 2.0).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from splinter.ports.text import (
    DataError,
    as_record,
    decoded,
    existing,
    from_json,
    is_blank,
    is_dropped,
    open_bytes,
    open_text,
    required,
)


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


def read_examples(path, training: bool = False) -> Iterator[Example]:
    """The questions of a SQuAD 1.1 or 2.0 file, `.gz` unpacked.

    Raises:
        DataError: unreadable file, bad JSON, missing key, empty context, training answer outside its context,
            question id used twice, or no question at all. All but a missing file are raised on the way.
    """
    return unique(_examples(existing(path, "a SQuAD .json file"), training), path, "SQuAD 'data' with 'paragraphs'")


def _examples(path, training):
    try:
        with open_text(path) as file:
            document = from_json(file.read(), path, lines=True)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); expected UTF-8 text, gzipped when named .gz") from error
    for where, paragraph in paragraphs(path, document):
        context = context_of(paragraph, where)
        for place, qa, name, question in questions_of(paragraph, where, ("id",)):
            impossible, records, golds = golds_of(qa, place)
            answer = answer_of(records, context, place) if training and not impossible else {}
            yield where, Example(name, question, context, golds, **answer, impossible=impossible, where=place)


def unique(placed, path, layouts: str) -> Iterator[Any]:
    """The examples of (place, example) pairs as they come; their ids must differ, and there must be one.

    Args:
        layouts: what the file should hold, for the error of an empty one.

    Raises:
        DataError: on the way.
    """
    seen = set()
    for where, example in placed:
        if example.id in seen:
            raise DataError(f"{where}: question id {example.id!r} was used before; make ids unique")
        seen.add(example.id)
        yield example
    if not seen:
        raise DataError(f"{path}: no questions; give {layouts}")


# -- parts of a SQuAD document ----------------------------------------------------------------------------


def paragraphs(path, document) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, record) of each context of a document."""
    for i, article in enumerate(required(as_record(document, path, "the file"), "data", list, path)):
        where = f"{path}, data[{i}]"
        for j, paragraph in enumerate(required(as_record(article, where, "an article"), "paragraphs", list, where)):
            place = f"{where}.paragraphs[{j}]"
            yield place, as_record(paragraph, place, "a paragraph")


def context_of(paragraph, where) -> str:
    """The text of a paragraph's record, not empty."""
    context = required(paragraph, "context", str, where)
    if not context.strip():
        raise DataError(f"{where}: 'context' is empty ({context!r}); remove the line or give its text")
    return context


def questions_of(paragraph, where, id_keys) -> Iterator[tuple[str, dict[str, Any], str, str]]:
    """(place, record, id, question) of each question on a context; the first of `id_keys` that is there counts."""
    for i, qa in enumerate(required(paragraph, "qas", list, where)):
        place = f"{where}, qas[{i}]"
        key = next((key for key in id_keys if key in as_record(qa, place, "a question")), id_keys[0])
        yield place, qa, required(qa, key, str, place), required(qa, "question", str, place)


def golds_of(qa, where) -> tuple[bool, list[dict[str, Any]], list[str]]:
    """Whether a question has no answer, its answers' records, and their texts."""
    impossible = qa.get("is_impossible") is True
    records = [] if impossible else required(qa, "answers", list, where)
    return impossible, records, [required(as_record(one, where, "an answer"), "text", str, where) for one in records]


def answer_of(records, context, where) -> dict[str, Any]:
    """`answer_text` and `answer_start` of the first answer, which is the one to train on."""
    if not records:
        raise DataError(f"{where}: 'answers' is empty; training needs one answer, or \"is_impossible\": true")
    text, start = records[0]["text"], required(records[0], "answer_start", int, where)
    if not text.strip() or start < 0 or context[start : start + len(text)] != text:
        found = context[max(start, 0) : max(start, 0) + len(text)]
        raise DataError(f"{where}: answer {text!r} is not at {start} (found {found!r}); correct answer_start")
    return {"answer_text": text, "answer_start": start}


# -- questions in no file ---------------------------------------------------------------------------------


def asked(path, text_key: str = "context") -> Iterator[tuple[str, str, str, str]]:
    """(place, id, question, context) of lines {"question": ..., "context": ..., "id": optional}, one by one.

    Args:
        path: a file, or `-` for standard input.
        text_key: what the context is called.

    Raises:
        DataError: no such file, a line that is not so, or no line at all.
    """
    name = "standard input" if str(path) == "-" else existing(path, "a file of JSON lines")
    with open_bytes(path) as lines:
        any_line = False
        for number, line in enumerate(lines, 1):
            where = f"{name}, line {number}"
            if text := decoded(line, where).strip():
                any_line = True
                record = as_record(from_json(text, where), where, "a line")
                own = record.get("id")
                if not isinstance(own, str | int | None) or isinstance(own, bool):
                    raise DataError(f"{where}: 'id' is {str(own)[:60]!r}, not a string or a number; correct it")
                question, context = (required(record, key, str, where) for key in ("question", text_key))
                refuse_empty(question, context, where, text_key)
                yield where, str(number) if own is None else str(own), question, context
        if not any_line:
            raise DataError(
                f'{name}: no questions; give lines such as {{"question": "Who?", "{text_key}": "Ann did."}}'
            )


def refuse_empty(question: str, context: str, where, text_key: str = "context") -> None:
    """Both must hold something that a tokenizer reads.

    Raises:
        DataError: one does not.
    """
    for what, text in (("question", question), (text_key, context)):
        if all(is_blank(char) or is_dropped(char) for char in text):
            raise DataError(f"{where}: the {what} is empty ({text[:40]!r}); give its text")
        if not text.isascii() and re.search("[\ud800-\udfff]", text):
            raise DataError(f"{where}: the {what} is not UTF-8 ({text[:40]!r}); correct it")


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
