"""`splinter.answer`: questions on texts from Python, in one call."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from splinter.ports.common import UsageError, backend, checkpoint, options

from . import data, tasks
from .answering import UNREADABLE, Answer


def answer(
    question: str | Sequence[str],
    context: str | Sequence[str],
    *,
    model: str,
    framework: str = "paddle",
    device: str = "auto",
    min_probability: float = 0.0,
) -> Answer | list[Answer | None] | None:
    """See `splinter.answer`."""
    single = isinstance(question, str)
    for name, given in (("question", question), ("context", context)):
        if not isinstance(given, str | Sequence):
            raise UsageError(f"{name} is {str(given)[:60]!r}, not a text or a list of texts")
    questions = [question] if isinstance(question, str) else list(question)
    contexts = [context] * len(questions) if isinstance(context, str) else list(context)
    if single and not isinstance(context, str):
        raise UsageError("one question is asked of one context; give a list of questions for a list of contexts")
    if framework not in backend.ROOMS:
        raise UsageError(f"framework is {framework!r}, not one of {', '.join(backend.ROOMS)}")
    if not re.fullmatch(options.DEVICES, device):
        raise UsageError(f"device is {device!r}, not auto, cpu, gpu or gpu:NUMBER")
    if not 0 <= min_probability <= 1:
        raise UsageError(f"min_probability is {min_probability}, not from 0 to 1")
    if len(contexts) != len(questions):
        raise UsageError(f"{len(questions)} questions and {len(contexts)} contexts; give one context, or one for each")
    for name, texts in (("question", questions), ("context", contexts)):
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise UsageError(f"{name} {number} is {str(text)[:60]!r}, not a text")
    folder = checkpoint.resolve(model).resolve()
    answerer = _answerer(folder, framework, device, checkpoint.changed(folder))
    examples = [
        data.example(str(number), *pair, answerer.config.mode, "answer()" if single else f"answer(), question {number}")
        for number, pair in enumerate(zip(questions, contexts, strict=True))
    ]
    found: list[Answer | None] = [None] * len(examples)
    foreign = []
    for reply in answerer.ask(examples):
        number = int(reply.example.id)
        if reply.answers and reply.answers[0].probability >= min_probability:
            found[number] = reply.answers[0]
        if reply.unread >= UNREADABLE:
            foreign.append(number)
    if foreign:
        which = "the text" if single else f"the texts of {len(foreign)} questions, the first is question {foreign[0]}"
        warnings.warn(f"the model cannot read much of {which}; do not trust the answer", stacklevel=3)
    return found[0] if single else found


@functools.lru_cache(maxsize=2)
def _answerer(folder: Path, framework: str, device: str, changed: int) -> tasks.Answerer:
    """A model stays in memory for the next call, until its weights have changed."""
    return tasks.open_answerer(tasks.Settings(str(folder), framework, device), n_best=1)
