"""`splinter mine`: raw text to a corpus of masked passages, shard by shard, on one core or many.

Framework-free.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from splinter import __version__, runtime
from splinter.align.files import target_of, write_whole
from splinter.ports.common.checkpoint import TOKENIZER_CONFIG, VOCABULARY, CheckpointError, read_json, write_json
from splinter.ports.common.folders import LOCK, locks
from splinter.ports.common.text import QUESTION_TOKEN, BasicTokenizer, listed, vocabulary_lines, vocabulary_text
from splinter.ports.common.training.state import differences

from ..data import Tokenizer
from . import engines, passages, spans
from .corpus import (
    FORMAT,
    MANIFEST,
    NGRAMS,
    SETTINGS,
    STATISTICS,
    Columns,
    Corpus,
    CorpusError,
    Mining,
    generator,
    sha256,
)
from .passages import Document

MOST_NGRAMS = 2_000_000
"""Different n-grams that are counted at a time; beyond that the rarest are forgotten, and counts are lower bounds."""


MOST_DOCUMENTS = 2**16
"""Of one shard: so that very many tiny ones need little memory."""

SHARD = re.compile(r"shard-\d{6,}\.safetensors(\.json)?")
WORDS = {name: value for name, value in BasicTokenizer().to_dict().items() if name != "do_lower_case"}
"""Settings of the tokenizer, and what they were in corpora that have no word of them."""
TOTALS = ("documents", "passages", "tokens", "questions")


def own(name: str) -> bool:
    """Whether a file may go when a corpus is whole: shards, settings, and what a kill before a rename left."""
    partial = target_of(name)
    lasting = (VOCABULARY, TOKENIZER_CONFIG, NGRAMS, STATISTICS, MANIFEST)
    return partial in lasting or (partial or name) == SETTINGS or SHARD.fullmatch(partial or name) is not None


@dataclass(frozen=True)
class Job:
    """One shard to be made.

    Args:
        folder: of the corpus; holds the vocabulary.
        number: of the shard.
        first: number of its first document in the corpus.
        consumed: bytes of the files that it took.
    """

    folder: Path
    number: int
    first: int
    documents: Sequence[Document]
    consumed: int

    @property
    def name(self) -> str:
        """File name of the shard."""
        return f"shard-{self.number:06d}.safetensors"

    def digest(self) -> str:
        """Hash of the text."""
        digest = hashlib.sha256(str(self.first).encode())
        for document in self.documents:
            digest.update(f"\n{len(document.segments)}\n".encode() + "\n".join(document.segments).encode())
        return digest.hexdigest()


def jobs(folder: Path, files: Sequence[Path], layout: str, size: int) -> Iterator[Job]:
    """Documents in portions of about `size` characters, and of MOST_DOCUMENTS at most.

    Which ones go together is a matter of the text alone.

    Raises:
        DataError: a file that cannot be used.
    """
    number = first = characters = consumed = 0
    documents: list[Document] = []
    for path in files:
        before = 0
        for document in passages.documents(path, layout):
            consumed += document.consumed - before
            before = document.consumed
            documents.append(document)
            characters += sum(map(len, document.segments))
            if characters >= size or len(documents) == MOST_DOCUMENTS:
                yield Job(folder, number, first, documents, consumed)
                number, first, documents, characters, consumed = number + 1, first + len(documents), [], 0, 0
        consumed += path.stat().st_size - before
    if documents:
        yield Job(folder, number, first, documents, consumed)


# -- making -----------------------------------------------------------------------------------------------


@functools.lru_cache(1)
def _tools(folder: Path, settings: str) -> tuple[Mining, Tokenizer, spans.Pieces]:
    """Settings, tokenizer and what mining asks of its pieces; once per process and text of settings.json."""
    tokenizer = Tokenizer(folder, "hf", literal=True)
    return Mining(**json.loads(settings)["mining"]), tokenizer, spans.Pieces(tokenizer.vocabulary)


def make(job: Job) -> dict[str, Any]:
    """Mine the documents of a job and write its shard, then the record beside it that says the shard is whole.

    The record holds name, size, sha256, counts, and how often each recurring span was found.

    Returns:
        name, tokens, consumed (bytes of the files), and whether the shard is new.
    """
    text = job.digest()
    if (there := _made(job, text)) is not None:
        return {"name": job.name, "tokens": there, "consumed": job.consumed, "new": False}
    settings, tokenizer, pieces = _tools(job.folder, (job.folder / SETTINGS).read_text(encoding="utf-8"))
    columns = Columns()
    ngrams: Counter[tuple[int, ...]] = Counter()
    questions: Counter[int] = Counter()
    encoded = passages.encode(job.documents, tokenizer, settings.length if settings.lossless else None)
    for number in range(settings.passes):
        cut = [
            ((document, number, place), tokens)
            for document, segments in enumerate(encoded, job.first)
            for place, tokens in enumerate(passages.contexts(segments, tokenizer, settings.length, number))
        ]
        recurring = spans.recurring([tokens for _, tokens in cut], pieces, settings.mode == "whole-word")
        for (key, tokens), clusters in zip(cut, recurring, strict=True):
            random = generator(settings.seed, *key, 0)
            masked = spans.mask(tokens, clusters, random, tokenizer.question, tokenizer.pad)
            columns.add(key, tokens, clusters, masked)
            questions[len(masked.questions)] += 1
            if number == 0:  # the other passes have the same text, cut elsewhere
                ngrams.update(tuple(tokens[c.starts[0] : c.starts[0] + c.length]) for c in clusters)
    data = columns.encoded()
    write_whole(job.folder / job.name, lambda file: file.write(data))
    record = {
        "name": job.name,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "text_sha256": text,
        "documents": len(job.documents),
        "passages": len(columns.keys),
        "tokens": len(columns.tokens),
        "questions": len(columns.questions),
        "passages_by_questions": dict(sorted(questions.items())),
        "ngrams": {" ".join(tokenizer.pieces(ids)): count for ids, count in ngrams.items()},
    }
    write_json(_record(job), record)
    return {"name": job.name, "tokens": len(columns.tokens), "consumed": job.consumed, "new": True}


def _record(job: Job) -> Path:
    return job.folder / f"{job.name}.json"


def _made(job: Job, text: str) -> int | None:
    """The tokens of a shard that an interrupted run has made already; None: it has not, or of other text."""
    shard = job.folder / job.name
    try:
        record = read_json(_record(job))
    except CheckpointError:  # missing or damaged
        return None
    known = record.keys() >= {"text_sha256", "sha256", "ngrams", "passages_by_questions", *TOTALS}
    whole = known and record["text_sha256"] == text and shard.is_file() and sha256(shard) == record["sha256"]
    return record["tokens"] if whole else None


def prepare(folder: Path, tokenizer: Tokenizer, asked: dict[str, Any], resume: bool) -> bool:
    """Write what all workers read: the vocabulary with its question token, and what is asked for.

    The text of an unfinished corpus may have changed since (a line that stopped it was repaired, a file left out):
    each shard knows its own text.

    Args:
        asked: what decides the corpus; kept in settings.json, and in the manifest in the end.

    Returns:
        Whether anything is left to do.

    Raises:
        CorpusError: the folder holds a corpus, or one of other settings.
    """
    lines = _lines(tokenizer)
    digest = hashlib.sha256(lines.encode()).hexdigest()
    asked = {"format": FORMAT, "splinter": __version__, "vocabulary_sha256": digest, **asked}
    for name, state in ((MANIFEST, "a whole"), (SETTINGS, "an unfinished")):
        if not (folder / name).exists():
            continue
        if not resume:
            raise CorpusError(f"{folder} holds {state} corpus; go on with --resume, or name another folder")
        stored = WORDS | read_json(folder / name)
        if other := differences(stored, {key: value for key, value in asked.items() if key != "sources"}):
            raise CorpusError(f"{folder / name}: {'; '.join(other)}; name another folder")
        if name == MANIFEST:
            if stored.get("sources") != asked["sources"]:
                raise CorpusError(f"{folder} holds a finished corpus of other text; name another folder")
            Corpus(folder)  # every shard is as it was made
            return False
        break
    else:
        if any(folder.glob(f"shard-{'[0-9]' * 6}.safetensors*")):
            raise CorpusError(
                f"{folder} holds shards, but no {SETTINGS} that says how they were made; name another one"
            )
        if strangers := sorted(path.name for path in folder.glob("*") if path.name != LOCK and not own(path.name)):
            raise CorpusError(f"{folder} holds {listed(strangers)}, no part of a corpus; name a new or an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SETTINGS, asked)  # first: from then on what has a name of a corpus is its own
    write_whole(folder / VOCABULARY, lambda file: file.write(lines), "w")
    write_json(folder / TOKENIZER_CONFIG, {"tokenizer_class": "SplinterTokenizer", **tokenizer.basic.to_dict()})
    return True


def _lines(tokenizer: Tokenizer) -> str:
    """The vocabulary file with the question token in its place; a line that a later one repeats stays."""
    lines = vocabulary_lines(tokenizer.path)
    lines[tokenizer.question] = QUESTION_TOKEN
    return vocabulary_text(lines)


def finish(folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """Put the records of the shards together: statistics, the list of n-grams, and last the manifest.

    Args:
        names: of the shards that belong to the corpus.

    Raises:
        CorpusError: nothing was found to mine.
    """
    shards: list[dict[str, Any]] = []
    ngrams: Counter[str] = Counter()
    questions: Counter[int] = Counter()
    forgotten = False
    for name in sorted(names):
        record = read_json(folder / f"{name}.json")
        ngrams.update(record.pop("ngrams"))
        least = 1
        while len(ngrams) > MOST_NGRAMS:  # down to half, so that this is not done for every shard
            least += 1
            kept = {ngram: count for ngram, count in ngrams.items() if count >= least}
            if len(kept) <= MOST_NGRAMS // 2:
                forgotten, ngrams = True, Counter(kept)
        questions.update({int(k): v for k, v in record.pop("passages_by_questions").items()})
        shards.append(record)
    totals = {name: sum(shard[name] for shard in shards) for name in TOTALS}
    if not totals["passages"]:
        if others := {path.name for path in folder.glob("shard-*.safetensors")} - {shard["name"] for shard in shards}:
            raise CorpusError(
                f"{folder}: the text named now is empty, but the folder holds {len(others)} shards of another text; "
                "name that text again"
            )
        for path in folder.iterdir():
            if path.name in (VOCABULARY, TOKENIZER_CONFIG) or own(path.name):
                path.unlink()
        raise CorpusError(f"{folder}: the text is empty; nothing was mined")
    statistics = {
        **totals,
        "passages_by_questions": dict(sorted(questions.items())),
        "ngrams": len(ngrams),
        "ngrams_complete": not forgotten,
    }
    ranked = sorted(ngrams.items(), key=lambda one: (-one[1], one[0]))
    write_whole(folder / NGRAMS, lambda file: file.writelines(f"{ngram}\t{count}\n" for ngram, count in ranked), "w")
    write_json(folder / STATISTICS, statistics)
    write_json(folder / MANIFEST, {**read_json(folder / SETTINGS), "totals": totals, "shards": shards})
    return statistics


def tidy(folder: Path) -> None:
    """Remove what only an unfinished corpus needs, and shards of an earlier try that do not belong to it."""
    whole = {shard["name"] for shard in read_json(folder / MANIFEST)["shards"]}
    for path in folder.iterdir():
        if path.name not in whole and own(path.name):
            path.unlink(missing_ok=True)


@locks("output")
def mine(
    sources: Sequence[str],
    output: Path,
    tokenizer: Tokenizer,
    settings: Mining,
    *,
    layout: str = "auto",
    size: int = 4 * 2**20,
    engine: str = "local",
    workers: int | None = 1,
    address: str | None = None,
    resume: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Text to a corpus.

    Args:
        sources: files, folders, patterns.
        size: characters of text per shard, about.
        engine: "local" or "ray"; the shards are the same bit for bit.
        workers: processes; None: all cores, of the cluster where there is one.
        address: of a running Ray cluster; its machines must see `output`.

    Returns:
        The statistics, with "seconds" and "new_tokens": those that this run has mined.

    Raises:
        DataError, CorpusError, EngineError, OSError; what is done stays, and `resume` goes on from there.
    """
    from tqdm import tqdm

    began, tokens, output = time.perf_counter(), 0, output.resolve()
    files = [path for path in passages.find(sources) if output not in path.resolve().parents]
    if not files:
        raise CorpusError(f"{output} is the folder of the text itself; name another one to write to")
    asked = {
        "mining": asdict(settings),
        "lower_case": tokenizer.basic.lower_case,
        **{name: tokenizer.basic.to_dict()[name] for name in WORDS},
        "layout": layout,
        "shard_characters": size,
        "sources": [{"name": path.name, "bytes": path.stat().st_size} for path in files],
    }
    if prepare(output, tokenizer, asked, resume):
        portions = jobs(output, files, layout, size)
        if engine == "local":
            done = engines.local(make, portions, workers or runtime.cores())
        else:
            done = engines.ray(make, portions, workers, address)
        names, total = [], sum(path.stat().st_size for path in files)
        with tqdm(total=total, disable=not progress, desc="mining", unit="B", unit_scale=True) as bar:
            for record in done:
                names.append(record["name"])
                tokens += record["tokens"] if record["new"] else 0
                bar.set_postfix_str(f"{tokens / (time.perf_counter() - began):,.0f} tokens/s", refresh=False)
                bar.update(record["consumed"])
        finish(output, names)
    tidy(output)
    if not (output / STATISTICS).is_file():
        raise CorpusError(f"{output / STATISTICS} is missing from a whole corpus; mine into another folder")
    statistics = read_json(output / STATISTICS)
    return {**statistics, "seconds": round(time.perf_counter() - began, 1), "new_tokens": tokens}
