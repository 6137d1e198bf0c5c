"""Splinter as it is pretrained, in Paddle: many question tokens in a row, each points to the span it stands for."""

from __future__ import annotations

from splinter.ports.common.paddle.model import cross_entropy

from ..config import SplinterConfig
from ..model import SplinterModel


class SplinterForPreTraining(SplinterModel):
    """Recurring span selection: many question tokens per row, each points to the span it stands for.

    Raises:
        CheckpointError: the configuration has a plain head.
    """

    def __init__(self, config: SplinterConfig):
        super().__init__(config.with_questions())

    def forward(self, input_ids, attention_mask, question_positions, token_type_ids=None):
        """Start and end logits, (B, Q, T) each.

        Args:
            input_ids: (B, T) int64 with question tokens and holes.
            attention_mask: (B, T) int64, 0 on padding and on the holes left by masked spans.
            question_positions: (B, Q) int64, padded with 0.
            token_type_ids: (B, T) int64, `hf` mode only.
        """
        positions = None
        if self.config.mode == "paper":
            token_type_ids = None
            positions = attention_mask.cumsum(axis=-1) - attention_mask  # holes take up no position
        return self.span_logits(input_ids, attention_mask, token_type_ids, question_positions, positions)

    def loss(self, start_logits, end_logits, start_positions, end_positions, weights=None, total=None):
        """The pretraining loss over all questions of the batch, a scalar in nats.

        `paper`: weighted mean with 1e-5 in the denominator, so a batch without questions gives 0. `hf`: mean
        over the questions whose label is not 0, start and end each over their own; nan when there is none.

        Args:
            start_logits, end_logits: (B, Q, T).
            start_positions, end_positions: (B, Q) int64.
            weights: (B, Q), 1 for a question, 0 for padding; `paper` mode only.
            total: what the sum is divided by; None = the sum of the weights and 1e-5. Parts of a batch whose weights
                add up to 1 over the whole batch are summed with 1.
        """
        tokens = start_logits.shape[-1]

        def boundary(logits, labels):
            ignore = -1 if self.config.mode == "paper" else self.config.pad_token_id
            rows = logits.reshape([-1, tokens])  # (B * Q, T)
            return cross_entropy(rows, labels.reshape([-1]).clip(0, tokens - 1), ignore)

        (start, start_counted), (end, end_counted) = (
            boundary(start_logits, start_positions),
            boundary(end_logits, end_positions),
        )
        if self.config.mode == "paper":
            weights = weights.reshape([-1]).astype(start.dtype)
            return ((start + end) / 2 * weights).sum() / (weights.sum() + 1e-5 if total is None else total)
        return (start.sum() / start_counted.sum() + end.sum() / end_counted.sum()) / 2
