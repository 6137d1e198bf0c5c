"""`splinter mine`: the same shards however they are made, going on after a stop, what a corpus gives back."""

import errno
import functools
import json
import os
import random
import shutil
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, load_file, save

from splinter.cli import main as cli
from splinter.ports.common import UsageError
from splinter.ports.common.folders import alone
from splinter.ports.common.text import DataError
from splinter.ports.splinter import data
from splinter.ports.splinter.pretraining import corpus, mining, passages, spans
from splinter.ports.splinter.pretraining.corpus import Corpus, CorpusError, Mining
from splinter.sample import PATH

TOKENIZER = data.Tokenizer(PATH / "vocab.txt", "hf", literal=True)
SETTINGS = Mining(length=48, passes=2)
SIZE = 400  # characters of a shard
NAMES = ("Port Veldmoor", "Quillbrook", "Tarnholt", "the keeper", "Ansel Grey", "lighthouse", "clock", "clocks")
WORDS = ("runs", "waits", "in", "the", "of", "water", "and", "boat", "is", "every", "morning", "sold", "counted", "19")


def prose(documents=30):
    """Documents in which names recur; the last but one repeats nothing."""
    draw = random.Random(7)

    def line():
        return " ".join(draw.choice(NAMES if place % 3 == 0 else WORDS) for place in range(draw.randint(4, 45))) + "."

    made = ["\n".join(line() for _ in range(draw.randint(1, 11))) for _ in range(documents)]
    made[-2] = "Bread, soup; 7 keys!"
    return "\n\n".join(made) + "\n"


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(prose())
    return path


def mine(text, output, settings=SETTINGS, size=SIZE, **options):
    return mining.mine([str(text)], Path(output), TOKENIZER, settings, size=size, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A corpus and its text, to be looked at and not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "text.txt").write_text(prose())
    mine(folder / "text.txt", folder / "out")
    return folder / "out"


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(whole, tmp_path / "copy")


def read(folder, name="manifest.json"):
    return json.loads((folder / name).read_text())


def shards(folder):
    return sorted(path.name for path in folder.glob("shard-*.safetensors"))


def stopping(monkeypatch, after, error=KeyboardInterrupt):
    """Let mining stop when so many shards are made."""
    make, made = mining.make, []

    def until(job):
        if len(made) == after:
            raise error
        made.append(job.number)
        return make(job)

    monkeypatch.setattr(mining, "make", until)


def stopped(text, output, after=2):
    """A folder in which mining stopped after some shards."""
    with pytest.MonkeyPatch.context() as patch:
        stopping(patch, after)
        with pytest.raises(KeyboardInterrupt):
            mine(text, output)
    assert len(shards(output)) == after
    return output


# -- the same shards --------------------------------------------------------------------------------------


def test_a_corpus_is_a_folder_of_shards_and_a_manifest(whole):
    """
    Its files and no others; the manifest knows the settings, and each shard by size and hash.
    """
    manifest = read(whole)
    others = {"manifest.json", "statistics.json", "ngrams.txt", "vocab.txt", "tokenizer_config.json"}
    assert {path.name for path in whole.iterdir()} == others | set(shards(whole))
    assert len(manifest["shards"]) > 5
    assert manifest["mining"] == {"mode": "paper", "length": 48, "passes": 2, "seed": 12345, "lossless": True}
    for shard in manifest["shards"]:
        assert shard["bytes"] == (whole / shard["name"]).stat().st_size
        assert shard["sha256"] == corpus.sha256(whole / shard["name"])
    assert data.Tokenizer(whole, "hf").vocabulary == TOKENIZER.vocabulary


def test_two_workers_make_the_same_shards(whole, text, tmp_path):
    """
    Bit for bit, and the same statistics.
    """
    mine(text, tmp_path / "two", workers=2)
    assert read(tmp_path / "two") == read(whole)
    for name in (*shards(whole), "ngrams.txt", "statistics.json"):
        assert (tmp_path / "two" / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"length": 32}, {"passes": 1}, {"mode": "whole-word"}, {"lossless": False}]
)
def test_settings_make_another_corpus(whole, text, tmp_path, change):
    """
    Each of them reaches the shards.
    """
    mine(text, tmp_path / "out", Mining(**({"length": 48, "passes": 2} | change)))
    found, before = read(tmp_path / "out")["shards"], read(whole)["shards"]
    assert [shard["text_sha256"] for shard in found] == [shard["text_sha256"] for shard in before]
    assert [shard["sha256"] for shard in found] != [shard["sha256"] for shard in before]


