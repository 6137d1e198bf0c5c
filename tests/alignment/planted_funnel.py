"""Funnel's planted bugs: the traps of relative attention and pooling, of windows and null answers, and the usual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import paddle
import paddle.nn.functional as F
import planted
from planted import wrap

from splinter.align import weights
from splinter.ports.common import answers
from splinter.ports.common.paddle import model as model_paddle
from splinter.ports.common.paddle import train as train_paddle
from splinter.ports.common.training import schedule
from splinter.ports.funnel import config, data, encoder, metric, model, train
from splinter.ports.funnel.proof import ours


def bug(name: str, step: str, mode: str = "answering", system: str = "funnel", **more):
    """Register a planting function; mistakes of the model show with either head."""
    return planted.bug(name, step, system, mode, **more)


def _rules(patch, change: Callable) -> None:
    """Change the rules by which our model is filled."""

    def rules(plain):
        def planted(*a):
            mapping = plain(*a)
            return weights.WeightMap([change(rule) for rule in mapping.rules], mapping.drop)

        return planted

    wrap(patch, model, "weight_map", rules)


def _config(patch, owner, **changes) -> None:
    """Build a layer with another configuration than the checkpoint's."""
    wrap(patch, owner, "__init__", lambda init: lambda self, c: init(self, replace(c, **changes)))


# -- forward ----------------------------------------------------------------------------------------------


@bug("square Linear copied without transpose", "forward", mode="classification")
def _(patch):
    _rules(
        patch, lambda r: replace(r, transpose=r.transpose and not r.ours.endswith("classifier.linear_hidden.weight"))
    )


@bug("biases of content and position swapped in the name map", "forward")
def _(patch):
    def change(rule):
        for one, other in (("content_bias", "position_bias"), ("position_bias", "content_bias")):
            if rule.ours.endswith(one):
                return replace(rule, ours=rule.ours.replace(one, other))
        return rule

    _rules(patch, change)


@bug("LayerNorm epsilon 1e-5 for 1e-9, the framework's default", "forward", mode="classification")
def _(patch):
    _config(patch, encoder.FeedForward, layer_norm_eps=1e-5)


@bug("tanh gelu for erf", "forward")
def _(patch):
    _config(patch, encoder.FeedForward, hidden_act="gelu_new")


@bug("scaling not applied to the three biases", "forward")
def _(patch):
    patch.setattr(encoder.RelativeAttention, "_biased", lambda self, q, bias: q + bias.unsqueeze(1))


@bug("padding left out of the mean", "forward")
def _(patch):
    def states(self, x):
        left, right = self._halves(x)
        half = model_mask[0]
        one, other = self._halves(half)
        total = (one + other).clip(min=1)
        return (left * one + right * other) / total

    model_mask = [None]

    def forward(plain):
        def planted(self, x, s):
            model_mask[0] = s.mask.unsqueeze(-1)
            return plain(self, x, s)

        return planted

    def halving(plain):
        def planted(self, s):
            made = plain(self, s)
            model_mask[0] = made.mask.unsqueeze(-1)
            return made

        return planted

    wrap(patch, encoder.Encoder, "forward", forward)
    wrap(patch, encoder.Pooling, "sequence", halving)
    patch.setattr(encoder.Pooling, "states", states)


