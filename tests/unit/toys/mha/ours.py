"""The Paddle port of the toy."""

import json
from dataclasses import asdict

import numpy as np
import paddle
from paddle import nn

from splinter.align import Side, paddle_side
from splinter.align.files import SafetensorsFile
from splinter.ports.common.paddle.model import cross_entropy, load_weights
from splinter.ports.common.paddle.train import AdamW, PaddleTrainer
from splinter.ports.common.training import schedule
from splinter.ports.common.training.feed import Table
from splinter.ports.common.training.fit import fit


def linear(inputs, outputs):
    """torch's law: uniform within 1/sqrt(inputs), the bias too; Paddle's own differs in both."""
    law = paddle.ParamAttr(initializer=nn.initializer.Uniform(-(inputs**-0.5), inputs**-0.5))
    return nn.Linear(inputs, outputs, weight_attr=law, bias_attr=law)


def attention(width, heads):
    """torch's laws: Glorot's for q, k and v as one matrix of (D, 3 D), a Linear's for the last one, biases of zeros."""
    glorot, plain = (6 / (4 * width)) ** 0.5, width**-0.5
    packed, last = (paddle.ParamAttr(initializer=nn.initializer.Uniform(-x, x)) for x in (glorot, plain))
    layer = nn.MultiHeadAttention(width, heads, weight_attr=packed)
    layer.out_proj = nn.Linear(width, width, weight_attr=last)
    return layer


class Bag(nn.Layer):
    def __init__(self, words, width, rate):
        super().__init__()
        self.embedding = nn.Embedding(words, width, weight_attr=paddle.ParamAttr(initializer=nn.initializer.Normal()))
        self.attention = attention(width, 2)
        self.hidden = linear(width, width)
        self.dropout = nn.Dropout(rate)
        self.out = linear(width, 2)

    def forward(self, ids, mask):
        mask = mask.astype(self.embedding.weight.dtype).unsqueeze(-1)  # (B, T, 1)
        words = self.embedding(ids)
        words = words + self.attention(words, words, words)
        mean = (words * mask).sum(1) / mask.sum(1)  # (B, D)
        return self.out(self.dropout(paddle.tanh(self.hidden(mean))))


def build(folder, rate=0.1):
    model = Bag(**json.loads((folder / "config.json").read_text()), rate=rate)
    model.eval()
    return model


def load(folder):
    import port

    model = build(folder, rate=0.0)
    load_weights(model, port.weights("plain"), SafetensorsFile(folder / "model.safetensors"), str(folder))
    return model


def forward(model, batch):
    return {"logits": model(batch["ids"], batch["mask"])}


def loss(model, outputs, batch):
    losses, counted = cross_entropy(outputs["logits"], batch["labels"], ignore=-100)
    return losses.sum() / counted.sum()


def decayed(names):
    return [name for name in names if name.endswith("weight")]


def hyperparameters():
    import port

    return asdict(port.RECIPE)


def rates(features, recipe):
    plan = schedule.plan(features, recipe)
    return [schedule.rate(plan, recipe.learning_rate, k) for k in range(plan.updates)]


def columns(source):
    import port

    number = {word: i for i, word in enumerate(port.VOCABULARY)}
    labels, texts = zip(*(line.split("\t") for line in port.SOURCES[source].open()), strict=True)
    rows = [[number[word] for word in text.split()] for text in texts]
    ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for row, numbers in zip(ids, rows, strict=True):
        row[: len(numbers)] = numbers
    return {"ids": ids, "mask": (ids > 0).astype(np.int64), "labels": np.array(labels, dtype=np.int64)}


def metric(case, given):
    import port

    gold, predicted = port.PREDICTIONS[case]
    return {"accuracy": np.mean(np.equal(gold, predicted))}


def train(folder, dtype):
    import port

    model = paddle_side.cast(load(folder), dtype)
    trainer = PaddleTrainer(model, lambda m, b: loss(m, forward(m, b), b), port.RECIPE, decayed([]))
    log = fit(trainer, Table(columns("train"), port.RECIPE), port.RECIPE)
    return port.curve(log, dtype)


SIDE = Side(
    framework="paddle",
    sources=("ours",),
    kind="port",
    load=load,
    build=build,
    forward=forward,
    loss=loss,
    optimizer=AdamW,
    decayed=decayed,
    hyperparameters=hyperparameters,
    rates=rates,
    data=columns,
    metric=metric,
    train=train,
)
