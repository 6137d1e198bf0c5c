"""The PyTorch original of the toy: a bag of words, one hidden layer, two classes."""

import json

import torch
from safetensors.torch import load_model
from torch import nn

from splinter.align import Side
from splinter.ports.common.torch.train import AdamW, TorchTrainer
from splinter.ports.common.training.feed import Table
from splinter.ports.common.training.fit import fit


class Bag(nn.Module):
    """Mean of word vectors, dense, tanh, dropout, dense: (B, T) ids -> (B, 2)."""

    def __init__(self, words, width, rate):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.hidden = nn.Linear(width, width)
        self.dropout = nn.Dropout(rate)
        self.out = torch.nn.utils.weight_norm(nn.Linear(width, 2))

    def forward(self, ids, mask):
        mask = mask.to(self.embedding.weight.dtype).unsqueeze(-1)  # (B, T, 1)
        mean = (self.embedding(ids) * mask).sum(1) / mask.sum(1)  # (B, D)
        return self.out(self.dropout(torch.tanh(self.hidden(mean))))


def build(folder, rate=0.1):
    return Bag(**json.loads((folder / "config.json").read_text()), rate=rate).eval()


def load(folder):
    model = build(folder, rate=0.0)
    load_model(model, folder / "model.safetensors")
    return model


def forward(model, batch):
    return {"logits": model(batch["ids"], batch["mask"])}


def loss(model, outputs, batch):
    return nn.functional.cross_entropy(outputs["logits"], batch["labels"])


def decayed(names):
    return [name for name in names if name.endswith("weight")]


def rates(features, recipe):
    count = recipe.epochs * -(-features // recipe.batch_size)
    return [recipe.learning_rate * ((count - k) / count) for k in range(count)]


def columns(source):
    import port

    lines = [line.split("\t") for line in port.SOURCES[source].read_text().splitlines()]
    texts = [text.split() for _, text in lines]
    longest = max(map(len, texts))
    ids = [[port.VOCABULARY.index(word) for word in text] + [0] * (longest - len(text)) for text in texts]
    mask = [[1] * len(text) + [0] * (longest - len(text)) for text in texts]
    found = {"ids": ids, "mask": mask, "labels": [int(label) for label, _ in lines]}
    return {name: torch.tensor(rows).numpy() for name, rows in found.items()}


def metric(case, given):
    import port

    gold, predicted = (torch.tensor(labels) for labels in port.PREDICTIONS[case])
    return {"accuracy": (gold == predicted).double().mean().numpy()}


def train(folder, dtype):
    import port

    model = load(folder).to(getattr(torch, dtype))
    trainer = TorchTrainer(model, lambda m, b: loss(m, forward(m, b), b), port.RECIPE, decayed([]))
    log = fit(trainer, Table(columns("train"), port.RECIPE), port.RECIPE)
    return port.curve(log, dtype)


HYPERPARAMETERS = {
    **{"learning_rate": 0.01, "warmup": 0, "epochs": 5, "min_steps": 0, "batch_size": 4},
    **{"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0, "max_norm": 1},
}

SIDE = Side(
    framework="torch",
    sources=("theirs",),
    kind="original",
    load=load,
    build=build,
    forward=forward,
    loss=loss,
    optimizer=AdamW,
    decayed=decayed,
    hyperparameters=lambda: HYPERPARAMETERS,
    rates=rates,
    data=columns,
    metric=metric,
    train=train,
)
