"""JointBERT's port as the engine sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from splinter.align import paddle_side
from splinter.align.port import Side
from splinter.ports.common.paddle.train import AdamW
from splinter.ports.common.proof.ours import used
from splinter.ports.common.text import WordPieces
from splinter.ports.common.training.feed import Table, trim
from splinter.ports.common.training.fit import fit
from splinter.ports.common.training.schedule import rates

from .. import data, metric, train
from ..config import RECIPE, read_checkpoint
from ..model import CRF, JointBert
from . import cases

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


def forward(model: JointBert, batch: Mapping[str, paddle.Tensor]) -> dict[str, paddle.Tensor]:
    """States, pooled token, logits, and with a CRF the best paths without the padding, with it, and as configured."""
    states, pooled = model.encode(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
    intent_logits, slot_logits = model.heads(states, pooled)
    out = {"states": states, "pooled": pooled, "intent_logits": intent_logits, "slot_logits": slot_logits}
    if model.crf is not None:
        for name, padding in (("path", False), ("path over padding", True), ("path as configured", None)):
            out[name] = model.decode(slot_logits, batch["attention_mask"], padding)
    return out


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
        sources=("splinter.ports.jointbert.model", "splinter.ports.common.paddle.encoder"),
        kind="port",
        load=lambda folder: load(folder, mode),
        build=lambda folder: load(folder, mode, dropout=True, fresh=True),
        forward=forward,
        loss=train.loss,
        optimizer=AdamW,
        decayed=train.decayed,
        hyperparameters=lambda: asdict(RECIPE),
        rates=rates,
        data=lambda source: columns(source, mode),
        metric=lambda case, given: scores(case, given, mode),
        train=lambda folder, dtype: trained(folder, mode, dtype),
        uses=lambda folder: uses(folder, mode),
    )


def answers(model: JointBert, batch: Mapping[str, paddle.Tensor]) -> dict[str, paddle.Tensor]:
    """What `predictions` says of a batch by default, by a plain call that is told so.

    A CRF gives padding no slot; without one, what it gets is nobody's, and 0 here.
    """
    intent, slot = model(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
    found = train.loss(model, {"intent_logits": intent, "slot_logits": slot}, batch)
    slots = model.decode(slot, batch["attention_mask"], False)
    return {
        "intent_logits": intent,
        "slots": slots if model.config.use_crf else slots * batch["attention_mask"],
        "loss": found.reshape([1]),
    }


def uses(folder: Path, mode: str) -> Mapping[str, Mapping[str, np.ndarray]]:
    """What the port says of a batch while it is trained, padding not decoded, as is the default."""
    opened = partial(train.BACKEND.open_model, folder, "pretrained", use_crf=mode == "crf", decode_padding=False)
    batch, recipe = cases.asked_batch(folder, mode), cases.training_recipe(folder)

    def ask(model: JointBert) -> dict[str, np.ndarray]:
        found = train.BACKEND.predictions(model, batch)
        return found if mode == "crf" else {**found, "slots": found["slots"] * batch["attention_mask"]}

    return used(partial(opened, **NO_DROPOUT), opened, answers, ask, train.BACKEND, batch, recipe)


def trained(folder: Path, mode: str, dtype: str) -> dict[str, np.ndarray]:
    """One whole run on the shipped sample, data and decoding by our own code."""
    model = paddle_side.cast(load(folder, mode), dtype)
    hyper = cases.training_recipe(folder)
    feed = Table(cases.model_inputs(columns(cases.TRAINING, mode)), hyper, prepare=trim)
    log = fit(train.BACKEND.trainer(model, hyper), feed, hyper)
    dev = columns(cases.EVALUATION, mode)
    rows = cases.model_inputs(dev)
    predicted = train.BACKEND.predictions(model, rows, batch_size=8)
    found = {"intents": predicted["intent_logits"].argmax(axis=-1), "slots": predicted["slots"]}
    values = scored(found, rows, dev["intents"].tolist(), dev["slots"].tolist())[2]
    return cases.training_record(log, values, predicted, dtype)
