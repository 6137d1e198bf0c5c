"""datasets.py: where files are looked for, and that a download counts only when its sha256 fits. No network."""

import gzip
import hashlib
import io
import urllib.request
from pathlib import Path

import pytest

from splinter import datasets
from splinter.datasets import DataMissing, Source

CONTENT = b'{"data": []}'
NAME = "toy/dev.json"


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Every place of this machine replaced by an empty one below tmp_path."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(datasets, "PROJECT", tmp_path / "project")
    monkeypatch.delenv("SPLINTER_DATA", raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *a, **k: pytest.fail("the network was asked"))
    return tmp_path


def put(folder, name=NAME, content=CONTENT):
    """Lay a file into a data folder."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def download(monkeypatch):
    """One downloadable file, and a server that answers with given bytes."""

    def answer(content):
        source = Source("https://example.org/dev.json", hashlib.sha256(CONTENT).hexdigest(), "CC0")
        monkeypatch.setattr(datasets, "DOWNLOADS", {NAME: source})
        asked = []
        monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: asked.append(url) or io.BytesIO(content))
        return asked

    return answer


# -- looking ----------------------------------------------------------------------------------------------


def test_folders_come_in_order(places, monkeypatch):
    """
    The option, SPLINTER_DATA, the cache.
    """
    monkeypatch.setenv("SPLINTER_DATA", "/env")
    cache = places / "xdg" / "splinter" / "data"
    assert datasets.folders("/option") == [Path("/option"), Path("/env"), cache]
    assert datasets.folders() == [Path("/env"), cache]


@pytest.mark.parametrize("empty", [None, ""])
def test_what_is_not_set_is_no_folder(places, monkeypatch, empty):
    """
    An empty variable or option is not the current folder.
    """
    monkeypatch.setenv("SPLINTER_DATA", "")
    assert datasets.folders(empty) == [places / "xdg" / "splinter" / "data"]


def test_a_folder_beside_the_project_is_not_looked_into(places):
    """
    What lies beside the clone is used only where SPLINTER_DATA names it.
    """
    put(places / "shared" / "data")
    put(places / "data")
    with pytest.raises(DataMissing):
        datasets.find(NAME)


def test_the_cache_lies_in_the_home_folder(monkeypatch):
    """
    Without XDG_CACHE_HOME, or with an empty one, it is ~/.cache.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert datasets.cache() == Path.home() / ".cache" / "splinter" / "data"


def test_the_first_folder_with_the_file_wins(places, monkeypatch):
    """
    Each place is found when those before it have nothing.
    """
    monkeypatch.setenv("SPLINTER_DATA", str(places / "env"))
    for folder in reversed(datasets.folders(places / "option")):
        path = put(folder)
        assert datasets.find(NAME, places / "option") == path


def test_a_compressed_file_will_do(places):
    """
    `.gz` is found under the plain name; the plain file goes first, in the same folder only.
    """
    early, late = places / "option", datasets.cache()
    put(late)
    packed = put(early, NAME + ".gz", gzip.compress(CONTENT))
    assert datasets.find(NAME, early) == packed
    plain = put(early)
    assert datasets.find(NAME, early) == plain


def test_a_folder_is_no_file(places):
    """
    A folder of the right name is passed over.
    """
    (datasets.cache() / NAME).mkdir(parents=True)
    with pytest.raises(DataMissing):
        datasets.find(NAME)


def test_a_missing_file_says_what_to_do(download, monkeypatch):
    """
    It says whether SPLINTER_DATA is set. A file with a download names the script, another one the README; nothing is
    fetched by itself.
    """
    message = r"toy/dev\.json is in no data folder; SPLINTER_DATA is not set; see the data section of README"
    with pytest.raises(DataMissing, match=message):
        datasets.find(NAME)
    monkeypatch.setenv("SPLINTER_DATA", "/env")
    with pytest.raises(DataMissing, match="SPLINTER_DATA is /env; see the data"):
        datasets.find(NAME)
    asked = download(CONTENT)
    with pytest.raises(DataMissing, match=r"run scripts/fetch_data\.py"):
        datasets.find(NAME)
    assert asked == []


# -- fetching ---------------------------------------------------------------------------------------------


def test_a_download_is_kept_when_its_sha256_fits(places, download):
    """
    The file lies in the cache under its name, alone, and is found from then on.
    """
    asked = download(CONTENT)
    path = datasets.fetch(NAME)
    assert asked == ["https://example.org/dev.json"]
    assert path == places / "xdg" / "splinter" / "data" / NAME
    assert [p.name for p in path.parent.iterdir()] == ["dev.json"]
    assert datasets.find(NAME).read_bytes() == CONTENT


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT + b" ", b"<html>404</html>"])
def test_a_download_with_another_sha256_is_not_kept(places, download, content):
    """
    An empty, cut, changed or entirely different answer leaves nothing behind, and an older file whole.
    """
    download(content)
    with pytest.raises(DataMissing, match=f"gave sha256 {hashlib.sha256(content).hexdigest()}, expected .*not kept"):
        datasets.fetch(NAME)
    assert [p for p in places.rglob("*") if p.is_file()] == []
    older = put(datasets.cache(), content=b"older")
    with pytest.raises(DataMissing):
        datasets.fetch(NAME)
    assert [p for p in places.rglob("*") if p.is_file()] == [older]
    assert older.read_bytes() == b"older"


def test_a_connection_that_breaks_leaves_nothing(places, download, monkeypatch):
    """
    Half a download is removed.
    """

    class Broken(io.BytesIO):
        def read(self, *size):
            if self.tell():
                raise ConnectionResetError("reset by peer")
            return super().read(4)

    download(CONTENT)
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Broken(CONTENT))
    with pytest.raises(ConnectionResetError):
        datasets.fetch(NAME)
    assert [p for p in places.rglob("*") if p.is_file()] == []


def test_only_known_files_are_fetched():
    """
    A name without an official source is an error before any connection.
    """
    with pytest.raises(DataMissing, match=r"nonsense has no direct download; known: squad_v1/dev-v1\.1\.json"):
        datasets.fetch("nonsense")


def test_the_official_sources_are_well_formed():
    """
    Every download has https, a whole sha256 and a licence.
    """
    for source in datasets.DOWNLOADS.values():
        assert source.url.startswith("https://")
        assert len(bytes.fromhex(source.sha256)) == 32
        assert source.licence
