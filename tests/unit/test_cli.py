"""cli.py: a mistake gets one line and exit code 2; kills, pipes and interruptions end as they should."""

import contextlib
import gzip
import importlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from splinter import ports, stopping
from splinter.cli import main as cli
from splinter.cli import parser
from splinter.datasets import PROJECT
from splinter.ports.common.answers import Span
from splinter.ports.jointbert.proof import cases as jointbert_cases
from splinter.ports.splinter import answering, data, tasks
from splinter.ports.splinter.answering import Answer
from splinter.ports.splinter.proof import cases
from splinter.sample import PATH

COMMANDS = ("convert", "finetune", "evaluate", "predict", "align")
ASK = ("--question", "Who?", "--context", "Ann wrote it.")
MRQA = {
    "id": "",
    "context": "Ann wrote it.",
    "context_tokens": [["Ann", 0], ["wrote", 4], ["it", 10], [".", 12]],
    "qas": [
        {
            "id": "a",
            "question": "Who? [MASK].",
            "answers": ["Ann"],
            "detected_answers": [{"text": "Ann", "char_spans": [[0, 2]], "token_spans": [[0, 0]]}],
        }
    ],
}
GOOD = json.dumps(MRQA)


@pytest.fixture(scope="module")
def tiny():
    return str(cases.tiny())


@pytest.fixture
def model(tmp_path):
    """A copy of the embedded checkpoint, to be damaged."""
    return shutil.copytree(cases.tiny(), tmp_path / "model")


@pytest.fixture
def run(capsys):
    """Run the command line in this process: (exit code, standard output, standard error)."""

    def call(*arguments):
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def refused(run):
    """Run, see that it ends in one line and exit code 2, and return the line."""

    def call(*arguments):
        code, out, line = run(*arguments)
        assert (code, out, line.count("\n")) == (2, "", 1), line
        return line

    return call


@pytest.fixture
def typed(monkeypatch):
    """Put text or bytes on standard input."""

    def put(text):
        raw = text.encode() if isinstance(text, str) else text
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))

    return put


