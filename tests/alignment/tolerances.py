"""Every tolerance of the suite, with its reason and the worst case that was measured.

Measured with paddle 3.3.1 and torch 2.13 on a CPU with AVX-512, both modes, checkpoints `tiny` and `base`;
`pytest tests/alignment --checkpoint base --align-json FILE` gives the figures again. `rtol` is relative to the
largest element of the reference's tensor; `ratio` bounds the error against float64 by the reference's own.
"""

from splinter.align import EXACT, Tolerance

DATA = Tolerance(atol=0.0, rtol=0.0, why="ids, offsets, masks, labels, texts: nothing to round")
SCORES = Tolerance(atol=0.0, rtol=0.0, why="counts divided by counts, in the reference's order of additions: seen 0")

FORWARD = {
    "float64": Tolerance(
        atol=0.0,
        rtol=1e-11,
        why="Paddle keeps the head's LayerNorm epsilon as float32, 2.6e-8 of 1e-5: seen 7.0e-13 tiny, 2.9e-12 base",
    ),
    "float32": Tolerance(
        atol=0.0,
        rtol=1e-5,
        ratio=10,
        why="12 layers of float32, other order of additions: seen 1.5e-6 tiny, 3.3e-6 base; ratio seen 2.5, "
        "layouts alone may give 3.3",
    ),
}
LOSS = {
    "float64": Tolerance(atol=0.0, rtol=1e-14, why="one logsumexp of 64 terms: seen 6.7e-16"),
    "float32": Tolerance(atol=0.0, rtol=2e-6, ratio=10, why="one logsumexp of 64 terms: seen 4.2e-7, ratio 1.9"),
}
BACKWARD = {
    "float64": Tolerance(atol=0.0, rtol=1e-10, why="as forward, then back through the layers: seen 1.4e-12 tiny"),
    "float64/base": Tolerance(
        atol=0.0,
        rtol=1e-8,
        why="softmax turns an absolute error of the logits into a relative one of the gradients: forward's 1e-11 "
        "times logits of 1e3; seen 2.5e-10, on gradients of size 1e-29",
    ),
    "float32": Tolerance(
        atol=0.0,
        rtol=5e-5,
        ratio=20,
        why="logits of 60 carry 4e-6, which softmax passes on: seen 8.3e-6; ratio of a single loss seen 6.3",
    ),
    "float32/base": Tolerance(
        atol=0.0,
        rtol=5e-3,
        why="logits of 1e3 may be off by 3e-3 (forward, 3.3e-6 of them), and softmax turns that into a relative "
        "error of every gradient: seen 1.2e-3. No ratio: a few logits move all gradients alike, so it is "
        "that of two single draws (seen 20); float64 holds the meaning",
    ),
}

PEER_ADAMW = {
    0.0: Tolerance(atol=0.0, rtol=1e-12, why="one formula in float64, 200 updates"),
    0.01: Tolerance(atol=0.0, rtol=1e-10, why="Paddle holds the decay as float32: 2e-8 of it, 200 updates of 1e-5"),
}
"""Weight decay -> how far paddle.optimizer.AdamW may be from torch.optim.AdamW."""

TOLERANCES = {
    "forward": {"splinter": FORWARD, "splinter-pretraining": FORWARD},
    "dev_data": {"splinter": DATA},
    "metric": {"splinter": SCORES},
    "loss": {"splinter": LOSS, "splinter-pretraining": LOSS},
    "lr": {
        "splinter": Tolerance(atol=0.0, rtol=0.0, why="the same few float64 operations in the same order: seen 0"),
    },
    "optimizer": {
        "splinter": {
            "float64": Tolerance(atol=0.0, rtol=1e-14, why="1000 updates of elementwise arithmetic: seen 3.6e-16"),
            "float32": Tolerance(
                atol=0.0, rtol=1e-6, ratio=10, why="1000 updates of elementwise arithmetic: seen 2.3e-7, ratio 1.0"
            ),
        },
    },
    "regularization": {"splinter": EXACT},  # sets of names; factors and dropout carry bounds of their own
    "backward": {"splinter": BACKWARD, "splinter-pretraining": BACKWARD},
    "train_data": {"splinter": DATA},
    "init": {"splinter": EXACT},  # constants exact; laws by critical values of Kolmogorov-Smirnov, 1e-3 Bonferroni
    "training": {
        "splinter": {
            "float64": Tolerance(atol=0.0, rtol=1e-10, why="24 updates, differences of backward grow: seen 6.1e-13"),
            "float32": Tolerance(atol=0.0, rtol=2e-5, why="24 updates, differences of backward grow: seen 1.2e-6"),
            "float64/base": Tolerance(atol=0.0, rtol=1e-8, why="as backward at base size, update after update"),
            "float32/base": Tolerance(atol=0.0, rtol=5e-3, why="as backward at base size, update after update"),
        },
    },
}
