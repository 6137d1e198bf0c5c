"""paddlenlp 2.8.1: RoBERTa's classifier drops its features out twice before the first layer; transformers once."""

import paddle
from paddlenlp.transformers import RobertaConfig, RobertaForSequenceClassification

sizes = {"hidden_size": 512, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
model = RobertaForSequenceClassification(RobertaConfig(vocab_size=9, hidden_dropout_prob=0.5, **sizes))
zeros = []
model.classifier.dense.register_forward_pre_hook(
    lambda layer, given: zeros.append((given[0] == 0).astype("float32").mean().item())
)
model.train()
model(paddle.full([32, 2], 3, dtype="int64"))
print(f"at a rate of 0.5 the classifier is given {zeros[0]:.1%} zeros")
assert abs(zeros[0] - 0.75) < 0.02
