"""Speed as ratios: run `tox -e bench`; models are timed in turns with their reference, and the ratio is of each pair.

Not collected by a plain `pytest`. Base size with `--checkpoint base`. Whole files need a data folder. In other groups
the number in brackets is the ratio to the fastest.
"""

import contextlib
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertTokenizer
from transformers.data.processors import squad

from splinter import datasets, runtime
from splinter.ports import proofs
from splinter.ports.common.checkpoint import BertConfig
from splinter.ports.common.paddle import kernels
from splinter.ports.common.paddle.train import PaddleTrainer
from splinter.ports.common.torch.train import TorchTrainer
from splinter.ports.common.training.schedule import Recipe
from splinter.ports.splinter import config, data, train, twin
from splinter.ports.splinter.pretraining import passages, spans
from splinter.ports.splinter.pretraining.proof import cases as pretraining_cases
from splinter.ports.splinter.pretraining.proof import reference_mining
from splinter.ports.splinter.proof import cases, reference_data
from splinter.sample import PATH as SAMPLE

SIX = config.SplinterConfig(
    vocab_size=2048,
    hidden_size=384,
    num_hidden_layers=6,
    num_attention_heads=12,
    intermediate_size=1536,
    max_position_embeddings=384,
)
SHAPES = {"tiny": (12, 384), "six": (8, 384), "base": (4, 384)}
assert issubclass(config.SplinterConfig, BertConfig)


@contextlib.contextmanager
def folder_of(size: str) -> Iterator[Path]:
    """A checkpoint of random weights."""
    if size != "six":
        yield getattr(cases, size)()
        return
    with tempfile.TemporaryDirectory() as made:
        yield cases.write_random(Path(made) / "six", SIX, 0, SAMPLE / "vocab.txt", logits=60.0)


@pytest.fixture(scope="module", params=list(SHAPES))
def checkpoint(request):
    """(size, folder) of random weights."""
    if request.param == "base" and "base" not in request.config.getoption("--checkpoint"):
        pytest.skip("minutes at base size: add --checkpoint base")
    with folder_of(request.param) as folder:
        yield request.param, folder


def batch(size: str) -> dict[str, np.ndarray]:
    """Full rows: the worst case for both."""
    rows, tokens = SHAPES[size]
    rng = np.random.default_rng(0)
    ids = rng.integers(120, 2000, size=(rows, tokens))
    ids[:, 0], ids[:, 5], ids[:, 7] = 101, 103, 102
    start = rng.integers(8, tokens, size=rows)
    return {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
        "start_positions": start,
        "end_positions": start,
    }


def threads() -> int:
    """Of either framework."""
    return int(os.environ["OMP_NUM_THREADS"])  # runtime.tune has set it


@pytest.fixture(autouse=True, scope="module")
def _as_the_command_line():
    """Subnormal numbers are zero, as while a command trains or answers."""
    with runtime.subnormals_are_zero():
        yield


@pytest.fixture(autouse=True, scope="module")
def _told(request):
    """The ratios below the table of times."""

    class Told:
        def pytest_terminal_summary(self, terminalreporter):
            for line in RATIOS:
                terminalreporter.write_line(line)

    request.config.pluginmanager.register(Told())


RATIOS: list[str] = []


def opened(side: str, folder: Path) -> tuple[Any, Any]:
    """A backend and a model by way of what the command line does."""
    backend = {"paddle": train, "torch": twin}[side].BACKEND
    assert runtime.applied(), "the settings of runtime.tune are part of what is measured"
    torch.set_num_threads(threads())
    return backend, backend.open_model(folder, "paper", "pretrained", "cpu", repeated=True)


def trainer(backend, model):
    """A model in training by the paper's recipe."""
    return backend.trainer(model, Recipe())


@pytest.fixture(params=["paddle's own", "kernels"])
def built(request):
    """Models that are opened here compute by paddle's own kernels, or by ours."""
    if request.param == "kernels":
        try:
            there = kernels.loaded()
        except kernels.BuildError as error:
            pytest.skip(str(error))
        if not there:
            pytest.skip("switched off by SPLINTER_KERNELS=0")
    with kernels.unused() if request.param == "paddle's own" else contextlib.nullcontext():
        yield request.param


def in_turns(benchmark, group, built, ours, theirs, rounds=3):
    """Time both in turns; the record gets the median of theirs, and that of the ratios.

    What is timed is the second of two passes in a row: the first one after the other framework's asks the system for
    memory anew, which at base size costs torch a quarter of its time.
    """
    times = []

    def before():
        theirs()
        began = time.perf_counter()
        theirs()
        times.append(time.perf_counter() - began)
        ours()

    benchmark.group = f"{group}, {threads()} thread{'s' * (threads() > 1)}"
    benchmark.pedantic(ours, setup=before, rounds=rounds)
    if benchmark.stats is not None:  # --benchmark-disable
        ratio = statistics.median(mine / other for mine, other in zip(benchmark.stats.stats.data, times, strict=True))
        benchmark.extra_info.update(built=built, torch=statistics.median(times), ratio=ratio)
        RATIOS.append(f"{benchmark.group}, {built}: {ratio:.2f} times torch's time")


