"""Bugs planted in the multi-task port; see planted.py. Many are in the list of its first author's own mistakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import paddle
import planted
from planted import wrap

from splinter.align import weights
from splinter.ports.common.paddle import encoder
from splinter.ports.common.paddle import train as train_paddle
from splinter.ports.common.training import schedule
from splinter.ports.multitask import config, data, feed, metric, model, train
from splinter.ports.multitask.model import MultitaskBert
from splinter.ports.multitask.proof import cases, ours


def bug(name: str, step: str, mode: str = "version2", system: str = "multitask", **more):
    """Register a planting function; most mistakes are of the final design."""
    return planted.bug(name, step, system, mode, **more)


# -- forward ----------------------------------------------------------------------------------------------


def _rules(patch, change: Callable) -> None:
    """Change the rules by which our model is filled."""

    def planted_map(plain):
        def made(design="version2"):
            mapping = plain(design)
            return weights.WeightMap([change(rule) for rule in mapping.rules], mapping.drop)

        return made

    wrap(patch, model, "weight_map", planted_map)


@bug("pooler copied without transpose", "forward")
def _(patch):
    _rules(patch, lambda r: replace(r, transpose=r.transpose and r.ours != "bert.pooler.weight"))


@bug("square layer of the similarity tower copied without transpose", "forward")
def _(patch):
    _rules(patch, lambda r: replace(r, transpose=r.transpose and r.ours != "similarity_out.weight"))


@bug("the two layers of the similarity tower swapped in the name map", "forward")
def _(patch):
    swap = {"similarity_hidden": "similarity_out", "similarity_out": "similarity_hidden"}

    def change(rule):
        name, _, leaf = rule.ours.rpartition(".")
        return replace(rule, ours=f"{swap.get(name, name)}.{leaf}")

    _rules(patch, change)


@bug("query and key swapped in the name map", "forward")
def _(patch):
    swap = {"query": "key", "key": "query"}

    def change(rule):
        parts = rule.ours.split(".")
        return replace(rule, ours=".".join(swap.get(part, part) for part in parts))

    _rules(patch, change)


@bug("sides of the pair concatenated in the other order", "forward")
def _(patch):
    wrap(patch, MultitaskBert, "paraphrase", lambda plain: lambda self, a, b: plain(self, b, a))


@bug("concatenated along the batch and folded back", "forward")
def _(patch):
    plain = paddle.concat

    def concat(tensors, axis=0):
        return plain(tensors, axis=0).reshape([tensors[0].shape[0], -1]) if axis == 1 else plain(tensors, axis=axis)

    patch.setattr(model.paddle, "concat", concat)


@bug("score not divided by sqrt(n)", "forward")
def _(patch):
    wrap(patch, MultitaskBert, "similarity", lambda plain: lambda self, a, b: plain(self, a, b) * a.shape[1] ** 0.5)


@bug("cosine for the scaled inner product", "forward")
def _(patch):
    def similarity(self, e1, e2):
        a, b = (self.similarity_out(self.activation(self.similarity_hidden(e))) for e in (e1, e2))
        return paddle.nn.functional.cosine_similarity(a, b, axis=1)

    patch.setattr(MultitaskBert, "similarity", similarity)


@bug("no activation between the two layers", "forward")
def _(patch):
    patch.setattr(MultitaskBert, "activation", lambda self, x: x)


@bug("state of [CLS] for the pooler's output", "forward")
def _(patch):
    patch.setattr(encoder.Bert, "pool", lambda self, states: states[:, 0])


@bug("pooler without tanh", "forward")
def _(patch):
    patch.setattr(encoder.Bert, "pool", lambda self, states: self.pooler(states[:, 0]))


@bug("padding of the other side's length left unmasked", "forward")
def _(patch):
    wrap(
        patch,
        MultitaskBert,
        "encode",
        lambda plain: lambda self, ids, mask: plain(self, ids, paddle.ones_like(mask)),
    )


@bug("segment 1 for the second sentence", "forward")
def _(patch):
    def encoded(self, batch, prefix):
        ids, mask = batch[f"{prefix}input_ids"], batch[f"{prefix}attention_mask"]
        second = paddle.full_like(ids, int(prefix.endswith("b_")))
        return self.bert.pool(self.bert(ids, mask, second, fill=config.FILL))

    patch.setattr(MultitaskBert, "_encoded", encoded)


@bug("dropout of the heads left on in evaluation", "forward", mode="version1", also=("regularization",))
def _(patch):
    def sentiment(self, e):
        return self.sentiment_classifier(paddle.nn.functional.dropout(e, 0.3, training=True))

    patch.setattr(MultitaskBert, "sentiment", sentiment)


@bug("encoder LayerNorm epsilon 1e-5 for 1e-12", "forward")
def _(patch):
    wrap(patch, encoder.BertLayer, "__init__", lambda init: lambda self, c: init(self, replace(c, layer_norm_eps=1e-5)))


@bug("differences of a pair with their sign", "forward", system="multitask-options")
def _(patch):
    patch.setattr(paddle.Tensor, "abs", lambda self: self)


@bug("products of a pair before its differences", "forward", system="multitask-options")
def _(patch):
    def concat(plain):
        def planted(tensors, axis=0):
            return plain([tensors[0], *tensors[:0:-1]] if len(tensors) == 3 else tensors, axis=axis)

        return planted

    wrap(patch, model.paddle, "concat", concat)


@bug("the pooler's output for the state of [CLS]", "forward", system="multitask-options")
def _(patch):
    _options(patch, pooling="pooled")


@bug("the mean of a sentence for the state of [CLS]", "forward", system="multitask-options")
def _(patch):
    def encode(self, input_ids, attention_mask):
        return self.bert(input_ids, attention_mask, fill=config.FILL).mean(axis=1)

    patch.setattr(MultitaskBert, "encode", encode)


@bug("ReLU between the two layers though none is asked for", "forward", system="multitask-options")
def _(patch):
    _options(patch, head_activation="relu")


def _options(patch, **changes) -> None:
    """The model takes no notice of an option."""

    def init(plain):
        def planted(self, c):
            plain(self, c)
            self.config = replace(c, **changes)

        return planted

    wrap(patch, MultitaskBert, "__init__", init)


# -- data -------------------------------------------------------------------------------------------------


@bug("no space before the apostrophe", "dev_data")
def _(patch):
    def spaced(text):
        for mark in ".?,":
            text = text.replace(mark, f" {mark}")
        return " ".join(text.lower().split())

    patch.setattr(data, "CLEAN", {**data.CLEAN, "paraphrase": spaced, "similarity": spaced})


@bug("rows without label kept as class 0", "dev_data")
def _(patch):
    wrap(patch, data, "_label", lambda plain: lambda text, *rest: plain(text or "0", *rest))


@bug("both sides padded to the longer one", "dev_data")
def _(patch):
    def batch(plain):
        def made(self, rows):
            found = plain(self, rows)
            names = [n for n in found if not n.endswith("labels")]
            width = max(found[n].shape[1] for n in names)
            return found | {n: np.pad(found[n], ((0, 0), (0, width - found[n].shape[1]))) for n in names}

        return made

    wrap(patch, data.Dataset, "batch", batch)


@bug("[SEP] cut off with what is too long", "dev_data")
def _(patch):
    def tokens(plain):
        def made(texts, pieces, longest=512):
            whole = plain(texts, pieces)
            rows = [whole.flat[a:b][:longest] for a, b in zip(whole.starts, whole.starts[1:], strict=False)]
            starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
            return data.Tokens(np.concatenate(rows), starts, whole.pad)

        return made

    wrap(patch, data, "tokens", tokens)


@bug("case kept", "dev_data", mode="version1")
def _(patch):
    patch.setattr(data, "CLEAN", {**data.CLEAN, "sentiment": str.strip})
    wrap(patch, data, "WordPieces", lambda plain: lambda *a, **k: plain(*a, **{**k, "lower_case": False}))


@bug("similarity labels cut to whole numbers", "train_data", also=("dev_data",))
def _(patch):
    wrap(
        patch,
        data,
        "_label",
        lambda plain: lambda *a: None if (found := plain(*a)) is None else float(int(found)),
    )


@bug("labels shaped (N, 1)", "train_data", also=("dev_data",))
def _(patch):
    wrap(
        patch,
        data.Dataset,
        "columns",
        lambda plain: lambda self: {n: a[:, None] if n == "labels" else a for n, a in plain(self).items()},
    )


@bug("one sequence of both sentences: [CLS] a [SEP] b [SEP]", "train_data", also=("dev_data",))
def _(patch):
    def tokens(plain):
        return lambda texts, pieces, longest=512: plain([f"{text} [SEP] {text}" for text in texts], pieces, longest)

    wrap(patch, data, "tokens", tokens)


# -- metric -----------------------------------------------------------------------------------------------


@bug("ties to the higher class", "metric")
def _(patch):
    def decisions(plain):
        def made(task, outputs):
            flipped = outputs.ndim == 2
            return outputs.shape[1] - 1 - plain(task, outputs[:, ::-1]) if flipped else plain(task, outputs)

        return made

    wrap(patch, metric, "decisions", decisions)


@bug("one logit of 0 is a paraphrase", "metric")
def _(patch):
    wrap(
        patch,
        metric,
        "decisions",
        lambda plain: (
            lambda task, z: (z >= 0).astype(np.int64) if task == "paraphrase" and z.ndim == 1 else plain(task, z)
        ),
    )


@bug("mean of the batches' correlations", "metric")
def _(patch):
    def pearson(plain):
        def made(predicted, labels):
            parts = range(0, len(labels), 64)
            return float(np.mean([plain(predicted[i : i + 64], labels[i : i + 64]) for i in parts]))

        return made

    wrap(patch, metric, "pearson", pearson)


@bug("undefined correlation given as 0", "metric")
def _(patch):
    wrap(patch, metric, "pearson", lambda plain: lambda *a: float(np.nan_to_num(plain(*a))))


@bug("correlation in float32", "metric")
def _(patch):
    wrap(patch, metric, "pearson", lambda plain: lambda p, y: float(np.corrcoef(p, y, dtype=np.float32)[0, 1]))


@bug("macro F1 over the classes of the labels alone", "metric")
def _(patch):
    def f1(predicted, labels):
        kinds = np.unique(labels)
        hits = [((predicted == k) & (labels == k)).sum() for k in kinds]
        sizes = [(predicted == k).sum() + (labels == k).sum() for k in kinds]
        return float(np.mean([2 * hit / size for hit, size in zip(hits, sizes, strict=True)]))

    patch.setattr(metric, "macro_f1", f1)


# -- loss -------------------------------------------------------------------------------------------------


def _loss(patch, change: Callable) -> None:
    wrap(patch, model, "loss", lambda plain: lambda outputs, batch: change(plain, outputs, batch))


@bug("mean over the rows, not over the nominal batch", "loss")
def _(patch):
    def change(plain, outputs, batch):
        rows = next(iter(outputs.values())).shape[0]
        return plain(outputs, {**batch, "batch_size": paddle.to_tensor(rows)})

    _loss(patch, change)


@bug("scores (B,) against labels (B, 1)", "loss")
def _(patch):
    def change(plain, outputs, batch):
        others = {task: output for task, output in outputs.items() if task != "similarity"}
        if len(others) == len(outputs):
            return plain(outputs, batch)
        found = (outputs["similarity"] - batch["similarity/labels"].unsqueeze(1)).square().mean()
        return found + plain(others, batch) if others else found

    _loss(patch, change)


@bug("similarity labels as integers", "loss")
def _(patch):
    def change(plain, outputs, batch):
        labels = {n: a.astype("int64") if n == "similarity/labels" else a for n, a in batch.items()}
        return plain(outputs, labels)

    _loss(patch, change)


@bug("labels scaled to 0..1 in the loss alone", "loss")
def _(patch):
    def change(plain, outputs, batch):
        return plain(outputs, {n: a / 5 if n == "similarity/labels" else a for n, a in batch.items()})

    _loss(patch, change)


@bug("paddle's own cross_entropy, which clamps at 64", "loss")
def _(patch):
    def planted_loss(logits, labels, ignore):
        found = paddle.nn.functional.cross_entropy(logits, labels.unsqueeze(-1), reduction="none")
        return found.squeeze(-1), paddle.ones_like(labels).astype(logits.dtype)

    patch.setattr(model, "cross_entropy", planted_loss)


@bug("one logit turned around", "loss", mode="version1")
def _(patch):
    wrap(patch, model.paddle, "stack", lambda plain: lambda tensors, axis=0: plain(tensors[::-1], axis=axis))


# -- lr, optimizer, regularization ------------------------------------------------------------------------


def _rate(patch, change: Callable) -> None:
    wrap(patch, schedule, "rate", lambda plain: lambda plan, peak, update: change(plain, plan, peak, update))


@bug("linear decay for the constant rate", "lr")
def _(patch):
    _rate(patch, lambda plain, plan, peak, k: plain(replace(plan, schedule="linear"), peak, k))


@bug("warm-up of a tenth", "lr")
def _(patch):
    _rate(patch, lambda plain, plan, peak, k: plain(replace(plan, warmup=plan.total // 10), peak, k))


def _defaults(patch, **changes) -> None:
    """The port's defaults, as it would ship them."""
    wrap(patch, ours, "asdict", lambda plain: lambda given: {**plain(given), **changes})


