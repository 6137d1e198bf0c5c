"""Bugs planted in Splinter's pretraining: the traps of recurring span selection; see planted.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle
import planted
from planted import wrap

from splinter.ports.common.paddle import encoder
from splinter.ports.common.paddle import train as train_paddle
from splinter.ports.common.training import schedule
from splinter.ports.splinter import config, model, train
from splinter.ports.splinter.pretraining import mining, objective, passages, spans
from splinter.ports.splinter.pretraining import model as pretraining
from splinter.ports.splinter.pretraining.proof import ours


def bug(name: str, step: str, **more):
    """Register a planting function."""
    return planted.bug(name, step, "splinter-pretraining", "paper", **more)


# -- forward and backward ---------------------------------------------------------------------------------


@bug("positions 0..T-1: holes take one too", "forward")
def _(patch):
    plain = model.SplinterModel.span_logits
    patch.setattr(
        model.SplinterModel, "span_logits", lambda self, i, m, t, q, p=None: plain(self, i, m, t, q, position_ids=None)
    )


@bug("positions counted from 1", "forward")
def _(patch):
    plain = model.SplinterModel.span_logits
    patch.setattr(
        model.SplinterModel, "span_logits", lambda self, i, m, t, q, p: plain(self, i, m, t, q, position_ids=p + m)
    )


@bug("erf gelu, as in fine-tuning", "forward")
def _(patch):
    patch.setattr(model, "activation", lambda name: encoder.activation("gelu"))


@bug("the head's LayerNorm epsilon of fine-tuning", "forward")
def _(patch):
    wrap(
        patch,
        model.SpanTransform,
        "__init__",
        lambda plain: lambda self, c: plain(self, replace(c, head_layer_norm_eps=1e-5)),
    )


@bug("holes are attended", "forward")
def _(patch):
    plain = model.SplinterModel.span_logits

    def attended(self, ids, mask, types, questions, positions=None):
        return plain(self, ids, paddle.ones_like(mask), types, questions, positions)

    patch.setattr(model.SplinterModel, "span_logits", attended)


@bug("gradients of the first question of a row only", "backward", also=("loss",))
def _(patch):
    def first(plain):
        def loss(self, start, end, starts, ends, weights=None, total=None):
            kept = paddle.concat([start[:, :1], start[:, 1:].detach()], axis=1)
            return plain(self, kept, end, starts, ends, weights, total)

        return loss

    wrap(patch, pretraining.SplinterForPreTraining, "loss", first)


# -- loss -------------------------------------------------------------------------------------------------


def _loss(patch, change) -> None:
    wrap(patch, pretraining.SplinterForPreTraining, "loss", change)


@bug("padding questions count", "loss")
def _(patch):
    def change(plain):
        return lambda self, *logits_and_labels, weights, total=None: plain(
            self, *logits_and_labels, weights=paddle.ones_like(weights), total=total
        )

    _loss(patch, change)


@bug("mean over the questions without the 1e-5", "loss")
def _(patch):
    def change(plain):
        def mean(self, *logits_and_labels, weights, total=None):
            total = weights.sum().clip(min=1e-30) if total is None else total  # training divides by one of its own
            return plain(self, *logits_and_labels, weights=weights, total=total)

        return mean

    _loss(patch, change)


@bug("start and end added, not averaged", "loss")
def _(patch):
    _loss(patch, lambda plain: lambda *a, **k: 2 * plain(*a, **k))


@bug("mean of the rows' means", "loss")
def _(patch):
    def change(plain):
        def rows(self, *logits_and_labels, weights, total=None):
            if total is not None:  # what a training divides by
                return plain(self, *logits_and_labels, weights=weights, total=total)
            each = range(len(weights))
            parts = [plain(self, *(a[i : i + 1] for a in logits_and_labels), weights=weights[i : i + 1]) for i in each]
            return sum(parts) / len(parts)

        return rows

    _loss(patch, change)


# -- lr, optimizer, regularization ------------------------------------------------------------------------


@bug("decay counted from the end of the warm-up", "lr")
def _(patch):
    wrap(patch, schedule, "plan", lambda plain: lambda n, r: replace(plain(n, r), schedule="linear"))


@bug("the peak for the whole run", "lr")
def _(patch):
    wrap(patch, schedule, "plan", lambda plain: lambda n, r: replace(plain(n, r), schedule="constant"))


@bug("a tenth of warm-up by default", "lr")
def _(patch):
    patch.setattr(objective, "RECIPE", replace(objective.RECIPE, warmup=0.1))


def _adam(patch, **changes) -> None:
    class Planted(train_paddle.AdamW):
        def __init__(self, named, recipe, decayed=()):
            super().__init__(named, replace(recipe, **changes), decayed)

    patch.setattr(ours, "AdamW", Planted)
    patch.setattr(train_paddle, "AdamW", Planted)


@bug("moments corrected for their bias", "optimizer")
def _(patch):
    _adam(patch, optimizer="hf")


@bug("decay after the step: transformers' order without its correction", "optimizer")
def _(patch):
    plain = train_paddle.AdamW.step

    def late(self, rate):
        r, self.recipe = self.recipe, replace(self.recipe, weight_decay=0.0)
        norm = plain(self, rate)
        self.recipe = r
        with paddle.no_grad():
            for name in self.decayed:
                self.named[name].subtract_(self.named[name].scale(rate * r.weight_decay))
        return norm

    patch.setattr(train_paddle.AdamW, "step", late)


@bug("epsilon 1e-8", "optimizer")
def _(patch):
    _adam(patch, epsilon=1e-8)


@bug("no decay by default", "regularization")
def _(patch):
    patch.setattr(objective, "RECIPE", replace(objective.RECIPE, weight_decay=0.0))


@bug("LayerNorm weights decay", "regularization")
def _(patch):
    patch.setattr(train, "decayed", lambda names: [name for name in names if not name.endswith(".bias")])


@bug("train() forgotten: nothing is dropped behind the first look at held-out text", "regularization")
def _(patch):
    planted.forget_train(patch)


@bug("eval() forgotten in logits", "regularization")
def _(patch):
    planted.forget_eval(patch, train.Asked, "logits")


@bug("attention's and hidden rate of dropout swapped", "regularization")
def _(patch):
    planted.swap_rates(patch)


# -- train_data -------------------------------------------------------------------------------------------


@bug("half words refused at every occurrence", "train_data")
def _(patch):
    wrap(patch, spans, "recurring", lambda plain: lambda tokens, pieces, whole=False: plain(tokens, pieces, True))


@bug("maximal n-grams only", "train_data")
def _(patch):
    def maximal(plain):
        def grams(self):
            found, longer = [], []
            for one in reversed(list(plain(self))):
                inside = np.isin(one.starts, longer) | np.isin(one.starts - 1, longer)
                inside = np.logical_and.reduceat(inside, one.bounds[:-1])
                longer = one.starts
                found.insert(0, one.only(~np.repeat(inside, np.diff(one.bounds)))[0])
            return found

        return grams

    wrap(patch, spans._Text, "grams", maximal)


@bug("equal lengths in order of the last occurrence", "train_data")
def _(patch):
    patch.setattr(spans._Text, "order", lambda self, grams: -grams.starts[grams.bounds[1:] - 1])


@bug("shortest clusters first", "train_data")
def _(patch):
    patch.setattr(spans, "reversed", iter, raising=False)


@bug("spans of up to nine pieces", "train_data")
def _(patch):
    patch.setattr(spans, "MAX_SPAN", 9)


@bug("clusters of stop words kept", "train_data")
def _(patch):
    patch.setattr(spans, "STOP_WORDS", frozenset())
    mining._tools.cache_clear()


@bug("the limit of questions without [CLS] and [SEP]", "train_data")
def _(patch):
    wrap(patch, spans, "limit", lambda plain: lambda tokens, share=0.15: plain(tokens - 2, share))


class _Other:
    """A generator with something else for one of its two methods."""

    def __init__(self, random, **other):
        self.permutation, self.randint = random.permutation, random.randint
        for name, change in other.items():
            setattr(self, name, change(getattr(random, name)))


def _random(patch, **other) -> None:
    wrap(patch, mining, "generator", lambda plain: lambda *key: _Other(plain(*key), **other))


@bug("clusters visited in the opposite order", "train_data")
def _(patch):
    _random(patch, permutation=lambda plain: lambda n: plain(n)[::-1])


@bug("no number drawn for a cluster of two", "train_data")
def _(patch):
    def undrawn(plain):
        def randint(sizes):
            sizes = np.array(sizes)
            picks = np.zeros_like(sizes)
            picks[sizes != 2] = plain(sizes[sizes != 2])
            return picks

        return randint

    _random(patch, randint=undrawn)


@bug("the first occurrence is always the answer", "train_data")
def _(patch):
    _random(patch, randint=lambda plain: lambda n: 0 * plain(n))


@bug("the overflowing segment is not repeated", "train_data")
def _(patch):
    def once(segments, capacity, number=0):
        flat = [piece for segment in segments for piece in segment]
        return iter([flat[begin : begin + capacity] for begin in range(0, len(flat), capacity)])

    patch.setattr(passages, "pack", once)


@bug("the first segment comes twice", "train_data")
def _(patch):
    planted.edit(patch, passages, "pack", "if current:  # else", "if True:  # else")


@bug("an answer hidden by an occurrence that overlaps it", "train_data")
def _(patch):
    own = "not kept < end <= kept + 2 * length - 1 and answers.find(1, start, end) >= 0"
    planted.edit(patch, spans, "mask", "answers.find(1, start, end) >= 0", own)


@bug("half a question rounds up", "train_data")
def _(patch):
    planted.edit(patch, spans, "limit", "round(share * tokens)", "int(share * tokens + 0.5)")


@bug("31 questions for 30", "train_data")
def _(patch):
    patch.setattr(spans, "MAX_QUESTIONS", 31)


@bug("every pass cut alike", "train_data")
def _(patch):
    wrap(patch, passages, "pack", lambda plain: lambda segments, capacity, number=0: plain(segments, capacity, 0))


@bug("one generator for all passages of a document", "train_data")
def _(patch):
    wrap(
        patch,
        mining,
        "generator",
        lambda plain: lambda seed, document, n, place, epoch: plain(seed, document, n, 0, epoch),
    )


# -- training ---------------------------------------------------------------------------------------------


@bug("micro-batches averaged, each over its own questions", "training")
def _(patch):
    def change(plain):
        return lambda self, *a, weights, total=None: plain(self, *a, weights=(weights > 0).astype(weights.dtype))

    _loss(patch, change)


@bug("gradients of the last micro-batch only", "training")
def _(patch):
    plain = train_paddle.PaddleTrainer.backward

    def last(self, batch, share=1.0):
        for parameter in self.named.values():
            parameter.grad = None
        return plain(self, batch, share)

    patch.setattr(train_paddle.PaddleTrainer, "backward", last)


@bug("the same questions in every epoch", "training")
def _(patch):
    wrap(patch, objective, "model_inputs", lambda plain: lambda c, rows, epoch, question: plain(c, rows, 0, question))


@bug("the same order in every epoch", "training")
def _(patch):
    planted.keep_order(patch)


@bug("dropout left on", "training")
def _(patch):
    patch.setattr(ours, "NO_DROPOUT", {})


# -- fields of configuration and recipe -------------------------------------------------------------------


@bug("epsilon of fine-tuning left in the head", "forward")
def _(patch):
    wrap(
        patch,
        config.SplinterConfig,
        "for_pretraining",
        lambda plain: lambda self: replace(plain(self), head_layer_norm_eps=self.head_layer_norm_eps),
    )


@bug("the optimizer of fine-tuning by default", "optimizer")
def _(patch):
    patch.setattr(objective, "RECIPE", replace(objective.RECIPE, optimizer="hf"))
