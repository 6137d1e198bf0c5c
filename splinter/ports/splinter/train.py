"""Splinter's few-shot recipe in Paddle: loss, decayed weights, trainer, logits, and the port's side."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from splinter import runtime
from splinter.align import paddle_side
from splinter.align.port import Side
from splinter.ports.common import UsageError
from splinter.ports.common.paddle.train import AdamW, PaddleTrainer, Team
from splinter.ports.common.paddle.train import gpus as gpus
from splinter.ports.common.paddle.train import seed as seed
from splinter.ports.common.training.feed import trim
from splinter.ports.common.training.fit import fit
from splinter.ports.common.training.schedule import Recipe, rates

from . import data, metric
from .config import read_checkpoint
from .model import SplinterForPreTraining, SplinterForQuestionAnswering
from .pretraining import tasks as pretraining
from .pretraining.proof import cases as pretraining_cases
from .proof import cases

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
MODELS = {"answering": SplinterForQuestionAnswering, "pretraining": SplinterForPreTraining}


def load(folder: Path, mode: str, task: str = "answering", dropout: bool | float = False, fresh: bool = False):
    """A model in evaluation mode.

    Args:
        dropout: True keeps the rates of the configuration; or the rate of all.
        fresh: leave the weights as the initialiser makes them.
    """
    changes: dict[str, Any] = {} if dropout is True else dict.fromkeys(NO_DROPOUT, float(dropout))
    if task == "pretraining":
        pretraining = read_checkpoint(folder, mode=mode)[0].for_pretraining()
        changes |= {name: getattr(pretraining, name) for name in ("hidden_act", "head_layer_norm_eps")}
    if fresh:
        model = MODELS[task](read_checkpoint(folder, mode=mode, **changes)[0])
        model.eval()
        return model
    return MODELS[task].from_pretrained(folder, mode=mode, **changes)


def open_model(folder: Path, mode: str, head: str, device: str = "auto", repeated: bool = False):
    """A model for work, with the dropout of its configuration.

    Args:
        repeated: many batches will follow, so compiling pays (unless the settings of `runtime` are off).
    """
    if device != "auto":
        paddle.set_device(device)
    model = SplinterForQuestionAnswering.from_pretrained(folder, mode=mode, head=head)
    if repeated and runtime.applied():
        model.compile()
    return model


def save(model, folder: Path, beside: Mapping[str, bytes]) -> None:
    """Write the model with what lies beside its weights; see `checkpoint.write_model`."""
    model.write(folder, beside)


def forward(model, batch: Mapping[str, paddle.Tensor]) -> dict[str, paddle.Tensor]:
    """Start and end logits of a batch, with the padding filled."""
    extra = {"question_positions": batch["question_positions"]} if "question_positions" in batch else {}
    start, end = model(batch["input_ids"], batch["attention_mask"], token_type_ids=batch["token_type_ids"], **extra)
    return {"start_logits": start, "end_logits": end}


def loss(model, outputs: Mapping[str, paddle.Tensor], batch: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
    """The model's loss of given logits."""
    extra = {"weights": batch.get("weights")} if isinstance(model, SplinterForPreTraining) else {}
    start, end = outputs["start_logits"], outputs["end_logits"]
    return model.loss(start, end, batch["start_positions"], batch["end_positions"], **extra)


def decayed(names: Iterable[str]) -> list[str]:
    """All matrices: neither biases nor LayerNorm weights decay.

    By structured name. What Paddle hands to `apply_decay_param_fun` is the automatic name (`linear_0.w_0`),
    on which a rule about names decays everything or nothing.
    """
    return [name for name in names if not name.endswith(".bias") and not name.endswith("norm.weight")]


def trainer(model, recipe: Recipe, precision: str = "float32") -> PaddleTrainer:
    """A model in training by the recipe.

    Raises:
        UsageError: bf16 on a CPU.
    """
    refuse_bf16_on_cpu(model, precision)

    def objective(model, batch):
        return loss(model, _widened(forward(model, batch)), batch)

    # in mode hf a label beyond the window is left out of the mean: a part of the rows has no fixed share of it
    paper = model.config.mode == "paper"
    return PaddleTrainer(
        model, objective, recipe, decayed([n for n, _ in model.named_parameters()]), precision, mean_of_rows=paper
    )


def refuse_bf16_on_cpu(model, precision: str) -> None:
    """There paddle 3.3.1 leaves auto_cast without effect (test_pretraining.py tells when that changes).

    Raises:
        UsageError: bf16 was asked for on a CPU.
    """
    if precision == "bf16" and model.bert.embeddings.word.weight.place.is_cpu_place():
        raise UsageError("--precision bf16 needs a GPU in Paddle; on a CPU --framework torch has it")


def _widened(outputs: Mapping[str, paddle.Tensor]) -> dict[str, paddle.Tensor]:
    """Logits of a forward pass in bfloat16 as float32: the loss adds up hundreds of exponentials."""
    return {n: t.astype("float32") if t.dtype == paddle.bfloat16 else t for n, t in outputs.items()}


def open_pretraining(folder: Path, device: str = "auto", dropout: float | None = None) -> SplinterForPreTraining:
    """A model to be pretrained, with the dropout of its configuration unless another rate is given."""
    if device != "auto":
        paddle.set_device(device)
    return load(folder, "paper", "pretraining", dropout=True if dropout is None else dropout)


