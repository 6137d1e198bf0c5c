"""paddle 3.3.1: clear_gradient leaves zeros, so Adam's momentum moves a parameter that a batch does not use."""

import paddle

weight = paddle.create_parameter([2], "float32")
(weight * 3).sum().backward()
weight.clear_gradient(set_to_zero=False)
print(f"gradient after clear_gradient(set_to_zero=False): {weight.grad.tolist()}, torch's set_to_none leaves None")
assert weight.grad is not None
