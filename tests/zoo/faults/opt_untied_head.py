"""paddlenlp 2.8.1: the head of OPTForCausalLM has a matrix of its own; transformers' is the word embedding's."""

from paddlenlp.transformers import OPTConfig, OPTForCausalLM

sizes = {"hidden_size": 8, "word_embed_proj_dim": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
model = OPTForCausalLM(OPTConfig(vocab_size=9, intermediate_size=8, **sizes))
apart = (model.lm_head.decoder_weight - model.opt.embeddings.word_embeddings.weight).abs().max().item()
print(f"head and embedding differ by {apart:.2f}, tie_word_embeddings is {model.config.tie_word_embeddings}")
assert apart > 0 and model.config.tie_word_embeddings