def test_a_folder_that_was_removed_is_forgotten(text, tmp_path):
    """
    Mined again with other settings in the same process, it is another corpus.
    """
    mine(text, tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    mine(text, tmp_path / "out", Mining(length=16))
    assert max(len(Corpus(tmp_path / "out")[number].tokens) for number in range(9)) == 16


def test_the_ids_are_those_of_the_vocabulary(tmp_path):
    """
    Also where a piece stands twice, so that a line of the file is no id.
    """
    lines = (PATH / "vocab.txt").read_text(encoding="utf-8").splitlines()
    lines[300] = lines[200]
    (tmp_path / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tokenizer = data.Tokenizer(tmp_path / "vocab.txt", "hf", literal=True)
    mining.prepare(tmp_path / "out", tokenizer, {}, False)
    assert data.Tokenizer(tmp_path / "out", "hf").vocabulary == tokenizer.vocabulary


# -- going on ---------------------------------------------------------------------------------------------


def test_a_stopped_run_goes_on_to_the_same_corpus(whole, text, tmp_path):
    """
    Whole shards stay as they are, and only the others count as new.
    """
    out = stopped(text, tmp_path / "out")
    before = {name: (out / name).stat().st_mtime_ns for name in shards(out)}
    found = mine(text, out, resume=True)
    assert read(out) == read(whole)
    assert (out / "ngrams.txt").read_bytes() == (whole / "ngrams.txt").read_bytes()
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    assert found["new_tokens"] == sum(shard["tokens"] for shard in read(whole)["shards"][2:])
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}


@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "no record", "empty record", "cut record"])
def test_a_damaged_shard_is_made_again(whole, text, tmp_path, damage):
    """
    One byte changed, cut off, missing, or without its record, or with one that does not tell.
    """
    out = stopped(text, tmp_path / "out")
    shard = out / "shard-000001.safetensors"
    raw = shard.read_bytes()
    if damage in ("gone", "no record"):
        (shard if damage == "gone" else out / f"{shard.name}.json").unlink()
    elif damage.endswith("record"):
        (out / f"{shard.name}.json").write_text("{}" if damage == "empty record" else '{"name": ')
    else:
        shard.write_bytes(raw[:-1] if damage == "cut" else raw[:-1] + bytes([raw[-1] ^ 1]))
    found = mine(text, out, resume=True)
    assert shard.read_bytes() == raw
    assert read(out) == read(whole)
    assert found["new_tokens"] == sum(shard["tokens"] for shard in read(whole)["shards"][1:])


@pytest.mark.parametrize(
    ("settings", "message"),
    [(Mining(length=32), "length was 48, now 32; .*name another folder"), (Mining(seed=1), "seed was 12345, now 1; ")],
    ids=["length", "seed"],
)
def test_another_corpus_is_not_mixed_in(text, tmp_path, settings, message):
    """
    Settings that differ are said.
    """
    out = stopped(text, tmp_path / "out")
    with pytest.raises(CorpusError, match=message):
        mine(text, out, settings, resume=True)


@pytest.mark.parametrize(
    "change",
    [lambda text: text + "more\n", lambda text: text.replace("e", "x", 1), lambda text: text[:9] + text[20:]],
    ids=["longer", "as long", "shorter"],
)
def test_text_that_changed_since_the_stop_is_mined_anew(whole, text, tmp_path, change):
    """
    Shards whose text is another one now are made again, no others, and the corpus is that of the new text.
    """
    out = stopped(text, tmp_path / "out")
    text.write_text(change(text.read_text()))
    found = mine(text, out, resume=True)
    mine(text, tmp_path / "fresh")
    assert read(out) == read(tmp_path / "fresh") != read(whole)
    assert {name: (out / name).read_bytes() for name in shards(out)} == {
        name: (tmp_path / "fresh" / name).read_bytes() for name in shards(tmp_path / "fresh")
    }
    made = [shard["tokens"] for shard in read(out)["shards"] if shard not in read(whole)["shards"][:2]]
    assert found["new_tokens"] == sum(made)


def test_a_whole_corpus_is_not_taken_for_that_of_other_text(copy, text):
    """
    Nothing is mined again into a folder that is finished.
    """
    assert mine(text, copy, resume=True)["new_tokens"] == 0
    text.write_text(text.read_text() + "more\n")
    with pytest.raises(CorpusError, match="holds a finished corpus of other text; name another folder"):
        mine(text, copy, resume=True)


def test_another_vocabulary_is_not_mixed_in(text, tmp_path):
    """
    Ids belong to the corpus.
    """
    out = stopped(text, tmp_path / "out")
    lines = (PATH / "vocab.txt").read_text(encoding="utf-8").replace("\nboat\n", "\nboot\n")
    (tmp_path / "vocab.txt").write_text(lines, encoding="utf-8")
    other = data.Tokenizer(tmp_path / "vocab.txt", "hf", literal=True)
    with pytest.raises(CorpusError, match=r"vocabulary_sha256 was .*, now .*; name another folder"):
        mining.mine([str(text)], out, other, SETTINGS, size=SIZE, resume=True)