@bug("default rate of the other phase", "lr")
def _(patch):
    _defaults(patch, learning_rate=1e-3)


@bug("default epsilon 1e-8 for 1e-6", "optimizer")
def _(patch):
    _defaults(patch, epsilon=1e-8)


def _recipe(patch, **changes) -> None:
    class Planted(train_paddle.AdamW):
        def __init__(self, named, given, decayed=()):
            super().__init__(named, replace(given, **changes), decayed)

    patch.setattr(ours, "AdamW", Planted)


@bug("epsilon 1e-8 for 1e-6", "optimizer")
def _(patch):
    _recipe(patch, epsilon=1e-8)


@bug("epsilon after bias correction, as torch and paddle have it", "optimizer")
def _(patch):
    class Planted(train_paddle.AdamW):
        def _epsilon(self, dtype):
            return paddle.to_tensor(self.recipe.epsilon * (1 - self.recipe.beta2**self.updates) ** 0.5, dtype=dtype)

    patch.setattr(ours, "AdamW", Planted)


def _step(patch, before: Callable) -> None:
    """Our optimizer, which does something of its own before each update."""

    class Planted(train_paddle.AdamW):
        def step(self, rate):
            with paddle.no_grad():
                before(self, rate)
            return super().step(rate)

    patch.setattr(ours, "AdamW", Planted)


