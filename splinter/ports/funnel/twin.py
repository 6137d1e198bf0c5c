"""The PyTorch side of Funnel: `transformers`' classes, unmodified.

One thing is lifted around them, and only for float64 models: FunnelRelMultiheadAttention rounds its scores to
float32 before the mask is taken off ("precision safe in case of mixed precision training"), which would stall
a float64 run at 1e-7. See `float64_scores`.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from transformers import FunnelForQuestionAnswering, FunnelForSequenceClassification
from transformers.modeling_outputs import BaseModelOutput

from splinter.align.port import Side
from splinter.ports.common.checkpoint import CheckpointError, write_model
from splinter.ports.common.torch.train import AdamW, TorchTrainer, linear_rates
from splinter.ports.common.torch.train import gpus as gpus
from splinter.ports.common.torch.train import seed as seed
from splinter.ports.common.training.fit import fit
from splinter.ports.common.training.schedule import Recipe

from . import config as configs
from .proof import cases

NO_DROPOUT = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
MODELS = {"classification": FunnelForSequenceClassification, "answering": FunnelForQuestionAnswering}


@contextlib.contextmanager
def float64_scores() -> Iterator[None]:
    """Let `.float()` leave float64 tensors alone, as long as a forward pass of the reference runs."""
    plain = torch.Tensor.float

    def lifted(self, *arguments, **more):
        return self if self.dtype == torch.float64 else plain(self, *arguments, **more)

    torch.Tensor.float = lifted
    try:
        yield
    finally:
        torch.Tensor.float = plain


def load(folder: Path, mode: str, dropout: bool = False, fresh: bool = False):
    """A model in evaluation mode with the weights of a checkpoint.

    Args:
        dropout: keep the rates of the configuration (else 0).
        fresh: leave the weights as the initialiser makes them.
    """
    changes = {} if dropout else NO_DROPOUT
    kind = MODELS[mode]
    if fresh:
        return kind(kind.config_class.from_pretrained(folder, **changes)).eval()
    with _quiet():
        model, report = kind.from_pretrained(folder, output_loading_info=True, **changes)
    if report["missing_keys"] or report["mismatched_keys"]:
        raise ValueError(f"{folder}: transformers misses {report['missing_keys']} {report['mismatched_keys']}")
    return model.eval()


def open_model(folder: Path, mode: str, head: str, device: str = "auto"):
    """A model for work, with the dropout of its configuration; on a GPU where there is one.

    Raises:
        CheckpointError: no head in the checkpoint and `head` is "pretrained", or no decoder where one is needed.
    """
    chosen = configs.chosen_head(folder, mode, head)
    kind = MODELS[mode]
    changes = {"num_labels": 2, "ignore_mismatched_sizes": True} if chosen == "fresh" else {}
    with _quiet():
        model, report = kind.from_pretrained(folder, output_loading_info=True, **changes)
    fresh: tuple[str, ...] = (*configs.HEADS[mode],) if chosen == "fresh" else ()
    if missing := [name for name in report["missing_keys"] if not name.startswith(fresh)]:
        raise CheckpointError(f"{folder} lacks the tensor {missing[0]!r}; transformers would leave it random")
    model.eval()
    if chosen == "fresh":
        (model.classifier if mode == "classification" else model.qa_outputs).apply(model._init_weights)
    model.head = chosen
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device.replace("gpu", "cuda"))


def save(model: nn.Module, folder: Path, beside: Mapping[str, bytes]) -> None:
    """Write the model in the layout of transformers, with what lies beside its weights; see `write_model`."""
    arrays = {name: parameter.detach().cpu().numpy() for name, parameter in model.named_parameters()}
    shapes = {name: (array.shape, array.dtype.name) for name, array in arrays.items()}
    write_model(folder, beside, shapes, lambda: iter(arrays.items()))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' warnings: that another task's head or the decoder stays behind is as it should be."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)


def forward(model: Any, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Logits of a batch: (B, N) classes, or start and end (B, T)."""
    with float64_scores(), warnings.catch_warnings():
        # 4.57 indexes with a list of slices; torch 2.13 warns of it at every pooling
        warnings.filterwarnings("ignore", message="Using a non-tuple sequence for multidimensional indexing")
        out = model(**{name: batch[name] for name in cases.INPUTS})
    if isinstance(model, FunnelForSequenceClassification):
        return {"logits": out.logits}
    return {"start_logits": out.start_logits, "end_logits": out.end_logits}


class _Given(nn.Module):
    """Stands in for a part of the model, so that transformers' own loss code runs on injected logits."""

    def __init__(self, output: Any):
        super().__init__()
        self.output = output

    def forward(self, *arguments: Any, **more: Any) -> Any:
        return self.output


