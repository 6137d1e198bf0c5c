"""`--zoo-json FILE`: what became of every pair, for docs/zoo.md; a pair that did not run keeps what the file has."""

import json
from pathlib import Path

import pytest

RECORDS = pytest.StashKey[dict]()


def pytest_addoption(parser):
    parser.addoption("--zoo-json", type=Path, metavar="FILE", help="keep what became of every pair of the zoo")


def pytest_configure(config):
    config.stash[RECORDS] = {}


@pytest.fixture
def keep(request):
    """Called with what becomes of one pair."""
    return lambda record: request.config.stash[RECORDS].update({record["name"]: record})


def pytest_sessionfinish(session):
    path, found = session.config.getoption("--zoo-json"), session.config.stash[RECORDS]
    if path and found:
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        lines = [json.dumps(record) for _, record in sorted({**kept, **found}.items())]
        names = sorted({**kept, **found})
        text = ",\n".join(f" {json.dumps(name)}: {line}" for name, line in zip(names, lines, strict=True))
        path.write_text(f"{{\n{text}\n}}\n", encoding="utf-8")
