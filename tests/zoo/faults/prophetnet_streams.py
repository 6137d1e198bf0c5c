"""paddlenlp 2.8.1: ProphetNet's predicting streams have other relative positions than transformers 4.57.6's."""

import numpy as np
import paddle
import paddlenlp.transformers as port
import torch
import transformers as original

sizes = {"vocab_size": 9, "hidden_size": 8, "init_std": 0.5, "pad_token_id": 0}
for side in ("encoder", "decoder"):
    sizes |= {f"{side}_ffn_dim": 8, f"num_{side}_layers": 1, f"num_{side}_attention_heads": 2}
theirs = original.ProphetNetModel(original.ProphetNetConfig(**sizes)).eval()
ours = port.ProphetNetModel(port.ProphetNetConfig(**sizes))
ours.eval()
turned = {id(layer.weight) for layer in ours.sublayers() if isinstance(layer, paddle.nn.Linear)}
for (_, weight), (_, own) in zip(sorted(theirs.named_parameters()), sorted(ours.named_parameters()), strict=True):
    own.set_value((weight.T if id(own) in turned else weight).detach().numpy())
ids = np.array([[3, 4, 5], [6, 7, 8]])
them = theirs(input_ids=torch.tensor(ids), decoder_input_ids=torch.tensor(ids))
us = ours(input_ids=paddle.to_tensor(ids), decoder_input_ids=paddle.to_tensor(ids))
apart = [np.abs(a.detach().numpy() - b.numpy()).max() for a, b in zip(list(them.values())[:2], us[:2], strict=True)]
print(f"states differ by {apart[0]:.1e}, those of the streams that predict by {apart[1]:.1e}")
assert apart[0] < 1e-4 < 1e-2 < apart[1]
