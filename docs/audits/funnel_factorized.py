"""paddlenlp 2.8.1: Funnel with factorized attention raises."""

import paddle
from paddlenlp.transformers.funnel.configuration import FunnelConfig
from paddlenlp.transformers.funnel.modeling import FunnelModel

small = {"vocab_size": 9, "d_model": 8, "n_head": 1, "d_head": 8, "d_inner": 8, "block_sizes": [1, 1]}
try:
    FunnelModel(FunnelConfig(**small, attention_type="factorized"))(paddle.ones([1, 8], "int64"), return_dict=True)
except AttributeError as error:
    print(f"AttributeError: {error}")
else:
    raise AssertionError("mended")
