"""Bugs planted in Splinter's port; see planted.py."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import paddle
import paddle.nn.functional as F
import planted
from planted import wrap

from splinter.align import weights
from splinter.ports.common import answers, text
from splinter.ports.common.paddle import encoder
from splinter.ports.common.paddle import model as model_paddle
from splinter.ports.common.paddle import train as train_paddle
from splinter.ports.common.training import feed, schedule, trainer
from splinter.ports.common.training.schedule import Recipe
from splinter.ports.splinter import config, data, metric, model, train
from splinter.ports.splinter.proof import ours


def bug(name: str, step: str, mode: str = "hf", **more):
    """Register a planting function; most mistakes show in either mode."""
    return planted.bug(name, step, "splinter", mode, **more)


def plain_bug(name: str, step: str, **more):
    """Register a mistake in the plain head."""
    return planted.bug(name, step, "splinter-plain", "paper", **more)


def _rules(patch, change: Callable) -> None:
    """Change the rules by which our model is filled."""
    plain = model.weight_map

    def planted(layout="transformers", head=True):
        mapping = plain(layout, head)
        return weights.WeightMap([change(rule) for rule in mapping.rules], mapping.drop)

    patch.setattr(model, "weight_map", planted)


# -- forward ----------------------------------------------------------------------------------------------


@bug("square Linear copied without transpose", "forward")
def _(patch):
    _rules(patch, lambda r: replace(r, transpose=r.transpose and not r.ours.endswith("attention.query.weight")))


@bug("classifier matrix not transposed from the transformers layout", "forward")
def _(patch):
    _rules(patch, lambda r: replace(r, transpose=r.transpose and "classifier" not in r.ours))


def _swap(one: str, other: str):
    def change(rule):
        if one in rule.ours:
            return replace(rule, ours=rule.ours.replace(one, other))
        return replace(rule, ours=rule.ours.replace(other, one)) if other in rule.ours else rule

    return change


@bug("query and key swapped in the name map", "forward")
def _(patch):
    _rules(patch, _swap("attention.query", "attention.key"))


@bug("start and end head swapped in the name map", "forward")
def _(patch):
    _rules(patch, _swap("cls.start.", "cls.end."))


@bug("a layer left at its random start, as set_state_dict does with a wrong name", "forward")
def _(patch):
    drawn = 0.02 * np.random.RandomState(0).randn(60, 112)
    wrap(patch, model_paddle, "fill", lambda fill: lambda p, a: fill(p, drawn if tuple(p.shape) == (60, 112) else a))


@bug("encoder LayerNorm epsilon 1e-5 for 1e-12", "forward")
def _(patch):
    wrap(patch, encoder.BertLayer, "__init__", lambda init: lambda self, c: init(self, replace(c, layer_norm_eps=1e-5)))


@bug("head LayerNorm epsilon 1e-12 for 1e-5, as a base class resets it", "forward")
def _(patch):
    wrap(
        patch,
        model.SpanTransform,
        "__init__",
        lambda init: lambda self, c: init(self, replace(c, head_layer_norm_eps=1e-12)),
    )


@bug("tanh gelu for erf", "forward")
def _(patch):
    patch.setattr(encoder, "activation", lambda name: lambda x: F.gelu(x, approximate=True))


@bug("0/1 mask added as floats", "forward")
def _(patch):
    patch.setattr(encoder, "additive_mask", lambda mask, fill, dtype: mask.astype(dtype))


@bug("attention mask forgotten", "forward")
def _(patch):
    patch.setattr(encoder, "additive_mask", lambda mask, fill, dtype: paddle.zeros_like(mask).astype(dtype))


@bug("mask fill -1e4 for the dtype's minimum", "forward")
def _(patch):
    patch.setattr(model.SplinterModel, "fill", -1e4)


@bug("mask fill -1e9 for -1e4", "forward", mode="paper")
def _(patch):
    patch.setattr(model.SplinterModel, "fill", -1e9)


def _inputs(patch, change: Callable) -> None:
    wrap(
        patch, model.SplinterForQuestionAnswering, "inputs", lambda plain: lambda self, *a: change(plain(self, *a), *a)
    )


@bug("[SEP] left in the mask", "forward", mode="paper")
def _(patch):
    _inputs(patch, lambda made, ids, mask, segments: (made[0], mask, made[2]))


@bug("[MASK] not read as the question token", "forward", mode="paper")
def _(patch):
    _inputs(patch, lambda made, ids, mask, segments: (ids, made[1], made[2]))


@bug("segment ids passed where the reference passes none", "forward", mode="paper")
def _(patch):
    _inputs(patch, lambda made, ids, mask, segments: (made[0], made[1], segments))


@bug("segment ids dropped", "forward")
def _(patch):
    _inputs(patch, lambda made, ids, mask, segments: (made[0], made[1], None))


@bug("last question token for the first", "forward")
def _(patch):
    def forward(self, input_ids, attention_mask=None, token_type_ids=None, question_positions=None):
        found = (input_ids == self.config.question_token_id).astype("int32")
        last = input_ids.shape[1] - 1 - found.flip(axis=[1]).argmax(axis=-1)
        last = paddle.where(found.any(axis=-1), last, paddle.zeros_like(last)).unsqueeze(-1)
        start, end = self.span_logits(input_ids, attention_mask, token_type_ids, last)
        return start.squeeze(1), end.squeeze(1)

    patch.setattr(model.SplinterForQuestionAnswering, "forward", forward)


@bug("Embedding with padding_idx: zeros for id 0", "forward")
def _(patch):
    def planted(rows, width, std):
        return paddle.nn.Embedding(rows, width, padding_idx=0) if rows > 512 else plain(rows, width, std)

    plain = encoder.embedding
    patch.setattr(encoder, "embedding", planted)


@bug("scores not scaled by the head width", "forward")
def _(patch):
    def init(plain):
        def planted(self, c):
            plain(self, c)
            self.scale = 1.0 / c.hidden_size**0.5

        return planted

    wrap(patch, encoder.BertAttention, "__init__", init)


@bug("TF32 products", "forward", dtype="float32")
def _(patch):
    def rounded(x):  # 10 bits of mantissa, as a tensor core takes its operands
        if x.dtype != paddle.float32:
            return x
        bits = x.numpy().view(np.uint32)
        return paddle.to_tensor(((bits + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32))

    plain = paddle.matmul
    patch.setattr(paddle, "matmul", lambda x, y, **k: plain(rounded(x), rounded(y), **k))


@plain_bug("start and end of the plain head swapped", "forward")
def _(patch):
    wrap(patch, model.PlainHead, "forward", lambda plain: lambda self, x, p: plain(self, x, p)[::-1])


@plain_bug("scores (B, T, 2) reshaped to (B, 2, T), not transposed", "forward")
def _(patch):
    def forward(self, x, positions):
        scores = self.scores(x).reshape([0, 2, -1])
        return scores[:, :1], scores[:, 1:]

    patch.setattr(model.PlainHead, "forward", forward)


# -- data -------------------------------------------------------------------------------------------------


@bug("literal [MASK] cut into pieces by the tokenizer", "dev_data", mode="paper")
def _(patch):
    wrap(
        patch, data, "question_with_mask", lambda plain: lambda question: plain(question).replace("[MASK]", "[ MASK ]")
    )


@bug("uncased tokenizer for a cased model", "dev_data")
def _(patch):
    wrap(patch, text, "read_settings", lambda plain: lambda *rest: text.BasicTokenizer())


def _features(patch, **changes) -> None:
    wrap(patch, data, "features", lambda plain: lambda *a, **k: plain(*a, **{**k, **changes}))


@bug("doc_stride taken as overlap", "dev_data", mode="paper")
def _(patch):
    _features(patch, doc_stride=384 - 128)


@bug("question cut one piece earlier", "dev_data", mode="paper")
def _(patch):
    _features(patch, max_query_length=63)


@bug("last window dropped", "dev_data")
def _(patch):
    wrap(patch, data, "window_starts", lambda plain: lambda *a: plain(*a)[: max(1, len(plain(*a)) - 1)])


@bug("examples counted anew in every block", "dev_data")
def _(patch):
    def anew(plain):
        def planted(*a, **k):
            for kept, rows in plain(*a, **k):
                rows.example_index -= rows.example_index.min()
                yield kept, rows

        return planted

    wrap(patch, data, "features", anew)


@bug("a word of 101 letters spelled, not unknown", "dev_data")
def _(patch):
    def longer(plain):
        def planted(self, *a, **k):
            plain(self, *a, **k)
            self._rust.model.max_input_chars_per_word = 101

        return planted

    wrap(patch, text.WordPieces, "__init__", longer)


@bug("the first character of a CJK block left in its word", "dev_data", mode="paper")
def _(patch):
    patch.setattr(text, "IDEOGRAPH", re.compile(text.IDEOGRAPH.pattern.replace("\u3400-", "\u3401-")))


@bug("a context cut anew remembered as it was cut before", "dev_data", mode="paper")
def _(patch):
    planted.edit(patch, data, "_paper_plans", " or known[0] != example.tokens", "")


def _labels(patch, change: Callable) -> None:
    for name in ("_paper_label", "_hf_label"):
        wrap(patch, data, name, lambda plain: lambda *a: change(*plain(*a)))


@bug("gold spans shifted by the two pieces of [QUESTION] .", "train_data")
def _(patch):
    _labels(patch, lambda start, end: (start + 2, end + 2) if end else (start, end))


@bug("end label exclusive", "train_data", mode="paper")
def _(patch):
    _labels(patch, lambda start, end: (start, end + 1) if end else (start, end))


@bug("windows without the answer dropped", "train_data", mode="paper")
def _(patch):
    def columns(plain):
        def planted(name, mode):
            found = plain.__wrapped__(name, mode)
            keep = found["start_positions"] > 0
            return {n: a[keep] for n, a in found.items()}

        return planted

    wrap(patch, ours, "columns", columns)


@bug("rows in another order", "train_data", also=("dev_data",))
def _(patch):
    wrap(patch, ours, "columns", lambda plain: lambda *a: {n: c[::-1].copy() for n, c in plain.__wrapped__(*a).items()})


# -- metric -----------------------------------------------------------------------------------------------


@bug("articles not removed", "metric")
def _(patch):
    patch.setattr(answers, "normalize", lambda text: " ".join(text.lower().translate(answers.NO_PUNCTUATION).split()))


@bug("punctuation not removed", "metric")
def _(patch):
    patch.setattr(answers, "normalize", lambda text: " ".join(answers.ARTICLES.sub(" ", text.lower()).split()))


@bug("first gold answer only", "metric")
def _(patch):
    wrap(
        patch,
        metric,
        "evaluate",
        lambda plain: lambda golds, *a, **k: plain({q: g[:1] for q, g in golds.items()}, *a, **k),
    )


def _decoding(patch, **changes) -> None:
    for name in ("decode_paper", "decode_hf"):
        wrap(patch, metric, name, lambda plain: lambda *a, **k: plain(*a, **{**k, **changes}))


@bug("max_answer_length off by one", "metric", mode="paper")
def _(patch):
    _decoding(patch, max_answer_length=11)


@bug("answers of an uncased model decoded as cased", "metric", mode="paper")
def _(patch):
    wrap(patch, metric, "decode_paper", lambda plain: lambda *a, **k: plain(*a[:5], **k))


@bug("19 best boundaries for 20", "metric")
def _(patch):
    _decoding(patch, n_best=19)


@bug("odds at the threshold count as no answer", "metric")
def _(patch):
    planted.edit(patch, answers, "evaluate", "odds[q] > threshold", "odds[q] >= threshold")
    patch.setattr(metric, "evaluate", answers.evaluate)


@bug("unstable sort of equal logits", "metric", mode="paper")
def _(patch):
    def candidates(plain):
        def planted(start, end, *rest):
            return [
                (w, start.shape[1] - 1 - f, end.shape[1] - 1 - last) for w, f, last in plain(start, end, *rest)
            ] and plain(start - 1e-9 * np.arange(start.shape[1])[::-1], end, *rest)

        return planted

    wrap(patch, metric, "candidates", candidates)


# -- loss -------------------------------------------------------------------------------------------------


def _cross_entropy(patch, planted: Callable) -> None:
    patch.setattr(model_paddle, "cross_entropy", planted)


@bug("paddle's own cross_entropy, which clamps at 64", "loss")
def _(patch):
    def planted(logits, labels, ignore):
        losses = F.cross_entropy(logits, labels.unsqueeze(-1), ignore_index=ignore, reduction="none").squeeze(-1)
        return losses, (labels != ignore).astype(logits.dtype)

    _cross_entropy(patch, planted)


@bug("mean over the batch, not over the counted rows", "loss")
def _(patch):
    plain = model_paddle.cross_entropy

    def planted(logits, labels, ignore):
        losses, counted = plain(logits, labels, ignore)
        return losses, paddle.ones_like(counted)

    _cross_entropy(patch, planted)


def _loss(patch, change: Callable) -> None:
    plain = model.span_loss
    patch.setattr(model.SplinterForQuestionAnswering, "loss", staticmethod(lambda *a: change(plain, *a)))


@bug("start + end without the half", "loss")
def _(patch):
    _loss(patch, lambda plain, *a: plain(*a) * 2)


@bug("labels beyond the window clamped to the last token, not ignored", "loss")
def _(patch):
    _loss(patch, lambda plain, s, e, ys, ye: plain(s, e, ys.clip(max=s.shape[1] - 1), ye.clip(max=s.shape[1] - 1)))


@bug("negative labels ignored, not counted as [CLS]", "loss")
def _(patch):
    def change(plain, s, e, ys, ye):
        beyond = paddle.full_like(ys, s.shape[1])
        return plain(s, e, paddle.where(ys < 0, beyond, ys), paddle.where(ye < 0, beyond, ye))

    _loss(patch, change)


@bug("all labels ignored gives 0, as paddle's cross_entropy", "loss")
def _(patch):
    _loss(patch, lambda plain, *a: paddle.nan_to_num(plain(*a)))


# -- lr ---------------------------------------------------------------------------------------------------


def _rate(patch, change: Callable) -> None:
    wrap(patch, schedule, "rate", lambda plain: lambda plan, peak, update: change(plain, plan, peak, update))


@bug("scheduler stepped before the optimizer", "lr")
def _(patch):
    _rate(patch, lambda plain, plan, peak, update: plain(plan, peak, update + 1))


@bug("no warm-up", "lr")
def _(patch):
    _rate(patch, lambda plain, plan, peak, update: plain(replace(plan, warmup=0), peak, update))


@bug("negative rates beyond the end", "lr")
def _(patch):
    _rate(patch, lambda plain, plan, peak, k: plain(plan, peak, k) if k < plan.total else peak * (plan.total - k))


@bug("decay counted from update 0", "lr")
def _(patch):
    _rate(patch, lambda plain, plan, peak, k: plain(plan, peak, k) if k < plan.warmup else peak * (1 - k / plan.total))


@bug("total ignores min_steps", "lr")
def _(patch):
    wrap(patch, schedule, "plan", lambda plain: lambda features, r: plain(features, replace(r, min_steps=0)))


@bug("drop_last in the count of batches", "lr")
def _(patch):
    wrap(patch, schedule, "plan", lambda plain: lambda n, r: plain(max(r.batch_size, n - n % r.batch_size), r))


@bug("default learning rate 5e-5 for 3e-5", "lr")
def _(patch):
    _defaults(patch, learning_rate=5e-5)


# -- optimizer --------------------------------------------------------------------------------------------


def _defaults(patch, **changes) -> None:
    """Our recipe's defaults, as the port would ship them."""
    plain = Recipe

    class Planted(plain):
        def __init__(self, **given):
            super().__init__(**{**changes, **given})

    patch.setattr(ours, "Recipe", Planted)


