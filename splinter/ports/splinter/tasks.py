"""What the command line does with Splinter: fine-tune, evaluate, predict, convert, in either framework.

Imports no framework; `backend.opened` picks train.py (Paddle) or twin.py (torch).
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from splinter import runtime
from splinter.align.files import write_whole
from splinter.ports.common import UsageError, backend, checkpoint, folders, tasks
from splinter.ports.common.checkpoint import CheckpointError
from splinter.ports.common.squad import FILE, SKIP_BAD, Refused
from splinter.ports.common.text import vocabulary_lines
from splinter.ports.common.training.best import Best
from splinter.ports.common.training.feed import Table, trim
from splinter.ports.common.training.schedule import Recipe
from splinter.ports.common.training.trainer import Trainer
from splinter.sample import PATH as SAMPLE

from . import answering, data, metric
from .config import SplinterConfig, companions, read_checkpoint

MAX_ANSWER = {"paper": 10, "hf": 30}
"""Longest answer: pieces in `paper` mode, as in the paper; tokens in `hf` mode, as in transformers' script."""
TRAIN_SAMPLE, DEV_SAMPLE = "fewshot-train.jsonl", "fewshot-dev.jsonl"
SEARCHED = 20
"""Starts and ends of each window that are tried, as in both references."""


@dataclass(frozen=True)
class Sizes:
    """How text is cut into windows, in word pieces."""

    max_length: int = 384
    doc_stride: int = 128
    max_query_length: int = 64


@dataclass(frozen=True)
class Settings(tasks.Settings):
    """What every task of Splinter shares; `sizes` are fields of `Sizes` that are asked for."""

    mode: str | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)


class Backend(backend.Backend, Protocol):
    """What Splinter's tasks ask of a framework."""

    def open_model(self, folder: Path, mode: str, head: str, device: str = "auto", repeated: bool = False) -> Any:
        """A model for work, with the dropout of its configuration; its `head` says which it has.

        Args:
            head: "pretrained", "fresh", or "auto" (the checkpoint's when it has one).
            repeated: many batches will follow, so compiling pays (unless the settings of `runtime` are off).

        Raises:
            CheckpointError: no head in the checkpoint and `head` is "pretrained".
        """

    def trainer(self, model: Any, recipe: Recipe, precision: str = "float32") -> Trainer:
        """A model in training by the recipe.

        Raises:
            UsageError: bf16 where the framework has none.
        """

    def logits(
        self, model: Any, columns: Mapping[str, np.ndarray], batch_size: int = 16
    ) -> tuple[np.ndarray, np.ndarray]:
        """Start and end logits (N, T) of all rows."""


# -- reading ----------------------------------------------------------------------------------------------


def open_tokenizer(folder: Path, config: SplinterConfig) -> data.Tokenizer:
    """The vocabulary of a checkpoint.

    Raises:
        VocabularyError: none there, or it does not fit the model: another size, a special token elsewhere.
    """
    tokenizer = data.Tokenizer(folder, config.mode)
    roles = ("pad", "sep", "mask", "question")
    tasks.check_vocabulary(tokenizer, config.vocab_size, {name: getattr(config, f"{name}_token_id") for name in roles})
    return tokenizer


def check_sizes(sizes: Sizes, config: SplinterConfig) -> Sizes:
    """Windows no longer than the model's positions.

    Raises:
        UsageError: the model has fewer positions than asked for.
    """
    if sizes.max_length > config.max_position_embeddings:
        raise UsageError(
            f"--max-length {sizes.max_length} is more than the {config.max_position_embeddings} positions of the model;"
            " give that many or fewer"
        )
    return sizes


def settle_questions(
    examples: list[data.Example], rows: data.Features, tokenizer: data.Tokenizer, sizes: Sizes, offset: int = 0
) -> None:
    """Let every row be asked by its own token, which stands before the period and the [SEP] at the question's end.

    The model asks at the first question token of a row, as the references do. One that the question itself spells is
    read as [UNK] here; where the question's own was cut off, [CLS] or a [MASK] of the context would ask.

    Args:
        rows: changed in place.

    Raises:
        DataError: a question has lost its token; names it and its length limit.
    """
    own = rows.token_type_ids.argmax(axis=1) - 3  # segment 1 begins behind the question's [SEP]
    asks = rows.input_ids == tokenizer.question
    if tokenizer.mode == "paper":
        asks |= rows.input_ids == tokenizer.mask
    lost = ~asks[np.arange(len(rows)), own]
    if lost.any():
        example = examples[int(rows.example_index[int(lost.argmax())]) - offset]
        raise data.too_long(example, sizes.max_query_length)
    rows.input_ids[asks & (np.arange(asks.shape[1]) < own[:, None])] = tokenizer.unk


