"""scripts/evidence/calibration.py: what is told of the probabilities of splinter-mini-qa, and the record of it."""

import json

import pytest
from evidence import calibration, documents, experiments

from splinter.ports.common import checkpoint
from splinter.ports.splinter import data, tasks
from splinter.ports.splinter.answering import Answer
from splinter.ports.splinter.proof import cases

FOUND = [
    {"probability": p, "right": right}
    for p, right in ((0.15, 0), (0.17, 1), (0.55, 1), (0.95, 1), (0.97, 0), (1.0, 1))
]  # fmt: skip


def test_answers_of_like_probability_are_counted_together():
    """
    Bins without an answer are left out; the error is weighed by questions; 1.0 belongs to the last bin.
    """
    found = calibration.reliability(FOUND)
    assert [(one["from"], one["questions"], one["right"]) for one in found["bins"]] == [
        (0.1, 2, 0.5), (0.5, 1, 1.0), (0.9, 3, pytest.approx(2 / 3))
    ]  # fmt: skip
    wanted = (2 * abs(0.16 - 0.5) + abs(0.55 - 1) + 3 * abs(2.92 / 3 - 2 / 3)) / 6
    assert (found["questions"], found["error"]) == (6, pytest.approx(wanted))


@pytest.mark.parametrize(
    ("least", "answered", "right", "kept"), [(0.0, 1, 4 / 6, 1), (0.55, 4 / 6, 3 / 4, 3 / 4), (0.99, 1 / 6, 1, 1 / 4)]
)
def test_a_threshold_has_its_cost(least, answered, right, kept):
    """
    Shares of the questions, of what is answered, and of what was right without it.
    """
    assert calibration.cost(FOUND, least) == pytest.approx(
        {"at": least, "answered": answered, "right": right, "kept": kept}
    )


def test_questions_without_an_answer_are_counted(tmp_path):
    """
    Only they; those whose answer is sure enough count as answered.
    """
    rows = [
        {"question": f"Who {n}?", "context": "Ann wrote it.", "answers": {"text": [], "answer_start": []}}
        for n in range(4)
    ]
    rows += [{"question": "Who?", "context": "Ann wrote it.", "answer": "Ann"}]
    (tmp_path / "file").write_text("\n".join(map(json.dumps, rows)))
    answerer = tasks.open_answerer(tasks.Settings(str(cases.tiny()), "torch", mode="paper"), n_best=1)
    sure = iter((0.2, 0.6, 0.8, 0.95))
    answerer.ask = lambda examples: (tasks.Reply(one, [Answer("Ann", next(sure), 0.0, 0, 3)], 0.0) for one in examples)
    found = calibration.measure_unanswerable(answerer, tmp_path / "file")
    assert (found["questions"], found["of"]) == (4, 4)
    assert {one["at"]: one["answered"] for one in found["thresholds"]} == {0.25: 0.75, 0.5: 0.75, 0.75: 0.5, 0.9: 0.25}


def test_no_context_is_in_both_halves(tmp_path):
    """
    And a question without an answer is wrong.
    """
    rows = [
        {"question": f"Who {n}?", "context": f"Ann wrote it in {1990 + n // 2}.", "answer": "Ann"} for n in range(16)
    ]
    (tmp_path / "file").write_text("\n".join(map(json.dumps, rows)))
    answerer = tasks.open_answerer(tasks.Settings(str(cases.tiny()), "torch", mode="paper"), n_best=1)
    found = calibration.asked(answerer, data.read_examples(tmp_path / "file", "paper"))
    halves = [one["half"] for one in found]
    assert {*halves} == {0, 1} and halves[::2] == halves[1::2]
    assert {one["right"] for one in found} <= {0, 1} and len(found) == 16
    answerer.ask = lambda examples: (tasks.Reply(one, [], 0.0) for one in examples)
    empty = calibration.asked(answerer, data.read_examples(tmp_path / "file", "paper"))
    assert {(one["answer"], one["probability"], one["right"], one["f1"]) for one in empty} == {("", 0.0, 0, 0.0)}


def test_the_record_is_of_the_checkpoint_that_is_shipped():
    """
    What a reader is shown scores as `evaluate` does, to the last digit; of the dev file there are ids and no text.
    """
    record = calibration.recorded()
    assert record["sha256"] == checkpoint.fingerprint(checkpoint.resolve("splinter-mini-qa"))
    scores = json.loads((experiments.RESULTS / "splinter-mini-qa.json").read_text(encoding="utf-8"))["scores"]["torch"]
    dev = record["dev"]
    assert (dev["questions"], dev["exact"], dev["f1"]) == (scores["total"], scores["exact"], scores["f1"])
    assert sum(half["questions"] for half in dev["halves"]) == dev["questions"]
    assert len(dev["drawn"]) == 20 and {*dev["drawn"][0]} == {"id", "probability", "right"}
    assert {one["questions"] for one in record["other"].values()} == {1000}
    readme = (documents.PROJECT / "README.md").read_text(encoding="utf-8")
    number = {1: "one", 2: "two", 3: "three"}[len(record["other"])]
    assert f"measured on that file and {number} others" in readme


def test_the_questions_on_our_own_text_are_those_of_the_file():
    """
    They can be asked again; splinter-mini-qa still gives these answers.
    """
    answerer = tasks.open_answerer(tasks.Settings("splinter-mini-qa", "torch"), n_best=1)
    found = calibration.measure_own(answerer, documents.DOCS / "questions.csv")
    recorded = calibration.recorded()["own"]
    assert [(one["question"], one["answer"], one["right"]) for one in found] == [
        (one["question"], one["answer"], one["right"]) for one in recorded
    ]
    assert [one["probability"] for one in found] == pytest.approx([one["probability"] for one in recorded], abs=1e-3)


def test_the_model_card_says_how_far_the_probabilities_are_off():
    """
    Its sentence holds for both halves.
    """
    card = documents.CARD.read_text(encoding="utf-8")
    assert "up to\n9 points; answers at 90 % and more are right nine times in ten" in card
    assert "A threshold does not tell whether the text holds an answer" in card
    both = (calibration.recorded()[name]["thresholds"] for name in ("dev", "unanswerable"))
    assert all(0.7 < none["answered"] / some["answered"] < 1 for some, none in zip(*both, strict=True))
    for half in calibration.recorded()["dev"]["halves"]:
        off = [one["probability"] - one["right"] for one in half["bins"] if one["questions"] >= 50]
        assert min(off) > -0.02 and max(off) < 0.09
        assert half["bins"][-1]["right"] == pytest.approx(0.9, abs=0.02)
