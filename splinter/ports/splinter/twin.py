"""The PyTorch side of Splinter: `transformers`' classes unmodified, and a twin of the authors' code.

`hf`: SplinterForQuestionAnswering / SplinterForPreTraining of the installed transformers (4.57 or 5).
`paper`: the authors' model (oriram/splinter finetuning/modeling.py at 1df4c13; pretraining/, TensorFlow)
written from its description on transformers' BertModel, because the original needs transformers 2.9.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import BertConfig, BertModel, SplinterForPreTraining, SplinterForQuestionAnswering
from transformers.activations import ACT2FN

from splinter.align.port import Side
from splinter.ports.common.checkpoint import CheckpointError, write_model
from splinter.ports.common.torch.train import AdamW, Team, TorchTrainer, linear_rates
from splinter.ports.common.torch.train import gpus as gpus
from splinter.ports.common.torch.train import seed as seed
from splinter.ports.common.training.feed import trim
from splinter.ports.common.training.fit import fit
from splinter.ports.common.training.schedule import Recipe

from . import config as configs
from .config import SplinterConfig
from .pretraining.proof import cases as pretraining_cases
from .proof import cases

FILL = -10000.0
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
TASKS = {"answering": SplinterForQuestionAnswering, "pretraining": SplinterForPreTraining}


# -- the twin ---------------------------------------------------------------------------------------------


class Transform(nn.Module):
    """Dense, activation, LayerNorm; the epsilon is torch's default in fine-tuning."""

    def __init__(self, width: int, act: str, eps: float):
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.act = ACT2FN[act]
        self.LayerNorm = nn.LayerNorm(width, eps=eps)

    def forward(self, x):
        return self.LayerNorm(self.act(self.dense(x)))


class Head(nn.Module):
    """Question-aware span selection; the two matrices are bare parameters used as Q @ M."""

    def __init__(self, config: SplinterConfig):
        super().__init__()
        width, std = config.hidden_size, config.initializer_range
        for part in ("query_start", "query_end", "start", "end"):
            setattr(self, f"{part}_transform", Transform(width, config.hidden_act, config.head_layer_norm_eps))
        self.start_classifier = nn.Parameter(torch.empty(width, width))
        self.end_classifier = nn.Parameter(torch.empty(width, width))
        for name, parameter in self.named_parameters():
            if "LayerNorm" not in name and not name.endswith("bias"):
                nn.init.normal_(parameter, std=std)
            elif name.endswith("dense.bias"):
                nn.init.zeros_(parameter)

    def forward(self, x, positions):
        rows = torch.arange(x.shape[0], device=x.device).unsqueeze(-1)
        questions = x[rows, positions]  # (B, Q, D)
        parts = [
            (self.query_start_transform(questions), self.start_classifier, self.start_transform(x)),
            (self.query_end_transform(questions), self.end_classifier, self.end_transform(x)),
        ]
        # logits are in the hundreds, where neighbours in bfloat16 are nats apart: they stay in float32 under autocast
        with torch.autocast(x.device.type, enabled=False):
            start, end = (
                q.to(m.dtype) @ m @ t.to(m.dtype).transpose(1, 2)  # (B, Q, T)
                for q, m, t in parts
            )
        return start, end


