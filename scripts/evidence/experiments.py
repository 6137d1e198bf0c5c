"""Whole trainings in both frameworks, recorded: the same seeds and batches in torch and Paddle, every run once.

An experiment is a list of commands of the command line. Each run is kept in `results/NAME.json` with its
commands, seed, versions and scores as soon as it ends, so an interrupted experiment goes on where it stopped;
a run that is recorded is never repeated, and none is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FRAMEWORKS = ("torch", "paddle")
RESULTS = Path(__file__).resolve().parents[2] / "results"


@dataclass(frozen=True)
class Experiment:
    """What is trained and evaluated, and which figures count.

    Args:
        title: for the table.
        needs: data files without which it cannot run.
        stages: (label, arguments of `splinter`); {data} is the data folder, {work} the run's own, {seed},
            {framework} and {precision} what they say. What an `evaluate` prints is recorded under its label.
        scores: (label, key in what `evaluate` printed, heading, factor to points 0-100).
        seeds: fixed here, before any run.
        published: heading -> the figure to stand beside, with its source in `source`.
        source: where the published figures are from, and what differs.
        once: arguments of `splinter` that make what all runs start from, in {shared}; run once.
        seeds_of: framework -> its seeds, where they are fewer.
        precision: framework -> its --precision, where a stage asks.
        curves: both frameworks start from the same weights, without dropout: the loss of each update is recorded.
    """

    title: str
    needs: tuple[str, ...]
    stages: tuple[tuple[str, tuple[str, ...]], ...]
    scores: tuple[tuple[str, str, str, float], ...]
    seeds: tuple[int, ...]
    published: Mapping[str, float]
    source: str
    once: tuple[str, ...] = ()
    seeds_of: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    precision: Mapping[str, str] = field(default_factory=dict)
    curves: bool = False

    @property
    def runs(self) -> list[tuple[str, int]]:
        """(framework, seed) of each run, in the order they are made."""
        return [(f, seed) for f in FRAMEWORKS for seed in self.seeds_of.get(f, self.seeds)]


def _jointbert(
    corpus: str,
    title: str,
    epochs: int,
    published: Mapping[str, float],
    seeds: tuple[int, ...] = (1, 2, 3),
) -> Experiment:
    model, data = "{work}/model", "{data}/" + corpus
    shared = ("--system", "jointbert", "--framework", "{framework}")
    train = ("finetune", *shared, "--model", "minilm", "--train", data, "--output", model, "--seed", "{seed}")
    return Experiment(
        title=f"JointBERT, {title}, MiniLM-L6, {epochs} epoch{'s' * (epochs > 1)}",
        needs=(f"{corpus}/train/seq.in", f"{corpus}/test/seq.in"),
        stages=(
            # a narrow encoder takes, and needs, a larger rate than the recipe's 5e-5
            ("train", (*train, "--epochs", str(epochs), "--learning-rate", "2e-4", "--save-every", "500")),
            ("test", ("evaluate", *shared, "--model", model, "--data", f"{data}/test")),
        ),
        scores=(
            ("test", "intent_acc", "intent", 1),
            ("test", "slot_f1", "slot F1", 1),
            ("test", "sentence_acc", "sentence", 1),
        ),
        seeds=seeds,
        published=published,
        source="Chen et al. 2019, BERT-base (12 layers, width 768); here 6 layers, width 384",
    )


def _funnel(task: str, title: str, seed: int, files: tuple[str, str], head: tuple, scores: tuple) -> Experiment:
    """A small Funnel from random weights, both frameworks from the same ones, without dropout: two equal runs."""
    sizes = ("d_model=128", "n_head=2", "d_inner=512", "block_sizes=[2,2,2]", "hidden_dropout=0", "attention_dropout=0")
    shared, model = ("--system", "funnel", "--framework", "{framework}"), "{work}/model"
    vocabulary = "vocab/bert-base-uncased-vocab.txt"
    rate = ("--learning-rate", "5e-4", "--save-every", "200")
    train = ("finetune", *shared, "--model", "{shared}", "--train", "{data}/" + files[0], "--output", model)
    return Experiment(
        title=f"Funnel 2-2-2 H128 from scratch, {title}",
        needs=(vocabulary, *files),
        once=(
            *("convert", "--system", "funnel", "{data}/" + vocabulary, "{shared}", "--from-scratch", "small"),
            *("--task", task, "--seed", str(seed), "--set", *sizes),
        ),
        stages=(
            ("train", (*train, *head, *rate, "--seed", "{seed}")),
            ("held out", ("evaluate", *shared, "--model", model, "--data", "{data}/" + files[1], *head[:2])),
        ),
        scores=scores,
        seeds=(seed,),
        published={},
        source="no published model is of this size",
        curves=True,
    )


def _multitask() -> Experiment:
    """Heads on a frozen encoder, then everything; the paraphrase head compares, for want of Quora's full data."""
    shared = ("--system", "multitask", "--framework", "{framework}")
    data = ("--train", "{data}/cs224n", "--dev-rows", "1000")
    recipe = (*data, "--batch-size", "32", "--seed", "{seed}", "--save-every", "100")
    quora = ("{data}/cs224n/quora-train-subset.csv.gz", "{data}/cs224n/qqp-train-sample.csv")
    heads, model = "{work}/heads", "{work}/model"
    start: tuple[str, ...] = (
        "--model",
        "minilm",
        "--phase",
        "pretrain",
        "--pair-features",
        "compare",
        "--encoder-dropout",
        "0",
    )
    start += ("--pooling", "cls", "--steps-per-epoch", "400", "--epochs", "1")
    tune: tuple[str, ...] = (
        "--model",
        heads,
        "--phase",
        "finetune",
        "--learning-rate",
        "1e-4",
        "--steps-per-epoch",
        "220",
    )
    tune += ("--epochs", "1")
    files = (
        "ids-sst-train.csv",
        "sts-train.csv",
        "quora-dev.csv.gz",
        "quora-train-subset.csv.gz",
        "qqp-train-sample.csv",
    )
    train = ("finetune", *shared)
    score = ("evaluate", *shared, "--data", "{data}/cs224n")
    tasks = ("sentiment", "paraphrase", "similarity")
    return Experiment(
        title="multi-task, MiniLM-L6",
        needs=tuple(f"cs224n/{file}" for file in files),
        stages=(
            ("frozen", (*train, *start, *recipe, "--paraphrase-train", *quora, "--output", heads)),
            ("fine-tuned", (*train, *tune, *recipe, "--paraphrase-train", *quora, "--output", model)),
            ("fine-tuned", (*score, "--model", model)),
        ),
        scores=(*(("fine-tuned", task, task, 100) for task in tasks),),
        seeds=(1,),
        published={"sentiment": 39.1, "paraphrase": 76.4, "similarity": 45.4},
        source="the one-page design note (BERT-base)",
    )


