"""Bugs planted in JointBERT's port; see planted.py. Those of the first public Paddle port are marked `seed`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import paddle
import paddle.nn.functional as F
import planted
from planted import wrap

from splinter.align import weights
from splinter.ports.common.paddle import encoder
from splinter.ports.common.paddle import train as train_paddle
from splinter.ports.common.training import feed, fit, schedule
from splinter.ports.jointbert import data, metric, model, train
from splinter.ports.jointbert.proof import ours


def bug(name: str, step: str, mode: str = "softmax", system: str = "jointbert", **more):
    """Register a planting function; most mistakes show in either mode."""
    return planted.bug(name, step, system, mode, **more)


def plain_bug(name: str, **more):
    """Register one of the CRF's plain sums over all paths."""
    return bug(name, "loss", mode="crf", system="jointbert-forbidden", **more)


# -- forward ----------------------------------------------------------------------------------------------


def _rules(patch, change: Callable) -> None:
    """Change the rules by which our model is filled."""
    plain = model.weight_map

    def planted(*arguments):
        mapping = plain(*arguments)
        return weights.WeightMap([change(rule) for rule in mapping.rules], mapping.drop)

    patch.setattr(model, "weight_map", planted)


@bug("pooler not transposed: square, so no shape tells", "forward")
def _(patch):
    _rules(patch, lambda r: replace(r, transpose=r.transpose and "pooler" not in r.ours))


@bug("transitions of the CRF transposed", "forward", mode="crf", also=("loss",))
def _(patch):
    _rules(patch, lambda r: replace(r, transpose=r.transpose or r.ours == "crf.transitions"))


@bug("start and end of the CRF swapped", "forward", mode="crf", also=("loss",))
def _(patch):
    names = {"crf.start_transitions": "crf.end_transitions", "crf.end_transitions": "crf.start_transitions"}
    _rules(patch, lambda r: replace(r, ours=names.get(r.ours, r.ours)))


@bug("pooled without tanh", "forward")
def _(patch):
    patch.setattr(encoder.Bert, "pool", lambda self, states: self.pooler(states[:, 0]))


@bug("the last token pooled", "forward")
def _(patch):
    patch.setattr(encoder.Bert, "pool", lambda self, states: paddle.tanh(self.pooler(states[:, -1])))


@bug("intents read from the first state, not from the pooled one", "forward")
def _(patch):
    wrap(patch, model.JointBert, "heads", lambda plain: lambda self, states, pooled: plain(self, states, states[:, 0]))


def _encode(patch, change: Callable) -> None:
    wrap(patch, model.JointBert, "encode", lambda plain: lambda self, *a: plain(self, *change(*a)))


@bug("segment ids dropped", "forward")
def _(patch):
    _encode(patch, lambda ids, mask, segments: (ids, mask))


@bug("attention mask forgotten", "forward")
def _(patch):
    _encode(patch, lambda ids, mask, segments: (ids, paddle.ones_like(mask), segments))


@bug("erf gelu for tanh", "forward")
def _(patch):
    patch.setattr(encoder, "activation", lambda name: F.gelu)


@bug("encoder LayerNorm epsilon 1e-5 for 1e-12", "forward")
def _(patch):
    wrap(patch, encoder.BertLayer, "__init__", lambda init: lambda self, c: init(self, replace(c, layer_norm_eps=1e-5)))


@bug("padding decoded in spite of the mask", "forward", mode="crf")
def _(patch):
    wrap(patch, model.CRF, "decode", lambda plain: lambda self, e, mask: plain(self, e, paddle.ones_like(mask)))


@bug("Viterbi without the transitions to the end", "forward", mode="crf")
def _(patch):
    def decode(plain):
        def planted(self, emissions, mask):
            kept = self.end_transitions
            self.end_transitions = paddle.create_parameter(
                kept.shape, kept.dtype, default_initializer=paddle.nn.initializer.Constant(0.0)
            )
            try:
                return plain(self, emissions, mask)
            finally:
                self.end_transitions = kept

        return planted

    wrap(patch, model.CRF, "decode", decode)


# -- data -------------------------------------------------------------------------------------------------


def _features(patch, change: Callable) -> None:
    """Change the columns that come out, told sentences, pieces, labels and length."""
    wrap(patch, data, "features", lambda plain: lambda *a: change(plain(*a), *a))