def started(*arguments, **options):
    """The command line as a process of its own."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    # a shell lets its background jobs ignore SIGINT, and their children inherit that
    options.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    return subprocess.Popen([sys.executable, "-m", "splinter", *map(str, arguments)], **(pipes | options))


# -- help -------------------------------------------------------------------------------------------------


def test_alone_it_explains_itself(run):
    """
    Without a command: the help, and exit code 2.
    """
    code, _, text = run()
    assert code == 2
    assert all(f"    {name}" in text for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_that_parses(run, command):
    """
    --help ends in an example, and the example is accepted by the parser.
    """
    code, text, _ = run(command, "--help")
    example = text.split("example:\n")[1].strip().splitlines()[0]
    assert code == 0
    options, _ = parser.parser().parse_known_args(shlex.split(example)[1:])
    assert options.command == command


def test_the_version_is_told(run):
    """
    `splinter --version` names the program and its version.
    """
    assert run("--version")[:2] == (0, f"splinter {parser.__version__}\n")


# -- options ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option",
    [
        "--epochs=0", "--epochs=-3", "--epochs=nan", "--epochs=1e3", "--epochs=", "--epochs=99999999999999999999",
        "--min-steps=-1", "--max-steps=-1", "--max-steps=x", "--seed=-1", "--seed=9999999999", "--save-every=0",
        "--batch-size=0", "--max-length=0", "--doc-stride=-1", "--max-query-length=0", "--learning-rate=-1",
        "--learning-rate=nan", "--learning-rate=inf", "--learning-rate=1e400", "--weight-decay=-0.1", "--warmup=1",
        "--warmup=nan", "--device=tpu", "--device=gpu:-1", "--mode=bert", "--framework=jax", "--head=none", "--output=",
    ],
)  # fmt: skip
def test_an_option_out_of_range_is_named_with_its_value(refused, tiny, option):
    """
    One line that names the option, the value and where to read more.
    """
    name, _, value = option.partition("=")
    line = refused("finetune", "--model", tiny, "--train", "x", "--output", "y", option)
    assert name in line
    assert repr(value) in line
    assert line.endswith("see splinter finetune --help\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate"], "--data, --model"),
        (["predict", "--system", "jointbert"], "--model"),
        (["predict"], "--question --input is required"),
        (["predict", "--model", "m", *ASK, "--min-probability", "1.1"], "'1.1' is not a number from 0 to 1"),
        (["predict", "--model", "m"], "--question --input is required"),
        (["predict", "--model", "m", "--question", "a"], "--question needs --context TEXT or --context-file FILE"),
        (["predict", "--model", "m", "--input", "-", "--context", "a"], "--input brings its own contexts"),
        (["predict", "--model", "m", "--input", "-", "--question", "a"], "not allowed with argument --input"),
        (["predict", "--model", "m", "--input", "no.jsonl"], "no.jsonl: no such file; give a file of questions"),
        (["predict", "--model", "m", *ASK[:2], "--context-file", "."], ".: is a folder; give a text file"),
        (["evaluate", "--model", "m", "--data", "no.json"], "no.json: no such file; give a file of questions"),
        (["evaluate", "--model", "m", "--data", ".", "--limit", "0"], "--limit: '0' is not a whole number from 1"),
        (["predict", "--model", "m", *ASK], "m is neither a folder nor a hub name such as tau/splinter-base-qass"),
        (["predict", "--model", "", *ASK], "argument --model: '' is no path"),
        (["convert", "a", "b", "c"], "'c' is not known to convert"),
        (["align", "--suite", "nowhere"], "no alignment suite here"),
        (["fly"], "invalid choice: 'fly'"),
    ],
)  # fmt: skip
def test_what_was_asked_is_checked_before_a_model_loads(refused, arguments, message):
    """
    What is missing or contradicts itself is told at once, with the way out.
    """
    assert message in refused(*arguments)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["finetun"], "(did you mean finetune?); see splinter --help"),
        (["finetune", "--epoch", "3"],
         "'--epoch' is not known to finetune (did you mean --epochs?); see splinter finetune --help"),
        (["finetune", "--system", "jointbert", "--epoch=3"],
         "is not known to finetune (did you mean --epochs?); see splinter finetune --system jointbert --help"),
        (["finetune", "--system", "jointbrt", "--crf"], "(did you mean jointbert?); see splinter finetune --help"),
        (["finetune", "--crf"], "'--crf' is not known to finetune (it goes with --system jointbert); see splinter"),
        (["predict", "--system", "funnel", "--device", "x"], "see splinter predict --system funnel --help"),
        (["finetune", "--mode", "papr", "--model", "m"], "(did you mean paper?)"),
        (["mine", "a", "--tokenzier", "b"], "(did you mean --tokenizer?); see splinter mine --help"),
        (["--no-tune"], "splinter: a command is missing; see splinter --help"),
        (["predict", "--model", "splinter-mni", *ASK], "check the path (did you mean splinter-mini?)"),
        (["finetune", "--modle", "tiny"], "(did you mean --model?)"),
    ],
)  # fmt: skip
def test_what_is_mistyped_is_told_with_what_was_meant(refused, arguments, line):
    """
    Options, systems, commands and values, with the help of the command that they were given to.
    """
    assert line in refused(*arguments)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["evaluate", "--data", "DIR/squad-dv.json"], "no such file (did you mean DIR/squad-dev.json?)"),
        (["predict", "--input", "DIR/squad-dv.json"], "no such file (did you mean DIR/squad-dev.json?)"),
        (["predict", "--model", "DIR/modell", *ASK], "check the path (did you mean DIR/model?)"),
    ],
)  # fmt: skip
def test_a_missing_file_is_told_with_the_one_that_was_meant(refused, model, tmp_path, arguments, line):
    """
    The most similar name in the same folder.
    """
    (tmp_path / "squad-dev.json").touch()
    given = [one.replace("DIR", str(tmp_path)) for one in arguments]
    assert line.replace("DIR", str(tmp_path)) in refused(*given, *(() if "--model" in given else ("--model", model)))


@pytest.mark.parametrize("how", ["architectures", "tensors"])
@pytest.mark.parametrize("command", ["predict", "convert"])
def test_a_folder_of_another_system_names_the_option(refused, tmp_path, command, how):
    """
    Told by config.json or by the tensors, before what is missing for the wrong system.
    """
    folder = shutil.copytree(jointbert_cases.tiny(), tmp_path / "jb")
    if how == "tensors":
        values = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(values | {"architectures": None}))
    asked = ("--model", folder, "book a flight") if command == "predict" else (folder, tmp_path / "out")
    line = refused(command, *asked)
    assert line.startswith(f"splinter {command}: {folder} holds a model of jointbert; add --system jointbert; ")
    refused(command, *asked, "--system", "funnel")


def test_a_window_longer_than_the_positions_is_refused(refused, tiny):
    """
    The line names the option and the number of positions.
    """
    line = refused("predict", "--model", tiny, *ASK, "--max-length", 385)
    said = "--max-length 385 is more than the 384 positions of the model; give that many or fewer"
    assert line == f"splinter predict: {said}\n"


# -- training files ---------------------------------------------------------------------------------------


def _changed(**changes):
    """The good line with keys of its only answer changed."""
    record = json.loads(GOOD)
    for key, value in changes.items():
        owner = next(
            part for part in (record, record["qas"][0], record["qas"][0]["detected_answers"][0]) if key in part
        )
        owner[key] = value
    return json.dumps(record)


BAD_TRAINING = {
    "empty": (b"", "no questions; give MRQA lines"),
    "only a header": (b'{"header": {}}\n', "no questions; give MRQA lines"),
    "bad line": (f'{GOOD}\n{{"id": \n', "line 2: not JSON (Expecting value at column"),
    "bad SQuAD": ('{"data": [\n {"paragraphs": [}\n', "line 2: not JSON"),
    "a list": ("[1]\n", "[0]: a record is '1', not a JSON object"),
    "brackets": ("[" * 100_000, "JSON that cannot be read (maximum recursion depth"),
    "digits": (f"{GOOD}\n{GOOD.replace('[[0, 2]]', '9' * 5000)}", "line 2: JSON that cannot be read"),
    "not UTF-8": (b"\xff\xfe{", "line 1: not UTF-8 text ('utf-8' codec"),
    "empty context": (_changed(context=" "), "line 1: 'context' is empty (' '); remove the line"),
    "answer outside": (_changed(char_spans=[[0, 99]]), "char_spans [0, 99] outside the context of 13 characters"),
    "endless span": (_changed(token_spans=[[0, float("inf")]]), "'token_spans' is [[0, inf]], not [[first, last]"),
    "broken offsets": (_changed(context_tokens=[["Ann", 0.5]]), "'context_tokens' are not [token, character] pairs"),
    "answers of numbers": (_changed(answers=[1]), "'answers' is '[1]', not a list of texts"),
    "an id twice": (f"{GOOD}\n{GOOD}\n", "line 2: question id 'a' was used before; make ids unique"),
    "half a character": (_changed(question="\ud800"), "'question' holds half a character"),
    "question too long": (_changed(question="why " * 99), "'a' lost its [QUESTION] token"),
    "SQuAD answer elsewhere": (
        json.dumps({"data": [{"paragraphs": [{"context": "Ann.", "qas": [
            {"id": "1", "question": "?", "answers": [{"text": "Bob", "answer_start": 0}]}]}]}]}),
        "data[0].paragraphs[0], qas[0]: answer 'Bob' is not at 0 (found 'Ann')",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BAD_TRAINING.values(), ids=BAD_TRAINING)
def test_a_bad_training_file_is_named_with_its_line(refused, tiny, tmp_path, content, message):
    """
    One line: the file, its line, the value and what to do; nothing is written.
    """
    path = tmp_path / "train.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    line = refused("finetune", "--model", tiny, "--train", path, "--output", tmp_path / "run")
    assert line.startswith(f"splinter finetune: {path}")
    assert message in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "content",
    [b"plain", gzip.compress(GOOD.encode())[:-20], gzip.compress(b"{}\n") + b"tail"],
    ids=["plain", "cut", "tail"],  # gzip stores the time: as names they would differ from worker to worker
)
def test_a_bad_gz_file_is_named(refused, tiny, tmp_path, content):
    """
    Not gzipped, cut off, or with garbage at the end.
    """
    path = tmp_path / "train.jsonl.gz"
    path.write_bytes(content)
    assert f"{path}" in refused("finetune", "--model", tiny, "--train", path, "--output", tmp_path / "run")


def test_windows_files_are_read(tmp_path):
    """
    A byte order mark and carriage returns change nothing.
    """
    (tmp_path / "plain.jsonl").write_bytes(f"{GOOD}\n".encode())
    (tmp_path / "windows.jsonl").write_bytes(f"\ufeff{GOOD}\r\n".encode())
    plain, windows = (list(data.read_examples(tmp_path / f"{n}.jsonl", "paper", True)) for n in ("plain", "windows"))
    assert plain == windows


@pytest.mark.parametrize("name", ["model", "train.jsonl"])
def test_output_never_lands_on_something_else(refused, tiny, model, tmp_path, name):
    """
    A folder with a model, or a file, is no place for a run.
    """
    train = tmp_path / "train.jsonl"
    train.write_text(GOOD)
    before = {path: path.read_bytes() for path in [train, *model.iterdir()]}
    line = refused("finetune", "--model", tiny, "--train", train, "--output", tmp_path / name)
    assert ("holds model.safetensors already" in line) == (name == "model")
    assert {path: path.read_bytes() for path in before} == before


# -- checkpoints ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", None, "config.json is missing; is"),
        ("config.json", '{"a":\n 1,}', "config.json, line 2: "),
        ("config.json", "[" * 100_000, "config.json cannot be read: maximum recursion"),
        ("config.json", b"\xff", "config.json cannot be read: 'utf-8' codec"),
        ("config.json", {"hidden_size": "64"}, "config.json: hidden_size is '64', expected int"),
        ("config.json", {"hidden_size": 61}, "config.json: hidden_size 61 is no multiple of num_attention_heads 5"),
        ("config.json", {"num_attention_heads": 0}, "config.json: num_attention_heads is 0, expected 1 or more"),
        ("config.json", {"hidden_act": "swish"}, "config.json: hidden_act 'swish' is not known"),
        ("config.json", {"layer_norm_eps": float("nan")}, "config.json: layer_norm_eps is nan"),
        ("config.json", {"hidden_dropout_prob": -1}, "config.json: hidden_dropout_prob is -1"),
        ("config.json", {"question_token_id": 10**9}, "question_token_id is 1000000000, the vocabulary ends at 2047"),
        ("config.json", {"question_token_id": 105}, "vocab.txt has the question token on line 104"),
        ("config.json", {"vocab_size": 2047}, "has shape (2048, 60), the configuration asks for (2047, 60)"),
        ("model.safetensors", None, "holds neither model.safetensors nor pytorch_model.bin"),
        ("model.safetensors", b"", "model.safetensors is not a whole safetensors file"),
        ("model.safetensors", "version https://git-lfs.github.com/spec/v1\n", "is not a whole safetensors file"),
        ("vocab.txt", None, "has no vocab.txt; add the one that the model was made with"),
        ("vocab.txt", "one\ntwo\n", "vocab.txt: lacks [PAD], [UNK]"),
        ("vocab.txt", b"\xff\n", "vocab.txt: not UTF-8 text"),
        ("tokenizer_config.json", "nonsense", "tokenizer_config.json: not JSON"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("framework", ["paddle", "torch"])
def test_a_bad_checkpoint_is_named(refused, model, framework, file, content, message):
    """
    Either framework refuses the same files with the same line.
    """
    path = model / file
    if content is None:
        path.unlink()
    elif isinstance(content, dict):
        path.write_text(json.dumps(json.loads(path.read_text()) | content))
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert message in refused("predict", "--model", model, *ASK, "--framework", framework)


# -- answers ----------------------------------------------------------------------------------------------


def test_one_question_is_answered(run, tiny):
    """
    The question, then its answers with their probability and their place; nothing is certain.
    """
    code, out, _ = run("predict", "--model", tiny, "--mode", "paper", *ASK)
    first, second = out.splitlines()[:2]
    assert (code, first) == (0, "Who?")
    assert re.fullmatch(r"  ( \d\d\.\d%|>99\.9%)  [\w. ]+  \(characters \d+-\d+\)", second)


def test_splinter_mini_qa_answers_where_no_model_is_named(run):
    """
    The first command of README.
    """
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    command, shown = re.search(r"\n(splinter predict .*?)\n```\n\n```\n(.*?)```", readme, re.DOTALL).groups()
    code, out, err = run(*shlex.split(command.replace("\\\n", ""))[1:])
    assert (code, out, err) == (0, shown, "")


def test_what_is_less_probable_is_not_shown(run):
    """
    A line says how probable the best one is; with --json there is no answer.
    """
    asked = ("predict", "--framework", "torch", "--question", "Why do cats purr?")
    asked += ("--context", "The lighthouse was built in 1874.")
    code, out, _ = run(*asked)
    best = out.splitlines()[1].split()
    assert code == 0 and best[0] != "100.0%"
    _, out, _ = run(*asked, "--min-probability", 1)
    assert out.splitlines()[1].startswith(f"  no answer: the best one has {best[0]} (")
    assert json.loads(run(*asked, "--min-probability", 1, "--json")[1]) == {"id": "1", "answers": []}


def test_how_many_are_shown_does_not_change_what_is_sure(run, tiny, monkeypatch):
    """
    A second answer with more probability does not take the place of the first.
    """
    found = [Answer("Ann", 0.2, 2.0, 0, 3), Answer("it", 0.7, 1.0, 10, 12)]
    monkeypatch.setattr(answering, "shown", lambda *given: found)
    for number in (1, 3):
        asked = ("predict", "--model", tiny, *ASK, "--n-best", number, "--min-probability", 0.5)
        assert run(*asked)[1] == "Who?\n  no answer: the best one has 20.0% (Ann)\n"


def test_bad_lines_of_standard_input_are_named(run, typed, tiny):
    """
    By the stream and the line.
    """
    typed('{"question": "Who?", "context": "Ann."}\n{"question": "Who?"}\n{"question": "Who?", "context": "Bo."}\n')
    code, out, err = run("predict", "--model", tiny, "--input", "-", "--skip-bad")
    assert (code, out.count("Who?")) == (0, 2)
    said = "splinter predict: "
    assert err.startswith(f"{said}standard input: 1 bad example left out:\n{said}line 2: key 'context' is missing")


def test_nothing_is_no_answer_of_a_hundred_percent(run, tiny, monkeypatch):
    """
    Where the search finds no span, `evaluate` scores the references' `empty`; a reader is told that there is none.
    """
    none = [Span("empty", 1.0, 0.0, 0.0, 0.0, None, None)]
    monkeypatch.setattr(tasks.Answerer, "_spans", lambda *given: none)
    assert run("predict", "--model", tiny, *ASK)[:2] == (0, "Who?\n  no answer: none was found in the text\n")


def test_a_text_that_cannot_be_read_is_warned_of_once(run, typed):
    """
    A line for each text on standard error, not for each question; ten at most.
    """
    texts = [f"Москва является столицей России и крупнейшим городом страны номер {number}." for number in range(12)]
    typed("\n".join(json.dumps({"question": q, "context": c}) for c in ["Ann.", *texts] for q in ("Who?", "When?")))
    code, out, err = run("predict", "--framework", "torch", "--input", "-")
    warned = err.splitlines()
    assert (code, out.count("Who?"), len(warned)) == (0, 13, 10)
    assert re.fullmatch(
        r"splinter predict: standard input, line 3: the model cannot read much of this text, do not trust its answers: "
        r"\d\d% of the word pieces are \[UNK\] or single letters inside of words",
        warned[0],
    )
    assert warned[-1].endswith("; no more such texts are told")


BAD_ROWS = "question,context,answer\nWho?,Ann wrote it.,Ann\nWho?,Ann wrote it.,Bo\nWho?,,Bo\nWhat?,Ann wrote it.,it\n"


def test_bad_examples_may_be_left_out(run, refused, tiny, tmp_path):
    """
    Without --skip-bad a command tells all of them and stops; with it, it tells them and goes on, and counts them.
    """
    path, output = tmp_path / "file.csv", tmp_path / "run"
    path.write_text(BAD_ROWS, encoding="utf-8")
    where = "line 3: answer 'Bo' cannot be looked up: its context does not hold it; correct one of them"
    train = ("finetune", "--model", tiny, "--train", path, "--output", output, "--max-steps", 1, "--quiet")
    code, _, err = run(*train)
    told = f"splinter finetune: {path}: 2 bad examples (--skip-bad goes on without them):"
    assert (code, err.splitlines()[0]) == (2, told)
    assert where in err and not output.exists()
    code, _, err = run(*train, "--skip-bad")
    assert code == 0 and f"{path}: 2 bad examples left out:\n{where}\n" in err
    record = json.loads((output / "training.json").read_text(encoding="utf-8"))
    assert (record["examples"], record["left_out"]) == (2, 2)
    score = ("evaluate", "--model", tiny, "--data", path)
    assert "line 4: key 'context' is missing" in refused(*score)
    found = json.loads(run(*score, "--skip-bad")[1])
    assert (found["total"], found["left_out"], len(found["bad"])) == (3, 1, 1)
    code, out, err = run("predict", "--model", tiny, "--mode", "paper", "--input", path, "--skip-bad")
    assert (code, out.count("Who?"), out.count("What?")) == (0, 2, 1)
    assert f"splinter predict: {path}: 1 bad example left out:" in err


@pytest.mark.parametrize(
    ("mode", "sizes", "why"),
    [
        ("paper", (), "lost its [QUESTION] token: it is longer than --max-query-length 64 pieces; shorten it"),
        ("paper", ("--max-query-length", 900), "leaves no room for its context in 384"),
        ("hf", (), "leaves no room for its context in 384"),
    ],
)
def test_a_question_that_is_too_long_is_a_bad_example(run, tiny, tmp_path, mode, sizes, why):
    """
    It is told with the others of its file, wherever it stands, and may be left out.
    """
    path, output = tmp_path / "file.csv", tmp_path / "run"
    rows = ["Who?,Ann wrote it.,Ann", "Who?,Ann wrote it.,Bo", f"{'why ' * 400}?,Ann wrote it.,it"]
    path.write_text("\n".join(["question,context,answer", *rows, rows[0]]), encoding="utf-8")
    model = "--model", tiny, "--mode", mode, *sizes
    train = ("finetune", *model, "--train", path, "--output", output, "--max-steps", 1, "--quiet")
    code, _, err = run(*train)
    told = f"splinter finetune: {path}: 2 bad examples (--skip-bad goes on without them):"
    assert (code, err.splitlines()[0]) == (2, told)
    assert "line 4: question '4' " in err and why in err and not output.exists()
    code, _, err = run(*train, "--skip-bad")
    assert code == 0 and f"{path}: 2 bad examples left out:\n" in err and why in err
    found = json.loads(run("evaluate", *model, "--data", path, "--skip-bad")[1])
    assert (found["total"], found["left_out"]) == (3, 1)
    code, out, err = run("predict", *model, "--input", path, "--skip-bad")
    assert (code, out.count("Who?"), out.count("why")) == (0, 3, 0) and why in err


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lines_of_any_sort_are_answered(run, typed, tiny, newline):
    """
    Unicode, a byte order mark, Windows line ends and empty lines; ids as given, else the number of the line.
    """
    lines = [
        '\ufeff{"question": "Wo?", "context": "漢字 😀 Ann é", "id": 7}',
        "",
        '{"question": "Who?", "context": "Ann"}',
        "",
    ]
    typed(newline.join(lines))
    code, out, _ = run("predict", "--model", tiny, "--mode", "paper", "--input", "-", "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert (code, [one["id"] for one in found]) == (0, ["7", "3"])
    best = found[0]["answers"][0]
    assert best["text"] in "漢字 😀 Ann é"[best["start"] : best["end"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'standard input: no questions; give lines such as {"question":'),
        ("\n \n", "standard input: no questions"),
        (b"\xff\xfe", "standard input, line 1: not UTF-8 text"),
        ('\n{"question": 1', "standard input, line 2: not JSON"),
        ('["a"]', "standard input, [0]: a record is 'a', not a JSON object"),
        ('{"question": "a"}', "line 1: key 'context' is missing (found ['question'])"),
        ('{"question": "a", "context": 5}', "line 1: 'context' is '5', not a str"),
        ('{"question": "a", "context": " \\u0000\\u200b"}', r"line 1: 'context' is empty (' \x00\u200b')"),
        ('{"question": "", "context": "a"}', "line 1: the question is empty ('')"),
        ('{"question": "a", "context": "b", "id": {}}', "line 1: 'id' is '{}', not a string or a whole number"),
        (json.dumps({"question": "why " * 99, "context": "b"}), "line 1: question '1' lost its [QUESTION] token"),
    ],
)
def test_a_bad_question_is_named_with_its_line(refused, typed, tiny, text, message):
    """
    From standard input as from a file: the line, the value, the way out.
    """
    typed(text)
    assert message in refused("predict", "--model", tiny, "--mode", "paper", "--input", "-")


def test_files_without_answers_are_predicted_and_not_scored(run, refused, tiny, tmp_path):
    """
    SQuAD without answers: ids as in the file; `evaluate` says in one line what to do.
    """
    qas = [{"id": 260 + number, "question": "Who wrote it?"} for number in range(2)]
    path = tmp_path / "file.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": "Ann wrote it.", "qas": qas}]}]}, indent=1))
    code, out, _ = run("predict", "--model", tiny, "--mode", "paper", "--input", path, "--json")
    assert (code, [json.loads(line)["id"] for line in out.splitlines()]) == (0, ["260", "261"])
    told = "its questions have no answers, which training and scoring need; predict --input answers them"
    for command in (["evaluate", "--data", path], ["finetune", "--output", tmp_path / "run", "--train", path]):
        assert refused(*command, "--model", tiny) == f"splinter {command[0]}: {path}: {told}\n"


def test_a_training_file_is_predicted(run, tiny):
    """
    MRQA lines with answers, asked as they stand.
    """
    code, out, _ = run("predict", "--model", tiny, "--input", PATH / "fewshot-dev.jsonl", "--json")
    wanted = [one.id for one in data.read_examples(PATH / "fewshot-dev.jsonl", "hf")]
    assert (code, [json.loads(line)["id"] for line in out.splitlines()]) == (0, wanted)


def test_the_context_may_come_from_a_file(run, typed, tiny, tmp_path):
    """
    Plain, gzipped or piped, it is the same text.
    """
    (tmp_path / "c.txt").write_bytes(b"\xef\xbb\xbfAnn wrote it.")
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"Ann wrote it."))
    typed("Ann wrote it.")
    ask = ("predict", "--model", tiny, "--mode", "paper", *ASK[:2], "--context-file")
    outputs = {run(*ask, name)[1] for name in (tmp_path / "c.txt", tmp_path / "c.txt.gz", "-")}
    assert outputs == {run("predict", "--model", tiny, "--mode", "paper", *ASK)[1]}


def test_scores_are_printed_as_json(run, tiny, tmp_path):
    """
    `evaluate` prints one JSON object and writes the predictions.
    """
    target = tmp_path / "p.json"
    code, out, _ = run(
        "evaluate", "--model", tiny, "--data", PATH / "squad-dev.json", "--limit", 2, "--predictions", target
    )
    assert (code, json.loads(out)["total"]) == (0, 2)
    assert len(json.loads(target.read_text(encoding="utf-8"))) == 2


def test_a_full_disk_leaves_the_old_predictions(run, tiny, tmp_path, monkeypatch):
    """
    The line names the file that the user asked for, and its old content is whole.
    """

    def full(*arguments):
        raise OSError(28, "No space left on device")

    (tmp_path / "p.json").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    asked = ("evaluate", "--model", tiny, "--data", PATH / "squad-dev.json", "--limit", 1)
    code, _, line = run(*asked, "--predictions", tmp_path / "p.json")
    assert (code, line) == (2, f"splinter evaluate: {tmp_path / 'p.json'}: No space left on device\n")
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]
    assert (tmp_path / "p.json").read_text() == "old"


def test_a_fault_of_the_program_shows_its_traceback(run, monkeypatch, tiny):
    """
    Only what is written for the user is cut to one line; a bug must be seen whole.
    """
    monkeypatch.setattr(tasks, "open_answerer", lambda *arguments: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        run("predict", "--model", tiny, *ASK)


def test_align_runs_a_suite_and_hands_on_options(tmp_path, monkeypatch, capfd):
    """
    pytest gets what align does not know, and its exit code comes back.
    """
    (tmp_path / "test_two.py").write_text("def test_good(): pass\n\ndef test_bad(): assert False\n")
    monkeypatch.chdir(tmp_path)
    folders = ["--suite", str(tmp_path), "--report", str(tmp_path / "r"), "--badges", str(tmp_path / "b")]
    assert cli.main(["align", *folders, "-k", "good", "-p", "no:cacheprovider"]) == 0
    assert "1 passed, 1 deselected" in capfd.readouterr().out
    assert cli.main(["align", *folders, "-p", "no:cacheprovider"]) == 1


# -- what a terminal would act upon, and what has no end --------------------------------------------------


EVIL = "Ann \x1b[31m\x9b2J\u202e wrote"


@pytest.mark.parametrize("json_lines", [(), ("--json",)])
def test_escape_sequences_of_a_text_are_shown_not_run(run, typed, tiny, json_lines):
    """
    In lines for a reader and in JSON, which means the same text as before.
    """
    typed(json.dumps({"question": EVIL, "context": "Ann", "id": EVIL}))
    _, out, _ = run("predict", "--model", tiny, "--input", "-", *json_lines)
    assert not set(out) & set("\x1b\x9b\u202e") and ("\\x9b" in out or "\\u009b" in out)
    assert not json_lines or json.loads(out)["id"] == EVIL


def test_a_line_of_an_error_is_short_and_harmless(refused, tiny, tmp_path):
    """
    300 characters of a file with a long, evil name and value; the way out is still there.
    """
    path = tmp_path / f"{'a' * 200}\x1b[2J.jsonl"
    path.write_text(_changed(answers=[1]).replace('"a"', '"' + "a" * 500 + '"'))
    line = refused("finetune", "--model", tiny, "--train", path, "--output", tmp_path / "run")
    assert len(line) <= 301 and "\x1b" not in line and line.startswith("splinter finetune: ")
    assert " ... " in line and line.endswith("not a list of texts; correct it\n")
    assert len(refused("finetune", "--epochs", "9" * 5000)) <= 301


@pytest.mark.parametrize("option", ["--input", "--context-file", "--data", "--train"])
@pytest.mark.parametrize("kind", ["device", "gz"])
def test_a_file_without_end_is_refused_at_the_limit(refused, tiny, tmp_path, monkeypatch, option, kind):
    """
    /dev/zero, and a .gz that unpacks to a thousand times its size; the line names the limit and how to change it.
    """
    monkeypatch.setenv("SPLINTER_MAX_BYTES", "200000")  # the configuration and the vocabulary are smaller
    path = Path("/dev/zero")
    if kind == "gz":
        path = tmp_path / "big.gz"
        path.write_bytes(gzip.compress(b"a" * 10**6))
    command = {"--data": "evaluate", "--train": "finetune"}.get(option, "predict")
    more = {"--context-file": ASK[:2], "--train": ("--output", tmp_path / "out")}.get(option, ())
    line = refused(command, "--model", tiny, option, path, *more)
    assert f"{path}: " in line and "is larger than 200,000 bytes" in line and "SPLINTER_MAX_BYTES=NUMBER" in line


def test_the_limit_counts_for_configurations_and_must_be_a_number(refused, tiny, monkeypatch):
    """
    What a checkpoint says is read whole.
    """
    monkeypatch.setenv("SPLINTER_MAX_BYTES", "100")
    assert "config.json: the file is larger than 100 bytes" in refused("predict", "--model", tiny, *ASK)
    monkeypatch.setenv("SPLINTER_MAX_BYTES", "1e9")
    assert "SPLINTER_MAX_BYTES='1e9' in the environment is not a whole" in refused("predict", "--model", tiny, *ASK)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt"])
def test_a_pipe_in_a_checkpoint_is_not_waited_for(refused, model, name):
    """
    Nobody writes into it.
    """
    (model / name).unlink()
    os.mkfifo(model / name)
    refused("predict", "--model", model, *ASK)


def test_a_pipe_of_questions_is_read_once(run, tiny, tmp_path):
    """
    As from a shell's <(...).
    """
    os.mkfifo(tmp_path / "pipe")
    asked = json.dumps({"question": "Who?", "context": "Ann wrote it."})
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=[asked])
    writer.start()
    code, out, _ = run("predict", "--model", tiny, "--input", tmp_path / "pipe", "--json")
    writer.join()
    assert (code, json.loads(out)["id"]) == (0, "1")


@pytest.mark.parametrize("content", [
    {"data": [{"paragraphs": [{"context": "\u200b", "qas": [{"id": "1", "question": "?", "answers": []}]}]}]},
    {**MRQA, "context": "\u200b \u200b"},
])  # fmt: skip
def test_a_context_without_a_piece_is_refused_in_a_file(refused, tiny, tmp_path, content):
    """
    As it is on the command line: a tokenizer reads nothing in it.
    """
    (tmp_path / "data.json").write_text(json.dumps(content))
    line = refused("evaluate", "--model", tiny, "--data", tmp_path / "data.json", "--mode", "paper")
    assert "'context' is empty" in line


# -- processes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [("predict", *ASK), ("evaluate", "--data", "sample", "--limit", "1"), ("--help",), ("--version",)]
)
def test_standard_output_may_be_closed(tiny, tmp_path, arguments):
    """
    Nobody wants the answers, which is no mistake; and no file that is opened takes the place of the output.
    """
    asked = [*arguments, *(() if arguments[0].startswith("-") else ("--model", tiny))]
    process = started(*asked, stdout=None, preexec_fn=lambda: os.close(1))
    assert (process.communicate()[1], process.returncode) == (b"", 0)


@pytest.mark.parametrize("patience", [0.1, 60])
def test_a_signal_that_gets_lost_comes_again(run, typed, tiny, monkeypatch, patience):
    """
    Swallowed once in the middle of a computation, as by C++: raised at the next answer, or after a while.
    """
    monkeypatch.setattr(stopping, "PATIENCE", patience)
    ask = tasks.Answerer.ask

    def swallowing(self, *given, **options):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        if patience < 1:
            time.sleep(30)
        yield from ask(self, *given, **options)

    monkeypatch.setattr(tasks.Answerer, "ask", swallowing)
    assert run("predict", "--model", tiny, *ASK) == (143, "", "splinter: terminated\n")


def loaded(process, library):
    """Whether a process has loaded a library."""
    return library in Path(f"/proc/{process.pid}/maps").read_text()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc to meet the moment")
@pytest.mark.parametrize(
    ("moment", "how", "times"),
    [
        ("_multiarray_umath", signal.SIGINT, 1),
        ("_multiarray_umath", signal.SIGTERM, 2),
        ("libpaddle", signal.SIGINT, 2),
        ("libpaddle", signal.SIGTERM, 1),
        ("waiting", signal.SIGINT, 1),
        ("waiting", signal.SIGTERM, 2),
    ],
)
def test_a_signal_ends_a_command_in_one_line(tiny, moment, how, times):
    """
    While it imports, while it loads a model, while it waits for a question: the line, the code, no hint.
    """
    process = started("predict", "--model", tiny, "--input", "-", "--json")
    if moment == "waiting":
        process.stdin.write(json.dumps({"question": "Who?", "context": "Ann."}).encode() + b"\n")
        process.stdin.flush()
        process.stdout.readline()
    else:
        while process.poll() is None and not loaded(process, moment):
            time.sleep(0.001)
    for _ in range(times):
        process.send_signal(how)
    _, err = process.communicate(timeout=60)
    word = {signal.SIGINT: b"interrupted", signal.SIGTERM: b"terminated"}[how]
    assert (process.returncode, err) == (128 + how, b"splinter: " + word + b"\n")


def test_a_process_converts(tiny, tmp_path):
    """
    `python -m splinter convert` says one line on standard output and nothing else.
    """
    process = started("convert", tiny, tmp_path / "new")
    out, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert out.decode() == f"{tmp_path / 'new'}: 55 tensors, 225,524 numbers, mode hf, pretrained head\n"


def test_a_stream_is_answered_line_by_line_and_may_lose_its_reader(tiny):
    """
    Each line is answered before the next is sent; when the reader leaves, the process ends in silence.
    """
    process = started("predict", "--model", tiny, "--input", "-", "--json")
    line = json.dumps({"question": "Who?", "context": "Ann wrote it."}).encode() + b"\n"
    for number in ("1", "2"):
        process.stdin.write(line)
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == number
    process.stdout.close()
    process.stdin.write(line)
    process.stdin.close()
    assert (process.wait(60), process.stderr.read()) == (0, b"")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda how: how.name)
def test_a_stopped_run_goes_on_to_the_same_bits(run, tiny, tmp_path, how):
    """
    Stopped anywhere, --resume ends in the bits of the run that nobody stopped.
    """
    (tmp_path / "train.jsonl").write_text(GOOD)
    recipe = ("--max-steps", 40, "--save-every", 6, "--max-length", 32, "--learning-rate", "1e-3", "--quiet")
    asked = ("finetune", "--model", tiny, "--train", tmp_path / "train.jsonl", *recipe, "--output")
    assert run(*asked, tmp_path / "whole")[0] == 0
    process = started(*asked, tmp_path / "run", "--resume")
    log = tmp_path / "run" / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= 8):
        time.sleep(0.005)
    process.send_signal(how)
    _, err = process.communicate()
    assert process.returncode == {signal.SIGKILL: -9}.get(how, 128 + how), err
    said = {signal.SIGINT: b"splinter: interrupted", signal.SIGTERM: b"splinter: terminated"}
    assert err.splitlines()[1:] == ([said[how] + b"; go on with --resume"] if how in said else [])
    assert run(*asked, tmp_path / "run", "--resume")[0] == 0
    files = ("model.safetensors", "config.json", "vocab.txt")
    assert all((tmp_path / "run" / f).read_bytes() == (tmp_path / "whole" / f).read_bytes() for f in files)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == sorted(
        p.name for p in (tmp_path / "whole").iterdir()
    )


def test_align_without_its_extra_says_what_to_install(monkeypatch, capsys):
    """
    The core installation has no torch: one line, not a traceback.
    """
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["align"]) == 2
    assert "pip install -e '.[align]'" in capsys.readouterr().err


@pytest.mark.parametrize("written", [None, '{"schema": 1, "environment": {}, "results": []}'])
def test_align_without_a_test_leaves_the_last_report(tmp_path, monkeypatch, capsys, written):
    """
    With -k mistyped, say; pytest's exit code comes back, and nothing is reported.
    """
    (tmp_path / "alignment.json").write_text("the last")

    def called(command):
        file = next(one.partition("=")[2] for one in command if one.startswith("--align-json="))
        if written:
            Path(file).write_text(written)
        return 5

    monkeypatch.setattr(subprocess, "call", called)
    suite = Path(__file__).parents[1] / "alignment"
    arguments = ["align", "--suite", str(suite), "--report", str(tmp_path), "--badges", str(tmp_path / "b")]
    assert cli.main([*arguments, "-k", "typo"]) == 5
    assert "report:" not in capsys.readouterr().out
    assert (tmp_path / "alignment.json").read_text() == "the last"
    assert [path.name for path in tmp_path.iterdir()] == ["alignment.json"]


def test_two_proofs_do_not_write_into_one_report(tmp_path, capsys):
    """
    The second one is refused before a test runs.
    """
    suite = Path(__file__).parents[1] / "alignment"
    with FileLock(tmp_path / ".lock"):
        assert (
            cli.main(["align", "--suite", str(suite), "--report", str(tmp_path), "--badges", str(tmp_path / "b")]) == 2
        )
    assert f"another run is writing into {tmp_path}; wait for it" in capsys.readouterr().err


@pytest.mark.parametrize("system", ports.SYSTEMS)
def test_scores_are_printed_for_readers(system, monkeypatch, capsys):
    """
    55.00000000000001 is 55.0; a threshold, which decides between equal scores, keeps its digits.
    """
    found = {"f1": 55.00000000000001, "best_f1_thresh": 0.12345678901234, "total": 3, "mean": None}
    monkeypatch.setattr(importlib.import_module(f"splinter.ports.{system}.tasks"), "evaluate", lambda *a: found)
    assert cli.main(["evaluate", "--system", system, "--model", "m", "--data", "d"]) == 0
    assert json.loads(capsys.readouterr().out) == {**found, "f1": 55.0}


def test_a_signal_ends_its_own_command_alone():
    """
    What runs next in the process, in a notebook, say, was not interrupted; while the command runs it still is.
    """

    def command():
        with stopping.raised():
            with contextlib.suppress(stopping.Stopped):  # as Paddle's C++ may lose it
                signal.raise_signal(signal.SIGINT)
            stopping.check()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background may ignore it
    try:
        with pytest.raises(stopping.Stopped):
            command()
    finally:
        signal.signal(signal.SIGINT, before)
    assert stopping.heard() == signal.SIGINT
    stopping.check()
