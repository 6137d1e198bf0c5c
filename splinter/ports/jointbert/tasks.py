"""What the command line does with JointBERT: fine-tune, evaluate, predict, convert, in either framework.

Imports no framework; `backend.opened` picks train.py (Paddle) or twin.py (torch).
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from splinter import runtime
from splinter.align.files import write_whole
from splinter.ports.common import UsageError, backend, checkpoint, folders, tasks
from splinter.ports.common.checkpoint import CheckpointError
from splinter.ports.common.text import DataError, WordPieces, vocabulary_lines
from splinter.ports.common.training.best import Best
from splinter.ports.common.training.feed import Table, digest, trim
from splinter.ports.common.training.schedule import Recipe
from splinter.ports.common.training.trainer import Trainer

from . import data, metric
from .config import UNK, JointConfig, companions, read_checkpoint

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "slot_labels", "intent_labels")


@dataclass(frozen=True)
class Settings(tasks.Settings):
    """What every task of JointBERT shares.

    Args:
        max_length: in word pieces, [CLS] and [SEP] included; None = that of the model's own training, else 50.
    """

    batch_size: int = 64
    max_length: int | None = None


class Backend(backend.Backend, Protocol):
    """What JointBERT's tasks ask of a framework."""

    def open_model(self, folder: Path, heads: str, device: str = "auto", repeated: bool = False, **changes: Any) -> Any:
        """A model for work, with the dropout of its configuration.

        Args:
            heads: "pretrained" or "fresh".
            repeated: many batches will follow, so compiling pays (unless the settings of `runtime` are off).
            changes: configuration fields to change.
        """

    def trainer(self, model: Any, recipe: Recipe) -> Trainer:
        """A model in training by the recipe."""

    def predictions(self, model: Any, columns: Mapping[str, np.ndarray], batch_size: int = 64) -> dict[str, np.ndarray]:
        """What the model says of N rows, in their order.

        Returns:
            intent_logits (N, I); slots (N, T) ids, 0 beyond the longest row of a batch; loss (batches,).
        """


# -- reading ----------------------------------------------------------------------------------------------


def open_pieces(folder: Path, config: JointConfig) -> WordPieces:
    """The vocabulary of a checkpoint.

    Raises:
        VocabularyError: none there, or it does not fit the model: another size, another padding token.
    """
    pieces = WordPieces(folder, python=True)
    tasks.check_vocabulary(pieces, config.vocab_size, {"pad": config.pad_token_id})
    return pieces


def check_length(length: int, config: JointConfig) -> int:
    """Rows no longer than the model's positions, and long enough for a word.

    Raises:
        UsageError: the length cannot be.
    """
    if not 3 <= length <= config.max_position_embeddings:
        raise UsageError(f"--max-length {length} is out of range; give 3 to {config.max_position_embeddings}")
    return length


def points(scores: dict[str, float]) -> dict[str, float]:
    """Scores from 0 to 1 as points from 0 to 100."""
    return {name: 100.0 * float(value) for name, value in scores.items()}


@dataclass
class Tagger:
    """A loaded model that finds intents and slots."""

    settings: Settings
    backend: Backend
    model: Any
    config: JointConfig
    pieces: WordPieces
    max_length: int

    @property
    def labels(self) -> data.Labels:
        """The label sets of the model."""
        return data.Labels(self.config.intents, self.config.slots)

    def rows(self, sentences: Sequence[data.Sentence]) -> dict[str, np.ndarray]:
        """Model inputs and labels; see `data.features`."""
        return data.features(sentences, self.pieces, self.labels, self.max_length)

    def found(self, rows: dict[str, np.ndarray]) -> tuple[list[str], np.ndarray, list[list[str]], float]:
        """Intents, their probabilities (N,), tags at the words' first pieces, and the mean loss over batches.

        Raises:
            CheckpointError: NaN comes out.
        """
        got = self.backend.predictions(self.model, rows, self.settings.batch_size)
        logits = got["intent_logits"]
        if not (np.isfinite(logits).all() and np.isfinite(got["loss"]).all()):  # the loss has seen the slots
            raise CheckpointError(f"{self.settings.model} answers with NaN: its weights are broken; take another one")
        ids = logits.argmax(axis=-1)
        shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
        shares = (shifted / shifted.sum(axis=-1, keepdims=True))[np.arange(len(ids)), ids]
        tags = metric.tags_at(got["slots"], rows["slot_labels"], self.config.slots)
        return [self.config.intents[i] for i in ids], shares, tags, float(got["loss"].mean())

    def scores(
        self, sentences: Sequence[data.Sentence], rows: dict[str, np.ndarray]
    ) -> tuple[dict[str, float], list[str], list[list[str]]]:
        """Scores in points and the mean loss; the intents and tags they are of, a tag for each word.

        Words beyond the end of their row are tagged O, so that the slots there are missed.
        """
        intents, _, tags, loss = self.found(rows)
        tags = [[*row, *["O"] * (len(one.words) - len(row))] for one, row in zip(sentences, tags, strict=True)]
        gold = [self.config.intents[i] for i in rows["intent_labels"]]
        known = set(self.config.slots)
        gold_tags = [[tag if tag in known else UNK for tag in one.tags] for one in sentences]
        return points(metric.evaluate(gold, intents, gold_tags, tags)) | {"loss": loss}, intents, tags


