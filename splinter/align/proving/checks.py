"""The checks of `prove`: Match, Pair -> Alignment, each by the functions of steps.py where there is one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import steps
from ..compare import Alignment
from ..port import Pair, Side
from . import decode
from .error import ProveError
from .match import Match
from .subject import Subject, Values

DOUBLE, SINGLE = "float64", "float32"


@dataclass(frozen=True)
class Checker:
    """One check.

    Args:
        run: (match, pair) -> what was compared.
        dtypes: in which precisions it makes sense, of those asked for; () = in one, and no rounding is in it.
        without: (match) -> why it cannot be run, or "".
    """

    run: Callable[[Match, Pair], Alignment]
    dtypes: tuple[str, ...] = ()
    without: Callable[[Match], str] = lambda match: ""


def weights(match: Match, pair: Pair) -> Alignment:
    """Every tensor of ours holds the reference's numbers."""
    alignment = pair.alignment("forward", "exact")
    ours = match.ours.tensors(match.filled())
    for name, array in match.converted(ours):
        mine = match.ours.driver.to_numpy(ours[name])
        alignment.add(name, array.astype(mine.dtype, copy=False), mine, exact=True)
    return alignment


def forward(match: Match, pair: Pair) -> Alignment:
    """Every layer with a counterpart gives the same, then the outputs; ours runs on all that theirs runs on."""
    alignment = steps.forward(pair)
    alignment.problems += [f"{name}/ours does not run, and theirs does: {why}" for name, why in match.refused.items()]
    return alignment


def backward(match: Match, pair: Pair) -> Alignment:
    """Every gradient, and some updates one upon another."""
    return steps.backward(pair)


def dropout(match: Match, pair: Pair) -> Alignment:
    """Every dropout of a pass in training mode: its rate, and what it falls on."""
    return steps.dropout(pair)


def init(match: Match, pair: Pair) -> Alignment:
    """Freshly built models follow the same laws."""
    return steps.init(pair)


def without_init(match: Match) -> str:
    """A model cannot show by which law it was drawn."""
    given = [subject.role for subject in (match.theirs, match.ours) if subject.builder is None]
    return f"{' and '.join(given)} came as a model, and a function that builds it shows its law" if given else ""


# -- decoding ---------------------------------------------------------------------------------------------


def runner(side: Side, model: Any, dtype: str) -> decode.Run:
    """batch -> outputs by label, of one model."""
    return lambda batch: side.driver.trace(model, side.forward, batch, dtype, ())[1]


def logits(match: Match) -> str | None:
    """The label of the logits of a model that decodes, found by running the reference; None for all others."""
    vocabulary = getattr(getattr(match.theirs.model, "config", None), "vocab_size", None)
    pair = match.pair(SINGLE)
    run, batch = runner(pair.theirs, pair.model(pair.theirs), SINGLE), decode.unlabelled(match.first)
    try:
        label = decode.which(run(batch), batch, vocabulary)
        return None if label is None or decode.looks_ahead(run, batch, label) else label
    except Exception:  # a model that decodes runs without labels; what else it may want, it was not told
        return None


def without_decoding(match: Match) -> str:
    """An encoder decodes nothing."""
    return "" if logits(match) else "no output of theirs is logits of the next token"


def decoding(match: Match, pair: Pair) -> Alignment:
    """The same greedy tokens, and ours with a cache as without."""
    alignment, label = pair.alignment("forward"), logits(match)
    assert label is not None
    models, batch = (pair.model(pair.theirs), pair.model(pair.ours)), decode.unlabelled(match.first)
    runs = runner(pair.theirs, models[0], pair.dtype), runner(pair.ours, models[1], pair.dtype)
    ids = decode.greedy(alignment, runs[0], runs[1], batch, label)
    if decode.DECODED in batch:
        alignment.notes.append("a cache is tried with decoders alone")
        return alignment
    whole = {decode.IDS: ids, **({decode.MASK: np.ones_like(ids)} if decode.MASK in batch else {})}
    for subject, model, run in zip((match.theirs, match.ours), models, runs, strict=True):
        try:
            found = decode.cached(subject.driver, model, ids)
        except Exception as error:  # a foreign model, called in one of two usual ways
            found = f"{type(error).__name__}: {error}".split("\n")[0][:200]
        expected = run(whole)[label]
        if isinstance(found, str):
            alignment.notes.append(f"{subject.role} was not decoded with a cache: {found}")
        elif subject is match.ours:
            alignment.add("with a cache/logits", expected, found)
        elif not np.allclose(expected, found, rtol=1e-3, atol=1e-4):
            alignment.notes.append("theirs gives other logits with a cache than without")
    return alignment


# -- other ways of running ours ---------------------------------------------------------------------------


def export(match: Match, pair: Pair) -> Alignment:
    """What ours saves and the reference's own library reads back is the reference again."""
    alignment = pair.alignment("forward")
    save, load = _exporters(match)
    with tempfile.TemporaryDirectory() as folder:
        save(match.filled(), folder)
        back = Subject(load(folder), "what export= reads back")
    if back.framework != match.theirs.framework:
        raise ProveError(f"export= reads back a model of {back.framework}; theirs is one of {match.theirs.framework}")
    own, read = Values(match.theirs), Values(back)
    for name in alignment.common("weights/", own, read):
        alignment.add(f"weights/{name}", own[name], read[name], exact=True)
    models = [match.theirs.driver.cast(model, pair.dtype) for model in (match.theirs.copied(), back.model)]
    for name, batch in match.batches.required.items():
        before, after = (runner(pair.theirs, model, pair.dtype)(batch) for model in models)
        alignment.add_all(f"{name}/", before, after)
    return alignment


def _exporters(match: Match) -> tuple[Callable, Callable]:
    asked, theirs = match.options.export, type(match.theirs.model)
    if isinstance(asked, (tuple, list)):
        save, load = asked
        return save, load
    if not hasattr(match.ours.model, "save_pretrained") or not hasattr(theirs, "from_pretrained"):
        raise ProveError(
            "export=True wants save_pretrained of ours and from_pretrained of theirs; hand in a pair of functions: "
            "(model, folder) that saves ours, (folder) that reads it back as theirs"
        )
    return lambda model, folder: model.save_pretrained(folder), theirs.from_pretrained


def compiled(match: Match, pair: Pair) -> Alignment:
    """Ours compiled gives what ours gives as it is: in this comparison theirs is ours, eager."""
    alignment = pair.alignment("forward")
    make = match.options.compiled if callable(match.options.compiled) else match.ours.driver.compiled
    models = pair.model(pair.ours), make(pair.model(pair.ours))
    for name, batch in match.batches.required.items():
        eager, other = (runner(pair.ours, model, pair.dtype)(batch) for model in models)
        alignment.add_all(f"{name}/", eager, other)
    return alignment


CHECKERS = {
    "weights": Checker(weights),
    # reduced precision says something of outputs; what it makes of gradients hangs on the scaling of a loss
    "forward": Checker(forward, (DOUBLE, SINGLE, "bfloat16", "float16")),
    "backward": Checker(backward, (DOUBLE, SINGLE)),
    "dropout": Checker(dropout),
    "init": Checker(init, without=without_init),
    "decode": Checker(
        decoding, (SINGLE,), lambda m: "" if logits(m) else "no output of theirs is a next token's logits"
    ),
    "export": Checker(
        export, (SINGLE,), lambda m: "" if m.options.export else "export= has to say how ours is read back"
    ),
    "compiled": Checker(compiled, (SINGLE,), lambda m: "" if m.options.compiled else "compiled= has to ask for it"),
}
"""By the names of options.py, in order."""