@bug("a tag for every piece of a word", "dev_data")
def _(patch):
    def change(made, *rest):
        slots, last = made["slot_labels"], made["attention_mask"].sum(axis=1) - 1
        for row, end in zip(slots, last, strict=True):
            for place in range(2, end):
                row[place] = row[place] or row[place - 1]
        return made

    _features(patch, change)


@bug("labels unseen in training become O", "dev_data")
def _(patch):
    def planted(labels, wanted):
        number = {label: i for i, label in enumerate(labels)}
        return np.array([number.get(label, number.get("O", 0)) for label in wanted], np.int64)

    patch.setattr(data, "ids_of", planted)


@bug("cased pieces for a lower-case model", "dev_data")
def _(patch):
    wrap(patch, ours, "WordPieces", lambda plain: lambda v, lower_case, python: plain(v, False, python=python))


@bug("intent labels of shape (N, 1) (seed)", "dev_data")
def _(patch):
    _features(patch, lambda made, *rest: made | {"intent_labels": made["intent_labels"][:, None]})


@bug("segment ids 1 on the padding", "dev_data")
def _(patch):
    _features(patch, lambda made, *rest: made | {"token_type_ids": 1 - made["attention_mask"]})


@bug("label sets from train, dev and test", "train_data", also=("dev_data",))
def _(patch):
    others = [one for part in ("dev", "test") for one in data.read(ours.cases.CORPUS / part)]
    wrap(patch, data, "build_labels", lambda plain: lambda sentences: plain([*sentences, *others]))


@bug("slots in plain order", "train_data", also=("dev_data",))
def _(patch):
    def change(plain):
        def planted(sentences):
            made = plain(sentences)
            return data.Labels(made.intents, (*made.slots[:2], *sorted(made.slots[2:])))

        return planted

    wrap(patch, data, "build_labels", change)


@bug("words remembered for all vocabularies", "train_data")
def _(patch):
    words: dict = {}

    def shared(plain):
        def planted(self, *a, **k):
            plain(self, *a, **k)
            self._words = words

        return planted

    wrap(patch, data.WordPieces, "__init__", shared)


@bug("a long sentence loses its [SEP]", "train_data", also=("dev_data",))
def _(patch):
    def change(made, sentences, pieces, *rest):
        full = made["attention_mask"].all(axis=1)
        made["input_ids"][full, -1] = pieces.unk
        return made

    _features(patch, change)


@bug("a word without pieces takes no place", "train_data", also=("dev_data",))
def _(patch):
    def change(plain):
        def planted(sentences, pieces, *rest):
            kept = []
            for one in sentences:
                there = [bool(ids) for ids in pieces.encode_words(one.words)]
                words, tags = ([x for x, keep in zip(c, there, strict=True) if keep] for c in (one.words, one.tags))
                kept.append(replace(one, words=words, tags=tags))
            return plain(kept, pieces, *rest)

        return planted

    wrap(patch, data, "features", change)


@bug("rows in another order", "train_data", also=("dev_data",))
def _(patch):
    wrap(patch, ours, "columns", lambda plain: lambda *a: {n: c[::-1].copy() for n, c in plain.__wrapped__(*a).items()})


# -- metric -----------------------------------------------------------------------------------------------


def _tags(patch, change: Callable) -> None:
    """Change gold and predicted tags before they are scored."""
    wrap(patch, metric, "evaluate", lambda plain: lambda i, j, gold, found: plain(i, j, *change(gold, found)))


@bug("PAD predictions dropped before the score", "metric")
def _(patch):
    _tags(patch, lambda gold, found: (gold, [[tag.replace("PAD", "O") for tag in row] for row in found]))


@bug("chunks of UNK not counted", "metric")
def _(patch):
    _tags(patch, lambda *both: tuple([[tag.replace("UNK", "O") for tag in row] for row in tags] for tags in both))


@bug("I- after O starts no chunk", "metric")
def _(patch):
    def strict(tags):
        before, kept = "O", []
        for tag in tags:
            alone = tag.startswith("I-") and before[2:] != tag[2:]
            before = "O" if alone else tag
            kept.append(before)
        return kept

    _tags(patch, lambda *both: tuple([strict(row) for row in tags] for tags in both))


@bug("the type cut at the dot", "metric")
def _(patch):
    wrap(patch, metric, "_type", lambda plain: lambda tag: plain(tag).partition(".")[0])


@bug("the type cut at the last hyphen, not at the first", "metric")
def _(patch):
    planted.edit(patch, metric, "_type", 'split("-"', 'rsplit("-"')


