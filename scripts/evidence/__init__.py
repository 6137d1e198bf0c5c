"""What needs a clone: recorded experiments, the tables and plots made of them, the badges. Not part of the package.

Scripts and tests import it as `evidence`, since `scripts` is on their path.
"""