def _variant(patch, change: Callable) -> None:
    """An optimizer whose recipe or update differs."""

    class Planted(train_paddle.AdamW):
        pass

    change(Planted)
    patch.setattr(ours, "AdamW", Planted)


@bug("epsilon after bias correction, as torch and paddle have it", "optimizer")
def _(patch):
    def change(cls):
        def epsilon(self, dtype):
            return paddle.to_tensor(self.recipe.epsilon * (1 - self.recipe.beta2**self.updates) ** 0.5, dtype=dtype)

        cls._epsilon = epsilon

    _variant(patch, change)


def _recipe(patch, **changes) -> None:
    def change(cls):
        def init(self, named, given, decayed=()):
            train_paddle.AdamW.__init__(self, named, replace(given, **changes), decayed)

        cls.__init__ = init

    _variant(patch, change)


@bug("epsilon 1e-6 for 1e-8", "optimizer")
def _(patch):
    _recipe(patch, epsilon=1e-6)


@bug("beta2 0.99 for 0.999", "optimizer")
def _(patch):
    _recipe(patch, beta2=0.99)


def _step(patch, planted: Callable) -> None:
    def change(cls):
        cls.step = planted

    _variant(patch, change)


@bug("no bias correction", "optimizer", also=("regularization",))
def _(patch):
    def step(self, rate):
        self.counts = dict.fromkeys(self.named, 10**6)
        return train_paddle.AdamW.step(self, rate)

    _step(patch, step)


