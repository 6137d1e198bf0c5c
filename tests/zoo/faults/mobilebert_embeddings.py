"""paddlenlp 2.8.1: embeddings of MobileBERT are not drawn with initializer_range; nor are ProphetNet's."""

from paddlenlp.transformers import MobileBertConfig, MobileBertModel

for wanted in (0.02, 0.5):
    model = MobileBertModel(MobileBertConfig(vocab_size=99, num_hidden_layers=1, initializer_range=wanted))
    found = model.embeddings.position_embeddings.weight.std().item()
    print(f"deviation {found:.3f}, configured {wanted}")
assert abs(found - wanted) > 0.3
