"""paddlenlp 2.8.1: FNet transforms over the batch as well, so each row depends on all others."""

import paddle
from paddlenlp.transformers import FNetConfig, FNetModel

model = FNetModel(FNetConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, intermediate_size=8))
model.eval()
alone = model(paddle.to_tensor([[3, 4, 5]]))[0]
beside = model(paddle.to_tensor([[3, 4, 5], [6, 7, 8]]))[0][:1]
apart = (alone - beside).abs().max().item()
print(f"a second row moves the states of the first by {apart:.2f}")
assert apart > 0.01