def pretrainer(model, recipe: Recipe, precision: str = "float32", team: Team | None = None) -> PaddleTrainer:
    """A model in pretraining; the weights of a batch must add up to 1.

    Raises:
        UsageError: bf16 on a CPU.
    """
    refuse_bf16_on_cpu(model, precision)

    def objective(model, batch):
        start, end = _widened(forward(model, batch)).values()
        labels = batch["start_positions"], batch["end_positions"]
        return model.loss(start, end, *labels, weights=batch["weights"], total=1.0)

    names = decayed([n for n, _ in model.named_parameters()])
    return PaddleTrainer(model, objective, recipe, names, precision, team or Team())


@paddle.no_grad()
def logits(model, columns: Mapping[str, np.ndarray], batch_size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Start and end logits (N, T) of all rows."""
    model.eval()
    dtype = str(model.bert.dtype).removeprefix("paddle.")
    start, end = [], []
    for begin in range(0, len(columns["input_ids"]), batch_size):
        rows = {name: column[begin : begin + batch_size] for name, column in columns.items()}
        out = forward(model, paddle_side.from_numpy(rows, dtype))
        start.append(out["start_logits"].numpy())
        end.append(out["end_logits"].numpy())
    return np.concatenate(start), np.concatenate(end)


@cache
def columns(name: str, mode: str) -> dict[str, np.ndarray]:
    """A data source as columns, by our own reading; gold texts as strings."""
    source = cases.source(name)
    examples = data.read_examples(source.path, mode, source.training)
    tokenizer = data.Tokenizer(source.vocabulary, mode, lower_case=source.lower_case or None)
    blocks = data.features(examples, tokenizer, mode, training=source.training, **source.sizes)
    kept, rows = data.concatenate(blocks)
    found = {f.name: getattr(rows, f.name) for f in fields(rows) if isinstance(getattr(rows, f.name), np.ndarray)}
    if not source.training:
        found["gold texts"] = np.array([json.dumps([e.id, e.answers]) for e in kept])
    return found


def scores(case: str, given: Mapping[str, np.ndarray] | None, mode: str) -> dict[str, np.ndarray]:
    """Our metric on hostile predictions, or our decoding of injected logits."""
    if given is None:
        return {k: np.float64(v) for k, v in metric.evaluate(*cases.predictions(case)).items()}
    start, end = cases.injected_logits(given)
    return decode(case.removeprefix("decode "), given, start, end, mode)


def decode(name: str, given: Mapping[str, np.ndarray], start, end, mode: str) -> dict[str, np.ndarray]:
    """n-best lists of a data source from logits (N, T), flattened, and the scores of the best."""
    source = cases.source(name)
    tokenizer = data.Tokenizer(source.vocabulary, mode, lower_case=source.lower_case or None)
    examples = list(data.read_examples(source.path, mode))
    spans = []
    for number, rows in cases.rows_by_example(given).items():
        windows = [cases.row(given, row) for row in rows]
        if mode == "paper":
            logits = start[rows], end[rows]
            spans.append(metric.decode_paper(examples[number], windows, *logits, tokenizer.pieces, tokenizer.basic))
        else:
            spans.append(metric.decode_hf(examples[number], windows, start[rows], end[rows]))
    best = {examples[n].id: found[0].text for n, found in zip(cases.rows_by_example(given), spans, strict=True)}
    flat = [[asdict(span) for span in found] for found in spans]
    return cases.decoded_record(flat, metric.evaluate({e.id: e.answers for e in examples}, best))


@cache
def side(mode: str, task: str = "answering") -> Side:
    """The port as the engine sees it."""
    return Side(
        framework="paddle",
        sources=("splinter.ports.splinter.model", "splinter.ports.common.paddle.encoder"),
        kind="port",
        load=lambda folder: load(folder, mode, task),
        build=lambda folder: load(folder, mode, task, dropout=True, fresh=True),
        forward=forward,
        loss=loss,
        optimizer=AdamW,
        decayed=decayed,
        hyperparameters=lambda: asdict(pretraining.RECIPE if task == "pretraining" else Recipe()),
        rates=rates,
        data=mined if task == "pretraining" else lambda source: columns(source, mode),
        metric=lambda case, given: scores(case, given, mode),
        train=pretrain if task == "pretraining" else lambda folder, dtype: train(folder, mode, dtype),
    )


def mined(source: str) -> dict[str, np.ndarray]:
    """A text as the arrays of its shard, by our own mining."""
    shard = pretraining_cases.corpus(source).shard(0)
    return {name: np.asarray(column, np.int64) for name, column in shard.items()}


def pretrain(folder: Path, dtype: str) -> dict[str, np.ndarray]:
    """One whole pretraining run on the shipped text."""
    model = paddle_side.cast(load(folder, "paper", "pretraining"), dtype)
    hyper = pretraining_cases.training_recipe(folder)
    feed = pretraining.Passages(pretraining_cases.corpus("sample/train"), hyper, model.config.question_token_id)
    log = fit(pretrainer(model, hyper), feed, hyper)
    return pretraining_cases.training_record(log, sys.modules[__name__], model, dtype)


def train(folder: Path, mode: str, dtype: str) -> dict[str, np.ndarray]:
    """One whole few-shot run on the shipped sample, in micro-batches where there are such; data and decoding by us."""
    model = paddle_side.cast(load(folder, mode), dtype)
    inputs = cases.model_inputs(columns(cases.TRAINING, mode), labels=True)
    hyper = replace(cases.training_recipe(folder), micro_batch=5 if mode == "paper" else 0)
    log = fit(trainer(model, hyper), inputs, hyper, prepare=trim)
    dev = columns(cases.EVALUATION[mode], mode)
    start, end = logits(model, cases.model_inputs(dev))
    return cases.training_record(log, decode(cases.EVALUATION[mode], dev, start, end, mode), dtype)