@bug("decay before the step", "optimizer")
def _(patch):
    def step(self, rate):
        with paddle.no_grad():
            for name in self.decayed:
                self.named[name].scale_(1 - rate * self.recipe.weight_decay)
        kept, self.decayed = self.decayed, set()
        norm = train_paddle.AdamW.step(self, rate)
        self.decayed = kept
        return norm

    _step(patch, step)


@bug("each tensor clipped alone", "optimizer")
def _(patch):
    planted.clip_each(patch)


@bug("gradients not cleared after the step", "backward")
def _(patch):
    patch.setattr(train_paddle, "clear", lambda parameter: None)


# -- regularization ---------------------------------------------------------------------------------------


@bug("LayerNorm weights decayed: the names differ from those in the rule", "regularization")
def _(patch):
    patch.setattr(train, "decayed", lambda names: [n for n in names if "bias" not in n and "LayerNorm.weight" not in n])


@bug("nothing decays: the rule got automatic names", "regularization")
def _(patch):
    patch.setattr(train, "decayed", lambda names: [])


@bug("biases decayed", "regularization")
def _(patch):
    patch.setattr(train, "decayed", lambda names: [n for n in names if not n.endswith("norm.weight")])


@bug("default weight decay 0.01 for 0.0", "regularization")
def _(patch):
    _defaults(patch, weight_decay=0.01)