LONGEST_SHIPPED = 40
"""Words of a question of the sample; the tests have longer ones in it, which the default limit of pieces would cut."""


def shipped(file: Path, name: str) -> tuple[Path, Callable[[data.Example], bool]]:
    """The file, or that of the sample where it is called `sample` and no file is; and which of its examples count."""
    if str(file) != "sample" or file.exists():
        return file, lambda example: True
    return SAMPLE / name, lambda example: len(example.question.split()) <= LONGEST_SHIPPED


def counted(
    file: Path,
    counts: Callable[[data.Example], bool],
    tokenizer: data.Tokenizer,
    sizes: Sizes,
    bad: Refused,
    training: bool = False,
) -> Iterator[data.Example]:
    """The examples of a file that count; one whose question is too long is bad."""
    fits = data.room(tokenizer, **asdict(sizes))

    def check(one: data.Example) -> data.Example:
        return fits(one) if counts(one) else one

    return filter(counts, data.read_examples(file, tokenizer.mode, training, bad, check))


# -- tasks ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Finetuning(tasks.Training):
    """Fine-tuning on a few-shot file.

    Args:
        train: MRQA JSON lines or SQuAD JSON, plain or `_qass`; `sample`: the 47 examples that the project ships.
        head: "pretrained", "fresh", or "auto" (the checkpoint's when it has one).
        precision: "float32", or "bf16" for matrix products in bfloat16.
        dev: held-out questions; the epoch with the best F1 on them is saved, in place of the last.
        skip_bad: leave the bad examples of both files out, and tell of them.
    """

    settings: Settings
    head: str = "auto"
    precision: str = "float32"
    dev: Path | None = None
    skip_bad: bool = False

    @property
    def mode(self) -> str:
        """Whose behaviour."""
        return self.settings.mode or "paper"

    def asked(self) -> dict[str, Any]:
        return {
            "mode": self.mode,
            "train_file": str(shipped(self.train, TRAIN_SAMPLE)[0]),
            "sizes": asdict(Sizes(**self.settings.sizes)),
            "asked_head": self.head,
            "precision": self.precision,
            "dev_file": None if self.dev is None else str(self.dev),
        }

    def prepare(self) -> tasks.Run:
        """See `tasks.Training`.

        Raises:
            DataError, CheckpointError, WeightError, UsageError.
        """
        settings, hyper = self.settings, self.recipe
        train_file, counts = shipped(self.train, TRAIN_SAMPLE)
        folder = checkpoint.resolve(settings.model, settings.download)
        config = replace(read_checkpoint(folder)[0], mode=self.mode)
        if hyper.micro_batch and config.mode != "paper":
            raise UsageError(
                "--micro-batch goes with --mode paper: in mode hf a window may count for nothing in its batch"
            )
        tokenizer, sizes = open_tokenizer(folder, config), check_sizes(Sizes(**settings.sizes), config)
        bad, bad_dev = (Refused(leave_out=self.skip_bad, option=SKIP_BAD) for _ in range(2))
        blocks = data.features(
            counted(train_file, counts, tokenizer, sizes, bad, training=True),
            tokenizer,
            config.mode,
            training=True,
            **asdict(sizes),
        )
        examples, rows = data.concatenate(blocks)
        settle_questions(examples, rows, tokenizer, sizes)
        held_out = [] if self.dev is None else _held_out(self.dev, tokenizer, sizes, bad_dev)
        computing: Backend = backend.opened("splinter", settings.framework)
        if self.head != "pretrained":
            computing.seed(hyper.seed)  # a fresh head is part of the run
        device = backend.check_device(computing, settings.device)
        model = computing.open_model(folder, config.mode, self.head, device, repeated=True)
        names = ("input_ids", "attention_mask", "token_type_ids", "start_positions", "end_positions")
        feed = Table(
            {name: getattr(rows, name) for name in names},
            hyper,
            names=lambda numbers: [examples[i].id for i in rows.example_index[numbers]],
            prepare=trim,
        )
        summary = f"{len(examples)} examples, {len(rows)} windows, {feed.plan.updates} updates; mode {config.mode}, "
        told = backend.told_precision(computing, settings.device, self.precision)
        summary += f"{model.head} head, {settings.framework}" + f", {told}" * (self.precision != "float32")
        trainer, best = computing.trainer(model, hyper, self.precision), None
        if self.dev is not None:
            dev = self.dev
            answerer = Answerer(settings, computing, model, config, tokenizer, sizes, MAX_ANSWER[config.mode], n_best=1)
            best = Best(trainer, lambda: scores(answerer.answers(held_out), dev)[0], "f1", self.output)
            summary += f", {len(held_out)} held-out questions"
        return tasks.Run(
            trainer,
            feed,
            functools.partial(computing.save, model),
            companions(config, folder),
            summary + (f"; {len(rows.skipped)} examples skipped" if rows.skipped else ""),
            about={"head": model.head, "config": config.to_dict()} | ({"dev": digest(held_out)} if held_out else {}),
            details={"head": model.head, "examples": len(examples), "windows": len(rows)}
            | ({"left_out": bad.count} if bad.count else {}),
            best=best,
            notes=[*bad.lines, *bad_dev.lines],
        )