@bug("E ends no chunk", "metric")
def _(patch):
    planted.edit(patch, metric, "chunks", 'before in "ES" or', 'before in "S" or')


@bug("sentence accuracy without the intent", "metric")
def _(patch):
    def change(plain):
        def planted(i, j, gold, found):
            return plain(i, j, gold, found) | {"sentence_acc": plain(i, i, gold, found)["sentence_acc"]}

        return planted

    wrap(patch, metric, "evaluate", change)


@bug("words scored by the predicted labels, not by the gold ones", "metric")
def _(patch):
    wrap(
        patch, metric, "tags_at", lambda plain: lambda ids, gold, slots: plain(ids, np.where(ids > 2, ids, gold), slots)
    )


# -- loss -------------------------------------------------------------------------------------------------


def _slot_entropy(patch, planted: Callable) -> None:
    """Replace the cross entropy of the slots, given (logits, labels)."""
    plain = model.cross_entropy
    patch.setattr(
        model, "cross_entropy", lambda x, y, ignore: planted(plain, x, y) if ignore == 0 else plain(x, y, ignore)
    )


@bug("ignore_index -100 for the slot id 0", "loss")
def _(patch):
    _slot_entropy(patch, lambda plain, x, y: plain(x, y, -100))


@bug("mean over all positions", "loss")
def _(patch):
    _slot_entropy(patch, lambda plain, x, y: (plain(x, y, 0)[0], paddle.ones_like(plain(x, y, 0)[1])))


@bug("paddle's own cross_entropy, which clamps at 64", "loss")
def _(patch):
    def planted(plain, logits, labels):
        losses = F.cross_entropy(logits, labels.unsqueeze(-1), ignore_index=0, reduction="none").squeeze(-1)
        return losses, (labels != 0).astype(logits.dtype)

    _slot_entropy(patch, planted)


@bug("no label that counts gives 0, as paddle's cross_entropy", "loss")
def _(patch):
    _slot_entropy(patch, lambda plain, x, y: (plain(x, y, 0)[0], plain(x, y, 0)[1].sum().clip(min=1.0)))


@bug("labels of the padding counted", "loss")
def _(patch):
    def loss(plain):
        return lambda self, i, s, yi, ys, mask: plain(self, i, s, yi, ys, paddle.ones_like(mask))

    wrap(patch, model.JointBert, "loss", loss)


@bug("intents with id 0 ignored like slots", "loss")
def _(patch):
    wrap(patch, model, "cross_entropy", lambda plain: lambda x, y, ignore: plain(x, y, 0))


@bug("half the slot loss", "loss")
def _(patch):
    def init(plain):
        def planted(self, config):
            plain(self, replace(config, slot_loss_coef=0.5))

        return planted

    wrap(patch, model.JointBert, "__init__", init)


def _likelihood(patch, change: Callable) -> None:
    wrap(patch, model.CRF, "log_likelihood", lambda plain: lambda self, e, y, m: change(plain, self, e, y, m))


@bug("CRF loss per token", "loss", mode="crf")
def _(patch):
    _likelihood(patch, lambda plain, self, e, y, m: plain(self, e, y, m) / m.astype(e.dtype).sum() * len(m))


@bug("CRF loss summed over the batch", "loss", mode="crf")
def _(patch):
    _likelihood(patch, lambda plain, self, e, y, m: plain(self, e, y, m) * len(m))


@bug("emissions multiplied by the mask, the recursion left to run on", "loss", mode="crf")
def _(patch):
    def change(plain, self, e, y, m):
        return plain(self, e * m.astype(e.dtype).unsqueeze(-1), y, paddle.ones_like(m))

    _likelihood(patch, change)


@bug("the CRF leaves out what has label PAD", "loss", mode="crf")
def _(patch):
    def change(plain, self, e, y, m):
        return plain(self, paddle.where((y == 0).unsqueeze(-1), paddle.zeros_like(e), e), y, m)

    _likelihood(patch, change)


@bug("path scored with transitions [to, from]", "loss", mode="crf")
def _(patch):
    def score(plain):
        def planted(self, e, y, m):
            kept = self.transitions
            self.transitions = paddle.create_parameter(
                kept.shape, kept.dtype, default_initializer=paddle.nn.initializer.Assign(kept.numpy().T)
            )
            try:
                return plain(self, e, y, m)
            finally:
                self.transitions = kept

        return planted

    wrap(patch, model.CRF, "_score", score)