@bug("decay not scaled by the learning rate", "regularization", also=("optimizer",))
def _(patch):
    def step(self, rate):
        norm = train_paddle.AdamW.step(self, rate)
        with paddle.no_grad():
            for name in self.decayed:
                self.named[name].scale_((1 - self.recipe.weight_decay) / (1 - rate * self.recipe.weight_decay))
        return norm

    _step(patch, step)


@bug("attention dropout left out", "regularization")
def _(patch):
    def init(plain):
        def planted(self, c):
            plain(self, c)
            self.dropout_probs = paddle.nn.Identity()

        return planted

    wrap(patch, encoder.BertAttention, "__init__", init)


@bug("dropout on the sum with the residual, not before it", "regularization")
def _(patch):
    def forward(self, x, mask):
        x = self.attention(x, mask)
        return self.norm(self.dropout(self.outer(self.activation(self.inner(x))) + x))

    patch.setattr(encoder.BertLayer, "forward", forward)


@bug("dropout without upscaling", "regularization", also=("forward",))
def _(patch):
    wrap(patch, F, "dropout", lambda plain: lambda *a, **k: plain(*a, **{**k, "mode": "downscale_in_infer"}))


@bug("attention's and hidden rate of dropout swapped", "regularization", mode="paper")
def _(patch):
    planted.swap_rates(patch)


