"""Paddle's models of pictures beside torchvision's."""

from typing import Any

import numpy as np
from foreign import PICTURE, Finding, Foreign, called


def vision(name: str, theirs: dict[str, Any] | None = None, ours: dict[str, Any] | None = None, *,
           size: int = 64, finding: Finding | None = None, **options: Any) -> Foreign:  # fmt: skip
    """One function of both libraries, ten classes; `name` is the function's."""
    picture = np.random.default_rng(0).standard_normal((2, 3, size, size)).astype("float32")
    return Foreign(
        name,
        called("torchvision.models", name, num_classes=10, **(theirs or {})),
        called("paddle.vision.models", name, num_classes=10, **(ours or {})),
        [picture],
        options,
        finding,
    )


LAYERS = [8, "M", 16, 16, "M", 32]

PAIRS = [
    vision("resnet18"),
    vision("resnet50", size=32),
    vision("resnext50_32x4d", size=32),
    vision("mobilenet_v2", {"width_mult": 0.25}, {"scale": 0.25}),
    vision("mobilenet_v3_small", {"width_mult": 0.5}, {"scale": 0.5}),
    vision("densenet121", size=32),
    vision("shufflenet_v2_x0_5"),
    vision("squeezenet1_1"),
    vision("alexnet", size=224),
    vision("inception_v3", {"aux_logits": False, "init_weights": False}, size=75),
    Foreign(
        "vgg-bn",
        called("torchvision.models.vgg", "make_layers", LAYERS, batch_norm=True),
        called("paddle.vision.models.vgg", "make_layers", LAYERS, batch_norm=True),
        [PICTURE],
    ),
]
