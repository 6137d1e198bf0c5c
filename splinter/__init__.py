"""splinter: Splinter for PaddlePaddle, and the proof that a port equals its reference."""

__version__ = "0.1.0"
