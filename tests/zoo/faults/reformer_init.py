"""paddlenlp 2.8.1: Reformer draws every Linear with axial_norm_std, 1.0, instead of initializer_range."""

from paddlenlp.transformers import ReformerConfig, ReformerModel

sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "attention_head_size": 16}
shape = {"attn_layers": ["local"], "axial_pos_shape": [4, 4], "axial_pos_embds_dim": [16, 16], "feed_forward_size": 64}
model = ReformerModel(ReformerConfig(vocab_size=9, initializer_range=0.02, **sizes, **shape))
found = model.encoder.layers[0].attention.self_attention.query.weight.std().item()
print(f"deviation {found:.2f}, configured 0.02")
assert found > 0.9
