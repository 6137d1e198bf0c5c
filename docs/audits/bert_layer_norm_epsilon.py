"""paddlenlp 2.8.1: a head on BertPretrainedModel loses the epsilon of its own LayerNorm."""

import paddle
from paddlenlp.transformers import BertConfig
from paddlenlp.transformers.bert.modeling import BertPretrainedModel


class Head(BertPretrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.norm = paddle.nn.LayerNorm(4, epsilon=1e-5)


found = Head(BertConfig()).norm._epsilon
print(f"epsilon {found}, was made with 1e-5")
assert found == 1e-12
