"""JointBERT's recipe in Paddle: loss, decayed weights, trainer, predictions, and the port's side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from splinter import runtime
from splinter.align import paddle_side
from splinter.align.port import Side
from splinter.ports import recipe as recipes
from splinter.ports.recipe import Recipe
from splinter.ports.text import WordPieces
from splinter.ports.train_paddle import AdamW, PaddleTrainer
from splinter.ports.train_paddle import gpus as gpus
from splinter.ports.train_paddle import seed as seed

from . import cases, data, metric
from .config import RECIPE, read_checkpoint
from .model import CRF, JointBert

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "dropout_rate": 0.0}


def load(folder: Path, mode: str, dropout: bool = False, fresh: bool = False) -> JointBert:
    """A model in evaluation mode.

    Args:
        dropout: keep the rates of the configuration (else 0).
        fresh: leave the weights as the initialiser makes them.
    """
    changes: dict[str, Any] = {"use_crf": mode == "crf", **({} if dropout else NO_DROPOUT)}
    if fresh:
        model = JointBert(read_checkpoint(folder, **changes)[0])
        model.eval()
        return model
    return JointBert.from_pretrained(folder, **changes)


def open_model(folder: Path, heads: str, device: str = "auto", repeated: bool = False, **changes: Any) -> JointBert:
    """A model for work, with the dropout of its configuration.

    Args:
        heads: "pretrained" or "fresh".
        repeated: many batches will follow, so compiling pays (unless the settings of `runtime` are off).
        changes: configuration fields to change.
    """
    if device != "auto":
        paddle.set_device(device)
    model = JointBert.from_pretrained(folder, heads=heads, **changes)
    if repeated and runtime.applied():
        model.compile()
    return model


def save(model: JointBert, folder: Path, beside: Mapping[str, bytes]) -> None:
    """Write the model with what lies beside its weights; see `checkpoint.write_model`."""
    model.write(folder, beside)


def forward(model: JointBert, batch: Mapping[str, paddle.Tensor]) -> dict[str, paddle.Tensor]:
    """States, pooled token, logits, and with a CRF the best paths without and with the padding."""
    states, pooled = model.encode(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
    intent_logits, slot_logits = model.heads(states, pooled)
    out = {"states": states, "pooled": pooled, "intent_logits": intent_logits, "slot_logits": slot_logits}
    if model.crf is not None:
        for name, padding in (("path", False), ("path over padding", True)):
            out[name] = model.decode(slot_logits, batch["attention_mask"], padding)
    return out


def loss(model: JointBert, outputs: Mapping[str, paddle.Tensor], batch: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
    """The model's loss of given logits."""
    logits = outputs["intent_logits"], outputs["slot_logits"]
    return model.loss(*logits, batch["intent_labels"], batch["slot_labels"], batch["attention_mask"])


def decayed(names: Iterable[str]) -> list[str]:
    """All but biases and LayerNorm weights, as in the reference; so the tensors of the CRF decay.

    By structured name. What Paddle hands to `apply_decay_param_fun` is the automatic name (`linear_0.w_0`),
    on which a rule about names decays everything or nothing.
    """
    return [name for name in names if not name.endswith(".bias") and not name.endswith("norm.weight")]