@bug("eval() forgotten in logits", "regularization")
def _(patch):
    planted.forget_eval(patch, train.Asked, "logits")


@bug("from_pretrained hands out a model in training mode", "regularization")
def _(patch):
    def filled(plain):
        def planted(self, *a, **more):
            made = plain(self, *a, **more)
            made.train()
            return made

        return planted

    wrap(patch, model_paddle.Pretrained, "filled", filled)


@bug("the same units dropped in every update: reseed with a constant", "regularization", mode="paper")
def _(patch):
    patch.setattr(train_paddle.PaddleTrainer, "reseed", lambda self, number: paddle.seed(42))


@bug("seeds of the updates not handed to Paddle", "regularization")
def _(patch):
    patch.setattr(train_paddle.PaddleTrainer, "reseed", lambda self, number: None)


# -- backward ---------------------------------------------------------------------------------------------


@bug("embeddings frozen", "backward", also=("init",))
def _(patch):
    def init(plain):
        def planted(self, c):
            plain(self, c)
            self.segment.weight.stop_gradient = True

        return planted

    wrap(patch, encoder.BertEmbeddings, "__init__", init)


@bug("gradient cut between encoder and head", "backward")
def _(patch):
    wrap(patch, encoder.Bert, "forward", lambda plain: lambda *a, **k: plain(*a, **k).detach())


