"""ports/squad.py: one text in every layout, what is told of bad files, and where an answer really stands."""

import csv
import io
import json
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unicodedata import normalize

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from splinter import datasets
from splinter.ports.common import squad
from splinter.ports.common.text import DataError, DataErrors
from splinter.ports.funnel import data as funnel
from splinter.ports.splinter import data

CONTEXT = "The Marsden Hall (opened in 1874) was built by Ingrid Solheim's firm."
ASKED = [("a", "When was it opened?", "1874", 28), ("b", "Whose firm built it?", "Ingrid Solheim", 47)]
READERS = {
    "raw": squad.read_examples,
    "hf": lambda path, *given: data.read_examples(path, "hf", *given),
    "paper": lambda path, *given: data.read_examples(path, "paper", *given),
}
ASKING = {
    "raw": partial(squad.read_examples, answers=False),
    "hf": partial(data.read_questions, mode="hf"),
    "paper": partial(data.read_questions, mode="paper"),
}
readers = pytest.mark.parametrize("read", READERS.values(), ids=READERS)
asking = pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING)


def paragraph(answers=True):
    """ASKED as a paragraph of SQuAD."""
    qas = [
        {"id": name, "question": question, "answers": [{"text": text, "answer_start": start}]}
        for name, question, text, start in ASKED
    ]
    return {"context": CONTEXT, "qas": qas if answers else [{k: qa[k] for k in ("id", "question")} for qa in qas]}


def rows(**changes):
    """ASKED as rows of `datasets`."""
    return [
        {"id": n, "context": CONTEXT, "question": q, "answers": {"text": [t], "answer_start": [s]}, **changes}
        for n, q, t, s in ASKED
    ]


def mrqa(**changes):
    """ASKED as a line of MRQA whose tokens are single words, with keys of its detected answers changed."""
    words = [(word, CONTEXT.index(word)) for word in ("1874", "Ingrid", "Solheim")]
    found = {"1874": [0, 0], "Ingrid Solheim": [1, 2]}
    qas = [
        {"qid": n, "question": q, "answers": [t], "detected_answers": [
            {"text": t, "char_spans": [[s, s + len(t) - 1]], "token_spans": [found[t]], **changes}]}
        for n, q, t, s in ASKED
    ]  # fmt: skip
    return {"context": CONTEXT, "context_tokens": words, "qas": qas}


def lines(records):
    """JSON lines."""
    return "\n".join(map(json.dumps, records))


PLAIN = [{"id": n, "question": q, "context": CONTEXT, "answer": t} for n, q, t, _ in ASKED]


