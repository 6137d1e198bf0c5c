"""Splinter in PaddlePaddle: encoder, question-aware span selection head, answering and pretraining models.

Ram, Kirstain, Berant, Globerson, Levy: Few-Shot Question Answering by Pretraining Span Selection, ACL 2021.
Two modes, one code: `hf` gives the outputs of `transformers` 4.57 models/splinter for the published
checkpoints; `paper` those of the authors' code (oriram/splinter, finetuning/modeling.py at 1df4c13).
"""

from __future__ import annotations

import os
from pathlib import Path

import paddle
from paddle import nn

from splinter.align.weights import WeightMap
from splinter.ports.common import checkpoint
from splinter.ports.common.paddle.encoder import Bert, activation, additive_mask, linear
from splinter.ports.common.paddle.layers import LayerNorm
from splinter.ports.common.paddle.model import Pretrained, span_loss

from .config import HEAD_PREFIX, SplinterConfig, companions, has_head, read_checkpoint, weight_map


class SpanTransform(nn.Layer):
    """Dense, gelu, LayerNorm: states before they are paired. (B, N, D) -> (B, N, D)."""

    def __init__(self, config: SplinterConfig):
        super().__init__()
        self.dense = linear(config.hidden_size, config.hidden_size, config.initializer_range)
        # 1e-5 in fine-tuning, not the encoder's 1e-12: the reference leaves torch's default here
        self.norm = LayerNorm(config.hidden_size, epsilon=config.head_layer_norm_eps)
        self.activation = activation(config.hidden_act)

    def forward(self, x):
        return self.norm(self.activation(self.dense(x)))


class QuestionAwareSpanSelection(nn.Layer):
    """The QASS head: every question token scores every token as start and as end of its answer.

    logits[b, q, t] = (query(x)[b, q] @ M) @ token(x)[b, t], with own transforms and M for start and end.
    No bias, no dropout, no scaling by sqrt(D): logits of trained models are in the hundreds.
    """

    def __init__(self, config: SplinterConfig):
        super().__init__()
        self.query_start = SpanTransform(config)
        self.query_end = SpanTransform(config)
        self.start = SpanTransform(config)
        self.end = SpanTransform(config)
        self.start_classifier = linear(config.hidden_size, config.hidden_size, config.initializer_range, bias=False)
        self.end_classifier = linear(config.hidden_size, config.hidden_size, config.initializer_range, bias=False)

    @paddle.no_grad()
    def match(self, peak: float) -> None:
        """Score likeness: questions are transformed as tokens are, and both matrices become multiples of the identity.

        Args:
            peak: logit of a question for its own token, where the norm after the transform is new, in nats.
        """
        for part in ("start", "end"):
            getattr(self, f"query_{part}").set_state_dict(getattr(self, part).state_dict())
            weight = getattr(self, f"{part}_classifier").weight
            weight.set_value(peak / weight.shape[0] * paddle.eye(weight.shape[0], dtype=weight.dtype))

    def forward(self, x, positions):
        """x (B, T, D), positions (B, Q) indices of question tokens; returns two (B, Q, T)."""
        index = positions.unsqueeze(-1).expand([-1, -1, x.shape[-1]])  # (B, Q, D)
        questions = paddle.take_along_axis(x, index, axis=1)  # (B, Q, D)
        parts = [
            (self.query_start(questions), self.start_classifier, self.start(x)),
            (self.query_end(questions), self.end_classifier, self.end(x)),
        ]
        # logits are in the hundreds, where neighbours in bfloat16 are nats apart: they stay in float32 under auto_cast
        with paddle.amp.auto_cast(enable=False):
            start, end = (
                paddle.matmul(m(q.astype(m.weight.dtype)), t.astype(m.weight.dtype), transpose_y=True)  # (B, Q, T)
                for q, m, t in parts
            )
        return start, end


class PlainHead(nn.Layer):
    """A start and an end score of each token, whatever the question: the head of BERT for SQuAD.

    What question-aware span selection is compared with: the baselines of Ram et al. 2021.
    """

    def __init__(self, config: SplinterConfig):
        super().__init__()
        self.scores = linear(config.hidden_size, 2, config.initializer_range)

    def forward(self, x, positions):
        """x (B, T, D), positions (B, Q); returns two (B, Q, T), equal for all questions of a row."""
        with paddle.amp.auto_cast(enable=False):  # in float32, as the scores of the other head
            scores = self.scores(x.astype(self.scores.weight.dtype)).transpose([0, 2, 1])  # (B, 2, T)
        shape = [-1, positions.shape[1], -1]
        return scores[:, :1].expand(shape), scores[:, 1:].expand(shape)


