"""What goes wrong before anything can be compared."""


class ProveError(ValueError):
    """What was handed in cannot be proven as it is; the message says what would do."""
