"""`splinter pretrain`: recurring span selection on a mined corpus, in either framework, by one recipe.

Imports no framework; `backend.opened` picks train.py (Paddle) or twin.py (torch).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

from splinter.ports.common import UsageError, backend, checkpoint, tasks
from splinter.ports.common.tasks import Settings
from splinter.ports.common.training.schedule import Recipe
from splinter.ports.common.training.state import differences
from splinter.ports.common.training.trainer import Team, Trainer
from splinter.runtime import whole_number

from ..config import SplinterConfig, companions, read_checkpoint
from ..tasks import open_tokenizer
from .corpus import Corpus, CorpusError
from .objective import Asked, Passages, span_accuracy


class Backend(backend.Backend, Asked, Protocol):
    """What pretraining asks of a framework."""

    def team(self) -> Team:
        """The processes that the framework's launcher started; without it, a team of one."""

    def open_model(self, folder: Path, device: str = "auto", dropout: float | None = None) -> Any:
        """A model to be pretrained, with the dropout of its configuration unless another rate is given."""

    def trainer(self, model: Any, recipe: Recipe, precision: str = "float32", team: Team | None = None) -> Trainer:
        """A model in pretraining; the weights of a batch must add up to 1.

        Raises:
            UsageError: bf16 where the framework has none.
        """


@dataclass(frozen=True, kw_only=True)
class Pretraining(tasks.Training):
    """Pretraining of a checkpoint on a corpus.

    Args:
        train: corpus folder, as `splinter mine` wrote it, with the vocabulary of the checkpoint.
        dev: held-out corpus, likewise; None: none.
        dev_passages: of it that are looked at.
        evaluate_every: updates between looks; 0 = once per epoch.
        precision: "float32", or "bf16" for matrix products in bfloat16.
        dropout: another rate than the checkpoint's; the saved model keeps that of the checkpoint.
        computing, team: the backend, and the processes that train together.
    """

    computing: Backend
    team: Team
    dev: Path | None = None
    dev_passages: int = 200
    evaluate_every: int = 0
    precision: str = "float32"
    dropout: float | None = None

    task: ClassVar[str] = "pretrain"

    @property
    def lead(self) -> bool:
        return self.team.rank == 0

    def asked(self) -> dict[str, Any]:
        return {"precision": self.precision, "dropout": self.dropout}

    def prepare(self) -> tasks.Run:
        """See `tasks.Training`.

        Raises:
            CorpusError, CheckpointError, WeightError, UsageError.
        """
        settings, team = self.settings, self.team
        folder = checkpoint.resolve(settings.model, settings.download)
        config = read_checkpoint(folder)[0]
        if self.recipe.batch_size < team.size:
            raise UsageError(
                f"--batch-size {self.recipe.batch_size} is less than the {team.size} processes that share it"
            )
        corpora = [open_corpus(one, folder, config, self.lead) for one in (self.train, self.dev) if one is not None]
        feed = Passages(corpora[0], self.recipe, config.question_token_id)
        device = backend.check_device(self.computing, settings.device)
        model = self.computing.open_model(folder, device, self.dropout)

        def watch(updates: int) -> dict[str, float]:
            return span_accuracy(self.computing, model, corpora[1], config.question_token_id, self.dev_passages)

        told = backend.told_precision(self.computing, settings.device, self.precision)
        summary = f"{len(corpora[0]):,} passages, {feed.plan.updates:,} updates; {settings.framework}, {told}"
        return tasks.Run(
            self.computing.trainer(model, self.recipe, self.precision, team),
            feed,
            partial(self.computing.save, model),
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
            watch=watch if self.dev is not None else None,
            watch_every=self.evaluate_every,
        )


def pretrain(settings: Settings, say: Callable[[str], None] = print, **asked: Any) -> dict[str, Any] | None:
    """Pretrain a checkpoint on a corpus and save it, alone or in a team.

    Args:
        asked: the other fields of `Pretraining`.

    Returns:
        What training.json holds; None in a process of a team that is not the first.

    Raises:
        CorpusError, CheckpointError, WeightError, UsageError, TrainingError.
    """
    computing: Backend = backend.opened("splinter.pretraining", settings.framework)
    team = computing.team()
    refuse_launcher(settings, team.size)
    lead = team.rank == 0
    device = team.device if settings.device == "auto" and team.size > 1 else settings.device
    settings = replace(settings, device=device, progress=settings.progress and lead)
    record = tasks.train(
        Pretraining(settings=settings, computing=computing, team=team, **asked), say if lead else lambda text: None
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
            raise UsageError(
                f"{launcher} started this process, but it works with --framework {framework} only; add that option"
            )
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
