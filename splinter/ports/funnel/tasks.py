"""What the command line does with Funnel: fine-tune, evaluate, predict, convert, in either framework.

Imports no framework; `backend.opened` picks train.py (Paddle) or twin.py (torch). The model pools padding, so rows may
be cut only where that changes nothing (`data.trim`); the answering loss counts padding, so its training rows are not
cut at all.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from splinter import runtime
from splinter.align.files import write_whole
from splinter.ports.common import UsageError, backend, checkpoint, folders, tasks
from splinter.ports.common.checkpoint import CheckpointError
from splinter.ports.common.text import vocabulary_lines
from splinter.ports.common.training.feed import Table
from splinter.ports.common.training.schedule import Recipe
from splinter.ports.common.training.trainer import Trainer

from . import data, metric
from .config import (
    MODES,
    PUBLISHED,
    TASKS,
    FunnelConfig,
    chosen_head,
    companions,
    config_from_dict,
    has_decoder,
    has_head,
    read_checkpoint,
)


@dataclass(frozen=True)
class Sizes:
    """How text becomes rows, in word pieces; the last two are for contexts."""

    max_length: int
    doc_stride: int = 128
    max_query_length: int = 64


SIZES = {"classification": Sizes(128), "answering": Sizes(512)}


@dataclass(frozen=True)
class Settings(tasks.Settings):
    """What every task of Funnel shares.

    Args:
        task: "qnli", "squad", or None = what the file or checkpoint says.
        sizes: fields of `Sizes` that are asked for.
    """

    task: str | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)


class Backend(backend.Backend, Protocol):
    """What Funnel's tasks ask of a framework."""

    def open_model(self, folder: Path, mode: str, head: str, device: str = "auto") -> Any:
        """A model for work, with the dropout of its configuration; `model.head` tells which head it has.

        Args:
            mode: "classification" or "answering".
            head: "pretrained", "fresh" (of QNLI's two classes, or of a span), or "auto" = the checkpoint's when it
                has one.

        Raises:
            CheckpointError, WeightError: no such head, no decoder where one is needed, or a tensor is missing.
        """

    def trainer(self, model: Any, recipe: Recipe) -> Trainer:
        """A model in training by the recipe."""

    def logits(self, model: Any, columns: Mapping[str, np.ndarray], batch_size: int = 16) -> dict[str, np.ndarray]:
        """Logits of N rows of T positions, in their order.

        Returns:
            logits (N, classes); or start_logits and end_logits (N, T) each.
        """


def task_of_file(file: Path, task: str | None) -> str:
    """The task that is asked for, or that a file's name tells: .tsv is QNLI, .json and .jsonl are SQuAD.

    Raises:
        UsageError: neither.
    """
    name = file.name.removesuffix(".gz")
    told = {".tsv": "qnli", ".json": "squad", ".jsonl": "squad"}.get(Path(name).suffix)
    if task is None and told is None:
        raise UsageError(f"{file}: neither .tsv (QNLI) nor .json (SQuAD); say which with --task")
    return task or str(told)


def task_of_checkpoint(folder: Path, task: str | None) -> str:
    """The task that is asked for, or the one that a checkpoint has a head for.

    Raises:
        UsageError: it has none, or both.
    """
    if task is not None:
        return task
    tensors = read_checkpoint(folder)[1]
    found = [name for name, mode in TASKS.items() if has_head(tensors, mode)]
    if len(found) != 1:
        raise UsageError(f"{folder} has {'the heads of both tasks' if found else 'no head'}; say --task qnli or squad")
    return found[0]


def open_tokenizer(folder: Path, config: FunnelConfig) -> data.Tokenizer:
    """The vocabulary of a checkpoint.

    Raises:
        VocabularyError: none there, BERT's names of special tokens, or another size than the model's.
    """
    tokenizer = data.Tokenizer(folder)
    tasks.check_vocabulary(tokenizer, config.vocab_size, {})  # a Funnel's configuration names no special token
    return tokenizer


