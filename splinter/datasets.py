"""Where data lies: an option, SPLINTER_DATA, then the cache.

Nothing is fetched unless asked for (`scripts/fetch_data.py`); what is fetched comes from the official source
and counts only when its sha256 fits.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import urllib.request
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
VARIABLE = "SPLINTER_DATA"


class DataMissing(FileNotFoundError):
    """A data file that is not on this machine; says where it was looked for and how to get it."""


@dataclass(frozen=True)
class Source:
    """One downloadable file."""

    url: str
    sha256: str
    licence: str


DOWNLOADS = {
    "squad_v1/dev-v1.1.json": Source(
        "https://rajpurkar.github.io/SQuAD-explorer/dataset/dev-v1.1.json",
        "95aa6a52d5d6a735563366753ca50492a658031da74f301ac5238b03966972c9",
        "CC BY-SA 4.0",
    ),
}


def cache() -> Path:
    """The folder that downloads go to."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "splinter" / "data"


def folders(option: str | os.PathLike[str] | None = None) -> list[Path]:
    """The data folders in the order they are searched."""
    named = [option, os.environ.get(VARIABLE)]
    return [*(Path(folder) for folder in named if folder), cache()]


def find(name: str, option: str | os.PathLike[str] | None = None) -> Path:
    """The path of a data file, plain or `.gz`.

    Args:
        name: path inside the data folder, such as `squad_v1/dev-v1.1.json`.
        option: a data folder that goes before all others.

    Raises:
        DataMissing: nowhere to be found.
    """
    for folder in folders(option):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    named = os.environ.get(VARIABLE)
    where = f"{VARIABLE} is {named}" if named else f"{VARIABLE} is not set"
    way_out = "run scripts/fetch_data.py" if name in DOWNLOADS else "see the data section of README"
    raise DataMissing(f"{name} is in no data folder; {where}; {way_out}")


def fetch(name: str) -> Path:
    """Download a file into the cache, check its sha256, and only then give it its name.

    Raises:
        DataMissing: no official download is known, or what came is not the official file.
    """
    if name not in DOWNLOADS:
        raise DataMissing(f"{name} has no direct download; known: {', '.join(DOWNLOADS)}")
    source, target = DOWNLOADS[name], cache() / name
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with urllib.request.urlopen(source.url, timeout=60) as answer, open(partial, "wb") as file:
            shutil.copyfileobj(answer, file)
        found = hashlib.sha256(partial.read_bytes()).hexdigest()
        if found != source.sha256:
            raise DataMissing(f"{source.url} gave sha256 {found}, expected {source.sha256}; it was not kept")
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target
