"""paddlenlp 2.8.1: BertModel without a mask hides what has the padding's id; transformers hides nothing."""

import paddle
from paddlenlp.transformers import BertConfig, BertModel

small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
model = BertModel(BertConfig(vocab_size=9, hidden_dropout_prob=0, attention_probs_dropout_prob=0, **small))
ids = paddle.to_tensor([[5, 6, 0]])
apart = (model(ids)[0] - model(ids, attention_mask=paddle.ones_like(ids))[0]).abs().max().item()
print(f"no mask, and a mask of ones, differ by {apart:.1e}")
assert apart > 0