def _held_out(file: Path, tokenizer: data.Tokenizer, sizes: Sizes, bad: Refused) -> list[data.Example]:
    """The questions of a file that will be answered after each epoch; what cannot be answered is told now."""
    file, counts = shipped(file, DEV_SAMPLE)
    examples, done = list(counted(file, counts, tokenizer, sizes, bad)), 0
    for kept, rows in data.features(examples, tokenizer, tokenizer.mode, **asdict(sizes)):
        settle_questions(kept, rows, tokenizer, sizes, done)
        done += len(kept)
    return examples


def digest(examples: Iterable[data.Example]) -> str:
    """A hash (16 hex digits) of questions, contexts and answers."""
    told = [[one.id, one.question, one.context, one.answers] for one in examples]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Reply:
    """What a reader gets for a question.

    Args:
        answers: best first; none where nothing of the context may answer.
        unread: share of the context's pieces that the vocabulary cannot read; see `answering.unread`.
    """

    example: data.Example
    answers: list[answering.Answer]
    unread: float


@dataclass
class Answerer:
    """A loaded model that answers examples in batches."""

    settings: Settings
    backend: Backend
    model: Any
    config: SplinterConfig
    tokenizer: data.Tokenizer
    sizes: Sizes
    max_answer: int
    n_best: int

    @property
    def fits(self) -> data.Check:
        """Tells a question that is too long for this model; see `data.room`."""
        return data.room(self.tokenizer, **asdict(self.sizes))

    def answers(
        self, examples: Iterable[data.Example], stream: bool = False
    ) -> Iterator[tuple[data.Example, list[metric.Span]]]:
        """What the protocol scores: n-best spans of each example, in order, as the references decode them.

        Args:
            stream: answer each question as it comes, for input that is typed or piped; blocks are faster.

        Raises:
            DataError: a question lost its question token, or leaves no room for its context.
        """
        for example, windows, logits in self._read(examples, stream):
            yield example, self._spans(example, windows, logits)[: self.n_best]

    def ask(self, examples: Iterable[data.Example], stream: bool = False) -> Iterator[Reply]:
        """What a reader is shown: n-best answers of each example, in order. For the arguments see `answers`."""
        for example, windows, logits in self._read(examples, stream):
            paper = self.config.mode == "paper"
            where = metric.where_paper(windows) if paper else metric.where_hf(windows)
            scores = answering.span_scores(logits[0], logits[1], where[0], where[1], self.max_answer)
            if not paper:  # mode paper lets a span begin in one window alone
                places = np.stack([one.offsets for one in windows])  # (R, T, 2)
                scores = answering.once(scores, places[..., 0], places[..., 1])
            mass = answering.masses(answering.log_softmax(scores), functools.partial(self._text, example, windows))
            found = answering.shown(self._spans(example, windows, logits), mass, example.context)
            inner = np.concatenate([one.input_ids[one.token_type_ids == 1][:-1] for one in windows])  # without [SEP]
            yield Reply(example, found[: self.n_best], answering.unread(inner, self.tokenizer))

    def _read(
        self, examples: Iterable[data.Example], stream: bool
    ) -> Iterator[tuple[data.Example, list[_Window], tuple[np.ndarray, np.ndarray]]]:
        """Each example with its R windows and their start and end logits (R, T)."""
        sizes, done = self.sizes, 0
        for kept, rows in data.features(
            examples, self.tokenizer, self.config.mode, block=1 if stream else 128, **asdict(sizes)
        ):
            settle_questions(kept, rows, self.tokenizer, sizes, done)
            start, end = self.logits(rows)
            for number, example in enumerate(kept, done):
                mine = np.flatnonzero(rows.example_index == number)
                yield example, [_Window(rows, int(i)) for i in mine], (start[mine], end[mine])
            done += len(kept)

    def _spans(
        self, example: data.Example, windows: list[_Window], logits: tuple[np.ndarray, np.ndarray]
    ) -> list[metric.Span]:
        """Searched as widely however few are asked for, so that the first is always the same."""
        limits = {"n_best": SEARCHED, "max_answer_length": self.max_answer}
        if self.config.mode == "paper":
            text = self.tokenizer.pieces, self.tokenizer.basic
            return metric.decode_paper(example, windows, logits[0], logits[1], *text, **limits)
        return metric.decode_hf(example, windows, *logits, **limits)

    def _text(self, example: data.Example, windows: list[_Window], window: int, first: int, last: int) -> str:
        """What the decoder makes of a span."""
        row = windows[window]
        if self.config.mode == "paper":
            return metric.span_text(example, row, row.strings(self.tokenizer), first, last, self.tokenizer.basic)[0]
        return example.context[row.offsets[first, 0] : row.offsets[last, 1]]

    def logits(self, rows: data.Features) -> tuple[np.ndarray, np.ndarray]:
        """Start and end logits (N, T); rows are batched by length, and padding positions get the lowest number."""
        columns = {name: getattr(rows, name) for name in ("input_ids", "attention_mask", "token_type_ids")}
        order = np.argsort(columns["attention_mask"].sum(axis=1), kind="stable")
        shape = columns["input_ids"].shape
        start, end = (np.full(shape, np.finfo(np.float32).min, np.float32) for _ in range(2))
        for begin in range(0, len(order), self.settings.batch_size):
            mine = order[begin : begin + self.settings.batch_size]
            batch = trim({name: column[mine] for name, column in columns.items()})
            got = self.backend.logits(self.model, batch, len(mine))
            tokens = got[0].shape[1]
            start[mine, :tokens], end[mine, :tokens] = got
        if not (np.all(start < np.inf) and np.all(end < np.inf)):  # nan compares as false
            raise CheckpointError(f"{self.settings.model} answers with NaN: its weights are broken; take another one")
        return start, end


