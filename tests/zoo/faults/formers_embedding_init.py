"""paddleformers 1.2.0: Llama's word embedding is not drawn with initializer_range."""

from paddleformers.transformers import LlamaConfig, LlamaModel

sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
for wanted in (0.02, 0.5):
    config = LlamaConfig(vocab_size=99, initializer_range=wanted, fuse_rms_norm=False, **sizes)
    found = LlamaModel(config).embed_tokens.weight.std().item()
    print(f"deviation {found:.3f}, configured {wanted}")
assert abs(found - wanted) > 0.3