def test_shards_of_other_portions_are_not_mixed_in(tmp_path):
    """
    A shard made before its turn, then other portions of the text: refused, or left out; no document counts twice.
    """
    text, out = tmp_path / "text.txt", tmp_path / "out"
    text.write_text("the boat runs " * 20 + "\n\nthe clock\n\nthe keeper\n")
    make = mining.make

    def all_but_the_second(job):
        if job.number != 1:
            return make(job)
        raise KeyboardInterrupt

    def in_any_order(function, jobs, workers):
        for job in sorted(jobs, key=lambda job: job.number == 1):
            yield function(job)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mining, "make", all_but_the_second)
        patch.setattr(mining.engines, "local", in_any_order)
        with pytest.raises(KeyboardInterrupt):
            mine(text, out, size=5)
    with pytest.raises(CorpusError, match="shard_characters was 5, now 100; name another folder"):
        mine(text, out, size=100, resume=True)
    assert mine(text, out, size=5, resume=True)["documents"] == 3


def test_a_full_disk_leaves_no_half_shard(whole, text, tmp_path, monkeypatch):
    """
    The error comes through, no partial file stays, and with room again the run goes on.
    """
    out, write = tmp_path / "out", mining.write_whole

    def full(path, body, *mode):
        def half(file):
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        return write(path, half if path.name == "shard-000002.safetensors" else body, *mode)

    with monkeypatch.context() as patch:
        patch.setattr(mining, "write_whole", full)
        with pytest.raises(OSError, match="No space left") as error:
            mine(text, out)
    assert error.value.filename == str(out / "shard-000002.safetensors")
    assert shards(out) == ["shard-000000.safetensors", "shard-000001.safetensors"]
    assert not list(out.glob(".*"))
    mine(text, out, resume=True)
    assert read(out) == read(whole)


def test_an_empty_text_takes_no_shards(whole, text, tmp_path):
    """
    A pattern with a slip in it, say: what was made of the right text stays, and goes on with it.
    """
    out = stopped(text, tmp_path / "out")
    (tmp_path / "empty.txt").touch()
    with pytest.raises(
        CorpusError, match="now is empty, but the folder holds 2 shards of another text; name that text again"
    ):
        mine(tmp_path / "empty.txt", out, resume=True)
    assert mine(text, out, resume=True)["new_tokens"] == sum(one["tokens"] for one in read(whole)["shards"][2:])
    assert read(out) == read(whole)


def test_a_corpus_goes_on_with_its_own_tokenizer(text, tmp_path):
    """
    Shards of two tokenizers are no corpus; a corpus of before, which has no word of accents, had the usual settings.
    """
    out = stopped(text, tmp_path / "out")
    said = json.loads((out / "settings.json").read_text())
    (out / "settings.json").write_text(json.dumps({**said, "strip_accents": False}))
    with pytest.raises(CorpusError, match="strip_accents was False, now None; name another folder"):
        mine(text, out, resume=True)
    (out / "settings.json").write_text(json.dumps({k: v for k, v in said.items() if k not in mining.WORDS}))
    assert mine(text, out, resume=True)["passages"] > 0


@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer_config.json"])
def test_a_tokenizer_that_changed_since_the_stop_is_put_right(whole, text, tmp_path, name):
    """
    Shards that are made from there on are those of the tokenizer that is named.
    """
    out = stopped(text, tmp_path / "out")
    (out / name).write_text('{"do_lower_case": true}' if name.endswith("json") else "the\n")
    mine(text, out, resume=True)
    assert read(out) == read(whole)
    assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_a_whole_corpus_is_looked_at_before_it_is_called_whole(copy, text):
    """
    A shard that was cut off since, statistics that are gone.
    """
    (copy / "statistics.json").unlink()
    with pytest.raises(CorpusError, match=r"statistics\.json is missing from a whole corpus; mine into another folder"):
        mine(text, copy, resume=True)
    with open(copy / shards(copy)[1], "r+b") as file:
        file.truncate(100)
    with pytest.raises(CorpusError, match="bytes 100, the manifest says"):
        mine(text, copy, resume=True)


def test_what_a_kill_left_half_written_goes(whole, text, tmp_path):
    """
    Partial files of the first start, of a shard and of the manifest; shards without their settings are not touched.
    """
    names = [f".{name}.77.partial" for name in ("vocab.txt", "shard-000001.safetensors", "manifest.json")]
    out = tmp_path / "out"
    out.mkdir()
    (out / names[0]).touch()
    mine(text, out, resume=True)
    for name in names:
        (out / name).touch()
    mine(text, out, resume=True)
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}
    (out / "manifest.json").unlink()
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for resume in (True, False):
        with pytest.raises(CorpusError, match=r"holds shards, but no settings\.json"):
            mine(text, out, resume=resume)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_very_many_tiny_documents_are_spread_over_shards(tmp_path, monkeypatch):
    """
    However few characters they have.
    """
    monkeypatch.setattr(mining, "MOST_DOCUMENTS", 4)
    (tmp_path / "text.txt").write_text("the boat\n\n" * 10)
    mine(tmp_path / "text.txt", tmp_path / "out")
    assert [shard["documents"] for shard in read(tmp_path / "out")["shards"]] == [4, 4, 2]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are text")