@pytest.mark.parametrize("what", ["forward pass", "train step"])
def test_model(benchmark, checkpoint, built, what):
    """Splinter, as the command line runs it; dropout on while training."""
    size, folder = checkpoint
    runs, seen, inputs = [], [], cases.model_inputs(batch(size))
    for side in ("paddle", "torch"):
        module, model = opened(side, folder)
        if what == "train step":
            step = trainer(module, model).step
            runs.append(lambda step=step: seen.append(step(batch(size), 1e-5)[0]))
        else:
            runs.append(lambda module=module, model=model: seen.append(module.logits(model, inputs, 64)[0]))
    in_turns(benchmark, f"{what}, {size}, batch {SHAPES[size]}", built, *runs, rounds=2 if size == "base" else 3)
    assert seen and all(np.isfinite(one).all() for one in seen)
    gc.collect()


def _jointbert(folder):
    from splinter.ports.jointbert.proof import cases

    return cases.write_random(folder, replace(cases.tiny_config(), **SIX_LAYERS), 0, None), "softmax"


def _multitask(folder):
    from splinter.ports.multitask.proof import cases

    return cases.write_random(folder, replace(cases.TINY, **SIX_LAYERS), 0, None), "version2"


def _funnel(folder):
    from splinter.ports.funnel.proof import cases

    sizes = {"d_model": 384, "n_head": 6, "d_head": 64, "d_inner": 1536, "block_sizes": (2, 2, 2)}
    config = replace(cases.TINY, **sizes, block_repeats=(1, 1, 1))
    return cases.write_random(folder, config, 0, None, logits=10.0), "answering"


SIX_LAYERS = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
SIBLINGS = {"jointbert": _jointbert, "funnel": _funnel, "multitask": _multitask}


@pytest.fixture(scope="module", params=list(SIBLINGS))
def sibling(request, tmp_path_factory):
    """(port, mode, folder, batch) of six layers of width 384; the batch is the port's ordinary one, eight times."""
    folder, mode = SIBLINGS[request.param](tmp_path_factory.mktemp(request.param))
    port = proofs.load(request.param)[0]
    rows = max(port.batches(folder, mode).values(), key=lambda one: sum(column.size for column in one.values()))
    # a joint batch also has numbers of its own
    eight = {column: np.concatenate([values] * 8) if values.ndim else values for column, values in rows.items()}
    return port, mode, folder, eight


def compiled(model):
    """As the command line opens it, where a system's Paddle model can be compiled."""
    if hasattr(model, "compile_method") and hasattr(model, "compile"):
        model.compile()
    return model


@pytest.mark.parametrize("what", ["forward pass", "train step"])
def test_sibling(benchmark, sibling, built, what):
    """The sibling systems; dropout on while training."""
    port, mode, folder, batch = sibling
    runs, seen = [], []
    for implementation, kind in ((port.ours(mode), PaddleTrainer), (port.theirs(mode), TorchTrainer)):
        driver = implementation.driver
        if what == "train step":

            def objective(model, batch, side=implementation):
                return side.loss(model, side.forward(model, batch), batch)

            model = compiled(implementation.build(folder))
            decayed = implementation.decayed(list(driver.parameters(model)))
            step = kind(model, objective, port.recipe(), decayed).step
            runs.append(lambda step=step: seen.append(step(batch, 1e-5)[0]))
        else:
            model = compiled(implementation.load(folder))
            run = partial(driver.trace, model, implementation.forward, batch, "float32", [])
            runs.append(lambda run=run: seen.append(len(run()[1])))
    tokens = max(column.shape[1] for column in batch.values() if column.ndim == 2)
    rows = max(len(column) for column in batch.values() if column.ndim)
    torch.set_num_threads(threads())
    in_turns(benchmark, f"{what}, {port.name}, six layers, batch {rows, tokens}", built, *runs)
    assert seen and np.isfinite(seen).all() and min(seen) > 0
    gc.collect()


def squad_file():
    """SQuAD dev where it is to be had, else the shipped sample."""
    try:
        return datasets.find("squad_v1/dev-v1.1.json"), datasets.find("vocab/bert-base-cased-vocab.txt")
    except datasets.DataMissing:
        return SAMPLE / "squad-dev.json", SAMPLE / "vocab.txt"


