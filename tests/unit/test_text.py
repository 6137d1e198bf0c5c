"""A tokenizer's settings are read as transformers reads them, or refused by name."""

import itertools
import json
import os
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    BertTokenizerFast,
    FunnelTokenizerFast,
    SplinterTokenizerFast,
)

from splinter.ports.common.text import VocabularyError, WordPieces, vocabulary_lines
from splinter.ports.funnel import data as funnel
from splinter.ports.splinter import data as splinter
from splinter.sample import PATH

CASES = [
    dict(zip(("do_lower_case", "strip_accents", "tokenize_chinese_chars"), values, strict=True))
    for values in itertools.product((True, False), (None, True, False), (True, False))
]
PAGE = [
    "Der Zug fährt schön nach München 東京",
    "ΣΊΣΥΦΟΣ İstanbul ǅ ﬁn",
    "[SEP] [CLS]x[PAD] [MASK]. [QUESTION] [UNK]",
    "a\u0301b\u200bc\ufffd\u00a0d\u2028e\tf\ng\rh\x00i\x9b",
    "$5^6 `x~ don't U.S.A. 3,000 100% ①",
    "[SE\u200bP] [sep] ##ed ## #",
    "x" * 101 + " end",
    "\U0002b740\U0001f600 カタカナ 한국어",
    "",
    " \u3000",
]
HOSTILE = st.text(
    st.one_of(st.sampled_from("aAbéÉßİΣς東京.$[]# \u0301\u200b\u00a0\ufffd\t\n"), st.characters(codec="utf-8")),
    max_size=40,
)


def folder_of(path, config=None, lines=None, **files):
    """A folder with a vocabulary and files of settings, which are JSON values."""
    path.mkdir(exist_ok=True)
    text = (PATH / "vocab.txt").read_text(encoding="utf-8") if lines is None else "".join(f"{one}\n" for one in lines)
    (path / "vocab.txt").write_text(text, encoding="utf-8")
    for name, values in {"tokenizer_config": config, **files}.items():
        if values is not None:
            (path / f"{name}.json").write_text(json.dumps(values), encoding="utf-8")
    return path


def sides(folder):
    """(ours, theirs) of each way in which the four systems read a folder; theirs: texts -> ids."""
    slow, fast = BertTokenizer.from_pretrained(folder), BertTokenizerFast.from_pretrained(folder)
    question = SplinterTokenizerFast.from_pretrained(folder)

    def python(texts):
        return [slow.convert_tokens_to_ids(slow.tokenize(text)) for text in texts]

    def rust(tokenizer):
        return lambda texts: tokenizer(texts, add_special_tokens=False)["input_ids"]

    return [
        (WordPieces(folder, python=True), python),  # JointBERT and the multi-task model
        (splinter.Tokenizer(folder, "paper"), python),
        (splinter.Tokenizer(folder, "hf"), rust(question)),
        (WordPieces(folder), rust(fast)),
    ]


@pytest.mark.parametrize("config", [None, *CASES], ids=lambda one: "-".join(map(str, (one or {"none": ""}).values())))
def test_pieces_are_those_of_transformers(config, tmp_path):
    """
    Every combination of settings, and no settings at all, over a page of hostile text and what hypothesis finds.
    """
    pairs = sides(folder_of(tmp_path, config))

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(HOSTILE, min_size=1, max_size=3))
    def same(texts):
        for ours, theirs in pairs:
            assert ours.encode(texts) == theirs(texts)

    for ours, theirs in pairs:
        assert ours.encode(PAGE) == theirs(PAGE)
    same()


@pytest.mark.parametrize("config", [None, *CASES[::5]], ids=str)
def test_funnel_reads_the_same_settings(config, tmp_path):
    """
    Under its own names of the special tokens.
    """
    folder = folder_of(tmp_path, config)
    funnel.write_vocabulary(PATH / "vocab.txt", folder / "vocab.txt")
    theirs = FunnelTokenizerFast.from_pretrained(folder)(PAGE, add_special_tokens=False)["input_ids"]
    assert funnel.Tokenizer(folder).encode(PAGE) == theirs


def test_what_transformers_saves_is_read(tmp_path):
    """
    All files of a BertTokenizer and its fast twin; with tokenizer.json alone the pieces are the same.
    """
    folder = folder_of(tmp_path / "one", {"do_lower_case": False, "strip_accents": True})
    BertTokenizerFast.from_pretrained(folder).save_pretrained(tmp_path / "two")
    BertTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "three")
    expected = WordPieces(folder).encode(PAGE)
    assert WordPieces(tmp_path / "two").encode(PAGE) == WordPieces(tmp_path / "three").encode(PAGE) == expected
    (tmp_path / "two" / "vocab.txt").unlink()
    assert WordPieces(tmp_path / "two").encode(PAGE) == expected
    assert AutoTokenizer.from_pretrained(tmp_path / "two")(PAGE, add_special_tokens=False)["input_ids"] == expected
    (tmp_path / "two" / "tokenizer_config.json").unlink()
    with pytest.raises(VocabularyError, match=r"tokenizer\.json: strip_accents of the normalizer is 'True', expected"):
        WordPieces(tmp_path / "two")