def _pretraining() -> Experiment:
    """One pass over the held-out articles, both frameworks from the same weights, without dropout: two equal runs."""
    recipe = ("--batch-size", "8", "--learning-rate", "2e-4", "--warmup", "0.1", "--optimizer", "hf", "--dropout", "0")
    shared = ("--framework", "{framework}", "--model", "{shared}", "--output", "{work}/model", "--seed", "{seed}")
    tokenizer = ("--tokenizer", "{shared}")
    return Experiment(
        title="Pretraining by recurring span selection, MiniLM-L6, 154 updates of 8 passages",
        needs=("wiki/dev/wiki_00",),
        once=("convert", "minilm", "{shared}", "--head", "matching", "--mode", "paper"),
        stages=(
            ("corpus", ("mine", "{data}/wiki/dev", "--output", "{work}/corpus", "--length", "256", *tokenizer)),
            ("train", ("pretrain", *shared, "--corpus", "{work}/corpus", *recipe)),
        ),
        scores=(),
        seeds=(1,),
        published={},
        source="nothing to compare with",
        curves=True,
    )


SAMPLING_SEEDS, SIZES = (42, 43, 44, 45, 46), (16, 128, 1024)
PUBLISHED_F1 = {16: 54.6, 128: 72.7, 1024: 82.8}
"""F1 in points on SQuAD, Splinter-base, mean of the five samples (Ram et al. 2021, table 1)."""
_START = ("convert", "minilm", "{shared}", "--mode", "paper")
STARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "mini": ("splinter-mini", ()),
    "control": ("{shared}", (*_START, "--head", "matching")),
    "plain": ("{shared}", (*_START, "--head", "plain")),
    "random": ("{shared}", (*_START, "--head", "fresh", "--encoder", "fresh")),
}
"""What few-shot runs start from: model, and the command that makes it. `control` is what splinter-mini was pretrained
from, head included: recurring span selection is all that lies between the two. `plain` is its encoder with a start and
an end score of each token, `random` random weights of the same sizes."""