@bug("the end scored at the last position, not at the last real one", "loss", mode="crf")
def _(patch):
    def score(plain):
        def planted(self, e, y, m):
            last = paddle.take_along_axis(y, m.astype("int64").sum(axis=1, keepdim=True) - 1, axis=1).squeeze(1)
            end = self.end_transitions.astype(e.dtype)
            return plain(self, e, y, m) - end[last] + end[y[:, -1]]

        return planted

    wrap(patch, model.CRF, "_score", score)


@plain_bug("the plain sums leave out the last token of a sentence")
def _(patch):
    def partition(plain):
        def planted(self, emissions, mask):
            return plain(self, emissions, paddle.concat([mask[:, 1:], paddle.zeros_like(mask[:, :1])], axis=1))

        return planted

    wrap(patch, model.CRF, "_log_partition", partition)


@plain_bug("the plain sums go the other way through the transitions")
def _(patch):
    patch.setattr(paddle.Tensor, "t", lambda self: self)


@plain_bug("the best path in place of the sum over all")
def _(patch):
    def largest(plain):
        return lambda x, axis: x.max(axis=axis) if x.ndim == 3 else plain(x, axis=axis)  # (B, to, from)

    wrap(patch, model.paddle, "logsumexp", largest)


@plain_bug("the faster sums whatever the transitions are", dtype="float32")
def _(patch):
    patch.setattr(model, "MODERATE", np.inf)


# -- lr ---------------------------------------------------------------------------------------------------


def _rate(patch, change: Callable) -> None:
    wrap(patch, schedule, "rate", lambda plain: lambda plan, peak, update: change(plain, plan, peak, update))


@bug("scheduler stepped before the optimizer", "lr")
def _(patch):
    _rate(patch, lambda plain, plan, peak, update: plain(plan, peak, update + 1))


@bug("drop_last in the count of batches", "lr")
def _(patch):
    wrap(patch, schedule, "plan", lambda plain: lambda n, r: plain(max(r.batch_size, n - n % r.batch_size), r))


def _defaults(patch, **changes) -> None:
    """Our recipe's defaults, as the port would ship them."""
    patch.setattr(ours, "RECIPE", replace(ours.RECIPE, **changes))


@bug("30 epochs for 10 (seed)", "lr")
def _(patch):
    _defaults(patch, epochs=30)


@bug("warm-up of a tenth by default", "lr")
def _(patch):
    _defaults(patch, warmup=0.1)


# -- optimizer --------------------------------------------------------------------------------------------


@bug("each tensor clipped alone (seed)", "optimizer")
def _(patch):
    planted.clip_each(patch)


@bug("epsilon after bias correction, as torch and paddle have it", "optimizer")
def _(patch):
    class Planted(train_paddle.AdamW):
        def _epsilon(self, dtype):
            return paddle.to_tensor(self.recipe.epsilon * (1 - self.recipe.beta2**self.updates) ** 0.5, dtype=dtype)

    patch.setattr(ours, "AdamW", Planted)


@bug("moments kept by the shape of a weight", "optimizer")
def _(patch):
    class Memory(dict):
        def __init__(self, shapes):
            super().__init__()
            self.shapes = shapes

        def __contains__(self, name):
            return super().__contains__(self.shapes[name])

        def __getitem__(self, name):
            return super().__getitem__(self.shapes.get(name, name))

        def __setitem__(self, name, pair):
            super().__setitem__(self.shapes[name], pair)

        def get(self, name, missing=None):
            return super().get(self.shapes[name], missing)

    class Planted(train_paddle.AdamW):
        def __init__(self, named, given, decayed=()):
            super().__init__(named, given, decayed)
            self.memory = Memory({name: tuple(parameter.shape) for name, parameter in named.items()})

    patch.setattr(ours, "AdamW", Planted)


@bug("decay of every name that begins with one that decays", "optimizer")
def _(patch):
    class Planted(train_paddle.AdamW):
        def __init__(self, named, given, decayed=()):
            super().__init__(named, given, [name for name in named if name.startswith(tuple(decayed))])

    patch.setattr(ours, "AdamW", Planted)


# -- regularization ---------------------------------------------------------------------------------------


@bug("heads without dropout", "regularization")
def _(patch):
    wrap(patch, model.Head, "__init__", lambda init: lambda self, w, n, rate: init(self, w, n, 0.0))


@bug("dropout of the heads behind their Linear", "regularization")
def _(patch):
    patch.setattr(model.Head, "forward", lambda self, x: self.dropout(self.linear(x)))


