"""paddlenlp 2.8.1: BigBird's queries, keys and values are not drawn with initializer_range; they are no nn.Linear."""

from paddlenlp.transformers import BigBirdConfig, BigBirdModel

sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
for wanted in (0.02, 0.5):
    model = BigBirdModel(BigBirdConfig(vocab_size=9, initializer_range=wanted, **sizes))
    found = model.encoder.layers[0].self_attn.q_proj.weight.std().item()
    print(f"deviation {found:.3f}, configured {wanted}")
assert abs(found - wanted) > 0.3
