"""paddle 3.3.1: Embedding(padding_idx) returns zeros whatever its row holds; torch returns the row."""

import paddle

layer = paddle.nn.Embedding(3, 2, padding_idx=0)
layer.weight.set_value(paddle.ones([3, 2]))
found = layer(paddle.to_tensor([0])).tolist()
print(f"row 0 holds ones; looked up: {found}")
assert found == [[0, 0]]