# -- fine-tuning ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Finetuning(tasks.Training):
    """Fine-tuning on the train part of a corpus; its dev part chooses the weights that are saved.

    Args:
        train: corpus folder, with train/ and dev/.
        crf: with a CRF on the slots.
        evaluate_every: updates between looks at dev; the best sentence accuracy is kept.
    """

    settings: Settings
    crf: bool = False
    evaluate_every: int = 200

    @property
    def max_length(self) -> int:
        """Pieces of a row."""
        return self.settings.max_length or data.MAX_LENGTH

    def asked(self) -> dict[str, Any]:
        return {"crf": self.crf, "max_length": self.max_length, "evaluate_every": self.evaluate_every}

    def prepare(self) -> tasks.Run:
        """See `tasks.Training`.

        Raises:
            DataError, CheckpointError, WeightError, UsageError.
        """
        settings = self.settings
        for name in ("train", "dev"):
            if not (self.train / name).is_dir():
                raise DataError(f"{self.train / name}: no such folder; give a corpus folder with train/ and dev/")
        train, dev = data.read(self.train / "train"), data.read(self.train / "dev")
        labels = data.read_labels(self.train) or data.build_labels(train)
        folder = checkpoint.resolve(settings.model, settings.download)
        stored, _, found = read_checkpoint(folder)
        length = check_length(self.max_length, stored)
        # heads are kept where they mean the same; else they start anew, from the seed of the run
        same = found and (stored.intents, stored.slots, stored.use_crf) == (labels.intents, labels.slots, self.crf)
        heads = "pretrained" if same else "fresh"
        computing: Backend = backend.opened("jointbert", settings.framework)
        device = backend.check_device(computing, settings.device)
        computing.seed(self.recipe.seed)
        changes = {"intents": labels.intents, "slots": labels.slots, "use_crf": self.crf}
        model = computing.open_model(folder, heads, device, repeated=True, **changes)
        tagger = Tagger(settings, computing, model, model.config, open_pieces(folder, stored), length)
        rows, dev_rows = tagger.rows(train), tagger.rows(dev)
        cut = {"train": data.count_cut(train, rows), "dev": data.count_cut(dev, dev_rows)}
        feed = Table(rows, self.recipe, names=lambda numbers: [train[i].where for i in numbers], prepare=trim)
        trainer = computing.trainer(model, self.recipe)
        summary = f"{len(train)} sentences, {len(labels.intents)} intents, {len(labels.slots)} slots, "
        summary += (
            f"{feed.plan.updates} updates; {'CRF' if self.crf else 'no CRF'}, {heads} heads, {settings.framework}"
        )
        if any(cut.values()):
            summary += f"; {cut['train']} sentences of train and {cut['dev']} of dev are cut at {length} pieces"
        return tasks.Run(
            trainer,
            feed,
            functools.partial(computing.save, model),
            companions(model.config, folder),
            summary,
            about={"heads": heads, "config": model.config.to_dict(), "dev": digest(dev_rows)},
            details={
                "sentences": len(train),
                "dev_sentences": len(dev),
                "cut": cut,
                "heads": heads,
            },
            best=Best(trainer, lambda: tagger.scores(dev, dev_rows)[0], "sentence_acc", self.output),
            watch_every=self.evaluate_every,
        )


# -- use --------------------------------------------------------------------------------------------------


