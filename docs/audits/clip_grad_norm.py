"""paddle 3.3.1, CPU: nn.utils.clip_grad_norm_ adds up the squares of 23 million numbers in one float32."""

import numpy as np
import paddle

paddle.set_device("cpu")
numbers = np.random.default_rng(0).standard_normal((30522, 768)).astype("float32")
weight = paddle.create_parameter(numbers.shape, "float32")
weight.grad = paddle.to_tensor(numbers)
found = paddle.nn.utils.clip_grad_norm_([weight], float("inf")).item()
exact = np.sqrt(np.square(numbers, dtype="float64").sum())
print(f"norm {found:.1f}, should be {exact:.1f}: {abs(found / exact - 1):.1e} off")
assert abs(found / exact - 1) > 1e-2
