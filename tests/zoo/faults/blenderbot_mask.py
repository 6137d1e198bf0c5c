"""paddlenlp 2.8.1: Blenderbot's encoder hides the words and attends to the padding when it is given a mask."""

import paddle
from paddlenlp.transformers import BlenderbotConfig, BlenderbotModel

sizes = {
    f"{part}_{name}": size for part in ("encoder", "decoder") for name, size in (("ffn_dim", 8), ("attention_heads", 1))
}
config = BlenderbotConfig(vocab_size=9, d_model=8, num_encoder_layers=1, num_decoder_layers=1, init_std=0.5, **sizes)
encoder = BlenderbotModel(config).encoder
encoder.eval()
mask, padded, other = (paddle.to_tensor([ids]) for ids in ([1, 1, 0], [3, 4, 5], [3, 4, 6]))
before, after = (encoder(ids, attention_mask=mask)[:, 0] for ids in (padded, other))
apart = (before - after).abs().max().item()
print(f"another id behind the mask moves the first word by {apart:.2f}")
assert apart > 0.01