@bug("gradient reaches the padding row", "backward")
def _(patch):
    class Here:  # paddle as this one module sees it
        where = staticmethod(lambda condition, x, y: y)

        def __getattr__(self, name):
            return getattr(paddle, name)

    patch.setattr(encoder, "paddle", Here())


@plain_bug("gradient cut between encoder and plain head", "backward")
def _(patch):
    wrap(patch, model.PlainHead, "forward", lambda plain: lambda self, x, positions: plain(self, x.detach(), positions))


# -- init -------------------------------------------------------------------------------------------------


@plain_bug("the plain head left to Paddle's Xavier default", "init")
def _(patch):
    def planted(plain):
        def init(self, c):
            plain(self, c)
            self.scores = paddle.nn.Linear(c.hidden_size, 2)

        return init

    wrap(patch, model.PlainHead, "__init__", planted)


@bug("Paddle's Xavier default left in place", "init")
def _(patch):
    patch.setattr(
        encoder, "linear", lambda i, o, std, bias=True: paddle.nn.Linear(i, o, bias_attr=None if bias else False)
    )


@bug("new head not drawn from N(0, 0.02)", "init")
def _(patch):
    wrap(patch, model, "linear", lambda plain: lambda i, o, std, bias=True: plain(i, o, 0.01, bias))


@bug("biases drawn, not zero", "init")
def _(patch):
    def planted(i, o, std, bias=True):
        bound = paddle.ParamAttr(initializer=paddle.nn.initializer.Uniform(-0.1, 0.1))
        weight = paddle.ParamAttr(initializer=paddle.nn.initializer.Normal(std=std))
        return paddle.nn.Linear(i, o, weight_attr=weight, bias_attr=bound if bias else False)

    patch.setattr(model, "linear", planted)


@bug("row of the padding token not zero", "init")
def _(patch):
    def init(plain):
        def planted(self, c):
            plain(self, c)
            with paddle.no_grad():
                self.word.weight[c.pad_token_id] = 0.02

        return planted

    wrap(patch, encoder.BertEmbeddings, "__init__", init)


