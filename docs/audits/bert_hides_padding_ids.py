"""paddlenlp 2.8.1: BertModel without a mask hides what has the padding's id; transformers hides nothing."""

import paddle
from paddlenlp.transformers import BertConfig, BertModel

small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
model = BertModel(BertConfig(vocab_size=9, hidden_dropout_prob=0, attention_probs_dropout_prob=0, **small))
ids = paddle.to_tensor([[5, 6, 0]])
plain, masked, whole = (
    model(ids, attention_mask=mask)[0] for mask in (None, paddle.to_tensor([[1, 1, 0]]), paddle.ones_like(ids))
)
apart = [(plain - other).abs().max().item() for other in (masked, whole)]
print(f"no mask differs by {apart[0]:.1e} from one that hides the last id, by {apart[1]:.1e} from one of ones")
assert apart[0] == 0 < 1e-4 < apart[1]