class _Window:
    """One row of Features, read in place."""

    def __init__(self, rows: data.Features, number: int):
        self.rows, self.number = rows, number
        self._strings: list[str] | None = None

    def __getattr__(self, name: str) -> np.ndarray:
        return getattr(self.rows, name)[self.number]

    def strings(self, tokenizer: data.Tokenizer) -> list[str]:
        """Its pieces; spelled once."""
        if self._strings is None:
            self._strings = tokenizer.pieces(self.input_ids.tolist())
        return self._strings


def open_answerer(
    settings: Settings, max_answer: int | None = None, n_best: int = 20, repeated: bool = False
) -> Answerer:
    """Load a model for answering; its windows are those asked for, else those of its own training.

    Args:
        repeated: many questions will follow.

    Raises:
        CheckpointError, WeightError, VocabularyError, UsageError.
    """
    folder = checkpoint.resolve(settings.model, settings.download)
    stored = read_checkpoint(folder)[0]
    config = replace(stored, mode=settings.mode or stored.mode)
    tokenizer = open_tokenizer(folder, config)
    sizes = check_sizes(Sizes(**{**tasks.trained_sizes(folder), **settings.sizes}), config)
    computing: Backend = backend.opened("splinter", settings.framework)
    device = backend.check_device(computing, settings.device)
    model = computing.open_model(folder, config.mode, "pretrained", device, repeated)
    return Answerer(settings, computing, model, config, tokenizer, sizes, max_answer or MAX_ANSWER[config.mode], n_best)


def scores(
    answers: Iterable[tuple[data.Example, list[metric.Span]]], file: Path
) -> tuple[dict[str, float], dict[str, str]]:
    """Scores (points 0-100) of the best answer to each question of a file, and question id -> its text.

    Raises:
        DataError: there is none.
    """
    golds, predicted = {}, {}
    for example, spans in answers:
        golds[example.id], predicted[example.id] = example.answers, spans[0].text
    if not golds:
        raise data.DataError(f"{file}: no question has a context that a tokenizer reads; nothing was evaluated")
    return metric.evaluate(golds, predicted), predicted


