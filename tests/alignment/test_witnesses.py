"""Third witnesses: paddlenlp's tokenizer, SQuAD metric and schedule beside the reference and the port.

Skipped where the extra `paddlenlp` is not installed; the tox environments have it.
"""

import json

import numpy as np
import pytest

from splinter.ports.common.training import schedule as schedules
from splinter.ports.common.training.schedule import Recipe, rate
from splinter.ports.splinter import data, metric
from splinter.ports.splinter.proof import cases
from splinter.sample import PATH as SAMPLE

pytestmark = pytest.mark.audit


@pytest.fixture(scope="module")
def nlp():
    """paddlenlp, or the reason for doing without."""
    return pytest.importorskip("paddlenlp", reason="the extra 'paddlenlp' is not installed", exc_type=ImportError)


@pytest.fixture(scope="module")
def tokenizer(nlp, tmp_path_factory):
    """paddlenlp's BertTokenizer over the shipped vocabulary."""
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_bytes((SAMPLE / "vocab.txt").read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    return nlp.transformers.BertTokenizer.from_pretrained(str(folder))


def test_dev_data_pieces_agree_with_paddlenlp(tokenizer):
    """Every word of the shipped texts becomes the same pieces in paddlenlp."""
    ours = data.Tokenizer(SAMPLE / "vocab.txt", "paper")
    examples = list(data.read_examples(SAMPLE / "fewshot-dev.jsonl", "paper"))
    words = sorted({word for example in examples for word in [*example.tokens, *example.question.split()]})
    assert len(words) > 1000
    theirs = [tokenizer.convert_tokens_to_ids(tokenizer.tokenize(word)) for word in words]
    different = [w for w, a, b in zip(words, theirs, ours.encode(words), strict=True) if list(a) != list(b)]
    assert different == []


def test_dev_data_mask_stays_one_piece_in_paddlenlp(tokenizer):
    """The carrier of the question token survives paddlenlp's tokenizer as id 103."""
    assert tokenizer.convert_tokens_to_ids(tokenizer.tokenize("Who ? [MASK] ."))[-2] == data.MASK_ID


def _paddlenlp_scores(golds, predicted):
    from paddlenlp.metrics.squad import squad_evaluate

    examples = [{"id": name, "answers": {"text": texts}, "is_impossible": False} for name, texts in golds.items()]
    return squad_evaluate(examples, predicted)


def test_metric_agrees_with_paddlenlp(nlp):
    """Exact match and F1 over all hostile texts without curly quotes and dashes are paddlenlp's, to the last bit."""
    golds, predicted = cases.predictions("predictions")
    plain = [
        n
        for n, texts in golds.items()
        if texts and not set("".join([*texts, predicted[n]])) & set("\u201c\u201d\u2013")
    ]
    golds, predicted = {n: golds[n] for n in plain}, {n: predicted[n] for n in plain}
    theirs, ours = _paddlenlp_scores(golds, predicted), metric.evaluate(golds, predicted)
    assert ours["total"] > 400
    assert {n: ours[n] for n in ("exact", "f1", "total")} == {n: theirs[n] for n in ("exact", "f1", "total")}


def test_metric_of_paddlenlp_still_drops_curly_quotes(nlp):
    """A known difference: paddlenlp 2.8.1 also deletes Chinese and curly punctuation, SQuAD's metric does not."""
    golds, predicted = {"1": ["\u201cquoted\u201d"]}, {"1": "quoted"}
    assert _paddlenlp_scores(golds, predicted)["exact"] == 100.0
    assert metric.evaluate(golds, predicted)["exact"] == 0.0


@pytest.mark.parametrize("features", [17, 258, 1040])
def test_lr_agrees_with_paddlenlp(nlp, features):
    """paddlenlp's LinearDecayWithWarmup gives each update the same rate, warm-up as steps."""
    hyper = Recipe()
    plan = schedules.plan(features, hyper)
    schedule = nlp.transformers.LinearDecayWithWarmup(hyper.learning_rate, plan.total, plan.warmup)
    theirs = []
    for _ in range(plan.updates + 10):
        theirs.append(schedule.get_lr())
        schedule.step()
    ours = [rate(plan, hyper.learning_rate, k) for k in range(plan.updates + 10)]
    assert np.count_nonzero(theirs) > 150
    assert ours == theirs
