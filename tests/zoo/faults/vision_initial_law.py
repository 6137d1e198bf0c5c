"""paddle 3.3.1: ResNet's first convolution is drawn by Paddle's default law, wider than torchvision's."""

import paddle

found = paddle.vision.models.resnet18(num_classes=2).conv1.weight.std().item()
theirs = (2 / (64 * 7 * 7)) ** 0.5  # kaiming_normal_, fan_out, of torchvision's ResNet
print(f"deviation {found:.4f}, torchvision's {theirs:.4f}")
assert found / theirs > 2
