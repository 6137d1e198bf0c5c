"""Default tolerances: what a clean port passes, by step and dtype, each with its reason.

They are for the first verdict. A port that is proven for good has a table of its own, with the worst case seen in it:
then rows can be a thousand times stricter. `rtol` is relative to the largest element of the reference's tensor. Seen:
torch 2.13 against paddle 3.3.1 on a CPU; stacks of six Linear, tanh and norm, and tiny BERT, RoBERTa and ELECTRA.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .compare import EXACT, Tolerance

EPSILON = (
    "Paddle keeps a norm's epsilon as float32, which moves what it makes by up to 1.3e-8 where the variance is small"
)
SHORT = "so wide that the error against float64 judges: at most 4 times the reference's own; seen 2.0 (two attentions)"

FORWARD = {
    "float64": Tolerance(atol=0.0, rtol=1e-8, why=f"{EPSILON}: seen 1.6e-12, 1.3e-11 on inputs of 1e-3, 2e-15 in BERT"),
    "float32": Tolerance(
        atol=0.0, rtol=1e-4, ratio=10, why="sums in another order: seen 9.3e-7, 9.2e-6 in 14 layers; ratio seen 2.7"
    ),
    "bfloat16": Tolerance(atol=0.0, rtol=0.25, ratio=4, why=f"{SHORT}, of the largest number 2.4e-2"),
    "float16": Tolerance(atol=0.0, rtol=0.05, ratio=4, why=f"{SHORT}, of the largest number 5.2e-3"),
}
LOSS = {
    "float64": Tolerance(atol=0.0, rtol=1e-11, why="a loss may be a difference of large sums: seen 1.5e-13 with a CRF"),
    "float32": Tolerance(
        atol=0.0, rtol=5e-4, ratio=10, why="a loss may be a difference of large sums: seen 7.5e-5 with a CRF, ratio 1.9"
    ),
}
OPTIMIZER = {
    "float64": Tolerance(
        atol=0.0,
        rtol=1e-7,
        why="torch clips to max_norm / (norm + 1e-6), Paddle to max_norm / norm: seen 3.7e-9 after 1000 updates",
    ),
    "float32": Tolerance(
        atol=0.0, rtol=1e-5, ratio=10, why="1000 updates of elementwise arithmetic: seen 1.0e-6, ratio 1.1"
    ),
}
BACKWARD = {
    "float64": Tolerance(atol=0.0, rtol=1e-7, why=f"{EPSILON}, and a softmax passes it on ten times: seen 1.5e-11"),
    "float32": Tolerance(
        atol=0.0,
        rtol=1e-3,
        ratio=20,
        why="sums in another order, and Adam makes steps of the noise in small gradients: seen 2.9e-5 of a weight, "
        "9.9e-4 of a gradient behind 12 layers; ratio of a loss seen 6.5",
    ),
}
TRAINING = {
    "float64": Tolerance(atol=0.0, rtol=1e-6, why="as backward, and updates build one upon another: seen 5.3e-10"),
    "float32": Tolerance(atol=0.0, rtol=1e-2, why="as backward, and updates build one upon another: seen 5.6e-6 in 24"),
}
TABLE: Mapping[str, Any] = {
    "forward": FORWARD,
    "dev_data": EXACT,
    "metric": EXACT,
    "loss": LOSS,
    "lr": Tolerance(atol=0.0, rtol=1e-13, why="peak * (1 - t/T) there, peak * (T - t)/T here: seen 7.6e-16"),
    "optimizer": OPTIMIZER,
    "regularization": Tolerance(
        atol=1e-10, rtol=0.0, why="Paddle's AdamW keeps rate * decay as float32: seen 2.2e-11 of a weight in one update"
    ),
    "backward": BACKWARD,
    "train_data": EXACT,
    "init": EXACT,
    "training": TRAINING,
}
"""Step -> Tolerance, or for steps that round precision -> Tolerance."""


def tolerance(step: str, dtype: str) -> Tolerance:
    """The row of one step.

    Raises:
        LookupError: numbers of 16 bits in another step than forward: what they make of a gradient hangs on the scaling
            of the loss.
    """
    row = TABLE[step]
    if isinstance(row, Tolerance):
        return row
    if dtype not in row:
        raise LookupError(f"no default tolerance for step {step!r} in {dtype}; there are {', '.join(row)}")
    return row[dtype]


def table(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The table that `checklist` reads, of ports of these names."""
    return {step: dict.fromkeys(names, row) for step, row in TABLE.items()}
