"""paddlenlp 2.8.1: Funnel's discriminator loses the batch axis of a single row."""

import paddle
from paddlenlp.transformers.funnel.configuration import FunnelConfig
from paddlenlp.transformers.funnel.modeling import FunnelDiscriminatorPredictions

found = FunnelDiscriminatorPredictions(FunnelConfig(d_model=8))(paddle.zeros([1, 5, 8])).shape
print(f"logits of one row of five tokens have shape {found}")
assert found == [5]
