"""paddle 3.3.1: hardsigmoid, of MobileNet v3 too, has a slope of 0.1666667; torch's is 1/6."""

import paddle

found = paddle.nn.functional.hardsigmoid(paddle.ones([1], dtype="float64")).item() - 0.5
print(f"slope {found:.9f}, off by {abs(found - 1 / 6):.1e}")
assert 1e-9 < abs(found - 1 / 6) < 1e-7
