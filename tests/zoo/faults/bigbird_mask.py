"""paddlenlp 2.8.1: BigBird does not read its attention_mask; what has the padding's id is hidden, and nothing else."""

import paddle
from paddlenlp.transformers import BigBirdConfig, BigBirdModel

sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
model = BigBirdModel(BigBirdConfig(vocab_size=12, attention_type="default_attention", **sizes))
model.eval()
ids = paddle.arange(3, 12).unsqueeze(0)
whole, masked = (model(ids, attention_mask=paddle.to_tensor([mask]))[0] for mask in ([1] * 9, [1] * 5 + [0] * 4))
apart = (whole - masked).abs().max().item()
print(f"a mask that hides half of the words changes the states by {apart}")
assert apart == 0