class PaperSplinter(nn.Module):
    """Encoder, head and the two ways of calling them; names of the authors' checkpoints."""

    def __init__(self, config: SplinterConfig):
        super().__init__()
        self.config = config
        values = {k: v for k, v in config.to_dict().items() if hasattr(BertConfig(), k)}
        self.bert = BertModel(BertConfig(**values, attn_implementation="eager"), add_pooling_layer=False)
        if config.span_head == "plain":
            # a start and an end score of each token, as transformers' models for question answering have it
            self.qa_outputs = nn.Linear(config.hidden_size, 2)
            nn.init.normal_(self.qa_outputs.weight, std=config.initializer_range)
            nn.init.zeros_(self.qa_outputs.bias)
        else:
            self.cls = nn.ModuleDict({"span_predictions": Head(config)})

    def encode(self, ids, mask, positions=None):
        """States (B, T, D). BertModel's own forward would fill with the dtype's minimum instead of -10000."""
        x = self.bert.embeddings(input_ids=ids, position_ids=positions)
        additive = (1.0 - mask.to(x.dtype))[:, None, None, :] * FILL
        return self.bert.encoder(x, attention_mask=additive).last_hidden_state

    def score(self, states, mask, positions):
        if self.config.span_head == "plain":
            with torch.autocast(states.device.type, enabled=False):  # in float32, as the scores of the other head
                scores = self.qa_outputs(states.to(self.qa_outputs.weight.dtype)).transpose(1, 2)  # (B, 2, T)
            start, end = scores.split(1, dim=1)  # (B, 1, T) each, of any question
        else:
            start, end = self.cls["span_predictions"](states, positions)  # (B, Q, T) each
        fill = ((1.0 - mask.to(states.dtype)) * FILL).unsqueeze(1)
        return start + fill, end + fill

    def answer(self, ids, mask):
        """Fine-tuning: [SEP] masked, [MASK] read as the question token, the first question token asks."""
        mask = mask.masked_fill(ids == self.config.sep_token_id, 0)
        ids = ids.masked_fill(ids == self.config.mask_token_id, self.config.question_token_id)
        positions = (ids == self.config.question_token_id).int().argmax(-1, keepdim=True)
        start, end = self.score(self.encode(ids, mask), mask, positions)
        return start.squeeze(1), end.squeeze(1)

    def pretrain(self, ids, mask, positions):
        """Pretraining: holes take no position, [SEP] is attended."""
        return self.score(self.encode(ids, mask, mask.cumsum(-1) - mask), mask, positions)


def paper_loss(start, end, start_positions, end_positions):
    """Cross entropy of fine-tuning; labels clamped to [0, T], T ignored."""
    ignored = start.size(1)
    rule = nn.CrossEntropyLoss(ignore_index=ignored)
    labels = [labels.clamp(0, ignored) for labels in (start_positions, end_positions)]
    return (rule(start, labels[0]) + rule(end, labels[1])) / 2


def paper_pretraining_loss(start, end, start_positions, end_positions, weights, total=None):
    """Weighted mean over all questions of the batch, 1e-5 in the denominator; or the sum divided by `total`."""

    def each(logits, labels):
        return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")

    weights = weights.flatten().to(start.dtype)
    losses = (each(start, start_positions) + each(end, end_positions)) / 2
    return (losses * weights).sum() / (weights.sum() + 1e-5 if total is None else total)


# -- loading and running ----------------------------------------------------------------------------------


def load(
    folder: Path,
    mode: str,
    task: str = "answering",
    dropout: bool | float = False,
    fresh: bool = False,
    head: str = "pretrained",
):
    """A model in evaluation mode with the weights of a checkpoint in the layout of transformers.

    Args:
        dropout: True keeps the rates of the configuration; or the rate of all.
        fresh: leave the weights as the initialiser makes them.
        head: "fresh" leaves only the head so.
    """
    changes = {} if dropout is True else dict.fromkeys(NO_DROPOUT, float(dropout))
    config, tensors, _ = configs.read_checkpoint(folder, mode=mode, **changes)
    if mode == "hf":
        values = {"attn_implementation": "eager", **changes}
        kind = TASKS[task]
        if fresh:
            their_config = kind.config_class.from_pretrained(folder, **values)
            return kind(their_config).eval()
        model = kind.from_pretrained(folder, **values).eval()
        if head == "fresh":
            model.splinter_qass.apply(model._init_weights)
        return model
    model = PaperSplinter(config.for_pretraining() if task == "pretraining" else config)
    if not fresh:
        links = configs.weight_map("authors").links_from(dict(model.named_parameters()))
        stored = {link.ours: link for link in configs.weight_map("transformers").links(k.ours for k in links.values())}
        for name, parameter in model.named_parameters():
            if head == "fresh" and links[name].ours.startswith("cls."):
                continue
            source = stored[links[name].ours]
            array = tensors[source.theirs]
            with torch.no_grad():
                parameter.copy_(
                    torch.from_numpy(array.T.copy() if links[name].transpose != source.transpose else array)
                )
    return model.eval()


