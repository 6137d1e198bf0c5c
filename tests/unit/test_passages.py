"""Files to documents to contexts: three layouts, their faults, endless lines, the packing of the reference."""

import gzip
import itertools
import json
import os
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splinter.ports.common.text import DataError
from splinter.ports.splinter import data
from splinter.ports.splinter.pretraining import passages
from splinter.ports.splinter.pretraining.passages import Document
from splinter.sample import PATH

TOKENIZER = data.Tokenizer(PATH / "vocab.txt", "hf", literal=True)
DOC = '<doc id="1">\nTitle\n\nAnn runs.\nBo waits.\n</doc>\n<doc id="2">\nOther\nIt rains.\n</doc>\n'
TEXT = "Ann runs.\nBo waits.\n\n \nIt rains.\n"
JSONL = '{"text": "Ann runs.\\nBo waits."}\n\n{"id": 2, "text": "It rains."}\n'
SAME = [["Ann runs.", "Bo waits."], ["It rains."]]


@pytest.fixture
def written(tmp_path):
    """Write text or bytes to a file."""

    def write(content, name="a.txt"):
        raw = content.encode() if isinstance(content, str) else content
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return path

    return write


def segments(path, layout="auto"):
    return [document.segments for document in passages.documents(path, layout)]


# -- layouts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "text"), [("doc", DOC), ("text", TEXT), ("jsonl", JSONL)], ids=["doc", "text", "jsonl"]
)
@pytest.mark.parametrize("name", ["a.txt", "a.gz"])
@pytest.mark.parametrize("change", ["", "crlf", "mark", "blank first", "no end"])
def test_the_layouts_are_told_apart(written, layout, text, name, change):
    """
    Titles dropped, plain or gz, whatever the line ends, with a byte order mark, after blank lines.
    """
    text = {
        "crlf": text.replace("\n", "\r\n"), "mark": "\ufeff" + text, "blank first": "\n \n" + text,
        "no end": text.rstrip("\n"),
    }.get(change, text)  # fmt: skip
    path = written(text, name)
    assert segments(path) == segments(path, layout) == SAME


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (DOC, [("line 1", 6), ("line 7", 10)]),
        (TEXT, [("line 1", 2), ("line 5", 5)]),
        (JSONL, [("line 1", 1), ("line 3", 3)]),
    ],
    ids=["doc", "text", "jsonl"],
)
def test_documents_know_their_place(written, text, places):
    """
    The line where each begins, and how many bytes are read when it ends.
    """
    path, lines = written(text), text.splitlines(keepends=True)
    found = [(document.where, document.consumed) for document in passages.documents(path)]
    assert found == [(f"{path}, {line}", sum(map(len, lines[:read]))) for line, read in places]


@pytest.mark.parametrize(
    "text",
    ["", "\n \n\n", "<doc>\nTitle\n\n</doc>\n<doc>\n</doc>\n", '{"text": ""}\n{"text": " \\n "}\n'],
    ids=["nothing", "text", "doc", "jsonl"],
)
def test_documents_without_text_are_left_out(written, text):
    """
    An empty file, blank lines, a title alone, blank text.
    """
    assert segments(written(text)) == []


def test_a_layout_that_is_named_is_not_guessed(written):
    """
    A line of braces is text when the user says so.
    """
    assert segments(written("{braces}\n"), "text") == [["{braces}"]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "one\n\0two\n", "a.txt, line 2: holds a zero byte"),
        ("a.txt", b"one\ntw\xffo\n", "a.txt, line 2: not UTF-8 text"),
        ("a.gz", b"one\ntw\xffo\n", "a.gz, line 2: not UTF-8 text"),
        ("a.txt", "<doc>\nt\none\n<doc>\n", "a.txt, line 4: <doc> inside the document of .*a.txt, line 1"),
        ("a.txt", "<doc>\nt\none\n</doc>\n\nlost\n", "a.txt, line 6: text outside <doc> and </doc>: 'lost'"),
        ("a.txt", "<doc>\n</doc>\n<doc>\nt\none\n", "a.txt, line 3: the document has no </doc>"),
        ("a.txt", '{"text": "a"}\n{"body": "b"}\n', r"a.txt, line 2: key 'text' is missing \(found \['body'\]\)"),
        ("a.txt", '{"text": "a"}\n{"text": 7}\n', "a.txt, line 2: 'text' is '7', not a str"),
        ("a.txt", '{"text": "a"}\n["b"]\n', r"a.txt, line 2: the line is .*, not a JSON object"),
        ("a.txt", '{"text": "a"}\n{"text": \n', "a.txt, line 2: not JSON"),
        ("a.txt", '{"text": "a"}\n{"text": "\\ud800"}\n', "a.txt, line 2: 'text' holds half a character"),
    ],
)
def test_faults_are_named_with_their_line(written, name, content, message):
    """
    File, line, what is wrong.
    """
    with pytest.raises(DataError, match=message):
        segments(written(content, name))


