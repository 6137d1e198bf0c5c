"""What the command line names: a file with theirs(), ours() and batch(), or two classes and a configuration."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .error import ProveError
from .subject import framework_of

ROWS, TOKENS = 3, 12
"""Of the batch that is made where none is given."""


@dataclass(frozen=True)
class Named:
    """What `prove` is called with.

    Args:
        batch: () -> a batch, or named ones.
        options: keyword arguments of `prove` from the file.
        source: Python source that defines theirs, ours and batch, for a suite that is kept.
    """

    theirs: Callable[[], Any]
    ours: Callable[[], Any]
    batch: Callable[[], Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""


def from_file(path: Path) -> Named:
    """Run a file of the user's and take its functions.

    It may also hold OPTIONS, a dict of keyword arguments of `prove`.

    Raises:
        ProveError: it is not to be found, does not run, or lacks a function.
    """
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProveError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ProveError(f"{path}: not a Python file; its name must end with .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # a class of it is looked up there when a model is copied
    sys.path.insert(0, str(path.resolve().parent))  # what lies beside it can be imported, as `python my_port.py` has it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ProveError(f"{path} does not run: {type(error).__name__}: {error}") from error
    batch = getattr(module, "batch", getattr(module, "batches", None))
    found: dict[str, Any] = {"theirs": None, "ours": None, **vars(module), "batch": batch}
    if lacking := [name for name in ("theirs", "ours", "batch") if found[name] is None]:
        raise ProveError(
            f"{path} defines no {' and no '.join(lacking)}; it needs theirs() and ours(), which build the models, and "
            "batch(), which returns what both are given"
        )
    options = dict(getattr(module, "OPTIONS", {}))
    return Named(found["theirs"], found["ours"], batch if callable(batch) else lambda: batch, options, source)


TEMPLATE = '''"""Two models and a batch."""

from splinter.align.proving.named import from_classes

CONFIG = {config}
_named = from_classes({theirs!r}, {ours!r}, CONFIG)
theirs, ours, batch = _named.theirs, _named.ours, _named.batch
'''


def from_classes(theirs: str, ours: str, config: Mapping[str, Any]) -> Named:
    """Two classes, each "module:Class", built from one configuration with random weights.

    Args:
        config: keyword arguments of the classes' configuration (`config_class`), or of the classes themselves.

    Raises:
        ProveError: a class is not to be found.
    """
    source = TEMPLATE.format(config=json.dumps(config, indent=4).replace("true", "True").replace("false", "False")
                             .replace("null", "None"), theirs=theirs, ours=ours)  # fmt: skip
    return Named(_builder(theirs, config), _builder(ours, config), lambda: batch_for(config), source=source)


def _builder(spec: str, config: Mapping[str, Any]) -> Callable[[], Any]:
    cls = _class(spec)

    def build():
        framework = framework_of(cls)
        if framework is None:
            raise ProveError(f"{spec} is no class of torch.nn.Module or paddle.nn.Layer")
        _seed(framework)
        own = getattr(cls, "config_class", None)
        return cls(own(**config)) if own is not None else cls(**config)

    return build


@functools.cache
def _seed(framework: str) -> None:
    """Once in a process: the same weights whenever the command is run, and new ones for every further model."""
    importlib.import_module(f"splinter.align.{framework}_side").DRIVER.seed(0)


def _class(spec: str) -> Any:
    module, colon, name = spec.partition(":")
    if not colon or not module or not name:
        raise ProveError(f"{spec!r}: name a class as module:Class, transformers:RobertaModel say")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ProveError(f"{spec}: {error}") from None
    return found


def read_config(path: Path) -> dict[str, Any]:
    """A configuration from a JSON file.

    Raises:
        ProveError: it cannot be read, or is no object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise ProveError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except json.JSONDecodeError as error:
        raise ProveError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from None
    if not isinstance(found, dict):
        raise ProveError(f"{path}: a JSON object was expected: the names and values of a configuration")
    return found


def batch_for(config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Random tokens of the vocabulary and a mask without padding, for a configuration that has a vocabulary.

    Raises:
        ProveError: it has none.
    """
    vocabulary = config.get("vocab_size")
    if not isinstance(vocabulary, int):
        raise ProveError("the configuration has no vocab_size, so no batch can be made up; write a file with batch()")
    rng = np.random.default_rng(0)
    tokens = min(TOKENS, int(config.get("max_position_embeddings") or TOKENS) // 2)
    low = min(5, vocabulary - 1)  # the first numbers are special tokens in most vocabularies
    batch = {"input_ids": rng.integers(low, vocabulary, (ROWS, tokens))}
    batch["attention_mask"] = np.ones_like(batch["input_ids"])
    if config.get("is_encoder_decoder"):
        batch["decoder_input_ids"] = rng.integers(low, vocabulary, (ROWS, tokens - 2))
    return batch
