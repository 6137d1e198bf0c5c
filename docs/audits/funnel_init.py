"""paddlenlp 2.8.1: the relative tensors of a Funnel that is built, not loaded, are all 0."""

from paddlenlp.transformers.funnel.configuration import FunnelConfig
from paddlenlp.transformers.funnel.modeling import FunnelModel

small = {"vocab_size": 9, "d_model": 8, "n_head": 1, "d_head": 8, "d_inner": 8, "block_sizes": [1, 1]}
weights = dict(FunnelModel(FunnelConfig(**small)).named_parameters())
found = {name: float(p.abs().max()) for name, p in weights.items() if name.endswith(("r_kernel", "r_w_bias"))}
print(found)
assert found and not any(found.values())
