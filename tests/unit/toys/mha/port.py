"""The toy described to the engine; imports no framework."""

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

from splinter.align import Port, WeightMap
from splinter.align.files import save_safetensors
from splinter.align.steps import STEPS
from splinter.align.weights import Rule
from splinter.ports.common.training.schedule import Recipe

TEXT = Path(__file__).with_name("reviews.tsv")
SOURCES = {"train": TEXT, "dev": TEXT}
VOCABULARY = ["", *sorted({word for line in TEXT.read_text().splitlines() for word in line.split("\t")[1].split()})]
PREDICTIONS = {"half": ([0, 1, 1, 0], [0, 1, 0, 1]), "one": ([1], [1])}
RECIPE = Recipe(learning_rate=0.01, warmup=0.0, epochs=5, min_steps=0, batch_size=4)


def weights(mode):
    """Their names -> ours; Paddle stores a Linear as (in, out)."""
    rules = [Rule("embedding.weight", "embedding.weight")]
    for layer in ("hidden", "out"):
        rules += [Rule(f"{layer}.weight", f"{layer}.weight", transpose=True), Rule(f"{layer}.bias", f"{layer}.bias")]
    for k, name in enumerate("qkv"):  # the original keeps the three in one matrix of (3 D, D)
        part, projection = (k, 3), f"attention.{name}_proj"
        rules.append(Rule("attention.in_proj_weight", f"{projection}.weight", part=part, transpose=True))
        rules.append(Rule("attention.in_proj_bias", f"{projection}.bias", part=part))
    rules.append(Rule("attention.out_proj.weight", "attention.out_proj.weight", transpose=True))
    rules.append(Rule("attention.out_proj.bias", "attention.out_proj.bias"))
    # torch reads the weight of out_proj and never runs the layer
    return WeightMap(rules, modules={"attention.out_proj": None})


@functools.cache
def tiny():
    """A checkpoint of random weights."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "config.json").write_text(json.dumps({"words": len(VOCABULARY), "width": 8}))
    sizes = {"embedding.weight": (len(VOCABULARY), 8), "hidden.weight": (8, 8), "hidden.bias": (8,)}
    sizes |= {"out.weight": (2, 8), "out.bias": (2,)}
    sizes |= {"attention.in_proj_weight": (24, 8), "attention.in_proj_bias": (24,)}
    sizes |= {"attention.out_proj.weight": (8, 8), "attention.out_proj.bias": (8,)}
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(scale=0.3, size=shape).astype("float32") for name, shape in sizes.items()}
    save_safetensors(folder / "model.safetensors", {n: (s, "float32") for n, s in sizes.items()}, arrays.items)
    return folder


def batches(folder, mode):
    """An ordinary batch and one of a single row without padding."""
    rng = np.random.default_rng(1)
    ids = rng.integers(1, len(VOCABULARY), size=(4, 6))
    mask = (np.arange(6) < np.array([6, 5, 3, 1])[:, None]).astype(np.int64)
    padded = {"ids": ids * mask, "mask": mask, "labels": np.array([0, 1, 1, 0])}
    return {"padded": padded, "one row": {name: rows[:1] for name, rows in padded.items()}}


def loss_cases(folder, mode):
    """Small logits, and some beyond the 64 at which Paddle's softmax stops."""
    logits, labels = np.random.default_rng(2).normal(size=(5, 2)), {"labels": np.array([0, 1, 1, 0, 1])}
    return {"small": ({"logits": logits}, labels), "large": ({"logits": 100 * logits}, labels)}


def curve(log, dtype):
    """What two trainings have in common."""
    return {name: np.array([entry[name] for entry in log], dtype) for name in ("loss", "norm")}


def theirs(mode):
    import theirs

    return theirs.SIDE


def ours(mode):
    import ours

    return ours.SIDE


PORT = Port(
    name="toy",
    modes=("plain",),
    theirs=theirs,
    ours=ours,
    weights=weights,
    batches=batches,
    train_batches=lambda folder, mode: [batches(folder, mode)["padded"]] * 10,
    loss_cases=loss_cases,
    readout=lambda outputs, batch: outputs,
    recipe=lambda: RECIPE,
    features=(12,),
    data_sources=lambda step, mode: ["train" if step == "train_data" else "dev"],
    metric_cases=lambda mode: dict.fromkeys(PREDICTIONS),
    zero_gradient=r"^attention\.k_proj\.bias$",
    steps=STEPS,
    checkpoints={"tiny": tiny},
    fetch=Path,
)