def open_tagger(settings: Settings, decode_padding: bool = False, repeated: bool = False) -> Tagger:
    """Load a model for use.

    Args:
        decode_padding: let the CRF decode the padding as well, as monologg/JointBERT does.
        repeated: many sentences will follow.

    Raises:
        CheckpointError, WeightError, VocabularyError, UsageError.
    """
    folder = checkpoint.resolve(settings.model, settings.download)
    config = read_checkpoint(folder)[0]
    sizes = {"max_length": data.MAX_LENGTH} | tasks.trained_sizes(folder)
    length = check_length(settings.max_length or sizes["max_length"], config)
    pieces = open_pieces(folder, config)
    computing: Backend = backend.opened("jointbert", settings.framework)
    device = backend.check_device(computing, settings.device)
    changes = {"decode_padding": True} if decode_padding else {}
    model = computing.open_model(folder, "pretrained", device, repeated, **changes)
    return Tagger(settings, computing, model, model.config, pieces, length)


def evaluate(
    settings: Settings, folder: Path, predictions: Path | None = None, decode_padding: bool = False
) -> dict[str, Any]:
    """Score a model on one part of a corpus, such as atis/test.

    Args:
        predictions: also write one line per sentence, `<intent> -> word [word:slot]`.

    Returns:
        Scores in points 0-100, the mean loss over batches in nats, `seconds`, and what was evaluated; `cut` counts
        the sentences with words beyond the end of their row.
    """
    sentences = data.read(folder)
    if predictions is not None:
        for name in (data.WORDS, data.TAGS, data.INTENTS):
            folders.refuse_target(predictions, folder / name)
    tagger = open_tagger(settings, decode_padding, repeated=True)
    began = time.perf_counter()
    rows = tagger.rows(sentences)
    scores, intents, tags = tagger.scores(sentences, rows)
    if predictions is not None:
        lines = [metric.line(i, one.words, t) + "\n" for i, one, t in zip(intents, sentences, tags, strict=True)]
        write_whole(predictions, lambda file: file.writelines(lines), "w")
    return {
        **scores,
        "sentences": len(sentences),
        "cut": data.count_cut(sentences, rows),
        "unknown_intents": int((rows["intent_labels"] == tagger.config.intents.index("UNK")).sum()),
        "file": str(folder),
        "model": settings.model,
        "crf": tagger.config.use_crf,
        "max_length": tagger.max_length,
        "framework": settings.framework,
        "seconds": round(time.perf_counter() - began, 1),
    }


def predict(tagger: Tagger, sentences: Iterable[data.Sentence], stream: bool = False) -> Iterator[dict[str, Any]]:
    """Intent and slots of each sentence, in order.

    Args:
        stream: one by one, for input that is typed or piped; batches are faster.

    Yields:
        id, words, intent, its probability, and a slot per word (None for words beyond the longest row).
    """
    size, rest = 1 if stream else tagger.settings.batch_size, iter(sentences)
    while block := list(itertools.islice(rest, size)):
        intents, shares, tags, _ = tagger.found(tagger.rows(block))
        for one, intent, share, row in zip(block, intents, shares, tags, strict=True):
            slots: list[str | None] = [*row, *[None] * (len(one.words) - len(row))]
            yield {"id": one.id, "words": one.words, "intent": intent, "probability": float(share), "slots": slots}


@folders.locks("output")
def convert(source: str, output: Path, labels: Path | None = None, download: bool = False) -> str:
    """Read a JointBERT into the Paddle model and write it in our layout.

    Args:
        labels: folder of the two label files, for a checkpoint of monologg/JointBERT.

    Returns:
        One line on what was written.
    """
    folders.refuse_occupied(output, known=checkpoint.HUB_FILES)
    named = data.read_labels(labels) if labels is not None else None
    if labels is not None and named is None:
        raise DataError(f"{labels}: holds neither {data.INTENT_LABELS} nor {data.SLOT_LABELS}; name the corpus folder")
    runtime.import_paddle()
    from .model import JointBert

    folder = checkpoint.resolve(source, download)
    vocabulary_lines(folder)  # a model that could not read text is of no use
    model = JointBert.from_pretrained(folder, labels=None if named is None else (named.intents, named.slots))
    open_pieces(folder, model.config)
    folders.write_model(output, companions(model.config, folder), model.write)
    c = model.config
    kind = "with CRF" if c.use_crf else "without CRF"
    return f"{output}: {tasks.counted(model)}, {len(c.intents)} intents, {len(c.slots)} slots, {kind}"