@bug("pairs (0, 1), (2, 3) pooled: [CLS] is not kept apart", "forward")
def _(patch):
    def states(self, x):
        if x.shape[1] % 2:
            x = paddle.concat([x, x[:, -1:]], axis=1)
        x = x.reshape([x.shape[0], x.shape[1] // 2, 2, x.shape[2]])
        return (x[:, :, 0] + x[:, :, 1]) / 2

    patch.setattr(encoder.Pooling, "states", states)


@bug("pooled mask kept where one of a pair is a token, not where both are", "forward")
def _(patch):
    def sequence(plain):
        def planted(self, s):
            return replace(plain(self, s), mask=paddle.maximum(*self._halves(s.mask)))

        return planted

    wrap(patch, encoder.Pooling, "sequence", sequence)


@bug("keys pooled along with the queries", "forward")
def _(patch):
    _config(patch, encoder.Encoder, pool_q_only=False)


@bug("relative shift of 1 for pooled queries on unpooled keys", "forward")
def _(patch):
    wrap(patch, encoder, "relative_shift", lambda plain: lambda scores, q, k, shift: plain(scores, q, k, 1))


@bug("distances of keys to queries, for those of queries to keys", "forward")
def _(patch):
    wrap(patch, encoder, "sinusoids", lambda plain: lambda *a: (-plain(*a)[0], plain(*a)[1]))


@bug("sine and cosine interleaved", "forward")
def _(patch):
    def rows(table, numbers):
        half = table.shape[1] // 2
        order = np.stack([np.arange(half), np.arange(half) + half], axis=1).reshape(-1)
        found = paddle.index_select(table, paddle.to_tensor(numbers), axis=0)
        return paddle.index_select(found, paddle.to_tensor(order), axis=1)

    patch.setattr(encoder, "_rows", rows)


@bug("row 0 of the segment embedding taken for 'same'", "forward")
def _(patch):
    def scores(plain):
        return lambda self, q, relation: plain(self, q, replace(relation, same=~relation.same))

    wrap(patch, encoder.RelativeAttention, "segment_scores", scores)


@bug("[CLS] keeps its place and segment: its row and column are not cleared", "forward")
def _(patch):
    def relation(plain):
        def planted(*a):
            made = plain(*a)
            return replace(made, apart=paddle.ones_like(made.apart))

        return planted

    wrap(patch, encoder.Positions, "relation", relation)


@bug("content cleared for [CLS] as well", "forward")
def _(patch):
    def forward(plain):
        def planted(self, x, others, relation):
            hidden = replace(relation, penalty=relation.penalty + encoder.MASKED * (1 - relation.apart))
            return plain(self, x, others, hidden)

        return planted

    wrap(patch, encoder.RelativeAttention, "forward", forward)


@bug("segments taken as one when all are given", "forward")
def _(patch):
    def sequence(plain):
        return lambda self, ids, mask, segments: plain(self, ids, mask, None)

    wrap(patch, model.FunnelBaseModel, "sequence", sequence)


@bug("attention mask forgotten, as in chfhf/funnel-paddle's QNLI", "forward", mode="classification")
def _(patch):
    wrap(patch, model.FunnelBaseModel, "sequence", lambda plain: lambda self, ids, mask, s: plain(self, ids, None, s))


@bug("decoder adds the embeddings, not the first block", "forward")
def _(patch):
    def forward(plain):
        return lambda self, x, s: (plain(self, x, s)[0], x)

    wrap(patch, encoder.Encoder, "forward", forward)


@bug("tokens truncated by pooling come back as copies, not as zeros", "forward")
def _(patch):
    def upsample(self, x, length):
        spread = x[:, 1:].repeat_interleave(4, axis=1)
        spread = paddle.concat([spread, spread[:, -1:], spread[:, -1:], spread[:, -1:]], axis=1)
        return paddle.concat([x[:, :1], spread[:, : length - 1]], axis=1)

    patch.setattr(encoder.Decoder, "upsample", upsample)


@bug("block_repeats ignored", "forward")
def _(patch):
    _config(patch, encoder.Encoder, block_repeats=(1, 1, 1))


@bug("classes from the last token", "forward", mode="classification")
def _(patch):
    def forward(self, *inputs):
        return self.classifier(self.funnel(*inputs)[:, -1])

    patch.setattr(model.FunnelForSequenceClassification, "forward", forward)


@bug("mask constant 1e4 in place of 1e6 with a factor on the scores", "forward")
def _(patch):
    patch.setattr(encoder, "MASKED", 10.0)


@bug("a tensor left at its random start, as set_state_dict does with a wrong name", "forward", also=("regularization",))
def _(patch):
    wrap(patch, model_paddle, "fill", lambda fill: lambda p, a: fill(p, a) if tuple(p.shape) != (32, 56) else None)


@bug("phi and pi of keys, psi and omega of queries", "forward", system="funnel-factorized")
def _(patch):
    def factors(plain):
        def planted(*a):
            phi, pi, psi, omega = plain(*a)
            return pi, phi, psi, omega

        return planted

    wrap(patch, encoder, "factors", factors)


@bug("largest of a pair taken for its mean", "forward", system="funnel-options")
def _(patch):
    _config(patch, encoder.Pooling, pooling_type="mean")


@bug("a token left over is pooled with zeros", "forward", system="funnel-options")
def _(patch):
    def halves(plain):
        def planted(self, x):
            return plain(self, paddle.concat([x, paddle.zeros_like(x[:, :1])], axis=1) if x.shape[1] % 2 else x)

        return planted

    wrap(patch, encoder.Pooling, "_halves", halves)


@bug("[CLS] has no place and no segment though it has none of its own", "forward", system="funnel-options")
def _(patch):
    def init(plain):
        def planted(self, config):
            plain(self, config)
            self.separate_cls = True

        return planted

    wrap(patch, encoder.Positions, "__init__", init)


@bug("the decoder leaves [CLS] apart though it has no place of its own", "forward", system="funnel-options")
def _(patch):
    _config(patch, encoder.Decoder, separate_cls=True)


@bug("the decoder repeats tokens once for each block", "forward", system="funnel-options")
def _(patch):
    def upsample(self, x, length):
        return x.repeat_interleave(2 ** len(self.config.block_sizes), axis=1)[:, :length]

    patch.setattr(encoder.Decoder, "upsample", upsample)


@bug("truncated though nothing is to be", "forward", system="funnel-factorized")
def _(patch):
    _config(patch, model.FunnelForQuestionAnswering, truncate_seq=True)


@bug("keys stay unpooled where queries shall not be pooled alone", "forward", system="funnel-factorized")
def _(patch):
    _config(patch, encoder.Encoder, pool_q_only=True)


# -- data -------------------------------------------------------------------------------------------------


@bug("cased tokenizer for an uncased model", "dev_data", mode="classification")
def _(patch):
    wrap(
        patch,
        data.WordPieces,
        "__init__",
        lambda init: lambda self, *a, **k: init(self, *a, **{**k, "lower_case": False}),
    )


@bug("[CLS] in segment 0, as in BERT", "dev_data", mode="classification")
def _(patch):
    patch.setattr(data, "CLS_SEGMENT", 0)


@bug("only the sentence cut, not the longer of the two", "dev_data", mode="classification")
def _(patch):
    def shares(first, second, room):
        first = min(first, room)  # a question that fills the row leaves no place
        return first, min(second, room - first)

    patch.setattr(data, "shares", shares)


@bug("the odd place given to the first text, as the Python tokenizers do", "dev_data", mode="classification")
def _(patch):
    def shares(first, second, room):
        left, right = first, second
        while left + right > room:
            left, right = (left - 1, right) if left > right else (left, right - 1)
        return left, right

    patch.setattr(data, "shares", shares)


@bug("doc_stride taken as step, as in Splinter's old code", "dev_data")
def _(patch):
    wrap(patch, data, "window_starts", lambda plain: lambda n, capacity, step: plain(n, capacity, capacity - step))


@bug("question cut one piece earlier", "dev_data")
def _(patch):
    def features(plain):
        return lambda *a, **k: plain(*a, **{**k, "max_query_length": k.get("max_query_length", 64) - 1})

    wrap(patch, data, "answer_features", features)


@bug("offsets kept for the final <sep>", "dev_data")
def _(patch):
    def concatenate(plain):
        def planted(blocks):
            kept, rows = plain(blocks)
            rows.offsets[np.arange(len(rows)), rows.attention_mask.sum(axis=1) - 1] = 0
            return kept, rows

        return planted

    wrap(patch, data, "concatenate", concatenate)


@bug("rows of a later block before those of an earlier one", "dev_data")
def _(patch):
    wrap(patch, data, "_joined", lambda plain: lambda kind, parts: plain(kind, parts[::-1]))


@bug("labels of QNLI the other way round", "train_data", also=("dev_data",), mode="classification")
def _(patch):
    patch.setattr(data, "LABELS", ("not_entailment", "entailment"))


@bug("quotes of a tab-separated file taken as quoting", "train_data", also=("dev_data",), mode="classification")
def _(patch):
    def pairs(plain):
        def planted(*a):
            return (replace(pair, question=pair.question.replace('"', "")[:-1]) for pair in plain(*a))

        return planted

    wrap(patch, data, "read_pairs", pairs)


def _labels(patch, change: Callable) -> None:
    wrap(patch, data, "label", lambda plain: lambda *a: change(plain(*a), *a))


@bug("end label exclusive", "train_data")
def _(patch):
    _labels(patch, lambda found, *a: (found[0], found[1] + 1) if found[1] else found)


@bug("windows without the answer dropped", "train_data")
def _(patch):
    def columns(plain):
        def planted(name, mode):
            found = plain.__wrapped__(name, mode)
            keep = found["start_positions"] > 0
            return {n: a[keep] for n, a in found.items()}

        return planted

    wrap(patch, ours, "columns", columns)


@bug("impossible questions trained on their plausible answers: labels 1 for 0", "train_data")
def _(patch):
    _labels(patch, lambda found, example, *a: (1, 1) if example.impossible else found)


# -- metric -----------------------------------------------------------------------------------------------


@bug("articles not removed", "metric")
def _(patch):
    patch.setattr(answers, "normalize", lambda text: " ".join(text.lower().translate(answers.NO_PUNCTUATION).split()))


@bug("the last of equal classes wins", "metric", mode="classification")
def _(patch):
    def accuracy(labels, logits):
        return 100.0 * int((logits.shape[1] - 1 - logits[:, ::-1].argmax(axis=-1) == labels).sum()) / len(labels)

    patch.setattr(metric, "accuracy", accuracy)


@bug("questions with and without answer confused, as in paddlenlp", "metric")
def _(patch):
    def score(plain):
        def planted(*a):
            found, names = plain(*a), {"HasAns_": "NoAns_", "NoAns_": "HasAns_"}
            return {
                next((new + k.removeprefix(old) for old, new in names.items() if k.startswith(old)), k): v
                for k, v in found.items()
            }

        return planted

    wrap(patch, metric, "score", score)


@bug("odds above 1 turned into no answer, as if they were probabilities", "metric")
def _(patch):
    wrap(patch, answers, "evaluate", lambda plain: lambda golds, texts, odds, threshold: plain(golds, texts, odds, 1.0))


@bug("null score of the last window for the least", "metric")
def _(patch):
    def with_null(plain):
        return lambda entries, starts, ends, n: plain(entries, starts[-1:], ends[-1:], n)

    wrap(patch, metric, "_with_null", with_null)


@bug("null candidate before those it ties with", "metric")
def _(patch):
    def with_null(plain):
        def planted(entries, starts, ends, n):
            kept, score = plain(entries, starts, ends, n)
            place = next(i for i, entry in enumerate(kept) if entry[3] is None)
            while place and kept[place - 1][0] + kept[place - 1][1] == score:
                kept[place - 1], kept[place] = kept[place], kept[place - 1]
                place -= 1
            return kept, score

        return planted

    wrap(patch, metric, "_with_null", with_null)


@bug("null candidate lost when 20 others are better", "metric")
def _(patch):
    def with_null(plain):
        def planted(entries, starts, ends, n):
            kept, score = plain(entries, starts, ends, n)
            return kept[:n], score

        return planted

    wrap(patch, metric, "_with_null", with_null)


def _decoding(patch, **changes) -> None:
    wrap(patch, metric, "decode", lambda plain: lambda *a, **k: plain(*a, **{**k, **changes}))


@bug("max_answer_length off by one", "metric")
def _(patch):
    _decoding(patch, max_answer_length=31)


@bug("19 best boundaries for 20", "metric")
def _(patch):
    _decoding(patch, n_best=19)


@bug("higher index first among equal logits, as argsort reversed has it", "metric")
def _(patch):
    def planted(start, end, *rest):
        steps = 1e-9 * np.arange(start.shape[1])
        return plain(start + steps, end + steps, *rest)

    plain = metric.candidates
    patch.setattr(metric, "candidates", planted)


# -- loss -------------------------------------------------------------------------------------------------


@bug("paddle's own cross_entropy, which clamps at 64", "loss")
def _(patch):
    def planted(logits, labels, ignore):
        losses = F.cross_entropy(logits, labels.unsqueeze(-1), ignore_index=ignore, reduction="none").squeeze(-1)
        return losses, (labels != ignore).astype(logits.dtype)

    patch.setattr(model_paddle, "cross_entropy", planted)


@bug("mean over the batch, not over the counted rows", "loss", mode="classification")
def _(patch):
    plain = model.cross_entropy

    def planted(logits, labels, ignore):
        losses, counted = plain(logits, labels, ignore)
        return losses, paddle.ones_like(counted)

    patch.setattr(model, "cross_entropy", planted)


def _span_loss(patch, change: Callable) -> None:
    plain = model.span_loss
    patch.setattr(model.FunnelForQuestionAnswering, "loss", staticmethod(lambda *a: change(plain, *a)))


@bug("start + end without the half", "loss")
def _(patch):
    _span_loss(patch, lambda plain, *a: plain(*a) * 2)


@bug("labels neither clamped nor ignored, as in chfhf/funnel-paddle", "loss")
def _(patch):
    _span_loss(patch, lambda plain, s, e, ys, ye: plain(s, e, ys % s.shape[1], ye % s.shape[1]))


@bug("one label taken as a class", "loss", mode="classification")
def _(patch):
    def planted(logits, labels):
        losses, counted = model.cross_entropy(logits, labels.astype("int64").clip(0, 0), ignore=-100)
        return losses.sum() / counted.sum() if logits.shape[1] == 1 else plain(logits, labels)

    plain = model.classification_loss
    patch.setattr(model.FunnelForSequenceClassification, "loss", staticmethod(planted))


# -- lr ---------------------------------------------------------------------------------------------------


@bug("no warm-up", "lr")
def _(patch):
    wrap(patch, schedule, "rate", lambda plain: lambda plan, peak, update: plain(replace(plan, warmup=0), peak, update))


@bug("scheduler stepped before the optimizer", "lr", mode="classification")
def _(patch):
    wrap(patch, schedule, "rate", lambda plain: lambda plan, peak, update: plain(plan, peak, update + 1))


@bug("default learning rate 1e-5 for 2e-5", "lr", mode="classification")
def _(patch):
    _defaults(patch, learning_rate=1e-5)


# -- optimizer --------------------------------------------------------------------------------------------


def _defaults(patch, **changes) -> None:
    """Our recipes' defaults, as the port would ship them."""
    patch.setattr(config, "RECIPES", {mode: replace(plain, **changes) for mode, plain in config.RECIPES.items()})


def _variant(patch, **changes) -> None:
    """An optimizer that goes by another recipe."""

    class Planted(train_paddle.AdamW):
        def __init__(self, named, given, decayed=()):
            super().__init__(named, replace(given, **changes), decayed)

    patch.setattr(ours, "AdamW", Planted)


@bug("beta2 0.99 for 0.999, the authors' TensorFlow default", "optimizer")
def _(patch):
    _variant(patch, beta2=0.99)


@bug("epsilon 1e-8 for 1e-6", "optimizer", mode="classification")
def _(patch):
    _variant(patch, epsilon=1e-8)


@bug("gradients not clipped, as in chfhf/funnel-paddle", "optimizer")
def _(patch):
    _variant(patch, max_norm=0.0)


@bug("each tensor clipped alone", "optimizer")
def _(patch):
    planted.clip_each(patch)


# -- regularization ---------------------------------------------------------------------------------------


@bug("biases of the scores decayed: their names end otherwise", "regularization")
def _(patch):
    patch.setattr(train, "decayed", lambda names: [n for n in names if not n.endswith((".bias", "layer_norm.weight"))])


@bug("LayerNorm weights decayed: the rule says LayerNorm", "regularization", mode="classification")
def _(patch):
    patch.setattr(train, "decayed", lambda names: [n for n in names if "bias" not in n and "LayerNorm" not in n])


@bug("kernel of the positions not decayed", "regularization")
def _(patch):
    wrap(patch, train, "decayed", lambda plain: lambda names: [n for n in plain(names) if "kernel" not in n])


@bug("default weight decay 0.01 for 0.0", "regularization")
def _(patch):
    _defaults(patch, weight_decay=0.01)


@bug("sinusoids not dropped out", "regularization")
def _(patch):
    def init(plain):
        def planted(self, c):
            plain(self, c)
            self.sin_dropout = self.cos_dropout = paddle.nn.Identity()

        return planted

    wrap(patch, encoder.Positions, "__init__", init)


@bug("dropout before the activation, not behind it", "regularization", mode="classification")
def _(patch):
    def forward(self, x):
        inner = self.activation(self.activation_dropout(self.linear_1(x)))
        return self.layer_norm(x + self.dropout(self.linear_2(inner)))

    patch.setattr(encoder.FeedForward, "forward", forward)


@bug("attention dropout at the rate of the states", "regularization", mode="classification", also=())
def _(patch):
    _config(patch, encoder.RelativeAttention, attention_dropout=0.2)


@bug("whole positions of the sinusoids dropped", "regularization")
def _(patch):
    def init(plain):
        def planted(self, c):
            plain(self, c)
            self.sin_dropout = paddle.nn.Dropout(c.hidden_dropout, axis=0)

        return planted

    wrap(patch, encoder.Positions, "__init__", init)


@bug("eval() forgotten in logits", "regularization", mode="classification")
def _(patch):
    planted.forget_eval(patch, train.Backend, "logits")


@bug("states dropped out in evaluation too", "regularization")
def _(patch):
    def forward(self, x):
        inner = self.activation_dropout(self.activation(self.linear_1(x)))
        return self.layer_norm(x + F.dropout(self.linear_2(inner), self.dropout.p))

    patch.setattr(encoder.FeedForward, "forward", forward)


# -- backward ---------------------------------------------------------------------------------------------


@bug("gradient cut between first block and decoder", "backward")
def _(patch):
    def forward(plain):
        def planted(self, x, s):
            last, first = plain(self, x, s)
            return last, first.detach()

        return planted

    wrap(patch, encoder.Encoder, "forward", forward)


@bug("position kernel frozen", "backward", mode="classification")
def _(patch):
    def init(plain):
        def planted(self, c):
            plain(self, c)
            self.position_kernel.stop_gradient = True

        return planted

    wrap(patch, encoder.RelativeAttention, "__init__", init)


@bug("gradient cut in the pooling", "backward", system="funnel-factorized")
def _(patch):
    wrap(patch, encoder.Pooling, "states", lambda plain: lambda self, x: plain(self, x.detach()))


@bug("gradient of the largest goes to both of a pair", "backward", system="funnel-options")
def _(patch):
    def states(plain):
        def planted(self, x):
            left, right = self._halves(x)
            mean = (left + right) / 2
            return mean + (plain(self, x) - mean).detach()

        return planted

    wrap(patch, encoder.Pooling, "states", states)


@bug("gradients not cleared after the step", "backward")
def _(patch):
    patch.setattr(train_paddle, "clear", lambda parameter: None)


# -- init -------------------------------------------------------------------------------------------------


@bug("BERT's N(0, 0.02) for N(0, 1 / (in + out))", "init")
def _(patch):
    for room in (encoder, model):
        wrap(patch, room, "linear", lambda plain: lambda c, *a, **k: plain(replace(c, initializer_std=0.02), *a, **k))


@bug("relative tensors uniform around 0", "init")
def _(patch):
    def parameter(self, shape):
        law = paddle.nn.initializer.Uniform(-self.config.initializer_range, self.config.initializer_range)
        return self.create_parameter(shape, default_initializer=law)

    patch.setattr(encoder.RelativeAttention, "_parameter", parameter)


@bug("word embeddings N(0, 0.02)", "init", mode="classification")
def _(patch):
    wrap(patch, model, "embedding", lambda plain: lambda rows, width, std: plain(rows, width, 0.02))


@bug("row of the padding token zero", "init")
def _(patch):
    def init(plain):
        def planted(self, c):
            plain(self, c)
            with paddle.no_grad():
                self.word_embeddings.weight[0] = 0.0

        return planted

    wrap(patch, model.Embeddings, "__init__", init)


# -- training ---------------------------------------------------------------------------------------------


def _cut(batch):
    """Without any padding behind the longest row: what a pooled pair is made of changes."""
    return planted.cut(batch, batch["attention_mask"].sum(axis=1).max())


@bug("batches cut to their longest row", "training", mode="classification")
def _(patch):
    plain = train_paddle.PaddleTrainer.step
    patch.setattr(train_paddle.PaddleTrainer, "step", lambda self, batch, rate: plain(self, _cut(batch), rate))


@bug("dropout left on", "training", mode="classification")
def _(patch):
    patch.setattr(ours, "NO_DROPOUT", {"hidden_dropout": 0.1})


@bug("evaluation rows cut to their longest", "training", also=("regularization",), mode="classification")
def _(patch):
    def logits(plain):
        def planted(self, net, columns):
            rows = ({name: columns[name][i : i + 1] for name in data.INPUTS} for i in range(len(columns["labels"])))
            return {"logits": np.concatenate([plain(self, net, _cut(row))["logits"] for row in rows])}

        return planted

    wrap(patch, train.Backend, "logits", logits)


# -- fields of configuration and recipe -------------------------------------------------------------------


@bug("scaled by the number of heads, not by their width", "forward")
def _(patch):
    def change(init):
        def planted(self, c):
            init(self, c)
            self.scale = 1.0 / c.n_head**0.5

        return planted

    wrap(patch, encoder.RelativeAttention, "__init__", change)


@bug("dropout of the activation at the rate of attention", "regularization")
def _(patch):
    wrap(
        patch,
        encoder.FeedForward,
        "__init__",
        lambda init: lambda self, c: init(self, replace(c, activation_dropout=c.attention_dropout)),
    )


@bug("initializer_range ignored, 0.1 written in", "init")
def _(patch):
    _config(patch, encoder.RelativeAttention, initializer_range=0.1)


@bug("beta1 of the recipe ignored, 0.9 written in", "optimizer")
def _(patch):
    wrap(
        patch,
        train_paddle.AdamW,
        "__init__",
        lambda init: lambda self, named, r, decayed=(): init(self, named, replace(r, beta1=0.9), decayed),
    )


@bug("fine-tuning cuts rows at their longest text, not beyond the reach of the pooling", "training", "classification")
def _(patch):
    patch.setattr(data, "trim", lambda columns, blocks: _cut(columns))
