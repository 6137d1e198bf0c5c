"""Paddle's models of pictures beside torchvision's."""

from typing import Any

from findings import FINDINGS
from foreign import Foreign, called, picture


def vision(
    name: str,
    theirs: dict[str, Any] | None = None,
    ours: dict[str, Any] | None = None,
    *,
    size: int = 64,
    slow: bool = False,
    **options: Any,
) -> Foreign:
    """One function of both libraries, ten classes; `name` is the function's."""
    return Foreign(
        name,
        "torchvision",
        called("torchvision.models", name, num_classes=10, **(theirs or {})),
        called("paddle.vision.models", name, num_classes=10, **(ours or {})),
        [picture(size)],
        {"updates": 2, **options},  # of some ten million weights
        FINDINGS.get(name, {}),
        slow=slow,
    )


def layers(name: str, batch_norm: bool) -> Foreign:
    """The convolutions of a small VGG; those of the whole one end in a matrix of 100 million."""
    sizes = [8, "M", 16, 16, "M", 32]
    both = [called(f"{library}.models.vgg", "make_layers", sizes, batch_norm=batch_norm) for library in LIBRARIES]
    return Foreign(name, "torchvision", *both, batch=[picture(32)], findings=FINDINGS.get(name, {}))


LIBRARIES = ("torchvision", "paddle.vision")

PAIRS = [
    vision("resnet18", slow=True),
    vision("resnet50", size=32, slow=True),
    vision("resnext50_32x4d", size=32, slow=True),
    vision("mobilenet_v2", {"width_mult": 0.25}, {"scale": 0.25}),
    vision("mobilenet_v3_small", {"width_mult": 0.5}, {"scale": 0.5}, slow=True),
    vision("densenet121", size=32, slow=True),
    vision("shufflenet_v2_x0_5", slow=True),
    vision("squeezenet1_1"),
    vision("alexnet", size=224, slow=True),
    vision("inception_v3", {"aux_logits": False, "init_weights": False}, size=75, slow=True),
    layers("vgg", batch_norm=False),
    layers("vgg-bn", batch_norm=True),
]
