"""paddlenlp 2.8.1: DeBERTa v2 is not drawn with initializer_range; its hook has another name than the one called."""

from paddlenlp.transformers import DebertaV2Config, DebertaV2Model

sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
for wanted in (0.02, 0.5):
    model = DebertaV2Model(DebertaV2Config(vocab_size=99, initializer_range=wanted, **sizes))
    found = model.encoder.layer[0].attention.self.query_proj.weight.std().item()
    print(f"deviation {found:.3f}, configured {wanted}")
assert abs(found - wanted) > 0.3
