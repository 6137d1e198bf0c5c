"""splinter: Splinter for PaddlePaddle, and the proof that a port equals its reference."""

from __future__ import annotations

__version__ = "0.1.0"


def answer(question, context, *, model="splinter-mini-qa", framework="paddle", device="auto", min_probability=0.0):
    """Answer a question from a text.

    >>> from splinter import answer
    >>> answer("Who wrote it?", "Ann wrote it in 1990.").text
    'Ann'

    The first call loads the model, which stays in memory; importing this function loads nothing.

    Args:
        question: a text, or a list of texts, which are answered in batches.
        context: the text that holds the answer; for a list of questions also a list, one for each.
        model: a folder or a name, as for `splinter predict --model`.
        framework: "paddle" or "torch".
        device: "auto", "cpu", "gpu" or "gpu:N".
        min_probability: an answer with less is none.

    Returns:
        An `Answer` with text, probability (0 to 1), score, start and end (characters of the context, end exclusive), or
        None where there is none; a list of them for a list of questions.

    Raises:
        ValueError: something is empty or does not fit, or the model cannot be opened; one line says what to do.
    """
    from .ports.splinter import asking

    options = {"model": model, "framework": framework, "device": device, "min_probability": min_probability}
    return asking.answer(question, context, **options)