def drawn(examples: list[data.Example], number: int) -> Iterator[data.Example]:
    """Some of the examples, in their order; the same ones in each call."""
    rows = np.random.RandomState(0).permutation(len(examples))[:number]  # a stream that numpy keeps as it is
    return (examples[row] for row in np.sort(rows))


def evaluate(
    settings: Settings,
    file: Path,
    predictions: Path | None = None,
    max_answer: int | None = None,
    limit: int | None = None,
    sample: int | None = None,
    skip_bad: bool = False,
) -> dict[str, Any]:
    """Score a model on a file of questions.

    Args:
        predictions: also write question id -> text to this JSON file.
        limit: only the first questions.
        sample: only so many questions, drawn once and for all: a function of the number of questions alone.
        skip_bad: leave the bad examples of the file out.

    Returns:
        Scores in points 0-100, `seconds`, and what was evaluated; `left_out`, how many bad examples were, and `bad`, a
        line on each of the first.
    """
    file, counts = shipped(file, DEV_SAMPLE)
    data.existing(file, FILE)  # said before a model loads and answers for hours
    if predictions is not None:
        folders.refuse_target(predictions, file)
    answerer = open_answerer(settings, max_answer, repeated=True)
    bad = Refused(leave_out=skip_bad, option=SKIP_BAD)
    read = counted(file, counts, answerer.tokenizer, answerer.sizes, bad)
    examples: Iterator[data.Example] = islice(read, limit)
    if sample is not None:
        examples = drawn(list(examples), sample)
    began = time.perf_counter()
    found, predicted = scores(tasks.bar(answerer.answers(examples), settings.progress, "questions"), file)
    if predictions is not None:
        write_whole(predictions, lambda f: json.dump(predicted, f, ensure_ascii=False, indent=1), "w")
    return {
        **found,
        "file": str(file),
        "model": settings.model,
        "mode": answerer.config.mode,
        "max_length": answerer.sizes.max_length,
        "framework": settings.framework,
        "seconds": round(time.perf_counter() - began, 1),
        **({"left_out": bad.count, "bad": bad.lines[1:]} if bad.count else {}),
    }


@folders.locks("output")
def convert(
    source: str,
    output: Path,
    mode: str | None = None,
    head: str = "pretrained",
    encoder: str = "pretrained",
    seed: int = 42,
    download: bool = False,
    dtype: str = "float32",
) -> str:
    """Read a checkpoint of any layout into the Paddle model and write it in ours.

    Args:
        head: "pretrained", "fresh", "matching": a fresh one that starts from likeness, see `match_questions`, or
            "plain": a fresh one that scores tokens alone, to compare with.
        encoder: "pretrained", or "fresh" for random weights of the checkpoint's sizes; the head is fresh then, too.
        seed: of fresh weights.
        dtype: of the weights that are written, "float32" or "float16".

    Returns:
        One line on what was written.
    """
    folders.refuse_occupied(output, known=checkpoint.HUB_FILES)
    if encoder == "fresh" and head == "pretrained":
        raise UsageError("--encoder fresh does not fit a pretrained head; add --head fresh, matching or plain")
    runtime.import_paddle()
    from .model import SplinterForQuestionAnswering

    folder = checkpoint.resolve(source, download)
    vocabulary_lines(folder)  # a model that could not read text is of no use
    backend.opened("splinter", "paddle").seed(seed)
    kinds = {"fresh": "qass", "matching": "qass", "plain": "plain"}
    changes: dict[str, Any] = {"span_head": kinds[head]} if head in kinds else {}
    if head == "plain":
        mode = mode or "paper"  # transformers, and so mode hf, has no such head
    if encoder == "fresh":
        model = SplinterForQuestionAnswering(read_checkpoint(folder, mode=mode, **changes)[0])
        model.folder = folder
    else:
        kind = "pretrained" if head == "pretrained" else "fresh"
        model = SplinterForQuestionAnswering.from_pretrained(folder, mode=mode, head=kind, **changes)
    if head == "matching":
        model.match_questions()
    elif head == "plain":
        model.question_as_mask()
    open_tokenizer(folder, model.config)
    folders.write_model(output, companions(model.config, folder), functools.partial(model.write, dtype=dtype))
    line = f"{output}: {tasks.counted(model)}, mode {model.config.mode}, {head} head"
    line += ", fresh encoder" * (encoder == "fresh")
    return line + f", {dtype}" * (dtype != "float32")