@bug("LayerNorm weights decay (seed)", "regularization")
def _(patch):
    patch.setattr(train, "decayed", lambda names: [name for name in names if not name.endswith(".bias")])


@bug("the CRF does not decay", "regularization", mode="crf")
def _(patch):
    wrap(patch, train, "decayed", lambda plain: lambda names: [n for n in plain(names) if not n.startswith("crf.")])


@bug("decay 0.01 by default", "regularization")
def _(patch):
    _defaults(patch, weight_decay=0.01)


@bug("attention's and hidden rate of dropout swapped", "regularization")
def _(patch):
    planted.swap_rates(patch)


@bug("heads drop at the rate of the encoder", "regularization")
def _(patch):
    def init(plain):
        return lambda self, c: plain(self, replace(c, dropout_rate=c.hidden_dropout_prob))

    wrap(patch, model.JointBert, "__init__", init)


@bug("heads drop out whenever they are asked", "regularization")
def _(patch):
    patch.setattr(model.Head, "forward", lambda self, x: self.linear(F.dropout(x, self.dropout.p, training=True)))


@bug("heads drop whole tokens", "regularization")
def _(patch):
    def init(plain):
        def planted(self, width, labels, rate):
            plain(self, width, labels, rate)
            self.dropout = paddle.nn.Dropout(rate, axis=0)

        return planted

    wrap(patch, model.Head, "__init__", init)


@bug("eval() forgotten in predictions", "regularization")
def _(patch):
    planted.forget_eval(patch, train.Backend, "predictions")


@bug("every update of a run dropped out by one seed", "regularization", mode="crf")
def _(patch):
    patch.setattr(train_paddle.PaddleTrainer, "seed", lambda self, seed, update: self.reseed(seed))


# -- backward ---------------------------------------------------------------------------------------------


@bug("the intent loss does not reach the encoder", "backward")
def _(patch):
    wrap(patch, encoder.Bert, "pool", lambda plain: lambda self, states: plain(self, states.detach()))


@bug("gradients not cleared after the step", "backward")
def _(patch):
    patch.setattr(train_paddle, "clear", lambda parameter: None)


@bug("the CRF is not trained", "backward", mode="crf")
def _(patch):
    wrap(patch, model.CRF, "_weights", lambda plain: lambda self, dtype: (w.detach() for w in plain(self, dtype)))


@bug("no gradient through the sum over all paths", "backward", also=("loss",), mode="crf")
def _(patch):
    plain = model.CRF._log_partition
    patch.setattr(model.CRF, "_log_partition", lambda self, e, m: plain(self, e.detach(), m))


@bug("gradient flows into the row of the padding token", "backward")
def _(patch):
    patch.setattr(encoder.paddle, "where", _where(encoder.paddle.where))


def _where(plain):
    def planted(condition, x=None, y=None, name=None):
        # the encoder's one call is the only one with three axes whose first choice is a detached copy of the second
        copied = x is not None and x.ndim == 3 and x.stop_gradient and not y.stop_gradient
        return y if copied else plain(condition, x, y)

    return planted


# -- init -------------------------------------------------------------------------------------------------


def _heads(patch, law: Callable) -> None:
    """Other laws for the heads: (inputs, outputs) -> (weight, bias)."""

    def init(plain):
        def planted(self, width, labels, rate):
            plain(self, width, labels, rate)
            weight, bias = law(width, labels)
            self.linear = paddle.nn.Linear(width, labels, weight_attr=weight, bias_attr=bias)

        return planted

    wrap(patch, model.Head, "__init__", init)


@bug("KaimingNormal for the heads, bias of deviation 0.3 included (seed)", "init")
def _(patch):
    def law(width, labels):
        normal = [paddle.nn.initializer.Normal(std=std) for std in ((2 / width) ** 0.5, (2 / labels) ** 0.5)]
        return [paddle.ParamAttr(initializer=one) for one in normal]

    _heads(patch, law)


@bug("Paddle's own law for the heads: Xavier, bias zero", "init")
def _(patch):
    _heads(patch, lambda width, labels: (None, None))


@bug("BERT's law for the heads: N(0, 0.02), bias zero", "init")
def _(patch):
    def law(width, labels):
        return paddle.ParamAttr(initializer=paddle.nn.initializer.Normal(std=0.02)), None

    _heads(patch, law)


@bug("CRF drawn as the heads are", "init", mode="crf")
def _(patch):
    plain = model._uniform
    patch.setattr(model, "_uniform", lambda bound: plain(0.125 if bound == 0.1 else bound))


