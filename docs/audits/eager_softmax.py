"""transformers 4.57.6: eager attention in a float64 model rounds its probabilities to float32."""

import torch
from transformers.models.splinter.modeling_splinter import eager_attention_forward

torch.manual_seed(0)
q, k, v = torch.randn(3, 1, 1, 4, 8, dtype=torch.float64)
found = eager_attention_forward(torch.nn.Identity().eval(), q, k, v, None, 1.0)[0].transpose(1, 2)
apart = (found - torch.softmax(q @ k.transpose(2, 3), -1) @ v).abs().max().item()
print(f"{apart:.1e} off in float64")
assert apart > 1e-9