@bug("zeros for a gradient that is none, so that momentum moves the weight", "optimizer")
def _(patch):
    def before(optimizer, rate):
        for parameter in optimizer.named.values():
            parameter.grad = paddle.zeros_like(parameter) if parameter.grad is None else parameter.grad

    _step(patch, before)


@bug("bias correction by the updates of all weights, not of each", "optimizer")
def _(patch):
    def before(optimizer, rate):
        optimizer.counts = dict.fromkeys(optimizer.named, optimizer.updates)

    _step(patch, before)


@bug("weights without a gradient decay", "optimizer")
def _(patch):
    def before(optimizer, rate):
        for name, parameter in optimizer.named.items():
            if parameter.grad is None and name in optimizer.decayed:
                parameter.scale_(1 - rate * optimizer.recipe.weight_decay)

    _step(patch, before)


@bug("clipped to norm 1 by default", "regularization")
def _(patch):
    _defaults(patch, max_norm=1.0)


@bug("default weight decay 0.01 for 0.0", "regularization")
def _(patch):
    _defaults(patch, weight_decay=0.01)


@bug("BERT's dropout rate in the heads", "regularization")
def _(patch):
    wrap(
        patch,
        MultitaskBert,
        "__init__",
        lambda init: lambda self, c: init(self, replace(c, head_dropout_prob=c.hidden_dropout_prob)),
    )