class SplinterModel(Pretrained):
    """What answering and pretraining share: encoder, head, reading and writing of checkpoints."""

    def __init__(self, config: SplinterConfig):
        super().__init__()
        self.config = config
        self.bert = Bert(config)
        self.cls = (QuestionAwareSpanSelection if config.span_head == "qass" else PlainHead)(config)

    @property
    def fill(self) -> float:
        """What is added to a masked score or logit."""
        return -10000.0 if self.config.mode == "paper" else paddle.finfo(self.bert.dtype).min

    def span_logits(self, input_ids, mask, token_type_ids, question_positions, position_ids=None):
        """Encode and score; (B, T), (B, T), (B, T) or None, (B, Q) -> two (B, Q, T), padding filled."""
        states = self.bert(input_ids, mask, token_type_ids, position_ids, self.fill)  # (B, T, D)
        start, end = self.cls(states, question_positions)  # (B, Q, T)
        padding = additive_mask(mask, self.fill, states.dtype).unsqueeze(1)  # (B, 1, T)
        return start + padding, end + padding

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | os.PathLike[str],
        mode: str | None = None,
        head: str = "pretrained",
        download: bool = False,
        cache: str | None = None,
        **changes,
    ):
        """Load a checkpoint: `transformers` layout, the authors' layout, or one of `save_pretrained`.

        Args:
            name_or_folder: a folder, or a hub name such as `tau/splinter-base-qass`.
            mode: "hf" or "paper"; None = what the checkpoint says, else "hf".
            head: "pretrained" = the head of the checkpoint, an error when it has none; "fresh" = a new random
                head; "auto" = the checkpoint's when it has one, else fresh. `model.head` tells which it was.
            download: may fetch from the hub.
            cache: hub cache folder.
            changes: configuration fields to change, such as hidden_dropout_prob.

        Raises:
            CheckpointError, WeightError: with the file, the tensor and the way out.
        """
        folder = checkpoint.resolve(name_or_folder, download, cache)
        config, tensors, layout = read_checkpoint(folder, mode=mode, **changes)
        found = has_head(tensors)
        chosen = {"auto": "pretrained" if found else "fresh"}.get(head, head)
        if chosen == "pretrained" and not found:
            raise checkpoint.CheckpointError(
                f"{folder} holds no question-aware span selection head (no tensor under {HEAD_PREFIX[layout]}); "
                "start from a new one with head='fresh' (--head fresh), or use a checkpoint that has one (-qass)"
            )
        fresh = chosen == "fresh"
        model = cls.unfilled(config, fresh)
        model.head = chosen
        return model.filled(weight_map(layout, head=not fresh), tensors, folder, fresh=("cls.",) if fresh else ())

    @paddle.no_grad()
    def match_questions(self, peak: float = 8.0) -> None:
        """Let a fresh head start from likeness instead of noise, and [QUESTION] from [MASK].

        A question then points at what its context predicts in its place, before anything has been learnt. It is not
        the paper's start; CHANGELOG has what it changes after 60 updates.
        """
        self.cls.match(peak)
        self.question_as_mask()

    @paddle.no_grad()
    def question_as_mask(self) -> None:
        """Give [QUESTION] the embedding of [MASK]: a piece that nothing was learnt for gets one that asks already."""
        words = self.bert.embeddings.word.weight
        words[self.config.question_token_id] = words[self.config.mask_token_id]

    def stored(self) -> WeightMap:
        """Names and layout of `transformers`."""
        return weight_map("transformers")

    def companions(self, source: Path | None) -> dict[str, bytes]:
        return companions(self.config, source)


class SplinterForQuestionAnswering(SplinterModel):
    """Answers one question per row: the span that its question token points to."""

    def inputs(self, input_ids, attention_mask, token_type_ids):
        """The encoder's inputs in this mode: ids, mask and segment ids, all (B, T)."""
        if self.config.mode == "hf":
            return input_ids, attention_mask, token_type_ids
        c = self.config
        mask = attention_mask * (input_ids != c.sep_token_id).astype(attention_mask.dtype)
        question = paddle.full_like(input_ids, c.question_token_id)
        return paddle.where(input_ids == c.mask_token_id, question, input_ids), mask, None

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, question_positions=None):
        """Start and end logits.

        Args:
            input_ids: (B, T) int64; `paper` mode reads [MASK] as the question token.
            attention_mask: (B, T) int64, 1 = token; None = no padding.
            token_type_ids: (B, T) int64; None = all 0; ignored in `paper` mode.
            question_positions: (B, Q) int64; None = the first question token of each row, 0 when there is none.

        Returns:
            Two (B, T) tensors, or (B, Q, T) when `question_positions` is given.
        """
        if attention_mask is None:
            attention_mask = paddle.ones_like(input_ids)
        ids, mask, segments = self.inputs(input_ids, attention_mask, token_type_ids)
        positions = question_positions
        if positions is None:
            found = (ids == self.config.question_token_id).astype("int32")
            positions = found.argmax(axis=-1).unsqueeze(-1)  # (B, 1); 0 when the token is absent, as the reference
        start, end = self.span_logits(ids, mask, segments, positions)
        if question_positions is None:
            return start.squeeze(1), end.squeeze(1)
        return start, end

    loss = staticmethod(span_loss)

    def compile(self) -> None:
        """Make the three-argument call without `question_positions` faster; see `compile_method`."""
        self.compile_method("forward", ("ids", "mask", "segments"))
