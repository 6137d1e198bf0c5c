"""`splinter pretrain`: recurring span selection on a mined corpus, in either framework, by one recipe.

Objective and recipe: Ram et al., ACL 2021, sections 3 and 5; oriram/splinter pretraining/ at 1df4c13.
Imports no framework; see tasks.py for how one is picked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from splinter.ports.common import UsageError, backend, checkpoint, tasks
from splinter.ports.common.tasks import Settings
from splinter.ports.common.training.feed import order
from splinter.ports.common.training.schedule import Plan, Recipe, plan
from splinter.ports.common.training.state import differences
from splinter.runtime import whole_number

from ..config import SplinterConfig, companions, read_checkpoint
from ..tasks import open_tokenizer
from .corpus import Corpus, CorpusError, records
from .spans import MAX_SPAN

RECIPE = Recipe(
    learning_rate=1e-4,
    warmup=1 / 240,
    epochs=1,
    min_steps=0,
    batch_size=256,
    epsilon=1e-6,
    weight_decay=0.01,
    schedule="from-start",
    optimizer="bert",
)
"""The paper's: 2,400,000 updates with 10,000 of warm-up; BERT's optimizer."""


@dataclass(frozen=True)
class Passages:
    """A corpus as a feed: the order of an epoch is a function of the seed, the questions are drawn anew in each.

    The weights of a batch add up to 1 (or 0, where it has no question), so that its loss is a sum over rows.
    """

    corpus: Corpus
    recipe: Recipe
    question: int

    @property
    def plan(self) -> Plan:
        """The schedule for so many passages."""
        return plan(len(self.corpus), self.recipe)

    def about(self) -> dict[str, Any]:
        """The corpus, by the hash of its manifest."""
        shards = json.dumps(self.corpus.manifest["shards"], sort_keys=True).encode()
        return {"corpus": hashlib.sha256(shards).hexdigest()[:16]}

    def batches(self, start: int) -> Iterator[tuple[dict[str, np.ndarray], Callable[[], list[str]]]]:
        """The batch of each update from `start` on."""
        plan = self.plan
        for update, rows in enumerate(order(len(self.corpus), plan, self.recipe, start), start):
            batch = model_inputs(self.corpus, rows, update // plan.per_epoch, self.question)
            weights = batch["weights"].astype(np.float64)
            batch["weights"] = weights / (weights.sum() + 1e-5)
            yield batch, partial(self._names, rows)

    def _names(self, rows: np.ndarray) -> list[str]:
        return [f"document {self.corpus[int(row)].key[0]}" for row in rows]


def model_inputs(corpus: Corpus, rows: np.ndarray, epoch: int, question: int) -> dict[str, np.ndarray]:
    """Passages with the questions of an epoch, as the model takes them; see `corpus.records`."""
    batch = records(corpus, rows.tolist(), epoch, question)
    return {**batch, "token_type_ids": np.zeros_like(batch["input_ids"])}


def span_accuracy(
    side: Any, model: Any, corpus: Corpus, question: int, limit: int | None = None, batch_size: int = 16
) -> dict[str, float]:
    """How many answers a model finds in held-out passages, with the questions of epoch 0.

    Args:
        limit: passages to look at, spread evenly over the corpus; None: all.

    Returns:
        start, end, both: shares from 0 to 1 of the questions whose highest logit is right; span: of those whose best
        span of 1 to 10 pieces is, as an answer is chosen; questions: how many.
    """
    number = min(limit or len(corpus), len(corpus))
    rows = np.linspace(0, len(corpus) - 1, number).round().astype(int)
    right, asked = np.zeros(4), 0
    for begin in range(0, number, batch_size):
        batch = model_inputs(corpus, rows[begin : begin + batch_size], 0, question)
        used = batch.pop("weights") > 0
        labels = [batch.pop(f"{part}_positions") for part in ("start", "end")]
        logits = side.logits(model, batch)
        found = [one.argmax(-1) == label for one, label in zip(logits, labels, strict=True)]
        spans = [chosen == label for chosen, label in zip(best_spans(*logits), labels, strict=True)]
        hits = (*found, found[0] & found[1], spans[0] & spans[1])
        right += [int((hit & used).sum()) for hit in hits]
        asked += int(used.sum())
    shares = (right / max(1, asked)).tolist()
    return {**dict(zip(("start", "end", "both", "span"), shares, strict=True)), "questions": asked}


def best_spans(start: np.ndarray, end: np.ndarray, longest: int = MAX_SPAN) -> tuple[np.ndarray, np.ndarray]:
    """First and last piece (B, Q) of the span with the highest sum of logits (B, Q, T); of equal ones the shortest."""
    tokens = start.shape[-1]
    best = np.full(start.shape, -np.inf)
    lengths = np.zeros(start.shape, np.int64)
    for more in range(min(longest, tokens)):
        sums = start[..., : tokens - more] + end[..., more:]
        better = sums > best[..., : tokens - more]
        best[..., : tokens - more][better] = sums[better]
        lengths[..., : tokens - more][better] = more
    first = best.argmax(-1)
    return first, first + np.take_along_axis(lengths, first[..., None], axis=-1)[..., 0]


def pretrain(
    settings: Settings,
    corpus_folder: Path,
    output: Path,
    hyper: Recipe,
    *,
    dev_folder: Path | None = None,
    dev_passages: int = 200,
    evaluate_every: int = 0,
    precision: str = "float32",
    dropout: float | None = None,
    resume: bool = False,
    save_every: int = 1000,
    say=print,
) -> dict[str, Any] | None:
    """Pretrain a checkpoint on a corpus and save it.

    Args:
        corpus_folder, dev_folder: what `splinter mine` wrote, with the vocabulary of the checkpoint.
        dev_passages: of the dev corpus that are looked at.
        evaluate_every: updates between looks; 0 = once per epoch.
        precision: "float32", or "bf16" for matrix products in bfloat16.
        dropout: another rate than the checkpoint's; the saved model keeps that of the checkpoint.

    Returns:
        What training.json holds; None in a process of a team that is not the first.

    Raises:
        CorpusError, CheckpointError, WeightError, UsageError, TrainingError.
    """
    side = tasks.backend("splinter", settings.framework)
    team = side.Team()
    refuse_launcher(settings, team.size)
    if settings.device == "auto" and team.size > 1:
        settings = replace(settings, device=team.device)
    lead = team.rank == 0
    settings = replace(settings, progress=settings.progress and lead)

    def prepare() -> tasks.Run:
        folder = checkpoint.resolve(settings.model, settings.download)
        config = read_checkpoint(folder)[0]
        if hyper.batch_size < team.size:
            raise UsageError(f"--batch-size {hyper.batch_size} is less than the {team.size} processes that share it")
        corpora = [open_corpus(one, folder, config, lead) for one in (corpus_folder, dev_folder) if one is not None]
        feed = Passages(corpora[0], hyper, config.question_token_id)
        model = side.open_pretraining(folder, backend.check_device(side, settings.device), dropout)

        def watch(updates: int) -> dict[str, float]:
            return span_accuracy(side, model, corpora[1], config.question_token_id, dev_passages)

        told = backend.told_precision(side, settings.device, precision)
        summary = f"{len(corpora[0]):,} passages, {feed.plan.updates:,} updates; {settings.framework}, {told}"
        return tasks.Run(
            side.pretrainer(model, hyper, precision, team),
            feed,
            partial(side.save, model),
            companions(replace(config, mode="paper"), folder),  # as it is used from then on, not as it was pretrained
            summary + (f", {team.size} processes" if team.size > 1 else ""),
            about={"processes": team.size},
            details={
                "processes": team.size,
                "passages": len(corpora[0]),
                **feed.about(),
                "mining": corpora[0].manifest["mining"],
                "sources": corpora[0].sources,
            },
            watch=watch if dev_folder is not None else None,
            watch_every=evaluate_every,
        )

    asked = {"train_file": str(corpus_folder), "precision": precision, "dropout": dropout}
    record = tasks.train(
        settings,
        output,
        hyper,
        prepare,
        asked,
        task="pretrain",
        resume=resume,
        save_every=save_every,
        say=say if lead else lambda text: None,
        lead=lead,
    )
    return record if lead else None


LAUNCHERS = {"torch": ("WORLD_SIZE", "torchrun"), "paddle": ("PADDLE_TRAINERS_NUM", "paddle.distributed.launch")}


def refuse_launcher(settings: Settings, size: int) -> None:
    """The launcher of the framework that computes; with the other one every process would think itself alone.

    Raises:
        UsageError: the other one, or a device that all processes would share.
        SettingError: its variable holds no number.
    """
    for framework, (variable, launcher) in LAUNCHERS.items():
        if framework != settings.framework and whole_number(variable, 1, least=1) > 1:
            raise UsageError(f"started by {launcher}, which goes with --framework {framework}")
    if size > 1 and settings.device not in ("auto", "cpu"):
        raise UsageError(f"--device {settings.device} with {size} processes; leave it to the launcher, or give cpu")


def open_corpus(folder: Path, model: Path, config: SplinterConfig, check: bool = True) -> Corpus:
    """A corpus that fits a model.

    Args:
        check: see `Corpus`.

    Raises:
        CorpusError: it was mined with another vocabulary, has no question, or passages that are too long.
    """
    corpus = Corpus(folder, check)
    theirs, ours = (open_tokenizer(one, replace(config, mode="hf")) for one in (folder, model))
    way_out = f"mine it with --tokenizer {model}"
    if theirs.vocabulary != ours.vocabulary:
        raise CorpusError(f"{folder} was mined with another vocabulary; {way_out}")
    if theirs.basic != ours.basic:
        other = "; ".join(differences(theirs.basic.to_dict(), ours.basic.to_dict()))
        raise CorpusError(f"{folder} was mined with another tokenizer ({other}); {way_out}")
    if not corpus.questions:
        raise CorpusError(f"{folder} has no question: nothing recurs in its passages; mine longer ones, or other text")
    if corpus.length > config.max_position_embeddings:
        raise CorpusError(
            f"{folder} has passages of {corpus.length} pieces, the model {config.max_position_embeddings} positions; "
            "mine with a smaller --length"
        )
    return corpus
