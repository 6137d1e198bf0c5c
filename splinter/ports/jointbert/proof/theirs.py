"""JointBERT's reference as the engine sees it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchcrf import CRF

from splinter.align import torch_side
from splinter.align.port import Side
from splinter.ports.common.proof import loop
from splinter.ports.common.proof.theirs import linear_rates, used
from splinter.ports.common.torch.train import AdamW

from .. import twin
from . import cases, reference_data, reference_metric

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "dropout_rate": 0.0}


def load(folder: Path, mode: str, dropout: bool = False, fresh: bool = False) -> twin.JointBERT:
    """A model in evaluation mode.

    Args:
        dropout: keep the rates of the configuration (else 0).
        fresh: leave the weights as the initialiser makes them.
    """
    changes: dict[str, Any] = {} if dropout else NO_DROPOUT
    return twin.build(folder, "pretrained", fresh, use_crf=mode == "crf", **changes)


def forward(model: twin.JointBERT, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """States, pooled token, logits, and with a CRF the best paths without the padding, with it, and as configured."""
    states, pooled, intent, slot = model(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
    out = {"states": states, "pooled": pooled, "intent_logits": intent, "slot_logits": slot}
    if model.config.use_crf:
        with torch.no_grad():
            for name, padding in (("path", False), ("path over padding", True), ("path as configured", None)):
                out[name] = model.decode(slot, batch["attention_mask"], padding)
    return out


def hyperparameters() -> dict[str, Any]:
    """Defaults of monologg's main.py, restated."""
    return {
        "learning_rate": 5e-5,
        "warmup": 0.0,
        "epochs": 10,
        "min_steps": 0,
        "batch_size": 32,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-8,
        "weight_decay": 0.0,
        "max_norm": 1.0,
        "max_steps": 0,
        "seed": 1234,
        "schedule": "linear",
        "optimizer": "hf",
        "micro_batch": 0,
    }


@cache
def columns(name: str, mode: str) -> dict[str, np.ndarray]:
    """A data source as columns, by the Python tokenizer; label sets as strings."""
    source = cases.source(name)
    found = reference_data.features(source.corpus, source.part, source.vocabulary, source.max_length)
    label_sets = (*reference_data.labels(source.corpus), *reference_data.built_labels(source.corpus))
    names = ("intents", "slots", "built intents", "built slots")
    return found | {name: np.array(labels) for name, labels in zip(names, label_sets, strict=True)}


def scored(found: Mapping[str, np.ndarray], rows: Mapping[str, np.ndarray], intents, slots):
    """Predicted intents and tags, and their scores, from ids."""
    gold, predicted = ([intents[int(i)] for i in ids] for ids in (rows["intent_labels"], found["intents"]))
    tags = [reference_metric.tags_at(ids, rows["slot_labels"], slots) for ids in (rows["slot_labels"], found["slots"])]
    return predicted, tags[1], reference_metric.evaluate(gold, predicted, *tags)


def scores(case: str, given: Mapping[str, np.ndarray] | None, mode: str) -> dict[str, np.ndarray]:
    """seqeval on hostile predictions, or torch's decoding of injected logits."""
    if given is None:
        return {k: np.float64(v) for k, v in reference_metric.evaluate(*cases.predictions(case)).items()}
    logits, rows = cases.injected_logits(given, mode)
    intents, slots = given["intents"].tolist(), given["slots"].tolist()
    emissions, mask = torch.from_numpy(logits["slot_logits"]), torch.from_numpy(rows["attention_mask"]).bool()
    found = {"intents": torch.from_numpy(logits["intent_logits"]).argmax(-1).numpy()}
    found["slots"] = emissions.argmax(-1).numpy()
    extra = {}
    if mode == "crf":
        crf = CRF(len(slots), batch_first=True)
        crf.load_state_dict({name: torch.from_numpy(a) for name, a in cases.injected_crf(len(slots)).items()})
        with torch.no_grad():
            found["slots"] = twin.paths(crf, emissions, mask).numpy()
            extra = {
                "path": found["slots"],
                "path over padding": twin.paths(crf, emissions, torch.ones_like(mask)).numpy(),
            }
    predicted, tags, values = scored(found, rows, intents, slots)
    return cases.decoded_record(predicted, tags, values, **extra)


@cache
def side(mode: str) -> Side:
    """The reference as the engine sees it."""
    return Side(
        framework="torch",
        sources=(twin.__name__, "transformers.models.bert.modeling_bert", *(("torchcrf",) if mode == "crf" else ())),
        kind="twin",
        load=lambda folder: load(folder, mode),
        build=lambda folder: load(folder, mode, dropout=True, fresh=True),
        forward=forward,
        loss=twin.loss,
        optimizer=AdamW,
        decayed=twin.decayed,
        hyperparameters=hyperparameters,
        rates=linear_rates,
        data=lambda source: columns(source, mode),
        metric=lambda case, given: scores(case, given, mode),
        train=lambda folder, dtype: trained(folder, mode, dtype),
        uses=lambda folder: uses(folder, mode),
    )


def answers(model: twin.JointBERT, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What is said of a batch: intents, slot ids and the loss, by one call of the model; slots of padding are 0."""
    out = forward(model, batch)
    slots = model.decode(out["slot_logits"], batch["attention_mask"], False)  # which a CRF does not give to padding
    slots = slots if model.config.use_crf else slots * batch["attention_mask"]
    return {"intent_logits": out["intent_logits"], "slots": slots, "loss": twin.loss(model, out, batch)[None]}


def uses(folder: Path, mode: str) -> Mapping[str, Mapping[str, np.ndarray]]:
    """What the reference says of a batch while it is trained; no row is cut."""
    models, batch = (load(folder, mode), load(folder, mode, dropout=True)), cases.asked_batch(folder, mode)
    return used(models, answers, lambda model, said, batch: said["loss"][0], batch)


def trained(folder: Path, mode: str, dtype: str) -> dict[str, np.ndarray]:
    """One whole run on the shipped sample, data, loop and decoding by the reference's own code; no batch is cut."""
    model = torch_side.cast(load(folder, mode), dtype)
    hyper = cases.training_recipe(folder)
    inputs = cases.model_inputs(columns(cases.TRAINING, mode))
    log = loop.trained(side(mode), model, loop.epochs(inputs, hyper), len(inputs["input_ids"]), hyper, dtype)
    dev = columns(cases.EVALUATION, mode)
    rows = cases.model_inputs(dev)
    predicted = twin.BACKEND.predictions(model, rows, batch_size=8)
    found = {"intents": predicted["intent_logits"].argmax(axis=-1), "slots": predicted["slots"]}
    values = scored(found, rows, dev["intents"].tolist(), dev["slots"].tolist())[2]
    return cases.training_record(log, values, predicted, dtype)