@bug("the head of paraphrase has no dropout", "regularization", also=("forward",))
def _(patch):
    def init(plain):
        def made(self, c):
            plain(self, c)
            self.paraphrase_dropout = paddle.nn.Identity()

        return made

    wrap(patch, MultitaskBert, "__init__", init)


@bug("LayerNorm weights decayed: the names differ from those in the rule", "regularization")
def _(patch):
    patch.setattr(train, "decayed", lambda names: [n for n in names if "bias" not in n and "LayerNorm.weight" not in n])


@bug("eval() forgotten in encode", "regularization")
def _(patch):
    planted.forget_eval(patch, train.Backend, "encode")


@bug("eval() forgotten in outputs", "regularization", mode="version1")
def _(patch):
    planted.forget_eval(patch, train.Backend, "outputs")


@bug("a whole sentence vector dropped in the head of sentiment", "regularization")
def _(patch):
    def init(plain):
        def made(self, c):
            plain(self, c)
            self.sentiment_dropout = paddle.nn.Dropout(c.head_dropout_prob, axis=0)

        return made

    wrap(patch, MultitaskBert, "__init__", init)


@bug("the heads scale in evaluation, not in training", "regularization")
def _(patch):
    def init(plain):
        def made(self, c):
            plain(self, c)
            self.paraphrase_dropout = paddle.nn.Dropout(c.head_dropout_prob, mode="downscale_in_infer")

        return made

    wrap(patch, MultitaskBert, "__init__", init)


