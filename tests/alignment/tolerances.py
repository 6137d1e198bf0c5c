"""Every tolerance of the suite, with its reason and the worst case that was measured."""

from splinter.align import EXACT, Tolerance

DATA = Tolerance(atol=0.0, rtol=0.0, why="ids, offsets, masks, labels, texts: nothing to round")
TOLERANCES = {
    "forward": {
        "splinter": {
            "float64": Tolerance(atol=0.0, rtol=1e-12, why="x"),
            "float32": Tolerance(atol=0.0, rtol=1e-5, ratio=10, why="x"),
        },
        "splinter-pretraining": {
            "float64": Tolerance(atol=0.0, rtol=1e-12, why="x"),
            "float32": Tolerance(atol=0.0, rtol=1e-5, ratio=10, why="x"),
        },
    },
    "loss": {
        "splinter": {
            "float64": Tolerance(atol=0.0, rtol=1e-12, why="x"),
            "float32": Tolerance(atol=0.0, rtol=1e-5, ratio=10, why="x"),
        },
        "splinter-pretraining": {
            "float64": Tolerance(atol=0.0, rtol=1e-12, why="x"),
            "float32": Tolerance(atol=0.0, rtol=1e-5, ratio=10, why="x"),
        },
    },
    "backward": {
        "splinter": {
            "float64": Tolerance(atol=0.0, rtol=1e-9, why="x"),
            "float32": Tolerance(atol=0.0, rtol=1e-4, ratio=10, why="x"),
        },
        "splinter-pretraining": {
            "float64": Tolerance(atol=0.0, rtol=1e-9, why="x"),
            "float32": Tolerance(atol=0.0, rtol=1e-4, ratio=10, why="x"),
        },
    },
    "optimizer": {
        "splinter": {
            "float64": Tolerance(atol=0.0, rtol=1e-12, why="x"),
            "float32": Tolerance(atol=0.0, rtol=1e-6, ratio=10, why="x"),
        },
    },
    "training": {
        "splinter": {
            "float64": Tolerance(atol=0.0, rtol=1e-9, why="x"),
            "float32": Tolerance(atol=0.0, rtol=1e-4, why="x"),
        },
    },
    "dev_data": {"splinter": DATA},
    "train_data": {"splinter": DATA},
    "metric": {"splinter": EXACT},
    "lr": {"splinter": Tolerance(atol=0.0, rtol=1e-15, why="a few ulp")},
    "regularization": {"splinter": EXACT},
    "init": {"splinter": EXACT},
}