_PADDLE_SAMPLES = {16: SAMPLING_SEEDS, 128: SAMPLING_SEEDS[:2]}
"""Of splinter-mini, by number of examples: what a CPU has time for."""


def _few_shot(start: str, size: int, noise: bool = False) -> Experiment:
    """Fine-tuning by the paper's recipe on its samples of SQuAD; the training seed is fixed, the samples differ.

    Args:
        noise: the other way round: one sample, and training seeds that differ, so in dropout and order alone.
    """
    file, dev = f"squad_fewshot/squad-train-seed-{{}}-num-examples-{size}_qass.jsonl", "squad_v1/dev-v1.1.json.gz"
    file += ".gz" * (size > 256)
    model, once = STARTS[start]
    shared = ("--framework", "{framework}")
    # micro-batches of rows of like length: 2.2 times as fast as whole batches on a CPU, half of which is padding
    faster = ("--precision", "{precision}", "--micro-batch", "3")
    train = ("finetune", *shared, *faster, "--model", model, "--output", "{work}/model")
    score = ("evaluate", *shared, "--model", "{work}/model", "--data", "{data}/" + dev, "--sample", "2000")
    varied: tuple[str, ...] = ("--train", "{data}/" + file.format("{seed}"))
    if noise:
        varied = ("--train", "{data}/" + file.format(SAMPLING_SEEDS[0]), "--seed", "{seed}")
    return Experiment(
        title=f"Few-shot SQuAD, {start}, {size} examples" + ", one sample" * noise,
        needs=(*(file.format(seed) for seed in (SAMPLING_SEEDS[:1] if noise else SAMPLING_SEEDS)), dev),
        stages=(("train", (*train, *varied)), ("dev", score)),
        scores=(("dev", "f1", "F1", 1), ("dev", "exact", "exact", 1)),
        seeds=(1, 2) if noise else SAMPLING_SEEDS if size < 1024 else SAMPLING_SEEDS[:1],
        published={"F1": PUBLISHED_F1[size]},
        source="Splinter-base (12 layers, width 768), all of MRQA's dev file; here 2,000 questions of the official one",
        once=once,
        seeds_of={"paddle": _PADDLE_SAMPLES.get(size, ()) if start == "mini" and not noise else ()},
        precision={"torch": "bf16"},
    )


QNLI = ("qnli/train-sample.tsv.gz", "qnli/train-sample-heldout.tsv")
SQUAD2 = ("squad_v2/dev-half-a-v2.0.json.gz", "squad_v2/dev-half-b-v2.0-reconstructed.json.gz")

ATIS = {"intent": 97.5, "slot F1": 96.1, "sentence": 88.2}
SNIPS = {"intent": 98.6, "slot F1": 97.0, "sentence": 92.8}

EXPERIMENTS: dict[str, Experiment] = {
    "jointbert-atis": _jointbert("atis", "ATIS", 6, ATIS),
    "jointbert-snips": _jointbert("snips", "SNIPS", 2, SNIPS),
    "jointbert-snips-long": _jointbert("snips", "SNIPS", 4, SNIPS, seeds=(1,)),
    "multitask": _multitask(),
    "pretraining": _pretraining(),
    **{f"few-shot-{start}-{size}": _few_shot(start, size) for start in STARTS for size in SIZES},
    "few-shot-noise-128": _few_shot("mini", 128, noise=True),
    "funnel-qnli": _funnel(
        "qnli",
        "QNLI sample",
        1,
        QNLI,
        ("--max-length", "128", "--epochs", "3"),
        (("held out", "accuracy", "accuracy", 1),),
    ),
    "funnel-squad2": _funnel(
        "squad",
        "SQuAD 2.0 half A to B",
        1,
        SQUAD2,
        ("--max-length", "256", "--epochs", "1"),
        (
            ("held out", "exact", "exact, threshold 0", 1),
            ("held out", "f1", "F1, threshold 0", 1),
            ("held out", "best_f1", "F1, best threshold", 1),
            ("held out", "HasAns_f1", "F1, answerable", 1),
        ),
    ),
}


def read(name: str, results: Path = RESULTS) -> dict[str, Any]:
    """What is recorded of an experiment so far."""
    path = results / f"{name}.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    return {"experiment": name, "command": f"python scripts/experiment.py {name}", "runs": []}