def test_files_that_cannot_be_read_are_named(written, tmp_path):
    """
    A gz file that is cut off, one that is none, one that is not there.
    """
    path = written("one two three\n" * 1000, "a.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"a\.gz: cannot be read \(.*end"):
        segments(path)
    path.write_bytes(b"plain text\n")
    with pytest.raises(DataError, match=r"a\.gz: cannot be read \(Not a gzipped file"):
        segments(path)
    with pytest.raises(DataError, match=r"gone\.txt: cannot be read \(.*No such file"):
        segments(tmp_path / "gone.txt")


# -- sources ----------------------------------------------------------------------------------------------


def test_sources_are_files_folders_and_patterns(written, tmp_path, monkeypatch):
    """
    In the order given, each folder's by name, none twice, hidden ones left out.
    """
    one, two, deep = written("x", "b/2.txt"), written("x", "b/1.txt"), written("x", "b/c/3.txt")
    written("x", "b/.hidden")
    written("x", "b/.git/index")
    other = written("x", "a.txt")
    assert passages.find([other, tmp_path / "b"]) == [other, two, one, deep]
    assert passages.find([str(tmp_path / "b" / "*.txt")]) == [two, one]
    assert passages.find([one, tmp_path / "b" / "?.txt"]) == [one, two]
    monkeypatch.chdir(tmp_path)
    assert [path.as_posix() for path in passages.find(["b/**/*.txt"])] == ["b/1.txt", "b/2.txt", "b/c/3.txt"]


@pytest.mark.parametrize("source", ["gone.txt", "*.gone"])
def test_a_source_that_stands_for_nothing_is_refused(tmp_path, source):
    """
    A file, a pattern.
    """
    with pytest.raises(DataError, match="no such file, and no file of such a name; give a file, a folder or a pattern"):
        passages.find([tmp_path / source])


def test_an_empty_folder_is_refused(tmp_path):
    """
    Also one of hidden files alone.
    """
    (tmp_path / ".hidden").touch()
    with pytest.raises(DataError, match="the folder holds no file of text"):
        passages.find([tmp_path])


def test_a_pipe_is_refused(tmp_path):
    """
    Its size is not known, and a run that goes on could not read it again.
    """
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(
        DataError, match="pipe: a pipe or a device, which cannot be read twice; save its text to a file"
    ):
        passages.find([tmp_path / "pipe"])


def test_what_is_zipped_is_told_by_what_is_in_it(tmp_path):
    """
    Whatever its name is.
    """
    (tmp_path / "text.txt").write_bytes(gzip.compress(b"Ann rows.\n"))
    assert [document.segments for document in passages.documents(tmp_path / "text.txt")] == [["Ann rows."]]


def test_a_broken_pattern_is_refused(tmp_path, monkeypatch):
    """
    ** that is not a whole folder name: pathlib of Python 3.10 to 3.12 refuses it.
    """

    def refuse(self, pattern):
        raise ValueError("Invalid pattern: '**' can only be an entire path component")

    monkeypatch.setattr(type(tmp_path), "glob", refuse)
    with pytest.raises(DataError, match="can only be an entire path component; give a file, a folder or"):
        passages.find([tmp_path / "a**b"])


def test_a_file_is_read_once_however_it_is_spelled(written, tmp_path):
    """
    By name, by a detour, and by the folder that holds it.
    """
    path = written("the boat\n")
    (tmp_path / "sub").mkdir()
    assert passages.find([path, tmp_path / "sub" / ".." / path.name, tmp_path]) == [path]


def test_a_paragraph_that_begins_like_a_mark_is_text(written):
    """
    <docbook> opens no document.
    """
    path = written("<doc id=1>\nTitle\n<docbook> is a format\n</docks>\n</doc>\n")
    assert [one.segments for one in passages.documents(path)] == [["<docbook> is a format", "</docks>"]]


# -- endless lines ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "abcdefghijklmnopqrstuvwxyz", "é" * 20, "x" + "é" * 20, "屋" * 20, "xy" + "屋" * 20, "😀" * 15,
        "xyz" + "😀" * 15, "one two three four five six", "é 屋屋 😀 é屋😀é屋😀é屋😀 x", "aé屋😀" * 9,
    ],
)  # fmt: skip
@pytest.mark.parametrize("end", ["\n", ""])
def test_an_endless_line_is_read_in_pieces(written, monkeypatch, line, end):
    """
    No character is cut in two, and nothing is lost: the pieces make the line.
    """
    monkeypatch.setattr(passages, "LONGEST_LINE", 8)
    found = segments(written(f"a\n{line}{end}"), "text")
    assert len(found) == 1 and found[0][0] == "a"
    assert len(found[0]) > 2 and "".join(found[0][1:]) == line
    assert max(len(piece.encode()) for piece in found[0]) <= 16


