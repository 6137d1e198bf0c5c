"""paddle 3.3.1: AlexNet and SqueezeNet halve their features in evaluation; torchvision leaves them as they are."""

import paddle

for name, layer in (("alexnet", "_drop1"), ("squeezenet1_1", "_drop")):
    dropout = getattr(getattr(paddle.vision.models, name)(num_classes=2), layer)
    dropout.eval()
    kept = dropout(paddle.ones([1, 1])).item()
    print(f"{name}: one becomes {kept}")
    assert kept == 0.5
