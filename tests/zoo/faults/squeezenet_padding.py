"""paddle 3.3.1: SqueezeNet 1.1 pads its first convolution and rounds its pooling down; torchvision does neither."""

import paddle

model = paddle.vision.models.squeezenet1_1(num_classes=2)
first = model._conv(paddle.zeros([1, 3, 64, 64])).shape[-1]
pooled = model._pool(paddle.zeros([1, 1, 32, 32])).shape[-1]
print(f"64 pixels become {first}, torchvision's 31; pooling makes {pooled} of 32, torchvision's 16")
assert (first, pooled) == (32, 15)
