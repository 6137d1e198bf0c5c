"""Bugs to plant: what a porter gets wrong, as patches of the Paddle side. Each names the step that must catch it.

Nothing here edits a test, a tolerance or the reference. One file per system, `planted_<system>.py`, registers
its bugs with `bug`. Sources: port bugs seen in public ports and issue threads; `mutant` where none was found
but the mistake is of a common shape.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np

from splinter.ports.common.paddle import encoder
from splinter.ports.common.paddle import train as train_paddle
from splinter.ports.common.training import feed


@dataclass(frozen=True)
class Bug:
    """One planted mistake.

    Args:
        name: what was done, in a few words.
        step: the step that must turn red.
        system: the port it is planted in, by name.
        mode: in which mode it shows.
        plant: applies it through pytest's monkeypatch.
        also: steps before that one in the checklist, or cheap ones, that cannot help turning red with it.
        dtype: the precision in which the step is run.
    """

    name: str
    step: str
    system: str
    mode: str
    plant: Callable
    also: tuple[str, ...] = ()
    dtype: str = "float64"

    @property
    def source(self) -> str:
        """Where such a bug was seen."""
        return next((source for pattern, source in SOURCES.items() if re.search(pattern, self.name)), "mutant")


BUGS: list[Bug] = []

SP, JB = "ncpaddle/splinter-paddlepaddle at 09cc9f5", "ncpaddle/JointBERT-paddle at 17c0c26"
UP, FUNNEL = "oriram/splinter at 1df4c13", "chfhf/funnel-paddle"
SOURCES = {
    r"chfhf/funnel-paddle": FUNNEL,
    r"\(seed\)": JB,
    r"in paddlenlp": "paddlenlp 2.8.1",
    r"copied without transpose|pooler not transposed": f"{SP}, align_works/finetuning/transfer.py",
    r"classifier matrix not transposed": f"{UP}, finetuning/modeling.py, the other way round",
    r"set_state_dict": "paddle 3.3.1: set_state_dict returns the names it could not use",
    r"LayerNorm epsilon": "keras-team/keras-hub#642, #665; PaddlePaddle/Paddle#35118",
    r"gelu": "huggingface/transformers#13666; PaddlePaddle/Paddle#75605",
    r"0/1 mask|attention mask forgotten": "PaddlePaddle/PaddleNLP#1224, #1226",
    r"\[SEP\] left in the mask|\[MASK\] not read|negative labels|beyond the window": f"{UP}, finetuning/modeling.py",
    r"padding_idx|padding row|row of the padding token": "PaddlePaddle/Paddle#38189, #62301; PaddleNLP#768",
    r"TF32": "PaddlePaddle/Paddle#34763, #75041",
    r"\[MASK\] cut into pieces": "PaddlePaddle/PaddleNLP#801, #1231, #9272",
    r"shifted by the two pieces": "huggingface/transformers#21069; oriram/splinter#12",
    r"shape[sd]? \(?\(N, 1\)|\(B,\) against labels": f"{SP}, arrays of its step 2",
    r"mean over the batch|mean over the rows": "PaddlePaddle/Paddle#23708",
    r"epsilon after bias correction": "huggingface/transformers#35504; pytorch/pytorch#22628",
    r"decay before the step|decay not scaled": "huggingface/transformers#35504; pytorch/pytorch#41477",
    r"bias correction|epsilon 1e-[68]": "Zhang et al. 2020, arXiv 2006.05987",
    r"LayerNorm weights decay": f"{SP}, align_works/finetuning/run.py",
    r"automatic names": "PaddlePaddle/Paddle#30130, #32830, #43013",
    r"default weight decay|decay 0.01 by default": f"{SP}, run.py",
    r"stepped before the optimizer": "PaddlePaddle/Paddle#31843",
    r"min_steps|drop_last": f"{UP}, finetuning/run_mrqa.py",
    r"clipped alone": f"{SP}, run.py; PaddlePaddle/Paddle#79138",
    r"dropout left on|dropout of the heads left on": "PaddlePaddle/Paddle#34293, #35122",
    r"[Ss]huffling lost|rows in another order": f"{SP}, align_works/finetuning_pytorch/run_mr.py",
    r"Xavier|Kaiming": "PaddlePaddle/Paddle#36717",
    r"N\(0, 0.02\)": f"{UP}, init_weights",
}
"""Pattern of a bug's name -> where it was seen. What fits none is a mutant: a mistake of a common shape that nobody is
known to have reported."""


def every() -> list[Bug]:
    """The bugs of all files."""
    for file in sorted(Path(__file__).parent.glob("planted_*.py")):
        importlib.import_module(file.stem)  # each registers its bugs
    return BUGS


def forget() -> None:
    """Clear whatever our sides have cached, with a bug or without; checkpoints and the reference's results stay.

    The cases of pretraining hold text that our own code has mined, so they are cleared too.
    """
    rooms = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("splinter.ports.")
        and not re.search(r"reference|theirs|twin|(?<!pretraining\.proof)\.cases$", name)
    ]
    for room in rooms:
        for value in list(vars(room).values()):
            getattr(value, "cache_clear", lambda: None)()


_REMEMBERED: dict[tuple, Any] = {}


def remembering(port):
    """The port, whose reference computes whole files, metrics and trainings once for all bugs: it has none."""

    def theirs(mode):
        side = port.theirs(mode)

        def once(name):
            def run(*arguments):
                # a metric's columns are those of its case
                key = (port.name, mode, name, *(a for a in arguments if not isinstance(a, dict)))
                if key not in _REMEMBERED:
                    _REMEMBERED[key] = getattr(side, name)(*arguments)
                return _REMEMBERED[key]

            return run

        return replace(side, **{name: once(name) for name in ("data", "metric", "train")})

    return replace(port, theirs=cache(theirs))


def remember(port, mode: str, dtype: str, steps: Collection[str]) -> None:
    """Let the reference compute what is remembered of it for these steps, while no bug is planted: both sides share
    some code."""
    side, steps = port.theirs(mode), set(steps) & set(port.steps)
    for step in steps & {"dev_data", "train_data"}:
        for source in port.data_sources(step, mode):
            side.data(source)
    for case, source in port.metric_cases(mode).items() if "metric" in steps else ():
        side.metric(case, side.data(source) if source else None)
    if "training" in steps:
        side.train(port.checkpoints["tiny"](), dtype)


class Watched:
    """pytest's monkeypatch, and a note of what it changed.

    Attributes:
        changes: what was patched, by dotted name.
        codes: the code of the functions that were patched; None where something else was, a constant, say.
    """

    def __init__(self, patch: Any):
        self.patch = patch
        self.changes: list[str] = []
        self.codes: set[CodeType] | None = set()

    def setattr(self, owner: Any, name: str, *rest: Any, **more: Any) -> None:
        module, where = getattr(owner, "__module__", ""), getattr(owner, "__qualname__", getattr(owner, "__name__", ""))
        self.changes.append(".".join(part for part in (module, where, name) if part))
        code = getattr(getattr(owner, name, None), "__code__", None)  # of a cached function no call may be seen
        self.codes = None if self.codes is None or code is None else self.codes | {code}
        self.patch.setattr(owner, name, *rest, **more)

    def __getattr__(self, name: str) -> Any:
        self.codes = None
        return getattr(self.patch, name)

    def touches(self, called: Set[CodeType]) -> bool:
        """Whether something may be otherwise where these functions were called without the bug."""
        return self.codes is None or bool(self.codes & called)


def called(run: Callable[[], Any]) -> tuple[Any, set[CodeType]]:
    """What a function returns, and the code of all Python functions that it called."""
    seen: set[CodeType] = set()
    sys.setprofile(lambda frame, event, argument: seen.add(frame.f_code) if event == "call" else None)
    try:
        return run(), seen
    finally:
        sys.setprofile(None)


def bug(name: str, step: str, system: str, mode: str, **more):
    """Register a planting function."""

    def register(plant: Callable) -> Callable:
        BUGS.append(Bug(name, step, system, mode, plant, **more))
        return plant

    return register


def wrap(patch, owner, name: str, change: Callable) -> None:
    """Replace `owner.name` by `change(original)`."""
    patch.setattr(owner, name, change(getattr(owner, name)))


def edit(patch, owner, name: str, old: str, new: str) -> None:
    """Replace `owner.name`, a function of a module, by its source with `new` where `old` stands, which is once."""
    source = inspect.getsource(getattr(owner, name))
    assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {name}"
    made: dict[str, Any] = {}
    exec(compile(source.replace(old, new), owner.__file__, "exec"), vars(owner), made)
    patch.setattr(owner, name, made[name])


# -- bugs that fit several systems ------------------------------------------------------------------------


def clip_each(patch) -> None:
    """Each tensor is clipped by its own norm."""
    plain = train_paddle.clip

    def each(gradients, limit):
        norm = plain(gradients, float("inf"))
        for gradient in gradients:
            plain([gradient], limit)
        return norm

    patch.setattr(train_paddle, "clip", each)


def lose_shuffling(patch) -> None:
    """A training takes its rows in the order of the file."""
    plain = feed.order

    def unshuffled(features, plan, r, start=0):
        for update, rows in enumerate(plain(features, plan, r, start), start):
            first = update % plan.per_epoch * r.batch_size
            yield np.arange(first, first + len(rows))

    patch.setattr(feed, "order", unshuffled)


def cut(batch: Mapping[str, np.ndarray], tokens: int) -> dict[str, np.ndarray]:
    """A batch whose rows end after so many tokens."""
    return {name: column[:, :tokens] if column.ndim == 2 else column for name, column in batch.items()}


def keep_order(patch) -> None:
    """Each epoch takes the rows in the order of the first."""
    plain = feed.order

    def once(features, plan, r, start=0):
        first = [rows for _, rows in zip(range(plan.per_epoch), plain(features, plan, r), strict=False)]
        for update in range(start, plan.updates):
            yield first[update % plan.per_epoch]

    patch.setattr(feed, "order", once)


def skip_small(patch, rows: int) -> None:
    """Batches of fewer rows are left out."""

    def change(plain):
        return lambda self, batch, rate: (0.0, 0.0) if len(batch["input_ids"]) < rows else plain(self, batch, rate)

    wrap(patch, train_paddle.PaddleTrainer, "step", change)


def forget_eval(patch, owner, name: str) -> None:
    """The backend's function `owner.name` asks the model in whatever mode it is."""

    def change(plain):
        def planted(self, model, *a, **more):
            object.__setattr__(model, "eval", lambda: None)
            try:
                return plain(self, model, *a, **more)
            finally:
                object.__delattr__(model, "eval")

        return planted

    wrap(patch, owner, name, change)


def forget_train(patch) -> None:
    """An update leaves the model in the mode in which the last look at dev data has left it."""

    def change(plain):
        def planted(self, batch, rate):
            object.__setattr__(self.model, "train", lambda: None)
            try:
                return plain(self, batch, rate)
            finally:
                object.__delattr__(self.model, "train")

        return planted

    wrap(patch, train_paddle.PaddleTrainer, "step", change)


def swap_rates(patch) -> None:
    """BERT's two rates of dropout, each in the place of the other."""

    def change(init):
        def planted(self, c, *a, **more):
            swapped = {
                "hidden_dropout_prob": c.attention_probs_dropout_prob,
                "attention_probs_dropout_prob": c.hidden_dropout_prob,
            }
            init(self, replace(c, **swapped), *a, **more)

        return planted

    wrap(patch, encoder.Bert, "__init__", change)
