#!/usr/bin/env python3
"""Cut a SQuAD file in two by context: about a tenth is held out, no context is on both sides.

Which side a context falls on is a function of its text alone. Contexts of a file that must stay unseen can be left
out of both sides.

example:
  python scripts/split_squad.py train-v1.1.json --unseen dev-v1.1.json --train part.json --held-out held-out.json
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

from splinter.align.files import write_whole
from splinter.ports.common import squad
from splinter.ports.common.text import DataError, from_json, open_text

PARTS = 10


def is_held_out(context: str) -> bool:
    """Whether a context belongs to the held-out tenth."""
    return hashlib.sha256(context.encode()).digest()[0] % PARTS == 0


def part(document: dict, chosen: Callable[[str], bool]) -> dict:
    """The paragraphs whose context is chosen, in their articles; articles without any are left out."""
    articles = [
        {**article, "paragraphs": [one for one in article["paragraphs"] if chosen(one["context"])]}
        for article in document["data"]
    ]
    return {**document, "data": [article for article in articles if article["paragraphs"]]}


def read(path: Path) -> dict:
    """A SQuAD file; every question of it is looked at."""
    list(squad.read_examples(path, training=True))
    with open_text(path) as file:
        document = from_json(file.read(), path, lines=True)
    articles = document.get("data") if isinstance(document, dict) else None
    if not all(isinstance(one, dict) and "paragraphs" in one for one in articles or [None]):
        raise DataError(f"{path}: another layout; give SQuAD JSON, articles with paragraphs under data")
    return document


def questions(document: dict) -> int:
    """How many questions a document holds."""
    return sum(len(one["qas"]) for article in document["data"] for one in article["paragraphs"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="SQuAD JSON, plain or .gz")
    parser.add_argument("--unseen", type=Path, metavar="FILE", help="SQuAD JSON whose contexts are left out")
    parser.add_argument("--train", type=Path, required=True, metavar="FILE", help="the larger part")
    parser.add_argument("--held-out", type=Path, required=True, metavar="FILE", help="the smaller part")
    options = parser.parse_args()
    try:
        document = read(options.file)
        unseen = {one.context for one in squad.read_examples(options.unseen)} if options.unseen else set()
        parts = {
            options.train: part(document, lambda text: not is_held_out(text) and text not in unseen),
            options.held_out: part(document, lambda text: is_held_out(text) and text not in unseen),
        }
        for path, found in parts.items():
            write_whole(path, lambda file, found=found: json.dump(found, file, ensure_ascii=False), "w")
            print(f"{path}: {questions(found):,} questions")
        print(f"left out: {questions(document) - sum(map(questions, parts.values())):,} questions")
    except (OSError, ValueError) as error:
        print(f"split_squad: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
