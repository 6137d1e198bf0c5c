"""Training without a framework: schedule, batches, the loop, its states and resume.

Both frameworks train through `fit.fit`; what is theirs alone (forward, backward, update) is a `trainer.Trainer`.
Schedule and step rule: oriram/splinter finetuning/run_mrqa.py at 1df4c13.
"""


class TrainingError(RuntimeError):
    """Training that cannot go on; names the step and the batch."""
