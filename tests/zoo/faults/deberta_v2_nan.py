"""paddlenlp 2.8.1: a row with padding makes DeBERTa v2's states NaN, those of its words too."""

import paddle
from paddlenlp.transformers import DebertaV2Config, DebertaV2Model

sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 8}
model = DebertaV2Model(DebertaV2Config(vocab_size=9, **sizes))
model.eval()
states = model(paddle.to_tensor([[3, 4, 0]]), attention_mask=paddle.to_tensor([[1, 1, 0]]))[0]
print(f"NaN: {int(paddle.isnan(states).sum())} of {states.size} numbers")
assert paddle.isnan(states).all()