def test_an_endless_line_is_cut_at_a_blank(written, monkeypatch):
    """
    Words stay whole where there are blanks, and the lines after it keep their numbers.
    """
    monkeypatch.setattr(passages, "LONGEST_LINE", 12)
    path = written("one two three four five\n\nsix\n")
    assert [(one.segments, one.where) for one in passages.documents(path, "text")] == [
        (["one two", " three four five"], f"{path}, line 1"),
        (["six"], f"{path}, line 3"),
    ]


@pytest.mark.parametrize("line", ["abcdefgh", "abc efg ", "abcdefgh\r", "abcdefgh ijklmnopq"])
def test_the_rest_of_an_endless_line_is_no_empty_line(written, monkeypatch, line):
    """
    A line that is exactly as long as a piece, or has a piece of blanks, does not end its document.
    """
    monkeypatch.setattr(passages, "LONGEST_LINE", 8)
    assert len(segments(written(f"{line}\nmore\n"), "text")) == 1


def test_a_last_json_line_of_just_the_longest_length_is_read(written, monkeypatch):
    """
    Whether or not a line end follows.
    """
    line = '{"text":"abcde"}'
    monkeypatch.setattr(passages, "LONGEST_LINE", len(line))
    assert segments(written(line)) == [["abcde"]]


def test_a_json_line_may_be_long(written, monkeypatch):
    """
    It is put together again before it is parsed.
    """
    monkeypatch.setattr(passages, "LONGEST_LINE", 8)
    text = "é屋😀 und so weiter " * 9
    path = written(json.dumps({"text": text}, ensure_ascii=False) + '\n{"text": "b"}\n')
    assert segments(path, "jsonl") == [[text], ["b"]]


def test_the_largest_document_is_bounded(written, monkeypatch):
    """
    Plain text and marked documents are cut into several, none of their lines lost; a JSON line is refused.
    """
    monkeypatch.setattr(passages, "LARGEST_DOCUMENT", 20)
    lines = [f"line {number:03d}" for number in range(10)]
    found = segments(written("\n".join(lines)), "text")
    assert [line for document in found for line in document] == lines
    assert len(found[0]) == 3 and len(found) > 2  # 8 characters a line: over 20 after three
    assert segments(written("<doc>\nTitle\n" + "\n".join(lines) + "\n</doc>\n"), "doc") == found
    monkeypatch.setattr(passages, "LONGEST_LINE", 8)
    with pytest.raises(DataError, match=r"a\.txt, line 2: more than 0 MiB of JSON in one line"):
        segments(written('{"text": "a"}\n{"text": "' + "b" * 40 + '"}\n'), "jsonl")


def test_blank_lines_at_the_head_take_no_memory(written):
    """
    They are passed over, one at a time, until the layout is told.
    """
    path = written("\n" * 2**17 + "Ann runs.\n")
    tracemalloc.start()
    try:
        assert segments(path) == [["Ann runs."]]
        assert tracemalloc.get_traced_memory()[1] < 2**20  # bytes; lines that are kept take ten times as many
    finally:
        tracemalloc.stop()


def test_the_parts_of_the_largest_document_are_alike(written, monkeypatch):
    """
    Every one ends when it is too large, not only the first.
    """
    monkeypatch.setattr(passages, "LARGEST_DOCUMENT", 20)
    assert list(map(len, segments(written("12345678\n" * 10)))) == [3, 3, 3, 1]


# -- packing ----------------------------------------------------------------------------------------------


def plainly(segments, capacity, number):
    """The authors' create_pretraining_data.py: the first segment has no context to fill up."""
    made, current = [], []
    for index, segment in enumerate(segments):
        overflows = len(current + segment) > capacity
        cut_here = len(segments) >= 10 and index == number
        if overflows or cut_here:
            made += [(current + segment)[:capacity]] if current else []
            current = segment[:capacity]
        else:
            current = current + segment
    return [*made, current] if current else made


