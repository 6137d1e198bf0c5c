"""paddle 3.3.1: Inception v3 normalises with an epsilon of 1e-5; torchvision with 1e-3."""

import paddle

model = paddle.vision.models.inception_v3(num_classes=2)
found = {layer._epsilon for layer in model.sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)}
print(f"epsilon {found}, torchvision 0.001")
assert found == {1e-5}
