"""What the systems share; imports none of them."""


class UsageError(ValueError):
    """Something asked for that cannot be done; the message says what to do instead."""
