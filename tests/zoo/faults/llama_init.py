"""paddlenlp 2.8.1: Llama draws o_proj and down_proj 1 / sqrt(2 layers) narrower than configured."""

from paddlenlp.transformers import LlamaConfig, LlamaModel

sizes = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
layer = LlamaModel(LlamaConfig(vocab_size=9, initializer_range=0.02, **sizes)).layers[0]
spread = {name: getattr(layer.self_attn, name).weight.std().item() for name in ("q_proj", "o_proj")}
print(f"deviations {spread}, configured 0.02")
assert abs(spread["q_proj"] - 0.02) < 1e-3 < abs(spread["o_proj"] - 0.02)
