"""Funnel-Transformer in PaddlePaddle: the bare models, sequence classification and answering, with their checkpoints.

What happens to the tokens stands in encoder.py.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from splinter.align.weights import WeightMap
from splinter.ports.common import checkpoint
from splinter.ports.common.paddle.encoder import embedding
from splinter.ports.common.paddle.layers import Dropout, LayerNorm
from splinter.ports.common.paddle.model import Pretrained, cross_entropy, span_loss

from .config import MODES, FunnelConfig, chosen_head, companions, has_decoder, read_checkpoint, weight_map
from .encoder import Decoder, Encoder, Sequence, linear


class FunnelPretrained(Pretrained):
    """Reading and writing of checkpoints; `kind` says which of config.KINDS a model is."""

    kind = ""

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | os.PathLike[str],
        head: str = "pretrained",
        download: bool = False,
        cache: str | None = None,
        **changes,
    ):
        """Load a checkpoint in the layout of `transformers`, in evaluation mode.

        Args:
            name_or_folder: a folder, or a hub name such as `funnel-transformer/small`.
            head: "pretrained" = the head of the checkpoint, an error when it has none; "fresh" = a new random
                head; "auto" = the checkpoint's when it has one, else fresh. `model.head` tells which it was.
            download: may fetch from the hub.
            cache: hub cache folder.
            changes: configuration fields to change, such as hidden_dropout or num_labels.

        Raises:
            CheckpointError, WeightError: with the file, the tensor and the way out.
        """
        folder = checkpoint.resolve(name_or_folder, download, cache)
        config, tensors, prefixed = read_checkpoint(folder, **changes)
        task = cls.kind in MODES
        chosen = chosen_head(folder, cls.kind, head) if task else "pretrained"
        if cls.kind == "full" and not has_decoder(tensors):
            raise checkpoint.CheckpointError(
                f"{folder} holds no decoder, which FunnelModel has; use FunnelBaseModel, or the checkpoint whose "
                "name lacks -base"
            )
        fresh = chosen == "fresh" and task
        model = cls.unfilled(config, fresh)
        model.head = chosen
        mapping = weight_map(cls.kind, prefixed, fresh)
        return model.filled(mapping, tensors, folder, fresh=("classifier.", "qa_outputs.") if fresh else ())

    def stored(self) -> WeightMap:
        """Names and layout of `transformers`."""
        return weight_map(self.kind, prefixed=self.kind in MODES)

    def companions(self, source: Path | None) -> dict[str, bytes]:
        return companions(self.config, self.kind, source)


class Embeddings(nn.Layer):
    """Word embeddings, LayerNorm, dropout: positions and segments live in attention alone."""

    def __init__(self, config: FunnelConfig):
        super().__init__()
        std = 1.0 if config.initializer_std is None else config.initializer_std
        self.word_embeddings = embedding(config.vocab_size, config.d_model, std)
        self.layer_norm = LayerNorm(config.d_model, epsilon=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout)

    def forward(self, input_ids):
        return self.dropout(self.layer_norm(self.word_embeddings(input_ids)))


class FunnelBaseModel(FunnelPretrained):
    """The encoder alone: (B, T) ids -> (B, T', D) states of the last block."""

    kind = "base"

    def __init__(self, config: FunnelConfig):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)

    def sequence(self, input_ids, attention_mask, token_type_ids) -> Sequence:
        """The input's sequence; no mask = all attended, no segments = one segment (not: no segment term)."""
        if attention_mask is None:
            attention_mask = paddle.ones_like(input_ids)
        if token_type_ids is None:
            token_type_ids = paddle.zeros_like(input_ids)
        mask = attention_mask.astype(self.embeddings.word_embeddings.weight.dtype)
        return Sequence(np.arange(input_ids.shape[1]), 1, token_type_ids, mask)

    def forward(self, input_ids, attention_mask=None, token_type_ids=None):
        """All arguments (B, T) integers; segment 2 is [CLS]'s own."""
        return self.encoder(self.embeddings(input_ids), self.sequence(input_ids, attention_mask, token_type_ids))[0]


class FunnelModel(FunnelBaseModel):
    """Encoder and decoder: (B, T) ids -> (B, T, D) states."""

    kind = "full"

    def __init__(self, config: FunnelConfig):
        super().__init__(config)
        self.decoder = Decoder(config)

    def forward(self, input_ids, attention_mask=None, token_type_ids=None):
        """All arguments (B, T) integers; segment 2 is [CLS]'s own."""
        sequence = self.sequence(input_ids, attention_mask, token_type_ids)
        last, first = self.encoder(self.embeddings(input_ids), sequence)
        return self.decoder(last, first, sequence)


class ClassificationHead(nn.Layer):
    """Dense, tanh, dropout, dense on the first token: (B, D) -> (B, N)."""

    def __init__(self, config: FunnelConfig):
        super().__init__()
        self.linear_hidden = linear(config, config.d_model, config.d_model)
        self.linear_out = linear(config, config.d_model, config.num_labels)
        self.dropout = Dropout(config.hidden_dropout)

    def forward(self, x):
        return self.linear_out(self.dropout(paddle.tanh(self.linear_hidden(x))))


def classification_loss(logits, labels):
    """Mean cross entropy over rows whose label is not -100, nan without one; mean squared error for one column.

    Args:
        logits: (B, N) floats.
        labels: (B,) integers in [0, N), or floats where N is 1.

    Returns:
        A scalar, in nats or in squared units of the labels.
    """
    if logits.shape[1] == 1:
        return (logits.squeeze(-1) - labels.astype(logits.dtype)).square().mean()
    losses, counted = cross_entropy(logits, labels, ignore=-100)
    return losses.sum() / counted.sum()


class FunnelForSequenceClassification(FunnelPretrained):
    """A class for each row, from the first token of the last block; no decoder."""

    kind = "classification"
    loss = staticmethod(classification_loss)

    def __init__(self, config: FunnelConfig):
        super().__init__()
        self.config = config
        self.funnel = FunnelBaseModel(config)
        self.classifier = ClassificationHead(config)

    def forward(self, input_ids, attention_mask=None, token_type_ids=None):
        """(B, T) integers each -> (B, N) logits."""
        return self.classifier(self.funnel(input_ids, attention_mask, token_type_ids)[:, 0])


class FunnelForQuestionAnswering(FunnelPretrained):
    """Start and end of an answer. Logits of padding and question are left as they come, as in the reference."""

    kind = "answering"
    loss = staticmethod(span_loss)

    def __init__(self, config: FunnelConfig):
        super().__init__()
        self.config = config
        self.funnel = FunnelModel(config)
        self.qa_outputs = linear(config, config.d_model, 2)

    def forward(self, input_ids, attention_mask=None, token_type_ids=None):
        """(B, T) integers each -> start and end logits, (B, T) each."""
        return tuple(self.qa_outputs(self.funnel(input_ids, attention_mask, token_type_ids)).unbind(axis=-1))


MODELS: dict[str, type[FunnelPretrained]] = {
    model.kind: model
    for model in (FunnelBaseModel, FunnelModel, FunnelForSequenceClassification, FunnelForQuestionAnswering)
}
"""One of config.KINDS -> its model."""
