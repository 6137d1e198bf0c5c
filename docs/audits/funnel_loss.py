"""paddlenlp 2.8.1: Funnel's answering model drops its loss with return_dict=True."""

import paddle
from paddlenlp.transformers.funnel.configuration import FunnelConfig
from paddlenlp.transformers.funnel.modeling import FunnelForQuestionAnswering

small = {"vocab_size": 9, "d_model": 8, "n_head": 1, "d_head": 8, "d_inner": 8, "block_sizes": [1, 1]}
label = {"start_positions": paddle.to_tensor([1]), "end_positions": paddle.to_tensor([2]), "return_dict": True}
found = FunnelForQuestionAnswering(FunnelConfig(**small))(paddle.ones([1, 8], "int64"), **label)
print(f"{len(found)} outputs, of shapes {[one.shape for one in found]}; no loss among them")
assert len(found) == 2