def trainer(model: JointBert, recipe: Recipe) -> PaddleTrainer:
    """A model in training by the recipe."""

    def objective(model, batch):
        intent, slot = model(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
        return loss(model, {"intent_logits": intent, "slot_logits": slot}, batch)

    return PaddleTrainer(model, objective, recipe, decayed([n for n, _ in model.named_parameters()]))


@paddle.no_grad()
def predictions(model: JointBert, columns: Mapping[str, np.ndarray], batch_size: int = 64) -> dict[str, np.ndarray]:
    """What the model says of N rows, in their order.

    Returns:
        intent_logits (N, I); slots (N, T) ids, 0 beyond the longest row of a batch; loss (batches,).
    """
    model.eval()
    dtype = str(model.bert.dtype).removeprefix("paddle.")
    intents, losses = [], []
    slots = np.zeros_like(columns["input_ids"])
    for begin in range(0, len(slots), batch_size):
        rows = {name: column[begin : begin + batch_size] for name, column in columns.items()}
        rows = rows if model.config.decode_padding else recipes.trim(rows)
        batch = paddle_side.from_numpy(rows, dtype)
        intent, slot = model(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
        losses.append(loss(model, {"intent_logits": intent, "slot_logits": slot}, batch).item())
        intents.append(intent.numpy())
        found = model.decode(slot, batch["attention_mask"]).numpy()
        slots[begin : begin + batch_size, : found.shape[1]] = found
    return {"intent_logits": np.concatenate(intents), "slots": slots, "loss": np.array(losses)}


# -- the eleven steps -------------------------------------------------------------------------------------


@cache
def columns(name: str, mode: str) -> dict[str, np.ndarray]:
    """A data source as columns, by our own reading; label sets as strings."""
    source = cases.source(name)
    labels = data.read_labels(source.corpus)
    sentences = data.read(source.corpus / source.part)
    built = data.build_labels(sentences if source.training else data.read(source.corpus / "train"))
    labels = labels or built
    pieces = WordPieces(source.vocabulary, lower_case=True, python=True)
    found = data.features(sentences, pieces, labels, source.max_length)
    found |= {"intents": np.array(labels.intents), "slots": np.array(labels.slots)}
    return found | {"built intents": np.array(built.intents), "built slots": np.array(built.slots)}


def scored(found: Mapping[str, np.ndarray], rows: Mapping[str, np.ndarray], intents, slots):
    """Predicted intents and tags, and their scores, from ids."""
    gold, predicted = [intents[i] for i in rows["intent_labels"]], [intents[i] for i in found["intents"]]
    tags = [metric.tags_at(ids, rows["slot_labels"], slots) for ids in (rows["slot_labels"], found["slots"])]
    return predicted, tags[1], metric.evaluate(gold, predicted, *tags)


def scores(case: str, given: Mapping[str, np.ndarray] | None, mode: str) -> dict[str, np.ndarray]:
    """Our metric on hostile predictions, or our decoding of injected logits."""
    if given is None:
        return {k: np.float64(v) for k, v in metric.evaluate(*cases.predictions(case)).items()}
    logits, rows = cases.injected_logits(given, mode)
    intents, slots = given["intents"].tolist(), given["slots"].tolist()
    found = {"intents": logits["intent_logits"].argmax(axis=-1), "slots": logits["slot_logits"].argmax(axis=-1)}
    paths = {}
    if mode == "crf":
        crf = CRF(len(slots))
        for name, array in cases.injected_crf(len(slots)).items():
            getattr(crf, name).set_value(array)
        emissions, mask = (paddle.to_tensor(a) for a in (logits["slot_logits"], rows["attention_mask"]))
        found["slots"] = crf.decode(emissions, mask == 1).numpy()
        paths = {"path": found["slots"], "path over padding": crf.decode(emissions, mask >= 0).numpy()}
    predicted, tags, values = scored(found, rows, intents, slots)
    return cases.decoded_record(predicted, tags, values, **paths)


@cache
def side(mode: str) -> Side:
    """The port as the engine sees it."""
    return Side(
        framework="paddle",
        sources=("splinter.ports.jointbert.model", "splinter.ports.encoder"),
        kind="port",
        load=lambda folder: load(folder, mode),
        build=lambda folder: load(folder, mode, dropout=True, fresh=True),
        forward=forward,
        loss=loss,
        optimizer=AdamW,
        decayed=decayed,
        hyperparameters=lambda: asdict(RECIPE),
        rates=recipes.rates,
        data=lambda source: columns(source, mode),
        metric=lambda case, given: scores(case, given, mode),
        train=lambda folder, dtype: train(folder, mode, dtype),
    )


def train(folder: Path, mode: str, dtype: str) -> dict[str, np.ndarray]:
    """One whole run on the shipped sample, data and decoding by our own code."""
    model = paddle_side.cast(load(folder, mode), dtype)
    hyper = cases.training_recipe(folder)
    log = recipes.fit(
        trainer(model, hyper), cases.model_inputs(columns(cases.TRAINING, mode)), hyper, prepare=recipes.trim
    )
    dev = columns(cases.EVALUATION, mode)
    rows = cases.model_inputs(dev)
    predicted = predictions(model, rows, batch_size=8)
    found = {"intents": predicted["intent_logits"].argmax(axis=-1), "slots": predicted["slots"]}
    values = scored(found, rows, dev["intents"].tolist(), dev["slots"].tolist())[2]
    return cases.training_record(log, values, predicted, dtype)
