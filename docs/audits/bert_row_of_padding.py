"""paddlenlp 2.8.1: in a row that is all padding BertModel attends by the raw scores; transformers attends alike."""

import paddle
from paddlenlp.transformers import BertConfig, BertModel

small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
model = BertModel(BertConfig(vocab_size=9, hidden_dropout_prob=0, attention_probs_dropout_prob=0, **small))
ids = paddle.to_tensor([[5, 6, 7]])
states = [model(ids, attention_mask=paddle.full_like(ids, kept))[0] for kept in (0, 1)]
print(f"attending nothing and attending everything differ by {(states[0] - states[1]).abs().max().item():.1e}")
assert (states[0] - states[1]).abs().max().item() < 1e-3
