"""paddlenlp 2.8.1: MegatronBERT adds a mask of ones and zeros to the scores as it is, which hides nothing."""

import paddle
from paddlenlp.transformers import MegatronBertConfig, MegatronBertModel

sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
model = MegatronBertModel(MegatronBertConfig(vocab_size=9, initializer_range=0.5, **sizes))
model.eval()
mask, padded, other = (paddle.to_tensor([ids]) for ids in ([1, 1, 0], [3, 4, 5], [3, 4, 6]))
before, after = (model(ids, attention_mask=mask)[0][:, :2] for ids in (padded, other))
apart = (before - after).abs().max().item()
print(f"another id behind the mask moves the words before it by {apart:.2f}")
assert apart > 0.01