def loss(model: Any, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The reference's own loss of given logits, by putting them in place of its head."""
    classes = isinstance(model, FunnelForSequenceClassification)
    logits = outputs["logits"] if classes else torch.stack([outputs["start_logits"], outputs["end_logits"]], dim=-1)
    head = "classifier" if classes else "qa_outputs"
    kept, encoder = getattr(model, head), model.funnel
    labels = {name: batch[name] for name in (("labels",) if classes else ("start_positions", "end_positions"))}
    if classes:  # its rule for the kind of problem, asked anew: it remembers the answer of the first batch
        model.num_labels, model.config.problem_type = logits.shape[-1], None
    try:
        setattr(model, head, _Given(logits))
        model.funnel = _Given(BaseModelOutput(last_hidden_state=torch.zeros(len(logits), 1, 1)))
        return model(input_ids=torch.zeros(len(logits), 1, dtype=torch.long), **labels).loss
    finally:
        setattr(model, head, kept)
        model.funnel = encoder


# -- the recipe -------------------------------------------------------------------------------------------


def decayed(names: Iterable[str]) -> list[str]:
    """The rule of chfhf/funnel-paddle: no name with `bias` or `norm` in it (so r_kernel and seg_embed do decay)."""
    return [name for name in names if "bias" not in name and "norm" not in name]


def hyperparameters(mode: str) -> dict[str, float]:
    """The recipes of docs/funnel.md, written a second time. They are decisions of this project: the authors publish
    none for these tasks in full, and what they use elsewhere differs (see the page)."""
    common = {"warmup": 0.1, "min_steps": 0, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-6}
    common |= {"weight_decay": 0.0, "max_norm": 1.0}
    if mode == "classification":
        return {**common, "learning_rate": 2e-5, "epochs": 3, "batch_size": 32}
    return {**common, "learning_rate": 3e-5, "epochs": 2, "batch_size": 16}


def trainer(model: nn.Module, recipe: Recipe) -> TorchTrainer:
    """A model in training by the recipe."""

    def objective(model, batch):
        return loss(model, forward(model, batch), batch)

    return TorchTrainer(model, objective, recipe, decayed([n for n, _ in model.named_parameters()]))


@torch.no_grad()
def logits(model: nn.Module, columns: Mapping[str, np.ndarray], batch_size: int = 16) -> dict[str, np.ndarray]:
    """Logits of all rows, (N, classes) or twice (N, T)."""
    from splinter.align import torch_side

    first = next(model.parameters())
    dtype = str(first.dtype).removeprefix("torch.")
    found: dict[str, list[np.ndarray]] = {}
    model.eval()
    for begin in range(0, len(columns["input_ids"]), batch_size):
        rows = {name: columns[name][begin : begin + batch_size] for name in cases.INPUTS}
        tensors = {n: t.to(first.device) for n, t in torch_side.from_numpy(rows, dtype).items()}
        for name, tensor in forward(model, tensors).items():
            found.setdefault(name, []).append(tensor.cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}


@cache
def columns(name: str, mode: str) -> dict[str, np.ndarray]:
    """A data source as columns, by transformers' tokenizer; gold texts as strings."""
    from .proof import reference_data

    source = cases.source(name)
    if mode == "classification":
        return reference_data.pairs(source.path, source.vocabulary, **source.sizes)
    found = reference_data.windows(source.path, source.vocabulary, source.training, source.limit, **source.sizes)
    if not source.training:
        questions = reference_data.questions(source.path)[: source.limit]
        found["gold texts"] = np.array([json.dumps([one["id"], one["golds"]]) for one in questions])
    return found


def scores(case: str, given: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray]:
    """transformers' scores of hostile predictions, or the twin's decoding of injected logits."""
    from .proof import reference_metric

    if case.startswith("accuracy"):
        return {"accuracy": np.float64(reference_metric.accuracy(*cases.classes(case)))}
    if given is None:
        return {k: np.float64(v) for k, v in reference_metric.evaluate(*cases.predictions()).items()}
    start, end = cases.injected_logits(given)
    return decode(case.removeprefix("decode "), given, start, end)


def decode(name: str, given: Mapping[str, np.ndarray], start, end) -> dict[str, np.ndarray]:
    """Candidates and answers of a data source from logits (N, T), and their scores."""
    from .proof import reference_data, reference_metric

    source, found = cases.source(name), {}
    questions = reference_data.questions(source.path)[: source.limit]
    for number, rows in cases.rows_by_example(given).items():
        windows = [{"offsets": given["offsets"][row]} for row in rows]
        found[questions[number]["id"]] = reference_metric.decode(
            questions[number]["context"], windows, start[rows].tolist(), end[rows].tolist(), cases.has_null(name)
        )
    texts, odds = ({name: one[key] for name, one in found.items()} for key in ("text", "odds"))
    golds = {one["id"]: one["golds"] for one in questions}
    return cases.decoded_record(
        [one["entries"] for one in found.values()],
        list(odds.values()),
        list(texts.values()),
        reference_metric.evaluate(golds, texts, odds),
    )


@cache
def side(mode: str) -> Side:
    """The reference as the engine sees it."""
    return Side(
        framework="torch",
        sources=("transformers.models.funnel.modeling_funnel",),
        kind="transformers",
        load=lambda folder: load(folder, mode),
        build=lambda folder: load(folder, mode, dropout=True, fresh=True),
        forward=forward,
        loss=loss,
        optimizer=AdamW,
        decayed=decayed,
        hyperparameters=lambda: hyperparameters(mode),
        rates=linear_rates,
        data=lambda source: columns(source, mode),
        metric=scores,
        train=lambda folder, dtype: train(folder, mode, dtype),
    )


def train(folder: Path, mode: str, dtype: str) -> dict[str, np.ndarray]:
    """One whole run on the shipped sample, data and decoding by the reference's own code. Batches are never trimmed."""
    from splinter.align import torch_side

    from .proof import reference_metric

    model = torch_side.cast(load(folder, mode), dtype)
    rows, hyper = columns(cases.TRAINING[mode], mode), cases.training_recipe(folder, mode)
    inputs = {name: rows[name] for name in (*cases.INPUTS, *cases.LABELS[mode])}
    log = fit(trainer(model, hyper), inputs, hyper)
    dev = columns(cases.EVALUATION[mode], mode)
    found = logits(model, dev)
    if mode == "classification":
        score = np.asarray(reference_metric.accuracy(dev["labels"], found["logits"]))
        found["answers"] = found["logits"].argmax(-1)
        return cases.training_record(log, {"accuracy": score, **found}, dtype)
    return cases.training_record(log, decode(cases.EVALUATION[mode], dev, *found.values()), dtype)