def table(mark, names=("id", "question", "context", "answer"), records=PLAIN):
    """PLAIN as a table."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=mark)
    writer.writerows([names, *([row.get(name, "") for name in names] for row in records)])
    return text.getvalue()


LAYOUTS = {
    "squad": json.dumps({"data": [{"title": "t", "paragraphs": [paragraph()]}]}),
    "squad indented": json.dumps({"version": "2", "data": [{"paragraphs": [paragraph()]}]}, indent=1),
    "list of articles": json.dumps([{"paragraphs": [paragraph()]}]),
    "list of paragraphs": json.dumps([paragraph()], indent=1),
    "list of paragraphs in a line": json.dumps([paragraph()]),
    "lines of paragraphs": lines([{**paragraph(), "qas": [qa]} for qa in paragraph()["qas"]]),
    "mrqa": lines([{"header": {}}, mrqa()]),
    "rows as lines": "\n" + lines(rows()),
    "rows in data": json.dumps({"version": "0.1.0", "data": rows()}),
    "rows in a list": json.dumps(rows(), indent=1),
    "answers of SQuAD in rows": lines(rows(answers=[{"text": "1874", "answer_start": 28}])[:1] + rows()[1:]),
    "plain lines": lines(PLAIN),
    "plain list": json.dumps(PLAIN),
    "table": table(","),
    "table of Excel": "\ufeff" + table(";"),
    "table with tabs": "\n" + table("\t", ("Answer", "note", "context", "question", "id"), [
        {**row, "Answer": row["answer"], "note": "x"} for row in PLAIN]),
}  # fmt: skip


@readers
@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS)
def test_a_layout_is_told_by_its_content(read, text, tmp_path):
    """
    The same questions, answers and places from every layout, in every mode.
    """
    (tmp_path / "file").write_text(text)
    found = list(read(tmp_path / "file", True))
    assert [(one.id, one.question, one.answer_text, one.answer_start) for one in found] == ASKED
    assert [(one.context, one.answers) for one in found] == [(CONTEXT, [text]) for *_, text, _ in ASKED]


@asking
@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS)
def test_questions_of_any_layout_are_asked(ask, text, tmp_path):
    """
    Their ids stay; answers are not looked at.
    """
    (tmp_path / "file").write_text(text.replace("answer_start", "start"))
    assert [(one.id, one.question, one.answers) for one in ask(tmp_path / "file")] == [(*one[:2], []) for one in ASKED]


def test_rows_without_ids_are_numbered_and_empty_lists_are_no_answer(tmp_path):
    """
    A line by its number, an entry by its place; SQuAD 2.0 in rows has empty lists.
    """
    bare = [{k: v for k, v in row.items() if k != "id"} for row in rows(answers={"text": [], "answer_start": []})]
    (tmp_path / "lines").write_text(f"\n{lines(bare)}")
    (tmp_path / "list").write_text(json.dumps(bare))
    for name, ids in (("lines", ["2", "3"]), ("list", ["1", "2"])):
        found = list(squad.read_examples(tmp_path / name, training=True))
        assert [(one.id, one.impossible, one.answer_text) for one in found] == [(id_, True, None) for id_ in ids]


# -- ids --------------------------------------------------------------------------------------------------


@readers
@pytest.mark.parametrize("layout", ["squad", "mrqa", "rows"])
def test_whole_numbers_are_ids(read, layout, tmp_path):
    """
    Read as their digits, however many.
    """
    records = {"squad": paragraph(), "mrqa": mrqa(), "rows": rows()[0]}[layout]
    for number, qa in enumerate(records.get("qas", [records])):
        qa["qid" if layout == "mrqa" else "id"] = 10**30 + number
    (tmp_path / "file").write_text(json.dumps(records))
    found = [one.id for one in read(tmp_path / "file")]
    assert found == [str(10**30 + number) for number in range(len(found))] != []


@readers
@pytest.mark.parametrize("value", [True, 1.0, None, [1], float("nan")], ids=str)
def test_other_ids_are_refused_by_name(read, value, tmp_path):
    """
    A truth value, a fraction, nothing.
    """
    record = paragraph()
    record["qas"][1]["id"] = value
    (tmp_path / "file").write_text(json.dumps({"data": [{"paragraphs": [record]}]}))
    with pytest.raises(DataError, match=r"qas\[1\]: 'id' is '.*', not a string or a whole number; correct it"):
        list(read(tmp_path / "file"))


def test_a_number_and_its_digits_are_one_id(tmp_path):
    """
    Predictions are keyed by text.
    """
    (tmp_path / "file").write_text(lines([{**rows()[0], "id": 7}, {**rows()[1], "id": "7"}]))
    with pytest.raises(DataError, match="line 2: question id '7' was used before"):
        list(squad.read_examples(tmp_path / "file"))


# -- files that cannot be used ----------------------------------------------------------------------------


@readers
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("answers", ["none", "null", "empty"])
def test_a_file_without_answers_points_to_predict(read, answers, training, tmp_path):
    """
    One line for the whole file; `[]` says so only where it is scored, for training it wants an answer.
    """
    record = paragraph(answers=False)
    for qa in record["qas"] if answers != "none" else ():
        qa["answers"] = {"null": None, "empty": []}[answers]
    (tmp_path / "file").write_text(json.dumps({"data": [{"paragraphs": [record]}]}))
    with pytest.raises(DataError) as error:
        list(read(tmp_path / "file", training))
    if answers == "empty" and training:
        assert "'answers' is empty; training needs one answer" in str(error.value)
    else:
        told = "its questions have no answers, which training and scoring need; predict --input answers them"
        assert str(error.value) == f"{tmp_path / 'file'}: {told}"


@readers
def test_bad_examples_are_told_together(read, tmp_path):
    """
    How many, then the first ten with place, value and way out; no good one comes after a bad one.
    """
    good, bad = ([{**rows()[0], "id": f"{kind}{i}"} for i in range(11)] for kind in "gb")
    for row in bad:
        row["answers"] = {"text": ["1874"], "answer_start": [3]}
    (tmp_path / "file").write_text(lines([good[0], *bad]) + "\n{broken\n" + lines(good[1:]))
    stream = read(tmp_path / "file", True)
    assert next(stream).id == "g0"
    with pytest.raises(DataErrors) as error:
        next(stream)
    head, *told = error.value.lines
    assert head == f"{tmp_path / 'file'}: 12 bad examples, the first 10:"
    assert told == [
        f"line {i}: answer '1874' is not at 3 (found ' Mar'): it is at 28; correct answer_start" for i in range(2, 12)
    ]
    assert str(error.value) == f"{head} {'; '.join(told)}"


def test_bad_questions_of_a_paragraph_are_told_apart(tmp_path):
    """
    Each has its own place; what is wrong with the context is told once.
    """
    record = paragraph()
    record["qas"][0].pop("question")
    record["qas"][1]["answers"][0]["text"] = [1874]
    (tmp_path / "file").write_text(json.dumps([record, {**paragraph(), "context": " "}, [1]]))
    with pytest.raises(DataErrors) as error:
        list(squad.read_examples(tmp_path / "file"))
    assert error.value.lines[1:] == [
        "[0], qas[0]: key 'question' is missing (found ['answers', 'id']); add it",
        "[0], qas[1]: 'text' is '[1874]', not a str; correct it",
        "[1]: 'context' is empty (' '); remove the line or give its text",
        "[2]: a record is '[1]', not a JSON object; correct it",
    ]


WRONG = {
    "other keys": ('{"q": "Who?", "c": "Ann."}', r"line 1: key 'context' is missing \(found \['c', 'q'\]\); give MRQA"),
    "a text": ('{"context": "Ann."}', r"line 1: neither 'question' nor 'qas' \(found \['context'\]\); give MRQA lines"),
    "no table": ("Frage;Text\nWho?;Ann.\n", r"line 1: neither JSON nor the columns of a table, .* 'Frage;Text'"),
    "uneven": ("question,context,answer\na,b, c,b\n", "line 2: 4 cells, the first line names 3 columns; put .* a com"),
    "quote": ('question,context,answer\na,b,b\nWho?,"Ann\nor Bo,Ann\n', "line 3: the row that begins here cannot"),
    "few": ("question,context,answer\na,b\n", "line 2: 2 cells, the first line names 3 columns; add the missing"),
    "no head": ("Who?,Ann wrote it.,Ann\n", "a table begins with a line such as question,context,answer"),
    "quoted": ('"Who?","Ann wrote it.","Ann"\n', "a table begins with a line such as question,context,answer"),
    "no answer": ("question,context,answer\nWho?,Ann.,\nWho?,Ann.,Ann\n", "line 2: there is neither 'answers' nor 'an"),
    "not there": ("question,context,answer\nWho?,Ann.,Bo\n", "line 2: answer 'Bo' cannot be looked up: its context"),
    "place": ("question,context,answer,answer_start\nWho?,Ann.,Ann,x\n", "line 2: 'answer_start' is 'x', not a int"),
    "flag": (lines(rows(is_impossible="no")[:1]), "'is_impossible' is 'no', not true or false"),
    "columns": (lines(rows(answers={"text": ["a"], "answer_start": []})[:1]), "has 1 texts, 0 answer_start; correct"),
    "no start": (lines(rows(answers={"text": ["a"]})[:1]), r"key 'answer_start' is missing \(found \['text'\]\)"),
    "number": (lines([{**PLAIN[0], "answer": 1874}]), "line 1: 'answer' is '1874', not a str"),
    "twice": (lines([{**PLAIN[0], "answer": "e"}]), r"answer 'e' is at 2, 9, 20 and 2 more; say .* \"answer_start\""),
    "nowhere": (lines([{**PLAIN[0], "answer": "1875"}]), "'1875' cannot be looked up: its context does not hold it"),
    "nothing": (lines([{**PLAIN[0], "answer": ""}]), "answer '' is empty; give its text, or mark \"is_impossible\""),
}  # fmt: skip


@readers
@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(read, text, message, tmp_path):
    """
    What was found, and which layouts are read.
    """
    (tmp_path / "file").write_text(text)
    with pytest.raises(DataError, match=message):
        list(read(tmp_path / "file", True))


def test_the_table_of_readme_is_read_and_its_message_is_true(tmp_path, monkeypatch):
    """
    Five lines, four examples; with a longer third line, the error that README shows.
    """
    readme = (datasets.PROJECT / "README.md").read_text(encoding="utf-8")
    text = re.search(r"```\n(question,context,answer\n.*?)```", readme, re.DOTALL)[1]
    shown = re.search(r"\nsplinter finetune: (questions\.csv, line 3: .*)\n", readme)[1]
    monkeypatch.chdir(tmp_path)
    Path("questions.csv").write_text(text)
    found = list(squad.read_examples("questions.csv", training=True))
    assert (text.count("\n"), [one.answer_text for one in found]) == (5, ["Ann", "1990", "Bo", "Pell"])
    longer = text.replace("it?,Ann wrote it in 1990.,1990", 'it?,"Ann wrote it in 1990, and sold it in 1990.",1990')
    Path("questions.csv").write_text(longer)
    with pytest.raises(DataError) as error:
        list(squad.read_examples("questions.csv", training=True))
    assert str(error.value) == shown


def test_a_text_of_a_table_may_hold_its_separator_and_line_ends(tmp_path):
    """
    In double quotes; a row is named by the line that it begins on, and has that number for an id.
    """
    rows = ('"Who, or ""what""?","Ann,\nAnn",Ann,5', "", "b,c,c,", " ", ",,,")
    (tmp_path / "file").write_text("\n".join(["question,context,answers,answer_start", *rows]))
    found = list(squad.read_examples(tmp_path / "file", training=True))
    assert [(one.id, one.question, one.context, one.answer_start) for one in found] == [
        ("2", 'Who, or "what"?', "Ann,\nAnn", 5), ("5", "b", "c", 0)
    ]  # fmt: skip
    assert [one.where for one in found] == [f"{tmp_path / 'file'}, line {number}" for number in (2, 5)]


@pytest.mark.parametrize("mode", data.MODES)
@pytest.mark.parametrize("layout", ["lines", "table", "document"])
def test_bad_examples_may_be_left_out(mode, layout, tmp_path):
    """
    The good ones come, before and behind; the bad ones are counted, the first ten told.
    """
    records = [{**PLAIN[0], "id": str(number), "answer": "1874" if number % 3 else "1875"} for number in range(36)]
    write = {"lines": lines, "table": lambda them: table(",", records=them), "document": json.dumps}[layout]
    (tmp_path / "file").write_text(write(records))
    bad, path = squad.Refused(leave_out=True), tmp_path / "file"
    found = data.read_examples(path, mode, training=True, refused=bad)
    assert [int(one.id) for one in found] == [number for number in range(36) if number % 3]
    head, *told = bad.lines
    assert head == f"{path}: 12 bad examples left out, the first 10:"
    assert len(told) == 10 and all("'1875' cannot be looked up" in line for line in told)


HEAD = b"question,context,answer\n"
ANY = {
    "a quote inside": (HEAD + b'"Why" he asked,Ann wrote it.,Ann\n', b"Who?,Ann wrote it.,Ann\n", "cannot be read"),
    "other bytes": (HEAD + b"Who?,Andr\xe9 wrote it.,it\n", b"Who?,Ann wrote it.,Ann\n", "not UTF-8"),
    "first line": (b'{"question": "Who?", "context": "Ann.", "answer" "Ann"}\n', lines(PLAIN).encode(), "not JSON"),
}


@pytest.mark.parametrize(("bad", "good", "message"), ANY.values(), ids=ANY)
def test_lines_that_cannot_be_read_may_be_left_out(bad, good, message, tmp_path):
    """
    What is wrong with a line does not reach the next one.
    """
    path, refused = tmp_path / "file", squad.Refused(leave_out=True)
    path.write_bytes(bad + good)
    found = list(data.read_examples(path, "hf", training=True, refused=refused))
    assert len(found) == len(good.splitlines()) - good.startswith(b"question")
    head, told = refused.lines
    assert head == f"{path}: 1 bad example left out:" and message in told
    with pytest.raises(DataError, match=message):
        list(data.read_examples(path, "hf", training=True))


@pytest.mark.parametrize("text", ["[" + " " * 200_000 + "]", "x" * 200_000, '"' + "x" * 200_000])
def test_a_first_line_of_any_length_may_be_no_table(text, tmp_path):
    """
    A whole file in one line, be it JSON or not.
    """
    (tmp_path / "file").write_text(text)
    with pytest.raises(DataError, match=r"no questions|neither JSON nor|not JSON"):
        list(squad.read_examples(tmp_path / "file"))


def test_a_file_of_bad_examples_alone_is_refused(tmp_path):
    """
    Nothing is left when they are left out.
    """
    (tmp_path / "file").write_text(lines([{**PLAIN[0], "answer": "1875"}, {**PLAIN[1], "answer": "1875"}]))
    with pytest.raises(DataErrors, match="2 bad examples"):
        list(data.read_examples(tmp_path / "file", "hf", True, refused=squad.Refused(leave_out=True)))


# -- standard input ---------------------------------------------------------------------------------------


@pytest.fixture
def typed(monkeypatch):
    """Sets standard input; returns the lines that were not read yet."""

    def typed(text):
        left = io.BytesIO(text.encode())
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=left))
        return left

    return typed


@asking
def test_a_document_may_be_piped(ask, typed):
    """
    Whole in its first line, or begun there.
    """
    for layout in ("squad", "squad indented", "list of paragraphs"):
        typed(LAYOUTS[layout])
        assert [one.id for one in ask("-")] == ["a", "b"]


@asking
def test_piped_lines_are_read_one_by_one(ask, typed):
    """
    The next line is not touched before the last one is answered, and a bad one is told at once.
    """
    left = typed(lines([{"header": {}}, mrqa(), PLAIN[0]]) + "\n{broken\n" + lines(PLAIN))
    stream = ask("-")
    for wanted in ("a", "b", "a"):
        assert next(stream).id == wanted
    with pytest.raises(DataError, match="standard input, line 4: not JSON"):
        next(stream)
    assert left.read().decode() == lines(PLAIN)


def test_a_broken_first_line_is_told_at_once(typed):
    """
    It is taken for the beginning of a document only where its end is what is missing.
    """
    left = typed('{"question": "Who\n' + lines(PLAIN))
    with pytest.raises(DataError, match="standard input, line 1: not JSON"):
        next(squad.read_examples("-", answers=False))
    assert left.read().decode() == lines(PLAIN)


# -- where an answer stands -------------------------------------------------------------------------------

LETTERS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}"), min_size=1, max_size=12)
UNITS = {
    "UTF-8 bytes": lambda text: len(text.encode()),
    "UTF-16 code units": lambda text: len(text.encode("utf-16-le")) // 2,
}


def told(text, start, context):
    """What is said of an answer that is not at `start`."""
    with pytest.raises(DataError) as error:
        squad.placed_answer([{"text": text, "answer_start": start}], context, "here")
    return str(error.value)


@settings(deadline=None, max_examples=200)
@given(before=LETTERS, inside=LETTERS, after=LETTERS, unit=st.sampled_from(list(UNITS)))
def test_a_place_in_bytes_or_code_units_is_recognised(before, inside, after, unit):
    """
    The right number in characters is named, whatever the text.
    """
    answer, start = "{" + inside + "}", UNITS[unit](before)
    if start == len(before):  # the two counts agree
        assert squad.placed_answer([{"text": answer, "answer_start": start}], before + answer, "") == (answer, start)
        return
    message = told(answer, start, before + answer + after)
    assert message.startswith(f"here: answer {answer!r} is not at {start} (found ")
    counts = f"{start} counts {unit}, " if UNITS["UTF-8 bytes"](before) != UNITS["UTF-16 code units"](before) else ""
    assert message.endswith(f"{counts}in characters it is {len(before)}; correct answer_start")


ELOISE = "\u00c9lo\u00efse"
NFC = f"Caf\u00e9 M\u00fcller: {ELOISE}, chef"
NFD = normalize("NFD", NFC)


@pytest.mark.parametrize(
    ("answer", "start", "context", "message"),
    [
        (ELOISE, 15, NFD, "it is there, but in Unicode's NFD form; save answers and contexts in one form"),
        (ELOISE, 13, NFD, "13 counts characters of its NFC form, in characters it is 15, but in Unicode's NFD"),
        ("chef", 21, NFD, "21 counts characters of its NFC form, in characters it is 25; correct answer_start"),
        ("chef", 5, "\u304c\u304f: chef", "5 counts characters of its NFD form, in characters it is 4; corr"),
        (ELOISE, 3, NFD, "it is at 15, but in Unicode's NFD form"),
        ("e", -1, "eel, tree, e", "it is at 0, 1, 7 and 2 more; correct answer_start"),
        ("aa", 9, "aaa", "(found ''): it is at 0, 1; correct answer_start"),
        ("Bo", 10**400, "Ann", "its context does not hold it; correct one of them"),
    ],
    ids=["form", "form and count", "nfc count", "nfd count", "form elsewhere", "places", "overlapping", "nowhere"],
)  # fmt: skip
def test_where_an_answer_stands(answer, start, context, message):
    """
    Another Unicode form, another count, other places, none.
    """
    assert message in told(answer, start, context)


@readers
def test_a_span_in_bytes_is_recognised(read, tmp_path):
    """
    Whether it still lies in the context or not; a span right in characters may differ from its text.
    """
    line = mrqa()
    line["context"], line["context_tokens"] = "Élo\u00efse, Zo\u00eb", [["Élo\u00efse", 0], ["Zo\u00eb", 8]]
    line["qas"] = line["qas"][:1]
    detected = line["qas"][0]["detected_answers"][0]
    detected |= {"text": "zo\u00eb", "char_spans": [[8, 10]], "token_spans": [[1, 1]]}
    path = tmp_path / "file"
    path.write_text(json.dumps(line))
    assert next(read(path, True)).answer_start == 8
    for text, span, message in (
        ("Zo\u00eb", [10, 13], r"char_spans \[10, 13\] outside .* 11 .*'Zoë': 10 counts UTF-8 bytes, .* it is 8; corr"),
        ("Zo\u00eb", [10, 10], r"char_spans \[10, 10\] hold 'ë', not 'Zoë': 10 counts UTF-8 bytes, .* it is 8; corr"),
        ("Zo\u00eb", [8, 11], r"char_spans \[8, 11\] outside .*; ends are inclusive; 'Zoë': it is at 8; correct char"),
        ("Bo", [8, 11], "'Bo': its context does not hold it"),
    ):  # fmt: skip
        detected |= {"text": text, "char_spans": [span]}
        path.write_text(json.dumps(line))
        with pytest.raises(DataError, match=message):
            list(read(path, True))


def test_tokens_outside_are_told_with_those_of_the_characters(tmp_path):
    """
    In mode paper, where they are read.
    """
    (tmp_path / "file").write_text(json.dumps(mrqa(token_spans=[[2, 3]])))
    with pytest.raises(DataErrors) as error:
        list(data.read_examples(tmp_path / "file", "paper"))
    last = "token_spans [2, 3] outside the context of 3 tokens; ends are inclusive; its char_spans [47, 60] are tokens"
    assert error.value.lines[-1] == f"line 1, qas[1]: {last} [1, 2]"


# -- hostile files ----------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
TAMPERED = [{"data": [{"paragraphs": [paragraph()]}]}, [paragraph()], {"data": rows()}, PLAIN]
TAMPERED += [mrqa(), paragraph(), rows()[0], PLAIN[0], {"header": {}}]


def tampered(draw, value):
    """The value with some of its parts replaced, dropped or doubled."""
    what = draw(st.integers(0, 30))
    if what == 0:
        return draw(VALUES)
    if isinstance(value, dict):
        return {k: tampered(draw, v) for k, v in value.items() if draw(st.integers(0, 30))}
    if isinstance(value, list):
        return [tampered(draw, v) for v in value] * (2 if what == 1 else 1)
    return value


@st.composite
def hostile(draw):
    """A file of one layout or several, tampered with."""
    records = draw(st.lists(st.sampled_from(TAMPERED), min_size=1, max_size=3))
    text = "\n".join(json.dumps(tampered(draw, record), indent=draw(st.sampled_from([None, 1]))) for record in records)
    cut = draw(st.none() | st.integers(0, len(text)))
    return text[:cut]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(text=hostile())
def test_a_hostile_file_is_read_or_told_in_a_line(text, tmp_path_factory):
    """
    Never another exception, and every line of an error is one line that begins with the file.
    """
    path = tmp_path_factory.getbasetemp() / "hostile"
    path.write_text(text)
    reads = [partial(read, path, training) for read in READERS.values() for training in (False, True)]
    reads += [partial(ask, path) for ask in ASKING.values()] + [partial(funnel.read_asked_pairs, path)]
    for read in reads:
        try:
            told = str(path) * bool(list(read()))
        except DataError as error:
            told = str(error)
        assert told.startswith(str(path)) and "\n" not in told


def test_bytes_that_are_no_text_are_not_called_empty():
    """
    What the terminal gave is there, in another encoding.
    """
    with pytest.raises(DataError, match="here: the question is not UTF-8"):
        squad.refuse_empty("\udcff\udcfe", "Ann.", "here")
