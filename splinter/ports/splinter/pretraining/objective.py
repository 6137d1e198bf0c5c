"""What Splinter is pretrained on and for: passages with questions that are drawn anew, and how well they are answered.

Objective and recipe: Ram et al., ACL 2021, sections 3 and 5; oriram/splinter pretraining/ at 1df4c13.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from splinter.ports.common.training import feed as feeds
from splinter.ports.common.training import schedule
from splinter.ports.common.training.schedule import Plan, Recipe

from .corpus import Corpus, records
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
        return schedule.plan(len(self.corpus), self.recipe)

    def about(self) -> dict[str, Any]:
        """The corpus, by the hash of its manifest."""
        shards = json.dumps(self.corpus.manifest["shards"], sort_keys=True).encode()
        return {"corpus": hashlib.sha256(shards).hexdigest()[:16]}

    def batches(self, start: int) -> Iterator[tuple[dict[str, np.ndarray], Callable[[], list[str]]]]:
        """The batch of each update from `start` on."""
        plan = self.plan
        for update, rows in enumerate(feeds.order(len(self.corpus), plan, self.recipe, start), start):
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


class Asked(Protocol):
    """A backend that gives logits on request."""

    def logits(
        self, model: Any, columns: Mapping[str, np.ndarray], batch_size: int = 16
    ) -> tuple[np.ndarray, np.ndarray]:
        """Start and end logits of all N rows: (N, T) each, (N, Q, T) where question positions are given."""


def span_accuracy(
    asked: Asked, model: Any, corpus: Corpus, question: int, limit: int | None = None, batch_size: int = 16
) -> dict[str, float]:
    """How many answers a model finds in held-out passages, with the questions of epoch 0.

    Args:
        asked: the backend that computes.
        limit: passages to look at, spread evenly over the corpus; None: all.

    Returns:
        start, end, both: shares from 0 to 1 of the questions whose highest logit is right; span: of those whose best
        span of 1 to 10 pieces is, as an answer is chosen; questions: how many.
    """
    number = min(limit or len(corpus), len(corpus))
    rows = np.linspace(0, len(corpus) - 1, number).round().astype(int)
    right, questions = np.zeros(4), 0
    for begin in range(0, number, batch_size):
        batch = model_inputs(corpus, rows[begin : begin + batch_size], 0, question)
        used = batch.pop("weights") > 0
        labels = [batch.pop(f"{part}_positions") for part in ("start", "end")]
        logits = asked.logits(model, batch)
        found = [one.argmax(-1) == label for one, label in zip(logits, labels, strict=True)]
        spans = [chosen == label for chosen, label in zip(best_spans(*logits), labels, strict=True)]
        hits = (*found, found[0] & found[1], spans[0] & spans[1])
        right += [int((hit & used).sum()) for hit in hits]
        questions += int(used.sum())
    shares = (right / max(1, questions)).tolist()
    return {**dict(zip(("start", "end", "both", "span"), shares, strict=True)), "questions": questions}


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
