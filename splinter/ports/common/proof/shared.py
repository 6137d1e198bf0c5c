"""What both sides of our ports have in common, and no step can therefore prove: a sentence each, for the report."""

WEIGHTS = "the checkpoint: one file of random weights fills both sides, through the map of names"
SETTINGS = (
    "the settings of the whole training: rate, batch size, epochs (the recipe's defaults are restated and compared)"
)
ADAMW = "AdamW: both frameworks have it from us, written from the formula in transformers' documentation"
SEED = "the meaning of a seed: an epoch takes its rows in the order that numpy draws from seed and epoch"
KEEPING = "what keeps, resumes and watches a run, and joins processes: one code for both frameworks, run by no step"

SHARED = (WEIGHTS, SETTINGS, ADAMW, SEED, KEEPING)
"""Of every system that trains; their loops are two (`loop.py` here, `common.training` there)."""