def test_a_lone_tokenizer_file_is_read_whole_or_refused(tmp_path):
    """
    A token that was added to it is a piece of its own in transformers; a vocabulary with gaps is no vocabulary.
    """
    BertTokenizerFast.from_pretrained(folder_of(tmp_path / "one")).save_pretrained(tmp_path / "two")
    path = tmp_path / "two" / "tokenizer.json"
    (tmp_path / "two" / "vocab.txt").unlink()
    plain = json.loads(path.read_text(encoding="utf-8"))
    entity = {**plain["added_tokens"][0], "id": 2048, "content": "<ent>"}
    path.write_text(json.dumps({**plain, "added_tokens": [*plain["added_tokens"], entity]}), encoding="utf-8")
    with pytest.raises(VocabularyError, match="'<ent>' was added to the tokenizer, which is not supported"):
        WordPieces(tmp_path / "two")
    for vocab in ({"a": [1], "b": ["x"]}, {"a": 0, "b": 2}, {"a": 0, "b": 0}):
        path.write_text(json.dumps({**plain, "model": {**plain["model"], "vocab": vocab}}), encoding="utf-8")
        with pytest.raises(VocabularyError, match="does not count its pieces from 0 without gaps"):
            WordPieces(tmp_path / "two")


def test_ends_of_lines_are_no_part_of_a_piece(tmp_path):
    """
    A vocabulary that Windows saved has the same pieces, for transformers as for us.
    """
    folder = folder_of(tmp_path)
    plain = WordPieces(folder).encode(PAGE)
    (folder / "vocab.txt").write_bytes((PATH / "vocab.txt").read_bytes().replace(b"\n", b"\r\n"))
    assert WordPieces(folder).encode(PAGE) == plain
    assert vocabulary_lines(folder) == vocabulary_lines(PATH / "vocab.txt")
    funnel.write_vocabulary(folder / "vocab.txt", tmp_path / "funnel.txt")
    assert b"\r" not in (tmp_path / "funnel.txt").read_bytes()


WARFARIN = {"content": "warfarin", "special": False}
REFUSED = {
    "added_tokens.json": ({"added_tokens": {"warfarin": 2048}}, "'warfarin' is not a special token"),
    "added_tokens_decoder": ({"tokenizer_config": {"added_tokens_decoder": {"2048": WARFARIN}}}, "'warfarin' is not a"),
    "another special token": ({"tokenizer_config": {"unk_token": "<unk>"}}, "'<unk>' is not a special token"),
    "special_tokens_map.json": ({"special_tokens_map": {"sep_token": {"content": "</s>"}}}, "'</s>' is not a special"),
    "additional_special_tokens": (
        {"tokenizer_config": {"additional_special_tokens": ["[ENT]"]}},
        r"'\[ENT\]' is not a",
    ),
    "moved special token": (
        {"tokenizer_config": {"added_tokens_decoder": {"7": {"content": "[SEP]"}}}},
        "is not a special token",
    ),
    "no list": ({"tokenizer_config": {"additional_special_tokens": 5}}, "are '5', expected a list"),
    "no number": (
        {"tokenizer_config": {"added_tokens_decoder": {"²": {"content": "[SEP]"}}}},
        "is not a special token",
    ),
    "class": ({"tokenizer_config": {"tokenizer_class": "BertJapaneseTokenizer"}}, "tokenizer_class is 'BertJapanese"),
    "string": ({"tokenizer_config": {"do_lower_case": "false"}}, "do_lower_case is 'false', expected true or false"),
    "number": ({"tokenizer_config": {"strip_accents": 1}}, "strip_accents is '1', expected true or false"),
    "null": ({"tokenizer_config": {"tokenize_chinese_chars": None}}, "tokenize_chinese_chars is 'None', expected"),
    "do_basic_tokenize": ({"tokenizer_config": {"do_basic_tokenize": False}}, "do_basic_tokenize is False, only true"),
    "never_split": ({"tokenizer_config": {"never_split": ["a"]}}, "never_split is .'a'., only null is supported"),
    "split_special_tokens": ({"tokenizer_config": {"split_special_tokens": True}}, "split_special_tokens is True"),
    "padding_side": ({"tokenizer_config": {"padding_side": "left"}}, 'padding_side is left, only "right" is supported'),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_is_refused_by_name(name, tmp_path):
    """
    A setting that would give other pieces than transformers gives.
    """
    files, message = REFUSED[name]
    folder = folder_of(tmp_path, files.pop("tokenizer_config", None), **files)
    for read in (WordPieces, lambda one: splinter.Tokenizer(one, "hf"), lambda one: splinter.Tokenizer(one, "paper")):
        with pytest.raises(VocabularyError, match=message):
            read(folder)


@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer_config.json", "added_tokens.json"])
def test_a_pipe_is_not_waited_for(name, tmp_path):
    """
    Nor passed over, as if the file were not there.
    """
    folder = folder_of(tmp_path)
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(VocabularyError, match=rf"{name}.* (is no file|expected a file)"):
        WordPieces(folder)


def test_a_folder_without_vocabulary_says_what_to_add(tmp_path):
    """
    The folder is named, not a file that nobody asked for.
    """
    with pytest.raises(VocabularyError, match=r"has no vocab\.txt; add the one that the model was made with"):
        WordPieces(tmp_path)
    shutil.copyfile(PATH / "vocab.txt", tmp_path / "other.txt")
    assert not WordPieces(tmp_path / "other.txt", bare_lower_case=False).basic.lower_case