@bug("the frozen encoder without dropout", "regularization", system="multitask-frozen")
def _(patch):
    def freeze(plain):
        def planted(self):
            plain(self)
            for layer in self.bert.sublayers():
                if isinstance(layer, paddle.nn.Dropout):
                    layer.p = 0.0

        return planted

    wrap(patch, MultitaskBert, "freeze", freeze)


@bug("the frozen encoder kept in evaluation mode", "regularization", system="multitask-frozen")
def _(patch):
    def train_mode(plain):
        def planted(self):
            plain(self)
            self.bert.eval()

        return planted

    wrap(patch, MultitaskBert, "train", train_mode)


# -- backward ---------------------------------------------------------------------------------------------


@bug("output wrapped in a new tensor: the graph is broken", "backward")
def _(patch):
    wrap(patch, MultitaskBert, "encode", lambda plain: lambda *a: paddle.to_tensor(plain(*a).numpy()))


@bug("gradient through one side of the pair only", "backward")
def _(patch):
    wrap(patch, MultitaskBert, "similarity", lambda plain: lambda self, a, b: plain(self, a, b.detach()))


@bug("gradients not cleared after the step", "backward")
def _(patch):
    patch.setattr(train_paddle, "clear", lambda parameter: None)


@bug("the encoder is not frozen", "backward", system="multitask-frozen")
def _(patch):
    patch.setattr(MultitaskBert, "freeze", lambda self: None)


@bug("the pooler is not frozen with the encoder", "backward", system="multitask-frozen")
def _(patch):
    def freeze(self):
        for name, parameter in self.bert.named_parameters():
            parameter.stop_gradient = not name.startswith("pooler")

    patch.setattr(MultitaskBert, "freeze", freeze)


@bug("frozen by detaching the heads' inputs after the tower as well", "backward", system="multitask-frozen")
def _(patch):
    def similarity(self, e1, e2):
        a, b = (self.similarity_out(self.activation(self.similarity_hidden(e)).detach()) for e in (e1, e2))
        return (a * b).sum(axis=1) / a.shape[1] ** 0.5

    patch.setattr(MultitaskBert, "similarity", similarity)


@bug("no gradient through what is compared of a pair", "backward", system="multitask-options")
def _(patch):
    def concat(plain):
        def planted(tensors, axis=0):
            return plain([tensors[0], *(t.detach() for t in tensors[1:])] if len(tensors) == 3 else tensors, axis=axis)

        return planted

    wrap(patch, model.paddle, "concat", concat)


@bug("momentum moves the heads of tasks that an update does not see", "backward", system="multitask-options")
def _(patch):
    patch.setattr(train_paddle, "clear", lambda parameter: parameter.clear_gradient())


