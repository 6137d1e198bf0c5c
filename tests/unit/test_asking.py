"""`splinter.answer`: one question or many from Python, with text, probability and place."""

import os
import shutil

import pytest

import splinter
from splinter.ports.common import UsageError
from splinter.ports.splinter import asking
from splinter.ports.splinter.answering import Answer
from splinter.ports.splinter.data import DataError
from splinter.ports.splinter.proof import cases
from splinter.ports.splinter.tasks import Answerer

TEXT = "The lighthouse on Tern Island was built by Ingrid Solheim in 1874."
OTHER = "The mill was built by Cornelia Dace in 1911."


@pytest.mark.parametrize("framework", ["paddle", "torch"])
def test_one_question_has_one_answer(framework):
    """
    Text, probability and place, in both frameworks, with splinter-mini-qa where no model is named.
    """
    found = splinter.answer("Who built the lighthouse?", TEXT, framework=framework)
    assert isinstance(found, Answer)
    assert (found.text, TEXT[found.start : found.end]) == ("Ingrid Solheim",) * 2
    assert 0.9 < found.probability <= 1


def test_many_questions_go_in_batches(monkeypatch):
    """
    In order, on one text or on one each, as asked one by one; the windows of all are computed together.
    """
    sizes, plain = [], Answerer.logits
    monkeypatch.setattr(Answerer, "logits", lambda self, rows: sizes.append(len(rows)) or plain(self, rows))
    asked = ["Who built the lighthouse?", "When was it built?"]
    on_one = splinter.answer(asked, TEXT, framework="torch")
    assert [one.text for one in on_one] == ["Ingrid Solheim", "1874"]
    on_each = splinter.answer(["Who built the mill?", asked[0]], (OTHER, TEXT), framework="torch")
    assert [one.text for one in on_each] == ["Cornelia Dace", "Ingrid Solheim"]
    assert sizes == [2, 2]
    alone = splinter.answer(asked[0], TEXT, framework="torch")
    assert alone.text == on_one[0].text and alone.probability == pytest.approx(on_one[0].probability, abs=1e-4)
    assert splinter.answer([], TEXT, framework="torch") == []


def test_the_model_is_opened_once():
    """
    It stays in memory for the next call.
    """
    asking._answerer.cache_clear()
    for _ in range(2):
        splinter.answer("Who?", TEXT, framework="torch")
    assert asking._answerer.cache_info()[:2] == (1, 1)  # hits, misses


def test_what_is_less_probable_is_no_answer():
    """
    None, in its place in a list.
    """
    asked = ["Who built the lighthouse?", "Why do cats purr?"]
    first, second = splinter.answer(asked, TEXT, framework="torch")
    limit = (first.probability + second.probability) / 2
    assert second.probability < limit
    assert splinter.answer(asked, TEXT, framework="torch", min_probability=limit) == [first, None]
    assert splinter.answer(asked[1], TEXT, framework="torch", min_probability=1.0) is None


def test_a_text_that_cannot_be_read_is_warned_of():
    """
    By a warning that points at the call.
    """
    with pytest.warns(UserWarning, match="the model cannot read much of the text; do not trust") as told:
        splinter.answer("Who?", "Москва является столицей России и крупнейшим городом страны.", framework="torch")
    assert told[0].filename == __file__


@pytest.mark.parametrize(
    ("question", "context", "kind", "message"),
    [
        ("Who?", [TEXT], UsageError, "one question is asked of one context"),
        (["Who?", "Why?"], [TEXT], UsageError, "2 questions and 1 contexts; give one context, or one for each"),
        (["Who?", None], TEXT, UsageError, "question 1 is 'None', not a text"),
        (None, TEXT, UsageError, "question is 'None', not a text or a list of texts"),
        (["Who?"], None, UsageError, "context is 'None', not a text or a list of texts"),
        ("Who?", " ", DataError, r"answer\(\): the context is empty \(' '\); give its text"),
        (["Who?", ""], TEXT, DataError, r"answer\(\), question 1: the question is empty"),
    ],
)
def test_what_cannot_be_asked_is_said(question, context, kind, message):
    """
    In a line, as on the command line.
    """
    with pytest.raises(kind, match=message):
        splinter.answer(question, context, framework="torch")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"framework": "pytorch"}, "framework is 'pytorch', not one of paddle, torch"),
        ({"device": "cuda"}, "device is 'cuda', not auto, cpu, gpu or gpu:NUMBER"),
        ({"min_probability": 50}, "min_probability is 50, not from 0 to 1"),
        ({"model": "nowhere"}, "nowhere is neither a folder nor a hub name"),
    ],
)
def test_a_wrong_option_is_said(option, message):
    """
    With its value and what it may be.
    """
    with pytest.raises(ValueError, match=message):
        splinter.answer("Who?", TEXT, **option)


def test_a_model_that_was_trained_again_is_opened_again(tmp_path):
    """
    New weights in the same folder are not answered for by the old ones.
    """
    folder = shutil.copytree(cases.tiny(), tmp_path / "model")
    asking._answerer.cache_clear()
    splinter.answer("Who?", TEXT, model=folder, framework="torch")
    weights = folder / "model.safetensors"
    os.utime(weights, ns=(0, weights.stat().st_mtime_ns + 1))
    splinter.answer("Who?", TEXT, model=folder, framework="torch")
    assert asking._answerer.cache_info()[:2] == (0, 2)  # hits, misses
