"""What a user hands in: a model, or a function that builds one. It is copied, never changed."""

from __future__ import annotations

import copy
import importlib
import importlib.metadata
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ..driver import Driver
from .error import ProveError

ROOTS = {"torch": ("torch.nn.modules.module", "Module"), "paddle": ("paddle.nn.layer.layers", "Layer")}
"""Of which class every model of a framework is."""


def framework_of(value: Any) -> str | None:
    """ "torch" or "paddle" for a model of theirs, or a class of models, else None; imports neither."""
    kind = value if inspect.isclass(value) else type(value)
    ancestors = {(cls.__module__, cls.__name__) for cls in kind.__mro__}
    return next((name for name, root in ROOTS.items() if root in ancestors), None)


class Subject:
    """One of the two models, and how to get another one like it.

    Args:
        given: a model, or a function without arguments that builds one.
        role: "theirs" or "ours", for messages.

    Raises:
        ProveError: it is neither.
    """

    def __init__(self, given: Any, role: str):
        self.role = role
        self.builder: Callable[[], Any] | None = None
        self.model = given
        if framework_of(given) is None or inspect.isclass(given):
            if not callable(given) or inspect.isclass(given):
                raise ProveError(
                    f"{role} is {_a(given)}; hand in a torch.nn.Module, a paddle.nn.Layer, or a function without "
                    "arguments that builds one"
                )
            self.builder, self.model = given, given()
        found = framework_of(self.model)
        if found is None:
            raise ProveError(f"{role}() returns {_a(self.model)}, no torch.nn.Module and no paddle.nn.Layer")
        self.framework = found
        self.driver: Driver = importlib.import_module(f"splinter.align.{found}_side").DRIVER

    @property
    def name(self) -> str:
        """The class of the model."""
        return type(self.model).__name__

    @property
    def source(self) -> str:
        """The module that defines it."""
        return type(self.model).__module__

    @property
    def package(self) -> str:
        """The package that defines it, with its version where it was installed: "transformers 4.57.6"."""
        top = self.source.partition(".")[0]
        try:
            return f"{top} {importlib.metadata.version(top)}"
        except importlib.metadata.PackageNotFoundError:
            return top

    @property
    def described(self) -> str:
        """For a reader: class, package, framework, and how it came."""
        version, made = self.driver.environment()["version"], "from a function" if self.builder else "a model"
        return f"{self.name} of {self.package} ({self.framework} {version}, {made})"

    def tensors(self, model: Any = None) -> dict[str, Any]:
        """Parameters and floating buffers, each once, as the framework's own tensors."""
        model = self.model if model is None else model
        return {**self.driver.buffers(model), **self.driver.parameters(model)}

    def copied(self) -> Any:
        """Another model with the weights of this one.

        Raises:
            ProveError: it cannot be copied, and no function builds another.
        """
        if self.builder is None:
            try:
                return copy.deepcopy(self.model)
            except Exception as error:  # tensors that are no leaves, handles, locks: anything a model may hold
                raise ProveError(
                    f"{self.role} cannot be copied ({type(error).__name__}: {error}); hand in a function that builds it"
                ) from error
        made = self.builder()
        fresh = self.tensors(made)
        for name, tensor in self.tensors().items():
            if name in fresh:
                self.driver.fill(fresh[name], self.driver.to_numpy(tensor))
        return made


STATISTICS = ("running_mean", "running_var", "_mean", "_variance")
STIR = 0.1
"""How far a tensor of one number is moved, as a share of that number, or of 1 where it is 0."""


def stirred(subject: Subject) -> tuple[Subject, int]:
    """A subject with a model of its own, in which no parameter and no running statistic holds one number throughout.

    A fresh norm multiplies by ones and adds zeros: it could be exchanged for another, or its bias left out, and no
    output would tell.

    Returns:
        The subject, and how many tensors were moved; the subject itself where none was.
    """
    driver = subject.driver
    own = driver.parameters(subject.model)
    constant = {
        name
        for name, tensor in subject.tensors().items()
        # all else is a table that the model makes itself
        if (name in own or name.rpartition(".")[2] in STATISTICS) and _one_number(driver.to_numpy(tensor))
    }
    if not constant:
        return subject, 0
    made = copy.copy(subject)
    made.model = subject.copied()
    rng = np.random.default_rng(0)
    for name, tensor in made.tensors().items():
        if name in constant:
            array = driver.to_numpy(tensor)
            moved = array + STIR * (np.abs(array) + (array == 0)) * rng.uniform(-1, 1, array.shape)
            driver.fill(tensor, moved.astype(array.dtype))
    return made, len(constant)


def _one_number(array: np.ndarray) -> bool:
    return bool(array.size > 1 and np.ptp(array) == 0)


class Values(Mapping[str, np.ndarray]):
    """The tensors of a model as arrays, each copied when it is asked for: no second set of weights in memory.

    Args:
        aliases: another name -> the name of the tensor that it shares.
    """

    def __init__(self, subject: Subject, aliases: Mapping[str, str] | None = None):
        self._driver, tensors = subject.driver, subject.tensors()
        self._tensors = {**tensors, **{name: tensors[shared] for name, shared in (aliases or {}).items()}}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._driver.to_numpy(self._tensors[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _a(value: Any) -> str:
    name = value.__name__ if inspect.isclass(value) else type(value).__name__
    return f"the class {name} itself" if inspect.isclass(value) else f"a {name}"
