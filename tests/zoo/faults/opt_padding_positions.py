"""paddlenlp 2.8.1: OPT gives padding on the right the position of the last word; transformers gives it position -1."""

import numpy as np
import paddle
import torch
from paddlenlp.transformers.opt.modeling import OPTLearnedPositionEmbedding
from transformers.models.opt.modeling_opt import OPTLearnedPositionalEmbedding

theirs, ours = OPTLearnedPositionalEmbedding(4, 2), OPTLearnedPositionEmbedding(4, 2, initializer_range=1.0)
ours.weight.set_value(theirs.weight.detach().numpy())
mask = np.array([[1, 1, 0]])
apart = np.abs(theirs(torch.tensor(mask)).detach().numpy() - ours(paddle.to_tensor(mask)).numpy()).max(axis=(0, 2))
print(f"positions of two words and of padding differ by {apart[0]:.2f}, {apart[1]:.2f}, {apart[2]:.2f}")
assert apart[0] == apart[1] == 0 < apart[2]
