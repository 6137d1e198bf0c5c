"""paddle 3.3.1: the gradient of a product of four axes with three axes raises."""

import paddle

left, right = paddle.ones([2, 3, 4, 5]), paddle.ones([3, 5, 6])
left.stop_gradient = right.stop_gradient = False
try:
    paddle.matmul(left, right).sum().backward()
except Exception as error:
    print(f"{type(error).__name__}: {str(error).strip().splitlines()[-1][:100]}")
else:
    raise AssertionError("mended")