# -- fine-tuning ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Finetuning(tasks.Training):
    """Fine-tuning on a QNLI or SQuAD file.

    Args:
        train: the file; its name tells the task where `settings.task` is None.
        recipe: that of the task, see config.RECIPES, or another one.
        head: "pretrained", "fresh", or "auto" (the checkpoint's when it has one).
    """

    settings: Settings
    head: str = "auto"

    @property
    def task_name(self) -> str:
        """One of config.TASKS.

        Raises:
            UsageError: the file's name tells none.
        """
        return task_of_file(self.train, self.settings.task)

    @property
    def mode(self) -> str:
        """The mode of the task."""
        return TASKS[self.task_name]

    @property
    def sizes(self) -> Sizes:
        """Sizes of the rows: the task's own, but for those that are asked for."""
        return replace(SIZES[self.mode], **self.settings.sizes)

    def asked(self) -> dict[str, Any]:
        return {"task_name": self.task_name, "asked_head": self.head, "sizes": asdict(self.sizes)}

    def prepare(self) -> tasks.Run:
        """See `tasks.Training`.

        Raises:
            DataError, CheckpointError, WeightError, VocabularyError, UsageError.
        """
        settings, mode, sizes = self.settings, self.mode, self.sizes
        data.existing(self.train, "a QNLI .tsv or a SQuAD .json file")  # said before anything else
        folder = checkpoint.resolve(settings.model, settings.download)
        config = read_checkpoint(folder)[0]
        tokenizer = open_tokenizer(folder, config)
        check_length(sizes, config)
        rows: data.PairFeatures | data.AnswerFeatures
        labels: tuple[str, ...] = ()
        if mode == "classification":
            pairs = list(data.read_pairs(self.train))
            labels = data.LABELS if chosen_head(folder, mode, self.head) == "fresh" else class_names(config, folder)
            found, names = data.pair_features(pairs, tokenizer, sizes.max_length), [pair.id for pair in pairs]
            rows = replace(found, labels=row_of_label(labels)[found.labels])
        else:
            asked = data.read_examples(self.train, training=True)
            examples, rows = data.concatenate(data.answer_features(asked, tokenizer, training=True, **asdict(sizes)))
            names = [examples[number].id for number in rows.example_index]
        computing: Backend = backend.opened("funnel", settings.framework)
        if self.head != "pretrained":
            computing.seed(self.recipe.seed)  # a fresh head is part of the run
        model = computing.open_model(folder, mode, self.head, backend.check_device(computing, settings.device))
        feed = Table(
            {name: getattr(rows, name) for name in (*data.INPUTS, *data.TARGETS[mode])},
            self.recipe,
            names=lambda numbers: [names[i] for i in numbers],
            prepare=functools.partial(trim, config=config) if mode == "classification" else dict,
        )
        counts = {"examples": len(set(names)), "rows": len(rows)}
        summary = f"{counts['examples']} examples, {len(rows)} rows of {sizes.max_length}, "
        summary += f"{feed.plan.updates} updates; {self.task_name}, {model.head} head, {settings.framework}"
        return tasks.Run(
            computing.trainer(model, self.recipe),
            feed,
            functools.partial(computing.save, model),
            companions(replace(config, num_labels=model.config.num_labels, labels=labels), mode, folder),
            summary,
            # without the names, which runs of before did not have; the hash of the data sees their order
            about={"head": model.head, "config": replace(config, labels=()).to_dict()},
            details={"head": model.head, **counts},
        )


def trim(batch: Mapping[str, np.ndarray], config: FunnelConfig) -> dict[str, np.ndarray]:
    """Rows cut where that changes nothing; see `data.trim`. The variants for which it does not hold keep all."""
    exact = config.separate_cls and config.truncate_seq
    return data.trim(batch, len(config.block_sizes)) if exact else dict(batch)


def check_length(sizes: Sizes, config: FunnelConfig) -> None:
    """Rows long enough for the model's blocks, and for a piece of each text.

    Raises:
        UsageError: they are not.
    """
    least = max(5, 2 ** (len(config.block_sizes) - 1) + 1)  # 5: three special tokens and a piece of each text
    if sizes.max_length < least:
        raise UsageError(
            f"--max-length {sizes.max_length} is too short for {len(config.block_sizes)} blocks; give {least} or more"
        )


def class_names(config: FunnelConfig, folder: Path) -> tuple[str, ...]:
    """QNLI's classes in the order of a head's rows: as its checkpoint names them, LABELS where it does not.

    Raises:
        UsageError: a head of other classes.
    """
    if config.num_labels != len(data.LABELS):
        raise UsageError(f"{folder} has a head of {config.num_labels} classes, QNLI has 2; use --head fresh")
    names = config.labels or data.LABELS
    if {name.lower() for name in names} != set(data.LABELS):
        raise UsageError(
            f"{folder / checkpoint.CONFIG}: id2label names the classes {' and '.join(names)}, QNLI's are "
            f"{' and '.join(data.LABELS)}; correct it, or train a new head with finetune --head fresh"
        )
    return tuple(name.lower() for name in names)


