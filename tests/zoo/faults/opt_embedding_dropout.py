"""paddlenlp 2.8.1: OPT drops its embeddings out; transformers' OPT does not."""

import paddle
from paddlenlp.transformers import OPTConfig, OPTModel

sizes = {"hidden_size": 512, "word_embed_proj_dim": 512, "num_hidden_layers": 1, "num_attention_heads": 1}
model = OPTModel(OPTConfig(vocab_size=9, intermediate_size=8, hidden_dropout_prob=0.5, **sizes))
model.train()
embedded = model.embeddings(paddle.to_tensor([[3, 4]]), paddle.ones([1, 2], dtype="int64"), past_key_values_length=0)
zeros = (embedded.numpy() == 0).mean()
print(f"at a rate of 0.5 {zeros:.1%} of the embeddings are zeros")
assert abs(zeros - 0.5) < 0.1
