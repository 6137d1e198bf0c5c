"""paddle 3.3.1: clear_gradient leaves a gradient of zeros, where torch leaves none: Adam goes on moving the weight."""

import paddle

weight = paddle.create_parameter([2], "float32")
(weight * 3).sum().backward()
weight.clear_gradient(set_to_zero=False)
print(f"gradient after clear_gradient(set_to_zero=False): {weight.grad.tolist()}, torch's set_to_none leaves None")
assert weight.grad.tolist() == [0, 0]