def test_a_file_name_that_is_no_text_is_recorded(tmp_path):
    """
    As the bytes that it has.
    """
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")
    Path(path).write_text(prose())
    mine(path, tmp_path / "out")
    assert read(tmp_path / "out")["sources"][0]["name"] == Path(path).name
    assert mine(path, tmp_path / "out", resume=True)["new_tokens"] == 0


@pytest.mark.parametrize("seed", [-1, "x"])
def test_a_seed_is_a_number(copy, seed):
    """
    In a manifest as elsewhere.
    """
    manifest = read(copy)
    manifest["mining"]["seed"] = seed
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CorpusError, match=rf"seed {seed!r}: expected a whole number from 0 on"):
        Corpus(copy)


def test_a_folder_in_use_is_refused(whole, text, tmp_path):
    """
    Nothing is written over; with resume, a whole corpus has nothing left to do.
    """
    with pytest.raises(CorpusError, match="holds a whole corpus; go on with --resume, or name another folder"):
        mine(text, whole)
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    assert mine(text, whole, resume=True)["new_tokens"] == 0
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before
    out = stopped(text, tmp_path / "out")
    with pytest.raises(CorpusError, match="holds an unfinished corpus; go on with --resume, or name another folder"):
        mine(text, out)
    with pytest.raises(CorpusError, match="is unfinished; run splinter mine again with --resume"):
        Corpus(out)


def test_a_stop_at_the_very_end_can_go_on(whole, text, tmp_path, monkeypatch):
    """
    When the manifest is written and the settings are not yet removed.
    """
    unlink = Path.unlink

    def stop(path, *options, **more):
        if path.name == "settings.json":
            raise KeyboardInterrupt
        unlink(path, *options, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stop)
        with pytest.raises(KeyboardInterrupt):
            mine(text, tmp_path / "out")
    mine(text, tmp_path / "out", resume=True)
    assert read(tmp_path / "out") == read(whole)


def test_an_empty_text_is_refused(text, tmp_path):
    """
    Nothing to mine is no corpus.
    """
    text.write_text("\n \n")
    with pytest.raises(CorpusError, match="the text is empty; nothing was mined"):
        mine(text, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_fault_in_the_text_comes_through(whole, text, tmp_path):
    """
    With file and line, after the shards before it; once the line is repaired, mining goes on behind them.
    """
    good = text.read_bytes()
    text.write_bytes(good + b"\n\xff\n")
    with pytest.raises(DataError, match=r"text\.txt, line \d+: not UTF-8"):
        mine(text, tmp_path / "out")
    made = len(shards(tmp_path / "out"))
    assert made > 5
    text.write_bytes(good)
    found = mine(text, tmp_path / "out", resume=True)
    assert read(tmp_path / "out") == read(whole)
    assert found["new_tokens"] == sum(shard["tokens"] for shard in read(whole)["shards"][made:])


@pytest.mark.parametrize("length", [7, 2**15])
def test_a_passage_has_a_possible_length(length):
    """
    Room for a span, and places that 16 bits hold.
    """
    with pytest.raises(CorpusError, match=f"--length {length}: a passage has 8 to 32767 pieces"):
        Mining(length=length)


# -- A corpus ---------------------------------------------------------------------------------------------


def expected(whole):
    """(key, tokens, clusters) of every passage, straight from the text."""
    pieces = spans.Pieces(TOKENIZER.vocabulary)
    path = whole.parent / "text.txt"
    for job in mining.jobs(whole, [path], "auto", SIZE):
        for number in range(SETTINGS.passes):
            for document, segments in enumerate(passages.encode(job.documents, TOKENIZER, SETTINGS.length), job.first):
                for place, tokens in enumerate(passages.contexts(segments, TOKENIZER, SETTINGS.length, number)):
                    yield (document, number, place), tokens, spans.recurring([tokens], pieces)[0]


def test_passages_are_what_mining_found(whole):
    """
    Keys, pieces and spans, in the order of the shards, a shard's passes one after the other.
    """
    found = Corpus(whole)
    assert [tuple(found[number]) for number in range(len(found))] == list(expected(whole))
    assert {found[number].key[0] for number in range(len(found))} == set(range(30))
    for number in (-1, len(found)):
        with pytest.raises(IndexError, match=f"passage {number} of {len(found)}"):
            found[number]


def test_the_questions_of_epoch_0_are_stored(whole):
    """
    What the corpus draws for epoch 0 stands in the shards.
    """
    found, number = Corpus(whole), 0
    for name in shards(whole):
        stored = load_file(whole / name)
        bounds = stored["questions_offsets"].tolist()
        for begin, end in pairwise(bounds):
            drawn = found.masked(number, 0, TOKENIZER.question).questions
            assert drawn == [tuple(one) for one in stored["questions"][begin:end].tolist()]
            number += 1
    assert number == len(found)


def test_every_epoch_draws_its_own_questions(whole):
    """
    Others than the epoch before, the same when asked again; another passage of the same spans draws others too.
    """
    found = Corpus(whole)
    epochs = [[found.masked(number, epoch, 104).questions for number in range(len(found))] for epoch in (0, 1, 1)]
    assert epochs[0] != epochs[1] == epochs[2]
    draws = [corpus.generator(*key).randint(2**30) for key in np.eye(5, dtype=int).tolist()]
    assert len(set(draws)) == 5


def test_a_text_without_recurring_spans_is_kept(whole):
    """
    A passage of no questions and no spans: the model sees such text too.
    """
    found = Corpus(whole)
    (number,) = (n for n in range(len(found)) if found[n].key == (28, 0, 0))
    assert found[number].clusters == []
    assert TOKENIZER.pieces(found[number].tokens)[1:3] == ["Br", "##ead"]
    drawn = found.masked(number, 0, 104)
    assert (drawn.tokens, drawn.questions, set(drawn.mask)) == (found[number].tokens, [], {1})


def test_a_corpus_of_texts_without_any_span_can_be_read(tmp_path):
    """
    Arrays without elements are arrays.
    """
    (tmp_path / "text.txt").write_text("Bread, soup; 7 keys!\n")
    assert mine(tmp_path / "text.txt", tmp_path / "out")["questions"] == 0
    found = Corpus(tmp_path / "out")
    assert len(found) == 2 and found[1].clusters == []  # one of each pass


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "is missing; fetch it again, or mine into another folder"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes .*, the manifest says .*; it was cut off"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"!"), "sha256 .*, the manifest says .*; it was cut"),
    ],
    ids=["missing", "cut", "changed"],
)
def test_a_damaged_corpus_is_refused(copy, damage, message):
    """
    The shard, and what of it is wrong.
    """
    damage(copy / "shard-000003.safetensors")
    with pytest.raises(CorpusError, match=f"shard-000003.safetensors:? {message}"):
        Corpus(copy)


