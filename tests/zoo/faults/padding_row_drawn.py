"""paddlenlp 2.8.1: BERT's padding row is drawn and learns; transformers keeps it zero. A dozen ports do the same."""

import paddle
from paddlenlp.transformers import BertConfig, BertModel

sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
model = BertModel(BertConfig(vocab_size=9, **sizes))
words = model.embeddings.word_embeddings.weight
model(paddle.to_tensor([[3, 4, 0]]), attention_mask=paddle.to_tensor([[1, 1, 0]]))[0].sin().sum().backward()
drawn, learns = words[0].abs().max().item(), words.grad[0].abs().max().item()
print(f"row 0: up to {drawn:.3f} when built, its gradient up to {learns:.1e}")
assert drawn > 0 < learns
