"""paddle 3.3.1: nn.ClipGradByGlobalNorm divides by the norm; torch divides by the norm + 1e-6."""

import paddle
import torch

clip = paddle.nn.ClipGradByGlobalNorm(5e-4)
ours = clip([(paddle.create_parameter([1], "float32"), paddle.full([1], 1e-3))])[0][1].item()
theirs = torch.nn.Parameter(torch.zeros(1))
theirs.grad = torch.full([1], 1e-3)
torch.nn.utils.clip_grad_norm_([theirs], 5e-4)
print(f"a gradient of 1e-3 clipped to 5e-4: {ours:.6e}, torch {theirs.grad.item():.6e}")
assert abs(ours / theirs.grad.item() - 1) > 5e-4
