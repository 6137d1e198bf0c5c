"""paddleformers 1.2.0: the padding's row of Phi-3's and Ernie 4.5's embedding is drawn; transformers keeps it zero."""

import paddleformers.transformers as port

sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
for name in ("Phi3", "Ernie4_5"):
    special = {"num_key_value_heads": 1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = getattr(port, f"{name}Config")(vocab_size=99, fuse_rms_norm=False, **sizes, **special)
    drawn = getattr(port, f"{name}Model")(config).embed_tokens.weight[0].abs().max().item()
    print(f"{name}: row 0 holds up to {drawn:.3f}")
    assert drawn > 0
