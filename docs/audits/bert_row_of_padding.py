"""paddlenlp 2.8.1: a row that is all padding is attended by its raw scores; transformers attends all of it alike."""

import paddle
from paddlenlp.transformers import BertConfig, BertModel

small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
model = BertModel(BertConfig(vocab_size=9, hidden_dropout_prob=0, attention_probs_dropout_prob=0, **small))
paddle.seed(0)
for parameter in model.parameters():
    parameter.set_value(paddle.randn(parameter.shape))
ids = paddle.to_tensor([[5, 6, 7]])
nothing, everything = (model(ids, attention_mask=paddle.full_like(ids, kept))[0] for kept in (0, 1))
query = model.encoder.layers[0].self_attn.q_proj
query.weight.set_value(paddle.zeros_like(query.weight))
query.bias.set_value(paddle.zeros_like(query.bias))  # all scores 0: attended alike
alike = model(ids, attention_mask=paddle.ones_like(ids))[0]
to_raw, to_alike = ((nothing - other).abs().max().item() for other in (everything, alike))
print(f"the states are {to_raw:.1e} from those without any mask, {to_alike:.1e} from attending alike")
assert to_raw < 1e-2 < to_alike
