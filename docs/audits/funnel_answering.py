"""paddlenlp 2.8.1: FunnelForQuestionAnswering cannot be called as documented."""

import paddle
from paddlenlp.transformers.funnel.configuration import FunnelConfig
from paddlenlp.transformers.funnel.modeling import FunnelForQuestionAnswering

small = {"vocab_size": 9, "d_model": 8, "n_head": 1, "d_head": 8, "d_inner": 8, "block_sizes": [1, 1]}
try:
    FunnelForQuestionAnswering(FunnelConfig(**small))(paddle.ones([1, 8], "int64"))
except AttributeError as error:
    print(f"AttributeError: {error}")
else:
    raise AssertionError("mended")