def row_of_label(names: tuple[str, ...]) -> np.ndarray:
    """Which row of the head each of LABELS has, (2,) int64."""
    return np.array([names.index(label) for label in data.LABELS], np.int64)


# -- using ------------------------------------------------------------------------------------------------


@dataclass
class Worker:
    """A loaded model with its tokenizer."""

    settings: Settings
    mode: str
    backend: Backend
    model: Any
    config: FunnelConfig
    tokenizer: data.Tokenizer
    sizes: Sizes
    labels: tuple[str, ...]

    def logits(self, rows: data.PairFeatures | data.AnswerFeatures) -> dict[str, np.ndarray]:
        """Logits of all rows; those of padding are the lowest number, so that it takes no place among the best.

        Raises:
            CheckpointError: they are not finite.
        """
        columns = {name: getattr(rows, name) for name in data.INPUTS}
        lengths, size = rows.attention_mask.sum(axis=1), self.settings.batch_size
        found: dict[str, np.ndarray] = {}
        for mine in tasks.by_length(lengths, size):
            batch = trim({name: column[mine] for name, column in columns.items()}, self.config)
            for name, part in self.backend.logits(self.model, batch, size).items():
                full = found.setdefault(name, np.zeros((len(rows), *self._shape(part, rows)), part.dtype))
                full[mine, : part.shape[1]] = part
        if not all(np.isfinite(one).all() for one in found.values()):
            raise CheckpointError(f"{self.settings.model} answers with NaN: its weights are broken; take another one")
        for full in found.values() if self.mode == "answering" else ():
            full[rows.attention_mask == 0] = np.finfo(full.dtype).min
        return found

    @staticmethod
    def _shape(part: np.ndarray, rows: data.PairFeatures | data.AnswerFeatures) -> tuple[int, ...]:
        return (rows.input_ids.shape[1],) if isinstance(rows, data.AnswerFeatures) else part.shape[1:]

    def classes(self, pairs: Iterable[data.Pair], stream: bool = False) -> Iterator[tuple[data.Pair, np.ndarray]]:
        """Each pair with the probabilities of data.LABELS, (2,) float64; one by one where `stream`."""
        pairs = iter(pairs)
        while chunk := list(islice(pairs, 1 if stream else 1000)):
            rows = data.pair_features(chunk, self.tokenizer, self.sizes.max_length)
            logits = self.logits(rows)["logits"].astype(np.float64)[:, row_of_label(self.labels)]
            shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
            yield from zip(chunk, shares / shares.sum(axis=-1, keepdims=True), strict=True)

    def answers(
        self, examples: Iterable[data.Example], null: bool, max_answer: int = 30, stream: bool = False
    ) -> Iterator[tuple[data.Example, metric.Decoded]]:
        """Each example with what the model says to it; one by one where `stream`."""
        done, sizes = 0, asdict(self.sizes)
        for kept, rows in data.answer_features(examples, self.tokenizer, block=1 if stream else 128, **sizes):
            start, end = self.logits(rows).values()
            for number, example in enumerate(kept, done):
                mine = np.flatnonzero(rows.example_index == number)
                windows = [{"offsets": rows.offsets[row]} for row in mine]
                found = metric.decode(example, windows, start[mine], end[mine], null, max_answer_length=max_answer)
                yield example, found
            done += len(kept)


def open_worker(settings: Settings, task: str | None = None) -> Worker:
    """Load a model for work; its rows are as long as was asked for, else as in its own training.

    Raises:
        CheckpointError, WeightError, VocabularyError, UsageError.
    """
    folder = checkpoint.resolve(settings.model, settings.download)
    mode = TASKS[task or task_of_checkpoint(folder, settings.task)]
    config = read_checkpoint(folder)[0]
    tokenizer = open_tokenizer(folder, config)
    sizes = replace(SIZES[mode], **{**tasks.trained_sizes(folder), **settings.sizes})
    check_length(sizes, config)
    computing: Backend = backend.opened("funnel", settings.framework)
    model = computing.open_model(folder, mode, "pretrained", backend.check_device(computing, settings.device))
    labels = class_names(config, folder) if mode == "classification" else ()
    return Worker(settings, mode, computing, model, config, tokenizer, sizes, labels)