@pytest.mark.parametrize("more", [-1, 1])
def test_a_manifest_that_miscounts_is_refused(copy, more):
    """
    Passages beyond those of a shard would be read from somewhere else in it.
    """
    manifest = read(copy)
    manifest["shards"][3]["passages"] += more
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CorpusError, match=r"shard-000003.safetensors: passages \d+, the manifest says \d+; "):
        Corpus(copy)


def forged(folder, change, name="shard-000003.safetensors"):
    """Let a change of its bytes give another shard, which the manifest vouches for."""
    path, manifest = folder / name, read(folder)
    path.write_bytes(change(path.read_bytes()))
    entry = next(one for one in manifest["shards"] if one["name"] == name)
    entry |= {"bytes": path.stat().st_size, "sha256": corpus.sha256(path)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def column(name, place, value):
    """A change of one number in a column."""

    def change(data):
        arrays = load(data)
        arrays[name].reshape(-1)[place] = value
        return save(arrays)

    return change


def header(**changes):
    """A change of what a shard's header says of its tokens, or of its first 8 bytes, the length of the header."""

    def change(data):
        size = int.from_bytes(data[:8], "little")
        head = json.loads(data[8 : 8 + size])
        head["tokens"] |= {name: value for name, value in changes.items() if name != "size"}
        text = json.dumps(head).encode()
        return changes.get("size", len(text)).to_bytes(8, "little") + text + data[8 + size :]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", "is no shard of a corpus"),
        (lambda data: b"{}", "is no shard of a corpus"),
        (header(size=2**63), "is no shard of a corpus .a header of 9223372036854775808 bytes"),
        (header(data_offsets=[0, 10**400]), "lies outside the file"),
        (header(data_offsets=[-8, 0]), "lies outside the file"),
        (header(data_offsets=None), "is no shard of a corpus"),
        (header(dtype="I64"), "is not I32 of shape"),
        (header(shape=[10**9]), "is no shard of a corpus"),
        (header(shape=[]), "is no shard of a corpus"),
        (column("tokens", 0, 2**31 - 1), "a piece beyond the [0-9]+ of the vocabulary"),
        (column("tokens", 0, -1), "a piece beyond"),
        (column("keys", 0, -1), "a negative key"),
        (column("tokens_offsets", 0, 3), "tokens_offsets do not fit keys and tokens"),
        (column("tokens_offsets", 1, -(2**63)), "offsets that go back"),
        (column("starts", 0, -5), "a span of no piece"),
        (column("starts", 0, 2**15 - 1), "a span that ends outside its passage"),
        (column("lengths", 0, 0), "a span of no piece"),
        (column("lengths", 0, 2**15 - 1), "a span that ends outside its passage"),
    ],
)
def test_a_forged_shard_is_refused(copy, change, message):
    """
    One that the manifest vouches for, with numbers that cannot be: a line, and no traceback in the middle of a run.
    """
    forged(copy, change)
    with pytest.raises(CorpusError, match=rf"shard-000003\.safetensors.*{message}"):
        Corpus(copy)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "../vocab.txt"), ("name", "/etc/passwd"), ("name", "vocab.txt"), ("name", 3), ("bytes", -1),
        ("bytes", "1"), ("passages", 10**400), ("passages", 1.5), ("questions", -1), ("questions", True), ("sha256", 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("check", [True, False])
def test_a_forged_manifest_is_refused(copy, monkeypatch, key, value, check):
    """
    Before a file that it names is opened.
    """
    manifest = read(copy)
    manifest["shards"][3][key] = value
    (copy / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(corpus, "_mapped", None)
    with pytest.raises(CorpusError, match=r"manifest\.json is damaged \(.*\); mine again"):
        Corpus(copy, check)


@pytest.mark.parametrize("mining_of", [{"length": 48.0}, {"length": True}, {"passes": "2"}, {"seed": -1}, {"x": 1}, 5])
def test_forged_settings_are_refused(copy, mining_of):
    """
    Of another type, out of range or unknown.
    """
    manifest = read(copy)
    manifest["mining"] = manifest["mining"] | mining_of if isinstance(mining_of, dict) else mining_of
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CorpusError):
        Corpus(copy)


def test_a_pipe_in_the_place_of_a_vocabulary_is_not_waited_for(copy):
    """
    Nobody writes into it.
    """
    (copy / "vocab.txt").unlink()
    os.mkfifo(copy / "vocab.txt")
    with pytest.raises(CorpusError, match=r"vocab\.txt is not the vocabulary"):
        Corpus(copy)


def test_a_vocabulary_from_elsewhere_is_refused(copy):
    """
    It may fit the model, but not the ids of the shards.
    """
    lines = (copy / "vocab.txt").read_text(encoding="utf-8").replace("\nboat\n", "\nboot\n")
    (copy / "vocab.txt").write_text(lines, encoding="utf-8")
    with pytest.raises(CorpusError, match=r"vocab\.txt is not the vocabulary that was mined with; fetch it again"):
        Corpus(copy)


def test_without_the_check_only_sizes_are_compared(copy):
    """
    Quick to open, and blind to a changed byte.
    """
    path = copy / "shard-000003.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert len(Corpus(copy, check=False))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorpusError, match="bytes"):
        Corpus(copy, check=False)


def test_a_folder_that_is_no_corpus_is_refused(copy, tmp_path):
    """
    No manifest, one of another format, or mining not finished.
    """
    with pytest.raises(CorpusError, match=r"holds no manifest\.json; give a folder that splinter mine wrote"):
        Corpus(tmp_path)
    manifest = read(copy)
    (copy / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(CorpusError, match="has format 99, this version reads 1; mine again"):
        Corpus(copy)
    (copy / "manifest.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(CorpusError, match=r"manifest\.json is damaged \('mining'\); mine again"):
        Corpus(copy)


def test_records_are_padded_to_the_longest(whole):
    """
    Ids, masks and questions of each passage, then zeros; weights tell questions from padding.
    """
    found = Corpus(whole)
    numbers = sorted(range(len(found)), key=lambda number: len(found[number].tokens))[:: len(found) // 5]
    drawn = [found.masked(number, 3, 104) for number in numbers]
    made = corpus.records(found, numbers, 3, 104)
    tokens, most = max(len(one.tokens) for one in drawn), max(len(one.questions) for one in drawn)
    assert {name: array.shape for name, array in made.items()} == {
        "input_ids": (len(drawn), tokens),
        "attention_mask": (len(drawn), tokens),
        **dict.fromkeys(("question_positions", "start_positions", "end_positions", "weights"), (len(drawn), most)),
    }
    assert made["weights"].dtype == np.float32
    for row, one in enumerate(drawn):
        padding, asked = [0] * (tokens - len(one.tokens)), len(one.questions)
        assert made["input_ids"][row].tolist() == one.tokens + padding
        assert made["attention_mask"][row].tolist() == one.mask + padding
        assert made["weights"][row].tolist() == [1] * asked + [0] * (most - asked)
        for part, name in enumerate(("question_positions", "start_positions", "end_positions")):
            assert made[name][row].tolist() == [one[part] for one in one.questions] + [0] * (most - asked)


def test_records_without_a_question_have_one_of_no_weight(whole):
    """
    Arrays of width one: nothing in a model has to stand width zero.
    """
    found = Corpus(whole)
    (number,) = (n for n in range(len(found)) if found[n].key == (28, 0, 0))
    made = corpus.records(found, [number], 0, 104)
    assert made["weights"].tolist() == [[0]] and made["start_positions"].tolist() == [[0]]


# -- statistics -------------------------------------------------------------------------------------------


def ngrams(folder):
    lines = (folder / "ngrams.txt").read_text(encoding="utf-8").splitlines()
    return {ngram: int(count) for ngram, count in (line.split("\t") for line in lines)}


def test_statistics_add_up(whole):
    """
    Documents, passages, pieces and questions as the corpus has them, and passages by their number of questions.
    """
    found, said = Corpus(whole), read(whole, "statistics.json")
    drawn = Counter(len(found.masked(number, 0, 104).questions) for number in range(len(found)))
    assert said["passages_by_questions"] == {str(questions): drawn[questions] for questions in sorted(drawn)}
    assert said["questions"] == sum(questions * times for questions, times in drawn.items())
    assert said["tokens"] == sum(len(found[number].tokens) for number in range(len(found)))
    assert (said["documents"], said["passages"]) == (30, len(found))
    assert read(whole)["totals"] == {name: said[name] for name in ("documents", "passages", "tokens", "questions")}


def test_ngrams_are_counted_by_passage(whole):
    """
    Every span of every passage of the first pass, once each, most frequent first.
    """
    found, counted = Corpus(whole), Counter()
    for key, tokens, clusters in (found[number] for number in range(len(found))):
        if key[1] == 0:
            counted.update(" ".join(TOKENIZER.pieces(tokens[s[0] : s[0] + length])) for length, s in clusters)
    listed = ngrams(whole)
    assert listed == counted
    assert list(listed.values()) == sorted(listed.values(), reverse=True)
    assert read(whole, "statistics.json")["ngrams"] == len(listed)
    assert read(whole, "statistics.json")["ngrams_complete"] is True


def test_too_many_ngrams_forget_the_rarest(whole, text, tmp_path, monkeypatch):
    """
    Down to half of what there may be; the others keep their counts, and it is said.
    """
    monkeypatch.setattr(mining, "MOST_NGRAMS", 10)
    said = mine(text, tmp_path / "out", size=10**9)  # one shard: all of the text is counted before any is forgotten
    every, kept = ngrams(whole), ngrams(tmp_path / "out")
    least = min(kept.values())
    assert 0 < len(kept) <= 5 and len(every) > 10
    assert kept == {ngram: count for ngram, count in every.items() if count >= least}
    assert (said["ngrams"], said["ngrams_complete"]) == (len(kept), False)


def test_a_folder_with_other_things_is_left_alone(text, tmp_path):
    """
    Nothing of it is written over or removed, whatever its name.
    """
    (tmp_path / "out").mkdir()
    for name in ("vocab.txt", "shard-precious.safetensors"):
        (tmp_path / "out" / name).write_text("mine")
        with pytest.raises(CorpusError, match=f"holds {name}, no part of a corpus; name a new or an empty folder"):
            mine(text, tmp_path / "out")
        assert (tmp_path / "out" / name).read_text() == "mine"
        (tmp_path / "out" / name).unlink()


@pytest.mark.parametrize("resume", [False, True])
def test_files_of_the_user_outlive_a_corpus(text, tmp_path, resume):
    """
    In a folder that holds no corpus they are named and it is refused; in that of one under way they stay.
    """
    out = stopped(text, tmp_path / "out") if resume else tmp_path / "out"
    out.mkdir(exist_ok=True)
    for name in (".draft.7.partial", "notes.txt", "shard-notes.safetensors"):
        (out / name).write_text("mine")
    if resume:
        mine(text, out, resume=True)
    else:
        with pytest.raises(
            CorpusError, match=r"holds \.draft\.7\.partial, notes\.txt, shard-notes\.safetensors, no part of"
        ):
            mine(text, out)
    for name in (".draft.7.partial", "notes.txt", "shard-notes.safetensors"):
        assert (out / name).read_text() == "mine"


def test_two_do_not_mine_into_one_folder(text, tmp_path):
    """
    The second is refused at once, and the lock goes with the first.
    """
    with alone(tmp_path / "out"), pytest.raises(UsageError, match=r"another run is writing into .*out; wait"):
        mine(text, tmp_path / "out")
    mine(text, tmp_path / "out")
    assert not (tmp_path / "out" / ".lock").exists()


def test_the_folder_of_the_text_is_refused(text):
    """
    Its files would all be left out.
    """
    with pytest.raises(CorpusError, match="is the folder of the text itself; name another one to write to"):
        mine(text, text.parent)


def test_more_shards_than_open_files(text, tmp_path, monkeypatch):
    """
    A mapped file counts as an open one: only so many shards are mapped at a time, and all are read right.
    """
    from splinter.ports.splinter.pretraining import corpus

    mine(text, tmp_path / "out", size=1)
    found = Corpus(tmp_path / "out")
    whole = [found[number].tokens for number in range(len(found))]
    few = functools.lru_cache(3)(corpus._mapped.__wrapped__)
    monkeypatch.setattr(corpus, "_mapped", few)
    assert [found[number].tokens for number in range(len(found))] == whole
    assert (len(found.paths), few.cache_info().currsize) == (30, 3)


def test_a_folder_that_is_mined_anew_is_read_anew(text, tmp_path):
    """
    In one process, a shard of the same name with other text.
    """
    mine(text, tmp_path / "out")
    before = Corpus(tmp_path / "out")[0].tokens
    shutil.rmtree(tmp_path / "out")
    mine(text, tmp_path / "out", Mining(length=16))
    after = Corpus(tmp_path / "out")[0].tokens
    assert len(after) <= 16 < len(before)


# -- the command ------------------------------------------------------------------------------------------


@pytest.fixture
def run(capsys):
    """Run `splinter mine` in this process: (exit code, standard output, standard error)."""

    def call(*arguments):
        try:
            code = cli.main(["mine", *(str(argument) for argument in arguments)])
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def asked(text, tmp_path):
    """What every call needs."""
    return (text, "--tokenizer", PATH / "vocab.txt", "--output", tmp_path / "out", "--length", 48, "--workers", 1)


def test_the_command_mines(run, asked, whole, tmp_path):
    """
    A line about it, and the corpus; two passes as asked.
    """
    code, said, noise = run(*asked, "--passes", 2)
    found = read(tmp_path / "out", "statistics.json")
    assert (code, noise) == (0, "")
    assert said.startswith(f"{tmp_path / 'out'}: {found['passages']:,} passages of 30 documents, ")
    assert f"{found['questions']:,} questions" in said and said.count("\n") == 1
    assert found["tokens"] == read(whole, "statistics.json")["tokens"]
    assert len(Corpus(tmp_path / "out")) == found["passages"]


def test_the_command_hands_its_options_on(run, asked, tmp_path):
    """
    Mode, seed, lines that are cut, lower case.
    """
    code, _, noise = run(*asked, "--mode", "whole-word", "--seed", 3, "--cut-long-lines", "--lower-case")
    assert (code, noise) == (0, "")
    manifest = read(tmp_path / "out")
    assert manifest["mining"] == {"mode": "whole-word", "length": 48, "passes": 1, "seed": 3, "lossless": False}
    assert manifest["lower_case"] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tokenizer", "gone/vocab.txt"], "gone/vocab.txt"),
        (["--length", "4"], "--length 4: a passage has 8 to 32767 pieces"),
        (["--length", "0"], "--length: '0' is not a whole number from 1"),
        (["--mode", "hf"], "--mode: invalid choice: 'hf'"),
        (["--layout", "wiki"], "--layout: invalid choice: 'wiki'"),
        (["--layout", "jsonl"], "text.txt, line 1: not JSON"),
        (["--engine", "spark"], "--engine: invalid choice: 'spark'"),
        (["--system", "funnel"], "'--system' is not known to mine"),
        (["--output", "text.txt"], "text.txt is a file; name a folder that may be written"),
        (["--workers", 4294967295], "--workers: '4294967295' is not a whole number from 1 to 4096"),
    ],
)  # fmt: skip
def test_a_mistake_gets_one_line(run, asked, tmp_path, monkeypatch, options, message):
    """
    And exit code 2.
    """
    monkeypatch.chdir(tmp_path)
    code, said, line = run(*asked, *options)
    assert (code, said, line.count("\n")) == (2, "", 1), line
    assert message in line


def test_a_text_that_is_not_there_gets_one_line(run, asked):
    """
    The first of them that stands for nothing.
    """
    code, _, line = run("gone.txt", *asked)
    assert (code, line.count("\n")) == (2, 1)
    assert line.startswith("splinter mine: gone.txt: no such file, and no file of such a name")


def test_a_folder_in_use_gets_one_line(run, asked, text):
    """
    A second run into a whole corpus; a text that is empty.
    """
    assert run(*asked)[0] == 0
    code, _, line = run(*asked)
    assert code == 2 and "holds a whole corpus" in line
    text.write_text("\n")
    code, _, line = run(*asked, "--output", text.with_name("other"))
    assert code == 2 and line.endswith("the text is empty; nothing was mined\n")


def test_a_full_disk_is_told_with_the_way_out(run, asked, tmp_path, monkeypatch):
    """
    The file; where nothing is saved yet, there is nothing to go on with.
    """

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, line = run(*asked)
    file = tmp_path / "out" / "settings.json"
    assert (code, line) == (
        2,
        f"splinter mine: {file}: No space left on device; free some space\n",
    )


def test_an_interruption_is_told_and_can_go_on(run, asked, tmp_path):
    """
    Exit code 130 and the way out, which then works.
    """
    with pytest.MonkeyPatch.context() as patch:
        stopping(patch, 0)
        assert run(*asked) == (130, "", "splinter: interrupted; go on with --resume\n")
    code, _, line = run(*asked)
    assert code == 2 and "go on with --resume" in line
    assert run(*asked, "--resume")[0] == 0
    assert len(Corpus(tmp_path / "out"))


def test_the_help_tells_of_layouts_and_modes(run):
    """
    Each of them, and what it is.
    """
    code, text, _ = run("--help")
    assert code == 0
    for name in ("doc  ", "jsonl  ", "text  ", "paper  ", "whole-word  "):
        assert f"\n  {name}" in text
    assert "--resume" in text and "splinter mine wiki/" in text
