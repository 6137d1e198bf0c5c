"""Raw text to passages: documents out of files, one line at a time, packed into contexts of word pieces.

Layout and packing of oriram/splinter pretraining/create_pretraining_data.py at 1df4c13. Framework-free.
"""

from __future__ import annotations

import gzip
import io
import itertools
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from splinter.ports.common.text import DataError, WordPieces, as_record, decoded, from_json, required

LAYOUTS = ("auto", "doc", "text", "jsonl")
LONGEST_LINE = 2**20
"""Bytes of a line that are looked at as one; what is longer is taken in pieces, so that memory stays bounded."""
LARGEST_DOCUMENT = 2**24
"""Characters after which a document is cut in two, and a line of JSON refused."""
MANY_SEGMENTS = 10
"""A document of so many segments is cut at another place in every pass."""


@dataclass
class Document:
    """Consecutive text. `segments` are its lines; `where` is for messages; `consumed` bytes of the file are read."""

    where: str
    segments: list[str] = field(default_factory=list)
    consumed: int = 0


# -- reading ----------------------------------------------------------------------------------------------


def find(sources: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The files that paths, folders and patterns stand for, each folder's in order of their names.

    Raises:
        DataError: a source stands for nothing.
    """
    found: dict[Path, Path] = {}
    for source in map(Path, sources):
        if source.is_dir():
            files = sorted(path for path in source.rglob("*") if path.is_file() and not _hidden(path, source))
            if not files:
                raise DataError(f"{source}: the folder holds no file of text")
        elif source.is_file():
            files = [source]
        elif source.exists():
            raise DataError(f"{source}: a pipe or a device, which cannot be read twice; save its text to a file first")
        else:
            anchor = Path(source.anchor) if source.is_absolute() else Path()
            try:
                files = sorted(path for path in anchor.glob(str(source.relative_to(anchor))) if path.is_file())
            except ValueError as error:
                raise DataError(f"{source}: {error}; give a file, a folder or a pattern such as wiki/*.txt") from None
        if not files:
            raise DataError(f"{source}: no such file, and no file of such a name; give a file, a folder or a pattern")
        for file in files:  # once, however it is spelled
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _hidden(path: Path, source: Path) -> bool:
    """Whether a file, or a folder on the way to it from the source, has a name that begins with a dot."""
    return any(part.startswith(".") for part in path.relative_to(source).parts)


def documents(path: Path, layout: str = "auto") -> Iterator[Document]:
    """The documents of a file, plain or .gz, without those that hold no text.

    Args:
        layout: "doc": `<doc ...>`, title, a paragraph per line, `</doc>`; "text": a paragraph per line, an empty line
            ends a document; "jsonl": an object per line with the document under "text"; "auto": told by the first
            line that is not blank.

    Raises:
        DataError: unreadable, binary or not UTF-8, a broken line, a document that does not end.
    """
    lines = _lines(path)
    if layout == "auto":
        first, lines = _peek(lines)
        layout = "doc" if re.match(r"<doc[\s>]", first) else "jsonl" if first.startswith("{") else "text"
    reader = {"doc": _marked, "text": _plain, "jsonl": _records}[layout]
    return (document for document in reader(path, lines) if document.segments)


class _Line(str):
    """A line without its end, or a part of one.

    Knows its number, how far the file is read, whether it begins a line and whether it goes on in the next part.
    """

    number: int
    consumed: int
    begins: bool
    goes_on: bool

    @classmethod
    def of(cls, data: bytes, path: Path, number: int, consumed: int, begins: bool, goes_on: bool) -> _Line:
        text = cls(decoded(data, f"{path}, line {number}").rstrip("\r\n"))
        text.number, text.consumed, text.begins, text.goes_on = number, consumed, begins, goes_on
        return text


def _lines(path: Path) -> Iterator[_Line]:
    try:
        with open(path, "rb") as raw:
            zipped = path.suffix == ".gz" or raw.peek(2)[:2] == b"\x1f\x8b"
            file = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if zipped else raw
            number, kept, began = 1, b"", True
            while line := file.readline(LONGEST_LINE):
                line, kept = kept + line, b""
                if b"\0" in line:
                    raise DataError(f"{path}, line {number}: holds a zero byte; this is no text file, leave it out")
                goes_on = not line.endswith(b"\n") and len(line) >= LONGEST_LINE
                if goes_on:  # cut before a blank if there is one, else between two characters
                    cut = max(line.rfind(b" "), 0) or len(line) - _half_character(line)
                    line, kept = line[:cut], line[cut:]
                yield _Line.of(line, path, number, raw.tell(), began, goes_on)
                began = not goes_on
                number += began
            if kept or not began:
                yield _Line.of(kept, path, number, raw.tell(), began, False)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); expected UTF-8 text, gzipped when named .gz") from error


def _half_character(data: bytes) -> int:
    """How many bytes at the end begin a character of UTF-8 that is not whole."""
    for back in range(1, 4):
        byte = data[-back]
        if byte & 0xC0 == 0xC0:  # opens a character of two to four bytes
            return back if back < 2 + (byte >= 0xE0) + (byte >= 0xF0) else 0
        if byte & 0x80 == 0:
            return 0
    return 0


def _peek(lines: Iterator[_Line]) -> tuple[str, Iterator[_Line]]:
    """The first line that is not blank, and the lines from there on: no layout needs the blank ones before it."""
    for line in lines:
        if line.strip():
            return line.strip(), itertools.chain([line], lines)
    return "", iter(())


def _marked(path: Path, lines: Iterable[_Line]) -> Iterator[Document]:
    document, titled, size = None, False, 0
    for line in lines:
        mark = line.strip() if line.begins else ""
        if re.match(r"<doc[\s>]", mark):
            if document is not None:
                raise DataError(
                    f"{path}, line {line.number}: <doc> inside the document of {document.where}, which has no </doc>; "
                    "add it, or leave the file out"
                )
            document, titled, size = Document(f"{path}, line {line.number}"), False, 0
        elif document is None:
            if line.strip():
                raise DataError(
                    f"{path}, line {line.number}: text outside <doc> and </doc>: {line.strip()[:40]!r}; "
                    "remove it, or read the file with --layout text"
                )
        elif mark == "</doc>":
            document.consumed = line.consumed
            yield document
            document = None
        elif line.strip():
            if titled:
                if size >= LARGEST_DOCUMENT:
                    yield document
                    document, size = Document(document.where), 0
                document.segments.append(str(line))
                document.consumed, size = line.consumed, size + len(line)
            titled = titled or not line.goes_on
    if document is not None:
        raise DataError(f"{document.where}: the document has no </doc>; the file seems cut off")


def _plain(path: Path, lines: Iterable[_Line]) -> Iterator[Document]:
    document, size = None, 0
    for line in lines:
        ends = line.begins and not line.strip()
        if document is not None and (ends or size >= LARGEST_DOCUMENT):
            yield document
            document, size = None, 0
        if line.strip():
            document = document or Document(f"{path}, line {line.number}")
            document.segments.append(str(line))
            document.consumed, size = line.consumed, size + len(line)
    if document is not None:
        yield document


def _records(path: Path, lines: Iterable[_Line]) -> Iterator[Document]:
    parts: list[str] = []
    for line in lines:
        parts.append(line)
        if line.goes_on:
            if len(parts) * LONGEST_LINE > LARGEST_DOCUMENT:
                raise DataError(
                    f"{path}, line {line.number}: more than {LARGEST_DOCUMENT >> 20} MiB of JSON in one line; "
                    "cut the document in several"
                )
            continue
        text, parts = "".join(parts), []
        if not text.strip():
            continue
        where = f"{path}, line {line.number}"
        value = required(as_record(from_json(text, where), where, "the line"), "text", str, where)
        yield Document(where, [part for part in value.split("\n") if part.strip()], line.consumed)


# -- packing ----------------------------------------------------------------------------------------------


def pack(segments: Sequence[Sequence[int]], capacity: int, number: int = 0) -> Iterator[list[int]]:
    """The contexts of a document: segments one after the other, as many as fit.

    A segment that overflows fills up the context with its head, and stands whole at the start of the next one;
    what of it goes beyond the capacity there is lost, see `split`. The first segment has no context to fill up.

    Args:
        segments: piece ids of the lines.
        capacity: pieces of a context, without [CLS] and [SEP].
        number: of the pass over the data; a document of 10 segments and more is also cut at this segment, so
            that the passes differ.
    """
    current: list[int] = []
    for index, segment in enumerate(segments):
        if len(current) + len(segment) > capacity or (index == number and len(segments) >= MANY_SEGMENTS):
            if current:  # else there is nothing to fill up
                yield current + list(segment[: capacity - len(current)])
            current = list(segment[:capacity])
        else:
            current += segment
    if current:
        yield current


def split(segments: Iterable[Sequence[int]], capacity: int) -> list[Sequence[int]]:
    """Segments of at most `capacity` pieces, so that packing loses nothing."""
    return [part[begin : begin + capacity] for part in segments for begin in range(0, len(part), capacity)]


def encode(documents: Sequence[Document], pieces: WordPieces, length: int | None) -> list[list[Sequence[int]]]:
    """The piece ids of the segments of documents.

    Args:
        length: of a context; lines that are longer go on in another segment. None: they are left whole, and packing
            drops what is too much, as the reference does.
    """
    ids = iter(pieces.encode([segment for document in documents for segment in document.segments]))
    encoded: list[list[Sequence[int]]] = [[next(ids) for _ in document.segments] for document in documents]
    if length is not None:
        encoded = [split(segments, length - 2) for segments in encoded]
    return [[segment for segment in segments if segment] for segments in encoded]


def contexts(
    segments: Sequence[Sequence[int]], pieces: WordPieces, length: int, number: int = 0
) -> Iterator[list[int]]:
    """The contexts of a document, each with its [CLS] and [SEP].

    Args:
        length: pieces of a context, with [CLS] and [SEP].
        number: of the pass.
    """
    for context in pack(segments, length - 2, number):
        yield [pieces.cls, *context, pieces.sep]