def _altered(patch, change: Callable) -> None:
    """New models, whose parameters by name are changed after they are drawn."""

    def init(plain):
        def made(self, *given, **named):
            plain(self, *given, **named)
            with paddle.no_grad():
                change(dict(self.named_parameters()))

        return made

    wrap(patch, model.JointBert, "__init__", init)


@bug("layer 1 is a copy of layer 0 of a new model", "init")
def _(patch):
    def change(named):
        for name, parameter in named.items():
            if "encoder.1." in name:
                parameter.set_value(named[name.replace("encoder.1.", "encoder.0.")])

    _altered(patch, change)


@bug("two heads drawn alike", "init")
def _(patch):
    def change(named):
        weight = named["bert.encoder.0.attention.query.weight"]  # (in, out)
        size = weight.shape[1] // 4
        weight[:, size : 2 * size] = weight[:, :size]

    _altered(patch, change)


@bug("keys drawn as half the queries and half by themselves", "init")
def _(patch):
    def change(named):
        query, key = (named[f"bert.encoder.0.attention.{name}.weight"] for name in ("query", "key"))
        key.set_value((query + key) / 2**0.5)

    _altered(patch, change)


@bug("all new weights a third of a percent too large", "init")
def _(patch):
    def change(named):
        for name, parameter in named.items():
            if not name.endswith("norm.weight"):
                parameter.scale_(1.0035)

    _altered(patch, change)


@bug("one row of the table of words drawn a third larger", "init")
def _(patch):
    def change(named):
        table = named["bert.embeddings.word.weight"]
        table[5] = table[5] * 4 / 3

    _altered(patch, change)


# -- training ---------------------------------------------------------------------------------------------


@bug("shuffling lost", "training")
def _(patch):
    planted.lose_shuffling(patch)


@bug("each epoch in the order of the first", "training")
def _(patch):
    planted.keep_order(patch)


@bug("last batch of an epoch filled up from the beginning", "training")
def _(patch):
    wrap(patch, feed, "order", lambda plain: lambda n, plan, r, start=0: (
        np.concatenate([rows, np.arange(r.batch_size - len(rows))]) for rows in plain(n, plan, r, start)
    ))  # fmt: skip


@bug("the loop takes the rate of the next update", "training")
def _(patch):
    later = SimpleNamespace(rate=lambda plan, peak, update: schedule.rate(plan, peak, update + 1))
    patch.setattr(fit, "schedule", later)


@bug("last smaller batch skipped", "training", also=("regularization",))
def _(patch):
    planted.skip_small(patch, 32)


@bug("dropout of the heads left on", "training")
def _(patch):
    patch.setattr(ours, "NO_DROPOUT", ours.NO_DROPOUT | {"dropout_rate": 0.1})


@bug("mean loss weighted by the size of the batches", "training")
def _(patch):
    def change(plain):
        def planted(self, net, columns, batch_size):
            got = plain(self, net, columns, batch_size)
            sizes = np.minimum(batch_size, len(columns["input_ids"]) - batch_size * np.arange(len(got["loss"])))
            return got | {"loss": got["loss"] * sizes / sizes.mean()}

        return planted

    wrap(patch, train.Backend, "predictions", change)


# -- fields of configuration and recipe -------------------------------------------------------------------


def _misread(patch, owner, **changes) -> None:
    """Build a layer or model with another configuration than the checkpoint's."""
    wrap(
        patch,
        owner,
        "__init__",
        lambda init: lambda self, c, *rest, **more: init(self, replace(c, **changes), *rest, **more),
    )


@bug("LayerNorm epsilon of the configuration ignored, BERT's 1e-12 written in", "forward")
def _(patch):
    _misread(patch, encoder.BertAttention, layer_norm_eps=1e-12)


@bug("decode_padding ignored", "forward", mode="crf")
def _(patch):
    _misread(patch, model.JointBert, decode_padding=False)


@bug("slot_loss_coef ignored", "loss")
def _(patch):
    _misread(patch, model.JointBert, slot_loss_coef=1.0)


@bug("initializer_range ignored, 0.02 written in", "init")
def _(patch):
    _misread(patch, encoder.BertLayer, initializer_range=0.02)


@bug("default seed 42 for 1234", "lr")
def _(patch):
    _defaults(patch, seed=42)


@bug("rows cut one piece too early", "training")
def _(patch):
    patch.setattr(ours, "trim", lambda batch: planted.cut(batch, batch["attention_mask"].sum(axis=1).max() - 1))