@bug("uniform of the same deviation", "init")
def _(patch):
    def planted(i, o, std, bias=True):
        law = paddle.ParamAttr(initializer=paddle.nn.initializer.Uniform(-std * 3**0.5, std * 3**0.5))
        return paddle.nn.Linear(i, o, weight_attr=law, bias_attr=None if bias else False)

    patch.setattr(encoder, "linear", planted)


# -- training ---------------------------------------------------------------------------------------------


@bug("micro-batches weigh the same, whatever their size", "training", mode="paper")
def _(patch):
    plain = train_paddle.PaddleTrainer.backward
    patch.setattr(
        train_paddle.PaddleTrainer, "backward", lambda self, batch, share: plain(self, batch, 1 / 3)
    )  # 12 rows are 5, 5 and 2


@bug("micro-batches added up as if each were the batch", "training", mode="paper")
def _(patch):
    plain = train_paddle.PaddleTrainer.backward
    patch.setattr(train_paddle.PaddleTrainer, "backward", lambda self, batch, share: plain(self, batch))


@bug("micro-batches leave the labels in the order of the batch", "training", mode="paper")
def _(patch):
    def portions(plain):
        def planted(batch, rows):
            order = np.argsort(batch["attention_mask"].sum(axis=1), kind="stable")
            back = np.argsort(order, kind="stable")
            return plain({n: a[back] if n.endswith("positions") else a for n, a in batch.items()}, rows)

        return planted

    wrap(patch, trainer, "parts_by_length", portions)


@bug("the last, smaller micro-batch left out", "training", mode="paper")
def _(patch):
    def portions(plain):
        return lambda batch, rows: (one for one in plain(batch, rows) if len(one["input_ids"]) == rows)

    wrap(patch, trainer, "parts_by_length", portions)


@bug("micro-batches cut to their shortest row", "training", mode="paper")
def _(patch):
    patch.setattr(feed, "trim", lambda batch: planted.cut(batch, batch["attention_mask"].sum(axis=1).min()))


@bug("rows cut one piece too early", "training")
def _(patch):
    patch.setattr(ours, "trim", lambda batch: planted.cut(batch, batch["attention_mask"].sum(axis=1).max() - 1))


@bug("shuffling lost", "training")
def _(patch):
    planted.lose_shuffling(patch)


@bug("last batch of one row skipped", "training", also=("regularization",))
def _(patch):
    planted.skip_small(patch, 12)


@bug("dropout left on", "training")
def _(patch):
    patch.setattr(ours, "NO_DROPOUT", {})


assert config.MODES  # the module is imported for its patches to find it loaded


# -- fields of configuration and recipe -------------------------------------------------------------------


@bug("scaled by the number of heads, not by their width", "forward")
def _(patch):
    def change(init):
        def planted(self, c):
            init(self, c)
            self.scale = 1.0 / self.heads

        return planted

    wrap(patch, encoder.BertAttention, "__init__", change)


@bug("hidden and attention's rate of dropout swapped", "regularization")
def _(patch):
    def change(init):
        def planted(self, c):
            rates = c.attention_probs_dropout_prob, c.hidden_dropout_prob
            init(self, replace(c, hidden_dropout_prob=rates[0], attention_probs_dropout_prob=rates[1]))

        return planted

    wrap(patch, encoder.BertAttention, "__init__", change)


@bug("the recipe's own batch size ignored in the schedule", "lr")
def _(patch):
    wrap(patch, schedule, "plan", lambda plain: lambda features, r: plain(features, replace(r, batch_size=12)))


@bug("decay of the weights written in", "optimizer")
def _(patch):
    _recipe(patch, weight_decay=0.01)


@bug("initializer_range ignored, 0.02 written in", "init")
def _(patch):
    wrap(
        patch,
        encoder.BertLayer,
        "__init__",
        lambda init: lambda self, c: init(self, replace(c, initializer_range=0.02)),
    )
