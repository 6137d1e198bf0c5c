"""paddle 3.3.1: the Adam kernel forms 1 - beta2 in float32, so second moments are 1.3e-5 off."""

import paddle

weight = paddle.create_parameter([1], "float32")
adam = paddle.optimizer.Adam(1e-3, beta2=0.999, parameters=[weight])
weight.grad = paddle.ones([1])
adam.step()
moment = adam._accumulators["moment2"][weight.name].item()
print(f"second moment {moment:.8e}, should be {1 - 0.999:.8e}: {abs(moment / 1e-3 - 1):.1e} off")
assert abs(moment / 1e-3 - 1) > 5e-6