def test_features_ours(benchmark):
    file, vocabulary = squad_file()
    benchmark.group = f"features, {file.name}, one process"

    def convert():
        examples = data.read_examples(file, "paper")
        return sum(len(rows) for _, rows in data.features(examples, data.Tokenizer(vocabulary, "paper"), "paper"))

    assert benchmark.pedantic(convert, rounds=3, warmup_rounds=1) > 100


def test_features_transformers(benchmark):
    """squad_convert_examples_to_features alone: reading is not even counted."""
    file, vocabulary = squad_file()
    benchmark.group = f"features, {file.name}, one process"
    examples = reference_data.squad_examples(file, False)
    for example in examples:
        example.question_text += " [MASK]."
    tokenizer = BertTokenizer(str(vocabulary), do_lower_case=False)

    def convert():
        return len(
            squad.squad_convert_examples_to_features(
                examples, tokenizer, 384, 128, 64, is_training=False, threads=1, tqdm_enabled=False
            )
        )

    assert benchmark.pedantic(convert, rounds=1) > 100


@pytest.mark.parametrize("mask", ["one row per text", "spread out"])
def test_mask_addition(benchmark, mask):
    """Why the encoder spreads its mask out: Paddle adds (B, 1, 1, T) to (B, H, T, T) far slower than equal shapes."""
    import paddle

    benchmark.group = "adding a mask to scores (8, 12, 384, 384), Paddle"
    scores, row = paddle.ones([8, 12, 384, 384]), paddle.zeros([8, 1, 1, 384])
    added = row if mask == "one row per text" else row.expand(scores.shape) + 0.0
    assert benchmark.pedantic(lambda: scores + added, rounds=9, warmup_rounds=2).shape == scores.shape


@pytest.mark.parametrize("how", ["slice", "split"])
def test_gradient_of_a_part(benchmark, how):
    """Why Funnel splits its scores where it wants a part of them: the gradient of a slice."""
    import paddle

    benchmark.group = "gradient of the first 127 of 254 entries, (32, 6, 127, 254), Paddle"
    scores = paddle.ones([32, 6, 127, 254])
    scores.stop_gradient = False
    part = scores[..., :127] if how == "slice" else paddle.split(scores, [127, 127], axis=-1)[0]
    above = paddle.ones(part.shape)
    run = partial(paddle.grad, [part], [scores], [above], retain_graph=True)
    (found,) = benchmark.pedantic(run, rounds=9, warmup_rounds=2)
    assert found.sum().item() == part.size


@pytest.fixture(scope="module")
def pieces():
    """(tokenizer, ids of one long text): Wikipedia where there is a data folder, else the shipped contexts."""
    try:
        file, vocabulary = datasets.find("wiki/dev/wiki_00"), datasets.find("vocab/bert-base-cased-vocab.txt")
    except datasets.DataMissing:
        file, vocabulary = pretraining_cases.text("sample/train"), SAMPLE / "vocab.txt"
    tokenizer = data.Tokenizer(vocabulary, "hf", literal=True)
    lines = [line for document in passages.documents(file) for line in document.segments]
    return tokenizer, [piece for ids in tokenizer.encode(lines) for piece in ids]


def cut(ids, length):
    """30,000 pieces in passages of one length."""
    return [ids[begin : begin + length] for begin in range(0, 30_000, length)]


@pytest.mark.parametrize("length", [512, 4096])
def test_mining_by_length(benchmark, pieces, length):
    """Linear in the text: as many pieces, in shorter or longer passages."""
    tokenizer, ids = pieces
    known, rows = spans.Pieces(tokenizer.vocabulary), cut(ids, length)
    benchmark.group = "recurring spans of 30,000 pieces, by the length of passages"
    found = benchmark.pedantic(lambda: spans.recurring(rows, known), rounds=7, warmup_rounds=1)
    assert sum(map(len, found)) > 10


@pytest.mark.parametrize("how", ["here", "pairs of equal pieces", "all pairs of places"])
def test_mining_by_form(benchmark, pieces, how):
    """The clusters of 58 passages of 512 pieces: here, as the authors enumerate them, and by the quadratic rule of the
    tests."""
    from test_spans import plainly  # not at the top: pytest would collect its tests, too

    tokenizer, ids = pieces
    known, rows = spans.Pieces(tokenizer.vocabulary), cut(ids, 512)[:58]
    text = [tokenizer.pieces(row) for row in rows]
    forms = {
        "here": lambda: spans.recurring(rows, known),
        "pairs of equal pieces": lambda: [reference_mining.kept(row, whole_words=False) for row in text],
        "all pairs of places": lambda: [plainly(row) for row in text],
    }
    benchmark.group = "recurring spans of 58 passages of 512 pieces"
    assert len(benchmark.pedantic(forms[how], rounds=5, warmup_rounds=1)) == 58
