"""paddlenlp 2.8.1: Bloom and Falcon (RW) build every Linear that has a bias with weights of zero."""

from paddlenlp.transformers import BloomConfig, BloomModel, RWConfig, RWModel

for config, model in ((BloomConfig, BloomModel), (RWConfig, RWModel)):
    more = {"bias": True} if config is RWConfig else {}
    block = model(config(vocab_size=9, hidden_size=8, n_layer=1, n_head=2, initializer_range=0.02, **more)).h[0]
    largest = block.self_attention.query_key_value.weight.abs().max().item()
    print(f"{model.__name__}: query, key and value hold at most {largest}")
    assert largest == 0
