"""What Paddle writes, opened by transformers' Auto classes, version 4 or 5: our ids, our segments, our logits.

`tox -e align5` runs this file against transformers 5.
"""

import importlib
import json

import numpy as np
import paddle
import pytest
import torch
from transformers import AutoModel, AutoModelForQuestionAnswering, AutoModelForSequenceClassification, AutoTokenizer

from splinter.ports import proofs
from splinter.ports.common.checkpoint import resolve
from splinter.ports.common.proof import ReferenceGone
from splinter.ports.common.proof.theirs import removed_in_5

QUESTIONS = ["Who built the lighthouse?", "Wer fährt nach München 東京?", "What is [MASK] 24–10, Straße ﬁne ½"]
CONTEXT = "The lighthouse was built by Ingrid Solheim in 1874. It is 41 metres high; café naïve Ａ１ $5."
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
WRITTEN = {  # name -> (system, its checkpoint or the name of a shipped one, options of convert, class of transformers)
    "splinter": ("splinter", "tiny", {}, AutoModelForQuestionAnswering),
    "splinter-mini": ("splinter", "splinter-mini", None, AutoModelForQuestionAnswering),
    "splinter-mini-qa": ("splinter", "splinter-mini-qa", None, AutoModelForQuestionAnswering),
    "funnel-squad": ("funnel", "tiny", {"task": "squad"}, AutoModelForQuestionAnswering),
    "funnel-qnli": ("funnel", "tiny", {"task": "qnli"}, AutoModelForSequenceClassification),
    "jointbert": ("jointbert", "tiny", {}, AutoModel),
    "multitask": ("multitask", "tiny", {}, AutoModel),
}


@pytest.fixture(params=WRITTEN)
def written(request, tmp_path):
    """(system, folder, class of transformers): what convert writes, or the shipped folder as it is."""
    system, source, options, kind = WRITTEN[request.param]
    if options is None:
        return system, resolve(source), kind
    tasks = importlib.import_module(f"splinter.ports.{system}.tasks")
    tasks.convert(str(proofs.load(system)[0].checkpoints[source]()), tmp_path / "written", **options)
    return system, tmp_path / "written", kind


def ours(system, folder, kind, rows):
    """What Paddle computes from the rows: the first output of the model, of the BERTs the states of the encoder."""
    model = importlib.import_module(f"splinter.ports.{system}.model")
    name = {
        "splinter": "SplinterForQuestionAnswering",
        "jointbert": "JointBert",
        "multitask": "MultitaskBert",
        "funnel": kind.__name__.replace("AutoModel", "Funnel"),
    }[system]
    mode = {"mode": "hf"} if system == "splinter" else {}  # splinter-mini-qa is of mode paper, unknown to transformers
    opened = getattr(model, name).from_pretrained(folder, **mode)
    opened.eval()
    found = (opened.bert if kind is AutoModel else opened)(*(paddle.to_tensor(rows[name]) for name in INPUTS))
    return (found[0] if isinstance(found, tuple) else found).numpy()


def test_auto_classes_compute_what_paddle_computes(written):
    """
    Pairs, padded: segments are given, and the logits are ours to float32's rounding.
    """
    system, folder, kind = written
    rows = AutoTokenizer.from_pretrained(folder)(QUESTIONS, [CONTEXT] * len(QUESTIONS), padding=True)
    rows = {name: np.asarray(rows[name]) for name in INPUTS}
    assert {0, 1} <= set(np.unique(rows["token_type_ids"]))
    with torch.no_grad():
        theirs = kind.from_pretrained(folder).eval()(**{name: torch.tensor(rows[name]) for name in INPUTS})[0]
    assert theirs.dtype == torch.float32
    there, here = theirs.numpy(), ours(system, folder, kind, rows)
    real = (rows["attention_mask"] == 1) if there.shape[:2] == rows["input_ids"].shape else slice(None)
    np.testing.assert_allclose(here[real], there[real], rtol=0, atol=1e-5 * np.abs(there[real]).max())


def test_the_files_say_what_transformers_5_would_do_otherwise(written):
    """
    It takes the precision from the file of weights, and knows no segments for Splinter and Funnel, unless told.
    """
    _, folder, _ = written
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["dtype"] == "float32"
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert sorted(settings["model_input_names"]) == sorted(INPUTS)


def test_a_reference_that_is_gone_is_told(monkeypatch):
    """
    transformers 5.0 removed the SQuAD processors and metrics: from there on their steps are skipped, not before.
    """
    name = "data.metrics.squad_metrics"
    monkeypatch.setattr("transformers.__version__", "5.24.0")
    with pytest.raises(ReferenceGone, match=rf"transformers 5\.24\.0 lacks the reference: 5\.0 removed {name}"):
        removed_in_5(name)
    monkeypatch.setattr("transformers.__version__", "4.57.6")
    with pytest.raises(ModuleNotFoundError) as error:
        removed_in_5("data.nonsense")
    assert not isinstance(error.value, ReferenceGone)
