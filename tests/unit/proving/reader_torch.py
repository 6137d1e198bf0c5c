"""A small reader in torch: embedding, norm, a dense block with a residual, two heads."""

import torch
from torch import nn


class Reader(nn.Module):
    """(B, T) ids and mask -> logits (B, T, 2) and pooled (B, D); padding counts for nothing."""

    def __init__(self, words=31, width=8, rate=0.1, epsilon=1e-5):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.norm = nn.LayerNorm(width, eps=epsilon)
        self.dense = nn.Linear(width, width)
        self.dropout = nn.Dropout(rate)
        self.classifier = nn.Linear(width, 2)

    def forward(self, input_ids, attention_mask=None):
        states = self.norm(self.embedding(input_ids))
        states = states + self.dropout(torch.tanh(self.dense(states)))
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        mask = mask.unsqueeze(-1).to(states.dtype)  # (B, T, 1)
        pooled = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        return {"logits": self.classifier(states), "pooled": pooled}
