"""What the proofs of the systems share."""


class ReferenceGone(ImportError):
    """The reference of a step is not in this version of transformers: the step is skipped, and says so."""
