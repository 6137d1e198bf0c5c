"""Mining restated plainly, to hold ours against: every pair of equal pieces is looked at, in quadratic time.

Written from the description of oriram/splinter pretraining/ at 1df4c13; word pieces by the
Python tokenizers of transformers. Shares with ours the key of the random numbers, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from splinter.ports.common.proof import loop

_STOP = """
ourselves hers between yourself but again there about once during out very having with they own an be some for do
its yours such into of most itself other off is s am or who as from him each the themselves until below are we these
your his through don nor me were her more himself this down should our their while above both up to ours had she all
no when at any before them same and been have in will on does yourselves then that because what over why so can did
not now under he you herself has just where too only myself which those i after few whom t being if theirs my
against a by doing it how further was here than also could would
"""
STOP_WORDS = set(_STOP.split())


def clusters(pieces: list[str], longest: int = 10) -> list[list[tuple[int, int]]]:
    """Step A: each repeated n-gram as the list of its (first, last) pieces, in order of creation."""
    places: dict[str, list[int]] = {}
    for place, piece in enumerate(pieces):
        places.setdefault(piece, []).append(place)
    of: dict[tuple[int, int], list[tuple[int, int]]] = {}
    found: list[list[tuple[int, int]]] = []
    for several in places.values():
        for i, a in enumerate(several):
            for b in several[i + 1 :]:
                for length in range(1, longest + 1):
                    if b + length > len(pieces) or pieces[a : a + length] != pieces[b : b + length]:
                        break
                    first, second = (a, a + length - 1), (b, b + length - 1)
                    if first not in of:
                        found.append([first, second])
                        of[first] = of[second] = found[-1]
                    elif second not in of:
                        of[first].append(second)
                        of[second] = of[first]
    return found


def kept(pieces: list[str], whole_words: bool) -> list[list[tuple[int, int]]]:
    """Steps B and C: the valid clusters, longest first, without occurrences that meet an earlier cluster."""

    def ends_in_word(span: tuple[int, int]) -> bool:
        return span[1] + 1 < len(pieces) and pieces[span[1] + 1].startswith("##")

    def valid(span: tuple[int, int]) -> bool:
        inside = pieces[span[0] : span[1] + 1]
        if inside[0].startswith("##") or not all(p.startswith("##") or p.isalnum() for p in inside):
            return False
        return not all(p.lower() in STOP_WORDS for p in inside)

    found = []
    for cluster in clusters(pieces):
        if whole_words:
            cluster = [span for span in cluster if not ends_in_word(span)]
        if len(cluster) > 1 and valid(cluster[0]) and not ends_in_word(cluster[0]):
            found.append(cluster)
    if whole_words:  # in the order in which they would be created, were half words not there
        pieces_first = {piece: place for place, piece in reversed(list(enumerate(pieces)))}
        found.sort(key=lambda cluster: (pieces_first[pieces[cluster[0][0]]], cluster[0]))
    found.sort(key=lambda cluster: cluster[0][0] - cluster[0][1])
    taken: set[int] = set()
    result = []
    for cluster in found:
        free = [span for span in cluster if taken.isdisjoint(range(span[0], span[1] + 1))]
        if len(free) > 1:
            result.append(free)
            taken.update(place for a, b in free for place in range(a, b + 1))
    return result


def questions(pieces: list, found: list[list[tuple[int, int]]], random) -> list[tuple[int, int, int]]:
    """Step D: (place of the question, first and last piece of its answer) of each question, by place."""
    most = min(30, max(1, round(0.15 * len(pieces))))
    text = list(pieces)
    masked: set[int] = set()
    labelled: set[int] = set()
    records: list[tuple[int, int, int]] = []
    for number in random.permutation(len(found)):
        cluster = found[number]
        answer = cluster[random.randint(len(cluster))]
        span = set(range(answer[0], answer[1] + 1))
        for a, b in cluster:
            if (a, b) == answer:
                continue
            if len(records) >= most or span & masked:
                break
            places = set(range(a, b + 1))
            if places & (masked | labelled):
                continue
            if text[a : b + 1] != text[answer[0] : answer[1] + 1]:
                continue
            text[a : b + 1] = ["[QUESTION]"] + ["[PAD]"] * (b - a)
            records.append((a, *answer))
            masked |= places
            labelled |= span
    return sorted(records)


def contexts(segments: list[list[str]], capacity: int, cut: int) -> list[list[str]]:
    """Packing: the segment that overflows fills up the context and begins the next one."""
    packed: list[list[str]] = []
    current: list[str] = []
    for index, segment in enumerate(segments):
        whole = current + segment
        if len(whole) > capacity or (len(segments) >= 10 and index == cut):
            if current:
                packed.append(whole[:capacity])
            current = segment[:capacity]
        else:
            current = whole
    return [*packed, current] if current else packed


def read(path: Path) -> list[list[str]]:
    """The lines of each document: JSON lines, `<doc>`, title, lines and `</doc>`, or blank lines between documents."""
    lines = path.read_bytes().decode("utf-8").split("\n")
    first = next(line.strip() for line in lines if line.strip())
    if first.startswith("{"):
        return [json.loads(line)["text"].split("\n") for line in lines if line.strip()]
    documents: list[list[str]] = [[]]
    titled = True
    for line in map(str.strip, lines):
        if line.startswith("<doc") or (not line and not first.startswith("<doc")):
            documents.append([])
            titled = not line
        elif line and not line.startswith("</doc"):
            if titled:
                documents[-1].append(line)
            titled = True
    return [document for document in documents if document]


def columns(
    path: Path, vocabulary: Path, length: int, whole_words: bool, passes: int, seed: int
) -> dict[str, np.ndarray]:
    """What a mined file holds, as the arrays of one shard.

    The reference drops what of a line goes beyond a context; here lines are short.
    """
    try:
        from transformers.models.bert.tokenization_bert_legacy import BasicTokenizer, WordpieceTokenizer, load_vocab
    except ModuleNotFoundError:  # transformers 4
        from transformers.models.bert.tokenization_bert import BasicTokenizer, WordpieceTokenizer, load_vocab

    # without BertTokenizer around them: Google's, which the authors used, knows no special tokens in a text
    ids = {**load_vocab(vocabulary), "[QUESTION]": 104}
    basic, wordpiece = BasicTokenizer(do_lower_case=False), WordpieceTokenizer(ids, unk_token="[UNK]")
    documents = read(path)
    arrays: dict[str, list] = {name: [] for name in ("tokens", "keys", "lengths", "starts", "questions")}
    ends: dict[str, list[int]] = {name: [0] for name in ("tokens", "clusters", "starts", "questions")}
    for number in range(passes):
        for document, lines in enumerate(documents):
            segments = [[p for word in basic.tokenize(line) for p in wordpiece.tokenize(word)] for line in lines]
            segments = [segment for segment in segments if segment]
            for place, context in enumerate(contexts(segments, length - 2, number)):
                pieces = ["[CLS]", *context, "[SEP]"]
                found = kept(pieces, whole_words)
                key = (document, number, place)
                random = np.random.RandomState(np.random.PCG64([seed, *key, 0]))
                arrays["keys"].append(key)
                arrays["tokens"] += [ids[piece] for piece in pieces]
                arrays["questions"] += questions(pieces, found, random)
                for cluster in found:
                    arrays["lengths"].append(cluster[0][1] - cluster[0][0] + 1)
                    arrays["starts"] += [first for first, _ in cluster]
                    ends["starts"].append(len(arrays["starts"]))
                ends["tokens"].append(len(arrays["tokens"]))
                ends["clusters"].append(len(arrays["lengths"]))
                ends["questions"].append(len(arrays["questions"]))
    result = {name: np.array(values, np.int64) for name, values in arrays.items()}
    result["questions"] = result["questions"].reshape(-1, 3)
    return result | {f"{name}_offsets": np.array(values, np.int64) for name, values in ends.items()}


class Feed:
    """Whole batches of mined passages, in the order of the authors' input pipeline as ours has it: a permutation per
    epoch, each question drawn anew.

    Args:
        mined: what `columns` returned.
    """

    def __init__(self, mined: dict[str, np.ndarray], seed: int):
        self.mined, self.seed = mined, seed
        self.passages = len(mined["keys"])

    def passage(self, number: int, epoch: int) -> tuple[list[int], list[tuple[int, int, int]]]:
        """Piece ids, and the questions of an epoch."""
        one = self.mined
        tokens = one["tokens"][slice(*one["tokens_offsets"][number : number + 2])].tolist()
        first, last = one["clusters_offsets"][number : number + 2]
        found = [
            [(int(a), int(a + one["lengths"][c] - 1)) for a in one["starts"][slice(*one["starts_offsets"][c : c + 2])]]
            for c in range(first, last)
        ]
        random = np.random.RandomState(np.random.PCG64([self.seed, *one["keys"][number].tolist(), epoch]))
        return tokens, questions(tokens, found, random)

    def batches(self, recipe: Any) -> Iterator[dict[str, np.ndarray]]:
        """Each batch of a run."""
        for epoch in range(recipe.epochs):
            order = loop.shuffled(self.passages, recipe.seed, epoch)
            for begin in range(0, self.passages, recipe.batch_size):
                yield self.batch([self.passage(n, epoch) for n in order[begin : begin + recipe.batch_size]])

    def batch(self, passages: list[tuple[list[int], list[tuple[int, int, int]]]]) -> dict[str, np.ndarray]:
        """Passages with their questions put in, padded."""
        ids, mask = np.zeros((2, len(passages), max(len(tokens) for tokens, _ in passages)), np.int64)
        labels = np.zeros((3, len(passages), max(1, *(len(asked) for _, asked in passages))), np.int64)
        for row, (tokens, asked) in enumerate(passages):
            ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
            for slot, (place, first, last) in enumerate(asked):
                labels[:, row, slot] = place, first, last
                ids[row, place] = 104
                ids[row, place + 1 : place + 1 + last - first] = 0
                mask[row, place + 1 : place + 1 + last - first] = 0
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(ids),
            **dict(zip(("question_positions", "start_positions", "end_positions"), labels, strict=True)),
            "weights": (labels[0] > 0).astype(np.float64),
        }
