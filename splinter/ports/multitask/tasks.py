"""What the command line does with the multi-task model: fine-tune, evaluate, predict, convert, in either framework.

Imports no framework; `backend.opened` picks train.py (Paddle) or twin.py (torch).
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from splinter import runtime
from splinter.align.files import write_whole
from splinter.ports.common import UsageError, backend, checkpoint, folders, tasks, text
from splinter.ports.common.checkpoint import CheckpointError
from splinter.ports.common.training.best import Best
from splinter.ports.common.training.log import LOG
from splinter.ports.common.training.schedule import Recipe
from splinter.ports.common.training.trainer import Trainer

from . import data, metric
from .config import CHOICES, TASKS, MultitaskConfig, companions, read_checkpoint
from .data import Dataset
from .feed import MixedFeed, steps_of_an_epoch

CLASSES = {"sst": 5, "cfimdb": 2}
PREDICTIONS = {
    "sentiment": ("{sentiment}-{split}-output.csv", "Predicted_Sentiment"),
    "paraphrase": ("para-{split}-output.csv", "Predicted_Is_Paraphrase"),
    "similarity": ("sts-{split}-output.csv", "Predicted_Similarity"),
}
"""Task -> file of predictions and its column, as the course asks for them."""
FEELINGS = {
    5: ("very negative", "negative", "neutral", "positive", "very positive"),
    2: ("negative", "positive"),
}


class Backend(backend.Backend, Protocol):
    """What the multi-task model's tasks ask of a framework."""

    def open_model(
        self,
        folder: Path,
        head: str,
        device: str = "auto",
        repeated: bool = False,
        frozen: bool = False,
        **changes: Any,
    ) -> Any:
        """A model for work, with the dropout of its configuration; `config` and `head` of it are read.

        Args:
            head: "pretrained" = all heads must be there; "auto" = those that are there, the others fresh; "fresh" =
                new heads. The model's `head` tells what it came to: "pretrained", "fresh" or "partly fresh".
            repeated: many batches will follow, so compiling pays (unless the settings of `runtime` are off).
            frozen: only the heads will learn.
            changes: configuration fields to change, None = leave.
        """

    def trainer(self, model: Any, recipe: Recipe) -> Trainer:
        """A model in training by the recipe."""

    def encode(self, model: Any, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Sentences, (B, T) integers each, 1 = token in the mask -> (B, D), dropout off."""

    def outputs(self, model: Any, task: str, encoded: Sequence[np.ndarray]) -> np.ndarray:
        """What a task's head says to encoded sentences, (B, D) of each of their one or two texts, dropout off.

        Returns:
            (B, C) logits of sentiment; (B, 2), or (B,) of version 1, of paraphrase; (B,) scores of similarity.
        """


@dataclass(frozen=True)
class Files:
    """Where the data are.

    Args:
        folder: the course's folder.
        named: (task, split) -> files that are not there, or are called otherwise.
        tasks: which of the three.
        sentiment: "sst" or "cfimdb".
    """

    folder: Path
    named: Mapping[tuple[str, str], Sequence[Path]] = field(default_factory=dict)
    tasks: tuple[str, ...] = TASKS
    sentiment: str = "sst"

    def paths(self, task: str, split: str) -> list[Path]:
        """The files of a task.

        Raises:
            DataError: none there.
        """
        return [*self.named.get((task, split), ())] or [data.find(self.folder, task, split, self.sentiment)]

    def check(self, *splits: str) -> None:
        """All of them are there, before a model loads.

        Raises:
            DataError: one is not.
        """
        if not all((task, split) in self.named for task in self.tasks for split in splits) and not self.folder.is_dir():
            raise data.DataError(f"{self.folder}: no such folder; give the one that holds the course's .csv files")
        for split in splits:
            for task in self.tasks:
                for path in self.paths(task, split):
                    text.existing(path, f"a file of {task}")

    def load(
        self, split: str, pieces: text.WordPieces, config: MultitaskConfig, say: Callable[[str], None]
    ) -> dict[str, Dataset]:
        """Task -> its data; what was dropped is said."""
        found = {}
        for task in self.tasks:
            longest = min(data.LONGEST, config.max_position_embeddings)
            paths = self.paths(task, split)
            found[task] = data.load(paths, task, pieces, longest, config.sentiment_classes, labels=split != "test")
            if found[task].dropped:
                say(f"{found[task].source}: {found[task].dropped} rows dropped, their label is no number")
        return found


@dataclass(frozen=True)
class Choices:
    """What decides a run beside the recipe; None = what the checkpoint says.

    Args:
        phase: "pretrain" (only the heads learn) or "finetune".
        head: "auto" (those of the checkpoint, new ones where it has none) or "fresh".
        sampling, alpha, steps: see `MixedFeed`; steps 0 = one pass over the sentiment data.
        dev_rows: of each dev set, the first so many choose the model; 0 = all.
        encoder_dropout: of the hidden states and of attention.
    """

    phase: str = "finetune"
    head: str = "auto"
    sampling: str = "joint"
    alpha: float = 0.5
    steps: int = 0
    dev_rows: int = 0
    design: str | None = None
    pooling: str | None = None
    head_activation: str | None = None
    pair_features: str | None = None
    encoder_dropout: float | None = None


def open_tokenizer(folder: Path, config: MultitaskConfig) -> text.WordPieces:
    """The vocabulary of a checkpoint.

    Raises:
        VocabularyError: none there, or it does not fit the model.
    """
    pieces = data.tokenizer(folder)
    tasks.check_vocabulary(pieces, config.vocab_size, {"pad": config.pad_token_id})
    return pieces


# -- running a model --------------------------------------------------------------------------------------


@dataclass
class Runner:
    """A model on data: outputs, decisions and scores."""

    backend: Backend
    model: Any
    name: str
    batch_size: int
    progress: bool = False

    def encode(self, some: data.Tokens) -> np.ndarray:
        """Sentences -> (N, D), in batches of like length, where padding costs least."""
        encoded: np.ndarray | None = None
        batches = list(tasks.by_length(some.lengths, self.batch_size))
        for rows in tasks.bar(batches, self.progress, "batches"):
            found = self.backend.encode(self.model, *some.padded(rows))
            if encoded is None:
                encoded = np.empty((len(some.lengths), found.shape[1]), found.dtype)
            encoded[rows] = found
        assert encoded is not None
        return encoded

    def head(self, task: str, encoded: Sequence[np.ndarray]) -> np.ndarray:
        """What the task's head says to encoded rows, (N, D) of each text.

        Raises:
            CheckpointError: something that is no number.
        """
        found = [
            self.backend.outputs(self.model, task, [e[begin : begin + 1024] for e in encoded])
            for begin in range(0, len(encoded[0]), 1024)
        ]
        outputs = np.concatenate(found)
        if not np.isfinite(outputs).all():
            raise CheckpointError(f"{self.name} answers with NaN: its weights are broken; take another one")
        return outputs

    def outputs(self, dataset: Dataset) -> np.ndarray:
        """What the task's head says to every row."""
        return self.head(dataset.task, [self.encode(some) for some in dataset.texts])

    def scores(self, datasets: Mapping[str, Dataset]) -> dict[str, Any]:
        """Each task's score, their mean, macro F1 of sentiment, and how often each class is predicted."""
        predicted = {task: metric.decisions(task, self.outputs(one)) for task, one in datasets.items()}
        return report(datasets, predicted, self.model.config.sentiment_classes)


def report(datasets: Mapping[str, Dataset], predicted: Mapping[str, np.ndarray], classes: int) -> dict[str, Any]:
    """Scores of predictions."""
    found: dict[str, Any] = {}
    for task, dataset in datasets.items():
        assert dataset.labels is not None
        found[task] = metric.score(task, predicted[task], dataset.labels)
    found["mean"] = metric.mean(found)
    if "sentiment" in datasets and datasets["sentiment"].labels is not None:
        found["sentiment macro F1"] = metric.macro_f1(predicted["sentiment"], datasets["sentiment"].labels)
    sizes = {"sentiment": classes}
    found["predicted"] = {t: metric.histogram(t, p, sizes.get(t, 2)) for t, p in predicted.items()}
    return found


# -- fine-tuning ------------------------------------------------------------------------------------------


class BestMean(Best):
    """Keeps the model of the best mean score, and notes beside each score how often the data were traversed."""

    def __init__(self, trainer: Trainer, evaluate: Any, folder: Path | None, feed: MixedFeed):
        super().__init__(trainer, evaluate, "mean", folder)
        self.feed = feed

    def __call__(self, updates: int) -> Mapping[str, Any]:
        return {**super().__call__(updates), "passes": self.feed.passes(updates)}


def best_of_each(log: Path) -> dict[str, dict[str, Any]]:
    """Task -> its best dev score of a run and after how many updates, from the run's log."""
    found: dict[str, dict[str, Any]] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        for task in TASKS:
            score = entry.get("dev", {}).get(task)
            if isinstance(score, int | float) and (task not in found or score > found[task]["score"]):
                found[task] = {"score": score, "updates": entry["step"]}
    return found


@dataclass(frozen=True, kw_only=True)
class Finetuning(tasks.Training):
    """Fine-tuning on the tasks together; the epoch with the best mean dev score is saved.

    Args:
        files: the data; `train` is their folder.
        choices: what decides the run beside the recipe; the learning rate of the phase is the recipe's business.
    """

    files: Files
    choices: Choices = Choices()

    def asked(self) -> dict[str, Any]:
        return {
            "phase": self.choices.phase,
            "tasks": list(self.files.tasks),
            "sentiment_data": self.files.sentiment,
            "choices": asdict(self.choices),
        }

    def changes(self) -> dict[str, Any]:
        """Configuration fields that are asked for, None = what the checkpoint says."""
        changes: dict[str, Any] = {name: getattr(self.choices, name) for name in CHOICES}
        if self.choices.encoder_dropout is not None:
            dropout = ("hidden_dropout_prob", "attention_probs_dropout_prob")
            changes |= dict.fromkeys(dropout, self.choices.encoder_dropout)
        if "sentiment" in self.files.tasks:
            changes["sentiment_classes"] = CLASSES[self.files.sentiment]
        return changes

    def prepare(self) -> tasks.Run:
        """See `tasks.Training`.

        Raises:
            DataError, CheckpointError, WeightError, UsageError.
        """
        settings, files, choices, changes = self.settings, self.files, self.choices, self.changes()
        files.check("train", "dev")
        folder = checkpoint.resolve(settings.model, settings.download)
        config = read_checkpoint(folder, choices.head, **changes)[0]
        pieces = open_tokenizer(folder, config)
        notes: list[str] = []
        train, dev = (files.load(split, pieces, config, notes.append) for split in ("train", "dev"))
        dev = {task: one.first(choices.dev_rows) for task, one in dev.items()}
        steps = choices.steps or steps_of_an_epoch(train, self.recipe.batch_size)
        feed = MixedFeed(train, self.recipe, steps, choices.sampling, choices.alpha)
        computing: Backend = backend.opened("multitask", settings.framework)
        computing.seed(self.recipe.seed)  # fresh heads are part of the run
        device = backend.check_device(computing, settings.device)
        frozen = choices.phase == "pretrain"
        model = computing.open_model(folder, choices.head, device, repeated=True, frozen=frozen, **changes)
        trainer = computing.trainer(model, self.recipe)
        runner = Runner(computing, model, settings.model, batch_size=64)
        rows = {task: {"train": len(train[task]), "dev": len(dev[task])} for task in files.tasks}
        total = feed.plan.updates
        details = {
            "design": config.design,
            "head": model.head,
            "train_file": str(files.folder),
            "files": {task: {"train": train[task].source, "dev": dev[task].source} for task in files.tasks},
            "rows": rows,
            "steps_per_epoch": feed.steps,
            "passes": feed.passes(total),
        }

        def save(target: Path, beside: Mapping[str, bytes]) -> None:
            computing.save(model, target, beside)
            details["best_of_each"] = best_of_each(self.output / LOG)

        shown = ", ".join(f"{task} {n['train']} + {n['dev']}" for task, n in rows.items())
        summary = f"{shown} rows; {total} updates, {feed.steps} per epoch, {choices.sampling}; {choices.phase}, "
        summary += f"{config.design}, {model.head} heads, {settings.framework}"
        return tasks.Run(
            trainer,
            feed,
            save,
            companions(with_trained(model.config, model.head, files.tasks), folder),
            summary,
            about={
                "phase": choices.phase,
                "head": model.head,
                "config": config.to_dict(),
                "dev": {task: one.hash() for task, one in dev.items()},
            },
            details=details,
            best=BestMean(trainer, lambda: runner.scores(dev), self.output, feed),
            watch_every=feed.steps,
            notes=notes,
        )


def with_trained(config: MultitaskConfig, head: str, learned: Sequence[str]) -> MultitaskConfig:
    """The configuration to write after a run on some tasks: those, and the ones that the heads had learned before.

    Args:
        head: which heads the run started from, as `Backend.open_model` tells.
    """
    if head != "fresh" and not config.trained:  # nobody knows what the heads have seen
        return config
    before = () if head == "fresh" else config.trained
    return replace(config, trained=tuple(task for task in TASKS if task in learned or task in before))


# -- using ------------------------------------------------------------------------------------------------


@dataclass
class Opened:
    """A loaded model with its vocabulary."""

    runner: Runner
    pieces: text.WordPieces
    config: MultitaskConfig


def open_runner(settings: tasks.Settings, repeated: bool = False) -> Opened:
    """Load a model with all its heads.

    Raises:
        CheckpointError, WeightError, VocabularyError, UsageError.
    """
    folder = checkpoint.resolve(settings.model, settings.download)
    config = read_checkpoint(folder)[0]
    pieces = open_tokenizer(folder, config)
    computing: Backend = backend.opened("multitask", settings.framework)
    model = computing.open_model(folder, "pretrained", backend.check_device(computing, settings.device), repeated)
    return Opened(Runner(computing, model, settings.model, settings.batch_size, settings.progress), pieces, config)


def refuse_untrained(name: str, config: MultitaskConfig, asked: Iterable[str]) -> None:
    """A head that never learned answers as surely as one that did.

    Raises:
        UsageError: a task that the model was not trained on.
    """
    if config.trained and (others := [task for task in asked if task not in config.trained]):
        raise UsageError(
            f"{name} was trained on {', '.join(config.trained)}, not on {', '.join(others)}; leave that out "
            f"(evaluate --tasks {' '.join(config.trained)}), or train it with finetune --tasks {' '.join(others)}"
        )


@folders.locks("predictions")
def evaluate(
    settings: tasks.Settings, files: Files, split: str = "dev", predictions: Path | None = None, say=print
) -> dict[str, Any]:
    """Score a model, or (split "test", whose files carry no labels) only predict.

    Args:
        predictions: folder for the course's files of predictions.

    Returns:
        Scores from 0 to 1, what was predicted how often, and what was evaluated; a correlation that is undefined
        is None, with a line under "warnings".
    """
    files.check(split)  # said before a model loads
    if split == "test" and predictions is None:
        raise UsageError("the test files carry no labels: nothing can be scored; write them with --predictions FOLDER")
    targets = {}
    if predictions is not None:
        targets = _targets(predictions, files, split)
    opened = open_runner(settings, repeated=True)
    if "sentiment" in files.tasks and CLASSES[files.sentiment] != opened.config.sentiment_classes:
        raise UsageError(
            f"{settings.model} has a head for {opened.config.sentiment_classes} sentiment classes, but "
            f"{files.sentiment} has {CLASSES[files.sentiment]}; choose another --sentiment, or leave it out of --tasks"
        )
    refuse_untrained(settings.model, opened.config, files.tasks)
    datasets = files.load(split, opened.pieces, opened.config, say)
    began = time.perf_counter()
    predicted = {task: metric.decisions(task, opened.runner.outputs(one)) for task, one in datasets.items()}
    found: dict[str, Any] = {}
    if split != "test":
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = report(datasets, predicted, opened.config.sentiment_classes)
        found = {name: None if value != value else value for name, value in found.items()}  # JSON has no nan
        if caught:
            found["warnings"] = [str(one.message) for one in caught]
    for task, target in targets.items():
        _write(target, PREDICTIONS[task][1], datasets[task].ids, predicted[task])
    return {
        **found,
        "rows": {task: len(one) for task, one in datasets.items()},
        "dropped": {task: one.dropped for task, one in datasets.items()},
        "file": str(files.folder),
        "split": split,
        "model": settings.model,
        "framework": settings.framework,
        "seconds": round(time.perf_counter() - began, 1),
    }


def _targets(folder: Path, files: Files, split: str) -> dict[str, Path]:
    targets = {}
    for task in files.tasks:
        targets[task] = folder / PREDICTIONS[task][0].format(sentiment=files.sentiment, split=split)
        for path in files.paths(task, split):
            folders.refuse_target(targets[task], path)
    return targets


def _write(path: Path, column: str, ids: list[str], predicted: np.ndarray) -> None:
    lines = [
        f"{name}, {value:.9g}\n" if predicted.dtype.kind == "f" else f"{name}, {value}\n"
        for name, value in zip(ids, predicted, strict=True)
    ]
    write_whole(path, lambda file: file.writelines([f"id, {column}\n", *lines]), "w")


def asked_rows(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(id, texts) of JSON lines: {"sentence": ...} or {"sentence1": ..., "sentence2": ...}, "id" optional.

    Raises:
        DataError: with the line.
    """
    name = "standard input" if str(path) == "-" else str(path)
    with text.open_bytes(path) as file:
        asked = False
        for number, line in enumerate(file, 1):
            where = f"{name}, line {number}"
            content = text.decoded(line, where).strip()
            if not content:
                continue
            asked = True
            record = text.as_record(text.from_json(content, where), where, "the line")
            keys = ("sentence",) if "sentence" in record else ("sentence1", "sentence2")
            if "sentence" in record and ("sentence1" in record or "sentence2" in record):
                raise data.DataError(f"{where}: both 'sentence' and a pair; give one of them per line")
            texts = tuple(text.required(record, key, str, where) for key in keys)
            if any(map(text.is_empty, texts)):
                raise data.DataError(f"{where}: a sentence is empty; give it some text")
            said = record.get("id")
            if not isinstance(said, str | int | None) or isinstance(said, bool):
                raise data.DataError(f"{where}: 'id' is {str(said)[:60]!r}, not a string or a number; correct it")
            yield str(number if said is None else said), texts
        if not asked:
            raise data.DataError(f'{name}: no texts; give lines such as {{"sentence": "A fine film."}}')


def predict(settings: tasks.Settings, rows: Iterable[tuple[str, tuple[str, ...]]]) -> Iterator[dict[str, Any]]:
    """One text -> its sentiment; two -> whether they are paraphrases, and how similar they are; one by one.

    Yields:
        dicts with id, what was found, and "lines" for a reader.
    """
    opened = open_runner(settings)
    longest = min(data.LONGEST, opened.config.max_position_embeddings)
    runner = opened.runner
    for name, texts in rows:
        if any(map(text.is_empty, texts)):
            raise data.DataError(f"{name}: a sentence is empty; give it some text")

        def encoded(clean, texts=texts):
            return [runner.encode(data.tokens([clean(one)], opened.pieces, longest)) for one in texts]

        asked = TASKS[:1] if len(texts) == 1 else TASKS[1:]
        refuse_untrained(settings.model, opened.config, asked)
        if len(texts) == 1:
            logits = runner.head("sentiment", encoded(data.sentence))[0]
            share = _softmax(logits)
            kinds = FEELINGS.get(len(share), tuple(f"class {k}" for k in range(len(share))))
            best = int(share.argmax())
            yield {
                "id": name,
                "sentence": texts[0],
                "sentiment": best,
                "probabilities": share.tolist(),
                "lines": [texts[0], f"  sentiment {best} ({kinds[best]}), {share[best]:.1%}"],
            }
            continue
        both = encoded(data.pair_text)
        logits = runner.head("paraphrase", both)[0]
        share = _softmax(np.array([0.0, float(logits)]) if logits.ndim == 0 else logits)
        score = float(runner.head("similarity", both)[0])
        same = bool(share[1] > share[0])
        said, sure = ("a paraphrase", share[1]) if same else ("no paraphrase", share[0])
        yield {
            "id": name,
            "sentence1": texts[0],
            "sentence2": texts[1],
            "paraphrase": same,
            "probability": float(share[1]),
            "similarity": score,
            "lines": [*texts, f"  {said} ({sure:.1%}), similarity {score:.2f} of 5"],
        }


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(np.asarray(logits, np.float64) - np.max(logits))
    return exponentials / exponentials.sum()


@folders.locks("output")
def convert(source: str, output: Path, head: str = "pretrained", download: bool = False, **changes: Any) -> str:
    """Read a checkpoint into the Paddle model and write it in our layout.

    Returns:
        One line on what was written.
    """
    folders.refuse_occupied(output, known=checkpoint.HUB_FILES)
    runtime.import_paddle()
    from .model import MultitaskBert

    folder = checkpoint.resolve(source, download)
    text.vocabulary_lines(folder)  # a model that could not read text is of no use
    model = MultitaskBert.from_pretrained(folder, head=head, **changes)
    open_tokenizer(folder, model.config)
    folders.write_model(output, companions(model.config, folder), model.write)
    return f"{output}: {tasks.counted(model)}, {model.config.design}, {model.head} heads"
