"""The checkpoints in the package: splinter-mini is the one that was scored, and everybody opens them."""

import json

import numpy as np
import paddle
import pytest
import torch
from transformers import AutoTokenizer, SplinterForQuestionAnswering

from splinter import experiments
from splinter.ports.common import checkpoint
from splinter.ports.splinter import data, model, tasks
from splinter.ports.splinter.data import Tokenizer

FOLDER = checkpoint.resolve("splinter-mini")
LIGHTHOUSE = "The lighthouse on Tern Island was built by Ingrid Solheim in 1874."
TEXT = ["When was the lamp lit?", "The lamp was lit in 1874, and the lamp went out in 1964."]


def test_it_is_the_checkpoint_that_was_scored():
    """
    The record of its pretraining names the file, and the model card has the figures of each run and of the score.
    """
    record = json.loads((experiments.RESULTS / "splinter-mini.json").read_text(encoding="utf-8"))
    assert checkpoint.fingerprint(FOLDER) == record["sha256"]
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in ("start", "end", "both", "span"):
        assert f"{record['held out'][name]:.1%}".replace("%", " %") in card
    assert f"{record['held out']['questions']:,} questions" in card
    for run in record["runs"]:
        assert f"| {run['passages']:,} | {run['updates']:,} | {run['recipe']['learning_rate']:g} |" in card
    assert f"{sum(run['updates'] for run in record['runs']):,} updates" in card


def test_few_shot_runs_began_from_it():
    """
    Scores that are told of splinter-mini are those of the file that is shipped.
    """
    shipped, seen = checkpoint.fingerprint(FOLDER), 0
    for name in ("few-shot-noise-128", *(f"few-shot-mini-{size}" for size in experiments.SIZES)):
        for run in experiments.read(name)["runs"]:
            assert run["trainings"]["train"]["start_sha256"] == shipped, f"{name}: {run['framework']} {run['seed']}"
            seen += 1
    assert seen > 10


def test_paddle_and_transformers_answer_alike():
    """
    By name in Paddle, as a folder in transformers: the same logits to float32's rounding.
    """
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    given = tokenizer(*TEXT, return_tensors="np")
    assert (given["input_ids"] == tokenizer.convert_tokens_to_ids("[QUESTION]")).sum() == 1
    theirs = SplinterForQuestionAnswering.from_pretrained(FOLDER).eval()
    with torch.no_grad():
        found = theirs(**{name: torch.tensor(array) for name, array in given.items()})
    ours = model.SplinterForQuestionAnswering.from_pretrained("splinter-mini")
    names = ("input_ids", "attention_mask", "token_type_ids")
    for theirs_logits, ours_logits in zip(
        (found.start_logits, found.end_logits),
        ours(*(paddle.to_tensor(given[name]) for name in names)),
        strict=True,
    ):
        scale = theirs_logits.abs().max().item()
        np.testing.assert_allclose(ours_logits.numpy(), theirs_logits.numpy(), rtol=0, atol=1e-5 * scale)


def test_its_pieces_are_those_of_transformers():
    """
    Lower-cased, with [QUESTION] on its line.
    """
    words = ["The", "QUICK", "brown-fox,", "naïve", "42!"]
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    theirs = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    assert [list(ids) for ids in Tokenizer(FOLDER, "hf").encode(words)] == theirs


def test_segments_make_no_difference():
    """
    Pretraining knew none: both rows of the embedding are equal.
    """
    rows = checkpoint.open_weights(FOLDER)["splinter.embeddings.token_type_embeddings.weight"]
    assert rows.shape[0] == 2 and np.array_equal(rows[0], rows[1])


@pytest.mark.parametrize("framework", ["paddle", "torch"])
def test_the_fine_tuned_one_answers_at_once(framework):
    """
    By name, in both frameworks: an answer to a question, with its place in the text.
    """
    answerer = tasks.open_answerer(tasks.Settings("splinter-mini-qa", framework))
    asked = data.example("1", "Who built the lighthouse?", LIGHTHOUSE, answerer.config.mode, "here")
    ((_, spans),) = answerer.answers([asked])
    assert (spans[0].text, spans[0].start_char, spans[0].end_char) == ("Ingrid Solheim", 43, 57)
    assert spans[0].probability > 0.9


def test_the_fine_tuned_one_is_the_checkpoint_that_was_scored():
    """
    The record names the file and what it began from; both frameworks have the scores that the model card tells.
    """
    record = json.loads((experiments.RESULTS / "splinter-mini-qa.json").read_text(encoding="utf-8"))
    folder = checkpoint.resolve("splinter-mini-qa")
    assert record["sha256"] == checkpoint.fingerprint(folder)
    assert record["run"]["start_sha256"] == checkpoint.fingerprint(FOLDER)
    paddle_scores, torch_scores = (record["scores"][name] for name in ("paddle", "torch"))
    assert [paddle_scores[key] for key in ("exact", "f1")] == [torch_scores[key] for key in ("exact", "f1")]
    card = " ".join((folder / "README.md").read_text(encoding="utf-8").split())
    held_out = record["run"]["best"]["scores"]
    for scores in (paddle_scores, held_out):
        assert f"exact {scores['exact']:.2f}, F1 {scores['f1']:.2f}" in card
    for number in (paddle_scores["total"], held_out["total"], record["run"]["examples"], record["run"]["updates"]):
        assert f"{number:,}" in card