def open_model(folder: Path, mode: str, head: str, device: str = "auto", repeated: bool = False):
    """A model for work, with the dropout of its configuration; on a GPU where there is one.

    Args:
        repeated: many batches will follow; makes no difference here.

    Raises:
        CheckpointError: no head in the checkpoint and `head` is "pretrained".
    """
    _, tensors, layout = configs.read_checkpoint(folder)
    if layout != "transformers":
        raise CheckpointError(
            f"{folder} is in the authors' layout, which torch cannot open; run splinter convert first"
        )
    found = configs.has_head(tensors)
    kind = {"auto": "pretrained" if found else "fresh"}.get(head, head)
    if kind == "pretrained" and not found:
        raise CheckpointError(f"{folder} holds no question-aware span selection head; use --head fresh")
    model = load(folder, mode, dropout=True, head=kind)
    model.head = kind
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device.replace("gpu", "cuda"))


def save(model: nn.Module, folder: Path, beside: Mapping[str, bytes]) -> None:
    """Write the model in the layout of transformers, with what lies beside its weights; see `write_model`."""
    theirs = configs.weight_map("authors" if isinstance(model, PaperSplinter) else "transformers")
    state = {name: parameter.detach().cpu().numpy() for name, parameter in model.named_parameters()}
    links = theirs.links_from(state)
    ours = {links[n].ours: a.T if links[n].transpose else a for n, a in state.items()}
    arrays = dict(configs.weight_map("transformers").revert(ours))
    shapes = {name: (array.shape, array.dtype.name) for name, array in arrays.items()}
    write_model(folder, beside, shapes, lambda: iter(arrays.items()))