def numbered(lengths):
    """Segments of these lengths whose pieces are 0, 1, 2, ..."""
    counter = itertools.count()
    return [list(itertools.islice(counter, length)) for length in lengths]


lengths = st.lists(st.integers(1, 25), max_size=14)


@given(lengths=lengths, capacity=st.integers(6, 20), number=st.integers(0, 4))
@settings(deadline=None)
def test_contexts_are_those_of_the_plain_rule(lengths, capacity, number):
    """
    And none is longer than the capacity, or empty.
    """
    found = list(passages.pack(numbered(lengths), capacity, number))
    assert found == plainly(numbered(lengths), capacity, number)
    assert all(0 < len(context) <= capacity for context in found)


@given(lengths=lengths, capacity=st.integers(6, 20), number=st.integers(0, 4))
@settings(deadline=None)
def test_no_piece_is_lost_after_split(lengths, capacity, number):
    """
    Without the repeats, the contexts are the text.
    """
    parts = passages.split(numbered(lengths), capacity)
    assert all(0 < len(part) <= capacity for part in parts)
    found = list(passages.pack(parts, capacity, number))
    assert list(dict.fromkeys(itertools.chain(*found))) == list(range(sum(lengths)))


def test_a_segment_that_overflows_comes_twice():
    """
    Its head fills the context, and it stands whole at the start of the next; what goes beyond is lost.
    """
    assert list(passages.pack(numbered([3, 4]), 5)) == [[0, 1, 2, 3, 4], [3, 4, 5, 6]]
    assert list(passages.pack(numbered([7, 1]), 5)) == [[0, 1, 2, 3, 4], [7]]


def test_ten_segments_are_also_cut_at_the_number_of_the_pass():
    """
    That segment ends one context and begins the next, in another place in every pass; nine segments stay whole.
    """
    ten = numbered([1] * 10)
    assert list(passages.pack(ten, 99, 0)) == [list(range(10))]  # nothing stands before it
    assert list(passages.pack(ten, 99, 3)) == [[0, 1, 2, 3], list(range(3, 10))]
    assert list(passages.pack(ten[:9], 99, 3)) == [list(range(9))]


# -- contexts ---------------------------------------------------------------------------------------------


def contexts(*lines, length=64, number=0, lossless=True):
    """The contexts of one document."""
    (segments,) = passages.encode([Document("here", list(lines))], TOKENIZER, length if lossless else None)
    return list(passages.contexts(segments, TOKENIZER, length, number))


def test_contexts_have_their_ends():
    """
    [CLS] and [SEP] around each; lines and documents of no pieces have none.
    """
    (found,) = contexts("the boat", "\u200b", "is the")
    assert TOKENIZER.pieces(found) == ["[CLS]", "the", "boat", "is", "the", "[SEP]"]
    assert contexts("\u200b") == []


def test_documents_are_encoded_apart():
    """
    All lines go through the tokenizer at once, and come back to their documents.
    """
    given = [Document("a", ["the boat", "is"]), Document("b", []), Document("c", ["the"])]
    found = passages.encode(given, TOKENIZER, 64)
    assert [[TOKENIZER.pieces(ids) for ids in one] for one in found] == [[["the", "boat"], ["is"]], [], [["the"]]]


def test_the_number_of_the_pass_reaches_the_packing():
    """
    A document of ten lines is cut at another one.
    """
    assert [[len(tokens) for tokens in contexts(*["the"] * 10, number=number)] for number in (0, 2)] == [
        [12],
        [5, 10],
    ]


def test_the_rest_of_a_long_line_is_kept_or_dropped():
    """
    Cut into segments unless told to do as the reference does.
    """
    line = "the boat is in the water " * 3  # 18 pieces
    whole = TOKENIZER.encode([line])[0]

    def packed(lossless):
        return [tokens[1:-1] for tokens in contexts(line, length=10, lossless=lossless)]

    assert list(itertools.chain(*packed(False))) == whole[:8]
    kept = packed(True)
    assert [kept[0], kept[1][:8], kept[2][-2:]] == [whole[:8], whole[8:16], whole[16:]]


@pytest.mark.parametrize("token", ["[MASK]", "[QUESTION]", "[SEP]", "[CLS]", "[PAD]", "[UNK]"])
def test_a_special_token_that_is_spelled_out_is_plain_text(token):
    """
    No text can put a question into a passage, or end it.
    """
    (tokens,) = contexts(f"the {token} boat")
    assert tokens[0] == TOKENIZER.cls and tokens[-1] == TOKENIZER.sep
    assert TOKENIZER.vocabulary[token] not in tokens[1:-1]
    assert "[" in TOKENIZER.pieces(tokens)
