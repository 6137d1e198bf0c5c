"""paddlenlp 2.8.1: DeBERTa, v1 and v2, ignores initializer_range: the hook that is called has another name."""

import paddlenlp.transformers as port

sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
for name in ("Deberta", "DebertaV2"):
    config = getattr(port, f"{name}Config")(vocab_size=99, initializer_range=0.5, **sizes)
    found = getattr(port, f"{name}Model")(config).embeddings.word_embeddings.weight.std().item()
    print(f"{name}: deviation {found:.3f}, configured 0.5")
    assert abs(found - 0.5) > 0.3