def forward(model: Any, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Start and end logits of a batch, with the padding filled."""
    ids, mask = batch["input_ids"], batch["attention_mask"]
    positions = batch.get("question_positions")
    if isinstance(model, PaperSplinter):
        start, end = model.answer(ids, mask) if positions is None else model.pretrain(ids, mask, positions)
    else:
        # an integer mask times a float gives torch's default dtype: in a float64 model the fill, finfo.min,
        # would overflow float32 and turn the logits into nan
        mask = mask.to(model.dtype)
        out = model(
            input_ids=ids, attention_mask=mask, token_type_ids=batch["token_type_ids"], question_positions=positions
        )
        start, end = out.start_logits, out.end_logits
    return {"start_logits": start, "end_logits": end}


class _Scores(nn.Module):
    """Stands in for the head so that transformers' own loss code runs on injected logits."""

    def __init__(self, start, end):
        super().__init__()
        self.logits = (start, end)

    def forward(self, states, positions):
        start, end = self.logits
        return (start.unsqueeze(1), end.unsqueeze(1)) if start.dim() == 2 else (start, end)


class _Nothing(nn.Module):
    """Stands in for the encoder: the states are never looked at."""

    def forward(self, input_ids, **kwargs):
        from transformers.modeling_outputs import BaseModelOutput

        return BaseModelOutput(last_hidden_state=input_ids.new_zeros((*input_ids.shape, 1), dtype=torch.float32))


def loss(model: Any, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The reference's own loss of given logits; transformers' is reached by putting them in place of the head."""
    start, end = outputs["start_logits"], outputs["end_logits"]
    # the reference clamps labels in place: hand it copies, the batch is used again
    labels = {name: batch[name].clone() for name in ("start_positions", "end_positions")}
    if isinstance(model, PaperSplinter):
        if start.dim() == 3:
            return paper_pretraining_loss(start, end, **labels, weights=batch["weights"])
        return paper_loss(start, end, **labels)
    extra = {}
    if start.dim() == 3:
        extra["question_positions"] = torch.zeros(start.shape[:2], dtype=torch.long)
    encoder, head = model.splinter, model.splinter_qass
    try:
        model.splinter, model.splinter_qass = _Nothing(), _Scores(start, end)
        ids = torch.zeros((start.shape[0], start.shape[-1]), dtype=torch.long)
        return model(input_ids=ids, **labels, **extra).loss
    finally:
        model.splinter, model.splinter_qass = encoder, head


# -- the recipe -------------------------------------------------------------------------------------------


def decayed(names: Iterable[str]) -> list[str]:
    """The rule of the authors' and transformers' scripts: neither `bias` nor `LayerNorm.weight` in the name."""
    return [name for name in names if "bias" not in name and "LayerNorm.weight" not in name]


def hyperparameters() -> dict[str, float]:
    """Defaults of the authors' script, restated (run_mrqa.py, argument parser and AdamW of transformers 2.9)."""
    return {
        "learning_rate": 3e-5,
        "warmup": 0.1,
        "epochs": 10,
        "min_steps": 200,
        "batch_size": 12,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-8,
        "weight_decay": 0.0,
        "max_norm": 1.0,
    }


def pretraining_hyperparameters() -> dict[str, float]:
    """Those of the authors' pretraining (run_pretraining.py, optimization.py), restated; its updates and warm-up are
    2,400,000 and 10,000."""
    return {
        "learning_rate": 1e-4,
        "warmup": 10_000 / 2_400_000,
        "epochs": 1,
        "min_steps": 0,
        "batch_size": 256,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-6,
        "weight_decay": 0.01,
        "max_norm": 1.0,
    }


def pretraining_rates(features: int, recipe: Recipe) -> list[float]:
    """BERT's schedule: polynomial decay of power 1 over all updates, overwritten by the warm-up while that lasts."""
    total = -(-features // recipe.batch_size) * recipe.epochs
    warmup = int(total * recipe.warmup)
    rates = []
    for update in range(total + 25):
        decayed_rate = recipe.learning_rate * (1 - min(update, total) / total)
        rates.append(recipe.learning_rate * update / warmup if update < warmup else decayed_rate)
    return rates


def trainer(model: nn.Module, recipe: Recipe, precision: str = "float32") -> TorchTrainer:
    """A model in training by the recipe."""

    def objective(model, batch):
        return loss(model, _widened(forward(model, batch)), batch)

    # transformers' loss leaves a label beyond the window out of its mean: a part of the rows has no fixed share of it
    twin = isinstance(model, PaperSplinter)
    return TorchTrainer(
        model, objective, recipe, decayed([n for n, _ in model.named_parameters()]), precision, mean_of_rows=twin
    )


def _widened(outputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Logits of a forward pass in bfloat16 as float32: the loss adds up hundreds of exponentials."""
    return {n: t.float() if t.dtype == torch.bfloat16 else t for n, t in outputs.items()}


def open_pretraining(folder: Path, device: str = "auto", dropout: float | None = None) -> PaperSplinter:
    """A model to be pretrained, with the dropout of its configuration unless another rate is given.

    On a GPU where there is one.
    """
    model = load(folder, "paper", "pretraining", dropout=True if dropout is None else dropout)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device.replace("gpu", "cuda"))


def pretrainer(model, recipe: Recipe, precision: str = "float32", team: Team | None = None) -> TorchTrainer:
    """A model in pretraining; the weights of a batch must add up to 1."""

    def objective(model, batch):
        start, end = _widened(forward(model, batch)).values()
        labels = batch["start_positions"], batch["end_positions"]
        return paper_pretraining_loss(start, end, *labels, batch["weights"], total=1.0)

    names = decayed([n for n, _ in model.named_parameters()])
    return TorchTrainer(model, objective, recipe, names, precision, team or Team())


@torch.no_grad()
def logits(model: nn.Module, columns: Mapping[str, np.ndarray], batch_size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Start and end logits (N, T) of all rows."""
    from splinter.align import torch_side

    first = next(model.parameters())
    dtype = str(first.dtype).removeprefix("torch.")
    start, end = [], []
    model.eval()
    with torch_side.float64_softmax():
        for begin in range(0, len(columns["input_ids"]), batch_size):
            rows = {name: column[begin : begin + batch_size] for name, column in columns.items()}
            tensors = {n: t.to(first.device) for n, t in torch_side.from_numpy(rows, dtype).items()}
            out = forward(model, tensors)
            start.append(out["start_logits"].cpu().numpy())
            end.append(out["end_logits"].cpu().numpy())
    return np.concatenate(start), np.concatenate(end)


@cache
def columns(name: str, mode: str) -> dict[str, np.ndarray]:
    """A data source as columns, by transformers' own processing; gold texts as strings."""
    from .proof import reference_data

    source = cases.source(name)
    convert = reference_data.paper_features if mode == "paper" else reference_data.hf_features
    found = convert(source.path, source.vocabulary, source.training, lower_case=source.lower_case, **source.sizes)
    found.pop("cls_index", None)  # always 0: [CLS] is the first piece
    if not source.training:
        golds = reference_data.golds(source.path, mode)
        found["gold texts"] = np.array([json.dumps([name, texts]) for name, texts in golds.items()])
    return found


def scores(case: str, given: Mapping[str, np.ndarray] | None, mode: str) -> dict[str, np.ndarray]:
    """transformers' metric on hostile predictions, or its decoding of injected logits."""
    from .proof import reference_metric

    if given is None:
        return {k: np.float64(v) for k, v in reference_metric.evaluate(*cases.predictions(case)).items()}
    start, end = cases.injected_logits(given)
    return decode(case.removeprefix("decode "), given, start, end, mode)


def decode(name: str, given: Mapping[str, np.ndarray], start, end, mode: str) -> dict[str, np.ndarray]:
    """n-best lists of a data source from logits (N, T), flattened, and the scores of the best."""
    from .proof import reference_data, reference_metric

    source, grouped = cases.source(name), cases.rows_by_example(given)
    windows = [[cases.row(given, row) for row in rows] for rows in grouped.values()]
    starts, ends = ([logits[rows] for rows in grouped.values()] for logits in (start, end))
    examples = reference_data.decoding_examples(source.path, mode)
    if mode == "paper":
        vocabulary, lower_case = source.vocabulary, source.lower_case
        found = reference_metric.decode(examples, windows, starts, ends, vocabulary, lower_case=lower_case)
        spans = [found[example.id] for example in examples]
    else:
        spans = [
            reference_metric.decode_offsets(examples[number], *rest)
            for number, *rest in zip(grouped, windows, starts, ends, strict=True)
        ]
    best = {examples[number].id: found[0]["text"] for number, found in zip(grouped, spans, strict=True)}
    return cases.decoded_record(spans, reference_metric.evaluate(reference_data.golds(source.path, mode), best))


@cache
def side(mode: str, task: str = "answering") -> Side:
    """The reference as the engine sees it."""
    twin = mode == "paper"
    sources: Sequence[str] = (
        (__name__, "transformers.models.bert.modeling_bert")
        if twin
        else ("transformers.models.splinter.modeling_splinter",)
    )
    return Side(
        framework="torch",
        sources=tuple(sources),
        kind="twin" if twin else "transformers",
        load=lambda folder: load(folder, mode, task),
        build=lambda folder: load(folder, mode, task, dropout=True, fresh=True),
        forward=forward,
        loss=loss,
        optimizer=AdamW,
        decayed=decayed,
        hyperparameters=pretraining_hyperparameters if task == "pretraining" else hyperparameters,
        rates=pretraining_rates if task == "pretraining" else linear_rates,
        data=mined if task == "pretraining" else lambda source: columns(source, mode),
        metric=lambda case, given: scores(case, given, mode),
        train=pretrain if task == "pretraining" else lambda folder, dtype: train(folder, mode, dtype),
    )


def mined(source: str) -> dict[str, np.ndarray]:
    """A text as the arrays of a shard, by the plain restatement."""
    from .pretraining.proof import reference_mining

    vocabulary, how = pretraining_cases.settings(source)
    text, whole_words = pretraining_cases.text(source), how.mode == "whole-word"
    return reference_mining.columns(text, vocabulary, how.length, whole_words, how.passes, how.seed)


def pretrain(folder: Path, dtype: str) -> dict[str, np.ndarray]:
    """One whole pretraining run on the shipped text, by the plain restatement of mining; whole batches at once."""
    from splinter.align import torch_side

    from .pretraining.proof import reference_mining

    model = torch_side.cast(load(folder, "paper", "pretraining"), dtype)
    hyper = replace(pretraining_cases.training_recipe(folder), micro_batch=0)
    feed = reference_mining.Feed(mined("sample/train"), hyper, pretraining_cases.settings("sample/train")[1].seed)
    log = fit(pretrainer(model, hyper), feed, hyper)
    return pretraining_cases.training_record(log, sys.modules[__name__], model, dtype)


def train(folder: Path, mode: str, dtype: str) -> dict[str, np.ndarray]:
    """One whole few-shot run on the shipped sample, whole batches at once; data and decoding by the reference's own."""
    from splinter.align import torch_side

    model = torch_side.cast(load(folder, mode), dtype)
    inputs = cases.model_inputs(columns(cases.TRAINING, mode), labels=True)
    hyper = cases.training_recipe(folder)
    log = fit(trainer(model, hyper), inputs, hyper, prepare=trim)
    dev = columns(cases.EVALUATION[mode], mode)
    start, end = logits(model, cases.model_inputs(dev))
    return cases.training_record(log, decode(cases.EVALUATION[mode], dev, start, end, mode), dtype)