def evaluate(
    settings: Settings,
    file: Path,
    predictions: Path | None = None,
    limit: int | None = None,
    max_answer: int = 30,
    threshold: float = 0.0,
    null: bool | None = None,
) -> dict[str, Any]:
    """Score a model on a QNLI or SQuAD file.

    Args:
        predictions: also write id -> label or answer to this JSON file.
        limit: only the first rows.
        threshold: odds above which a question gets no answer.
        null: whether questions may have none; None = if the file has such questions.

    Returns:
        Scores in points 0-100, `seconds`, and what was evaluated.
    """
    data.existing(file, "a QNLI .tsv or a SQuAD .json file")  # said before a model loads
    if predictions is not None:
        folders.refuse_target(predictions, file)
    task = task_of_file(file, settings.task)
    began = time.perf_counter()
    if task == "qnli":
        pairs = list(islice(data.read_pairs(file), limit))
        worker = open_worker(settings, task)
        found = list(tasks.bar(worker.classes(pairs), settings.progress, "pairs", len(pairs)))
        labels = np.array([pair.label for pair, _ in found])
        scores: dict[str, Any] = {"accuracy": metric.accuracy(labels, np.stack([s for _, s in found]))}
        scores["total"] = len(found)
        said = {pair.id: data.LABELS[int(shares.argmax())] for pair, shares in found}
    else:
        examples = list(islice(data.read_examples(file), limit))
        null = any(example.impossible for example in examples) if null is None else null
        worker = open_worker(settings, task)
        answers = worker.answers(examples, null, max_answer)
        decoded = {e.id: one for e, one in tasks.bar(answers, settings.progress, "questions", len(examples))}
        scores = {**metric.evaluate({e.id: e.answers for e in examples}, decoded, threshold), "null_answers": null}
        said = {name: one.text(threshold) for name, one in decoded.items()}
    if predictions is not None:
        write_whole(predictions, lambda f: json.dump(said, f, ensure_ascii=False, indent=1), "w")
    return {
        **scores,
        "file": str(file),
        "model": settings.model,
        "task": task,
        "framework": settings.framework,
        "max_length": worker.sizes.max_length,
        "seconds": round(time.perf_counter() - began, 1),
    }


@folders.locks("output")
def convert(source: str, output: Path, task: str | None = None, head: str = "auto", download: bool = False) -> str:
    """Read a checkpoint into the Paddle model and write it, in transformers' names and layout.

    Args:
        task: keep this task's head; None = what the checkpoint has: one head, a bare model with or without decoder.
        head: "pretrained", "fresh" or "auto"; with a task only.

    Returns:
        One line on what was written.
    """
    folders.refuse_occupied(output, known=checkpoint.HUB_FILES)
    runtime.import_paddle()
    from .model import MODELS

    folder = checkpoint.resolve(source, download)
    vocabulary_lines(folder)  # a model that could not read text is of no use
    config, tensors, _ = read_checkpoint(folder)
    open_tokenizer(folder, config)
    heads = [mode for mode in MODES if has_head(tensors, mode)]
    if task is None and len(heads) > 1:
        raise UsageError(f"{folder} has the heads of both tasks; say which to keep with --task qnli or squad")
    bare = "full" if has_decoder(tensors) else "base"
    kind = TASKS[task] if task else (heads[0] if heads else bare)
    model = MODELS[kind].from_pretrained(folder, head=head)
    folders.write_model(output, companions(model.config, kind, folder), model.write)
    return f"{output}: {tasks.counted(model)}, {kind}" + (f", {model.head} head" if kind in MODES else "")


@folders.locks("output")
def from_scratch(
    vocabulary: Path, output: Path, layout: str, changes: Mapping[str, Any], seed: int, task: str | None = None
) -> str:
    """Write a new model with random weights, of a published layout or a variation, to be trained from nothing.

    Args:
        vocabulary: a vocab.txt, BERT's uncased one or Funnel's.
        layout: one of config.PUBLISHED.
        changes: configuration fields to change; vocab_size follows the vocabulary.
        seed: of the initialiser.
        task: also give it this task's head.

    Returns:
        One line on what was written.
    """
    folders.refuse_occupied(output, known=checkpoint.HUB_FILES)
    computing: Backend = backend.opened("funnel", "paddle")
    from .model import MODELS

    made = checkpoint.scratch("vocabulary")
    made.mkdir()
    data.write_vocabulary(vocabulary, made / checkpoint.VOCABULARY)
    values = {**asdict(PUBLISHED[layout]), **changes, "vocab_size": data.Tokenizer(made).size}
    config = config_from_dict({k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}, "--set")
    computing.seed(seed)
    model = MODELS[TASKS[task] if task else "full"](config)
    folders.write_model(output, companions(config, model.kind, made), model.write)
    return f"{output}: {tasks.counted(model)}, {layout} with random weights, seed {seed}"
