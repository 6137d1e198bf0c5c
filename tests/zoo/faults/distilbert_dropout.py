"""paddlenlp 2.8.1: DistilBERT drops out what its attention returns; transformers adds it as it is."""

import paddle
from paddlenlp.transformers import DistilBertConfig, DistilBertModel

sizes = {"hidden_size": 512, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
layer = DistilBertModel(DistilBertConfig(vocab_size=9, hidden_dropout_prob=0.5, **sizes)).encoder.layers[0]
zeros = []
layer.dropout1.register_forward_post_hook(
    lambda layer, given, out: zeros.append((out == 0).astype("float32").mean().item())
)
layer.train()
layer(paddle.ones([1, 4, 512]))
print(f"at a rate of 0.5 {zeros[0]:.1%} of what attention returns are zeros")
assert abs(zeros[0] - 0.5) < 0.1
