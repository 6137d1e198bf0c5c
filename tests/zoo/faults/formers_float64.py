"""paddleformers 1.2.0: in float64 a batch that is padded on the left makes Llama's states NaN, those of words too."""

import paddle
from paddleformers.transformers import LlamaConfig, LlamaModel

sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 8}
config = LlamaConfig(vocab_size=9, fuse_rms_norm=False, _attn_implementation="eager", **sizes)
model = LlamaModel(config)
model.to(dtype="float64")
states = model(input_ids=paddle.to_tensor([[0, 3, 4]]), attention_mask=paddle.to_tensor([[0, 1, 1]]))[0]
print(f"NaN: {int(paddle.isnan(states[:, 1:]).sum())} of {states[:, 1:].size} numbers of the two words")
assert paddle.isnan(states[:, 1:]).all()