# -- init -------------------------------------------------------------------------------------------------


@bug("heads with Paddle's Xavier default and zero bias", "init")
def _(patch):
    patch.setattr(model, "head_linear", paddle.nn.Linear)


@bug("heads with BERT's law", "init")
def _(patch):
    patch.setattr(model, "head_linear", lambda i, o: encoder.linear(i, o, 0.02))


@bug("bias of the heads zero", "init", mode="version1")
def _(patch):
    def linear(plain):
        def made(i, o):
            found = plain(i, o)
            with paddle.no_grad():
                found.bias.zero_()
            return found

        return made

    wrap(patch, model, "head_linear", linear)


# -- training ---------------------------------------------------------------------------------------------


@bug("the same batch of each task again and again", "training")
def _(patch):
    def fit(plain):
        def made(trainer, given, hyper, **rest):
            given._permutations.clear()

            class Stuck(feed.MixedFeed):
                def rows(self, task, batch):
                    return super().rows(task, 0)

            return plain(trainer, Stuck(given.datasets, hyper, given.steps), hyper, **rest)

        return made

    wrap(patch, ours, "fit", fit)


@bug("one task forgotten in the sum", "training")
def _(patch):
    _loss(patch, lambda plain, o, b: plain({t: x for t, x in o.items() if t != "paraphrase"}, b))


@bug("heads frozen together with the encoder", "training", also=("backward",), system="multitask-frozen")
def _(patch):
    def freeze(self):
        for name, parameter in self.named_parameters():
            parameter.stop_gradient = not name.startswith("sentiment")

    patch.setattr(MultitaskBert, "freeze", freeze)


# -- fields of configuration and recipe -------------------------------------------------------------------


@bug("rate of the heads' dropout ignored, 0.3 written in", "regularization")
def _(patch):
    wrap(patch, MultitaskBert, "__init__", lambda init: lambda self, c: init(self, replace(c, head_dropout_prob=0.3)))


@bug("beta2 of the recipe ignored, 0.999 written in", "optimizer")
def _(patch):
    _recipe(patch, beta2=0.999)


@bug("default schedule linear for constant", "lr")
def _(patch):
    _defaults(patch, schedule="linear")


def _feed(patch, **members) -> None:
    """Our training reads another feed: ours, with some members replaced."""
    patch.setattr(cases, "MixedFeed", type("Mistaken", (feed.MixedFeed,), members))


def _power(patch, alpha: float) -> None:
    """Tasks are drawn by another power of the size of their data."""

    @property
    def drawn(self):
        return feed.MixedFeed(self.datasets, self.recipe, self.steps, self.sampling, alpha).drawn

    _feed(patch, drawn=drawn)


@bug("tasks drawn by the size of their data, not by a power of it", "training", system="multitask-frozen")
def _(patch):
    _power(patch, 1.0)


@bug("tasks drawn all alike", "training", system="multitask-frozen")
def _(patch):
    _power(patch, 0.0)


@bug("the same draws of tasks in every epoch", "training", system="multitask-frozen")
def _(patch):
    @property
    def drawn(self):
        first = feed.MixedFeed.drawn.func(self)[: self.steps]
        return np.tile(first, self.recipe.epochs)

    _feed(patch, drawn=drawn)


@bug("batches counted over all tasks, not by task", "training", system="multitask-frozen")
def _(patch):
    def batches(self, start):
        for update, number in enumerate(self.drawn):
            task = list(self.datasets)[number]
            rows = self.rows(task, update)
            yield {"batch_size": np.array(self.recipe.batch_size), **self.datasets[task].batch(rows)}, list

    _feed(patch, batches=batches)


@bug("a set that is used up starts again in the same order", "training")
def _(patch):
    _feed(patch, _permutation=lambda self, task, turn: feed.MixedFeed._permutation(self, task, 0))


@bug("the last batch of a pass is filled up from its beginning", "training")
def _(patch):
    def rows(self, task, batch):
        found = feed.MixedFeed.rows(self, task, batch)
        return np.resize(found, self.recipe.batch_size)

    _feed(patch, rows=rows)
