"""Recurring span selection: which spans of a passage recur, and which occurrences become questions.

Task: Ram et al., ACL 2021, section 3. Algorithm: oriram/splinter pretraining/ at 1df4c13, quirks included; it
looks at every two places that hold the same piece, here the n-grams of many passages are sorted at a time, one piece
longer in each of ten rounds. numpy and lists of piece ids; knows no files and no framework.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, Protocol

import numpy as np

MAX_SPAN = 10
"""Pieces of the longest span."""
MAX_QUESTIONS = 30
SHARE = 0.15
"""Questions per piece of a passage, at most."""
PORTION = 2**16
"""Pieces that numpy goes through at a time: what a core's cache holds."""

_STOP = """
    a about above after again against all also am an and any are as at be because been before being below between
    both but by can could did do does doing don down during each few for from further had has have having he her
    here hers herself him himself his how i if in into is it its itself just me more most my myself no nor not now
    of off on once only or other our ours ourselves out over own s same she should so some such t than that the
    their theirs them themselves then there these they this those through to too under until up very was we were
    what when where which while who whom why will with would you your yours yourself yourselves
"""
STOP_WORDS = frozenset(_STOP.split())
"""The reference's own list, close to the usual ones but equal to none."""


class Pieces:
    """What mining asks about the pieces of a vocabulary, by id.

    Args:
        vocabulary: piece -> id.

    Attributes:
        inside: (V,) bool, may stand in a span: a word of letters and digits, or a `##` piece.
        continues: (V,) bool, a `##` piece: goes on with the word before it.
        content: (V,) bool, not in the stop list; a `##` piece never is.
    """

    def __init__(self, vocabulary: dict[str, int]):
        size = max(vocabulary.values()) + 1
        self.inside, self.continues, self.content = np.zeros((3, size), dtype=bool)
        for piece, number in vocabulary.items():
            continues = piece.startswith("##")
            self.continues[number] = continues
            self.inside[number] = continues or piece.isalnum()
            self.content[number] = continues or piece.lower() not in STOP_WORDS


class Cluster(NamedTuple):
    """A recurring span: its length in pieces, and where it starts, in ascending order."""

    length: int
    starts: list[int]


def recurring(passages: Iterable[Sequence[int]], pieces: Pieces, whole_words: bool = False) -> list[list[Cluster]]:
    """The recurring spans of each passage, longest first, no two of a passage sharing a piece.

    Occurrences of one cluster may overlap each other. The order is the reference's: by length, then by where
    the first piece first stands in the text, then by the first occurrence.

    Args:
        passages: (T,) piece ids each, with [CLS] and [SEP]: no span goes from one passage into the next.
        whole_words: every occurrence must end where a word ends. The reference asks that of the first occurrence
            alone: a later one may be half a word, and a cluster whose first one is, is lost.
    """
    return [found for some in _portions(passages) for found in _Text(some, pieces).clusters(whole_words)]


def _portions(passages: Iterable[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Passages in portions of at most PORTION pieces, a longer one alone."""
    some: list[Sequence[int]] = []
    size = 0
    for passage in passages:
        if some and size + len(passage) > PORTION:
            yield some
            some, size = [], 0
        some.append(passage)
        size += len(passage)
    if some:
        yield some


class _Grams(NamedTuple):
    """N-grams of one length that recur in a passage.

    Args:
        starts: (M,) their occurrences; those of one n-gram lie together, in ascending order.
        bounds: (G + 1,) where those of each n-gram begin, and M.
    """

    starts: np.ndarray
    bounds: np.ndarray

    @property
    def firsts(self) -> np.ndarray:
        """(G,) the first occurrence of each."""
        return self.starts[self.bounds[:-1]]

    def only(self, fit: np.ndarray) -> tuple[_Grams, np.ndarray]:
        """The occurrences that fit (M,), and (G,) which n-grams still recur then."""
        counts = np.add.reduceat(fit, self.bounds[:-1], dtype=np.int64)
        recur = counts > 1
        starts = self.starts[fit & np.repeat(recur, np.diff(self.bounds))]
        return _Grams(starts, np.append(0, np.cumsum(counts[recur]))), recur


class _Text:
    """Passages end to end, N pieces in all, gone through together: numpy's calls cost less that way."""

    def __init__(self, passages: Sequence[Sequence[int]], pieces: Pieces):
        self.passages = len(passages)
        ids = np.fromiter(chain.from_iterable(passages), np.int64)
        lengths = np.array([len(passage) for passage in passages])
        self.passage = np.repeat(np.arange(len(passages)), lengths)  # (N,) number of the passage
        self.local = np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)  # (N,) place in it
        self.vocabulary = len(pieces.inside)
        inside, continues = pieces.inside[ids], pieces.continues[ids]
        self.words = np.flatnonzero(inside & ~continues)
        self.follows = np.append(np.where(inside, ids, -1), -1)  # -1 ends every span; the last piece has one after it
        self.first_place = np.zeros(len(ids), np.int64)  # of a piece that recurs, in its passage
        self.word_goes_on = np.append(continues, False)
        self.content = np.append(0, np.cumsum(pieces.content[ids] & inside))  # content[b] - content[a]: pieces in a..b

    def grams(self) -> Iterator[_Grams]:
        """What recurs, by length from 1 on: n-grams of one piece more are what is alike among the shorter ones."""
        starts, alike, bits = self.words, self.passage[self.words], len(self.follows).bit_length()
        for length in range(1, MAX_SPAN + 1):
            following = self.follows[starts + length - 1]
            # one number to sort by, first n-gram, then place; below 2^63 for passages of 2^15 pieces and any vocabulary
            keys = np.sort((((alike * self.vocabulary + following) << bits) | starts)[following >= 0])
            gram, starts = keys >> bits, keys & ((1 << bits) - 1)
            first = np.diff(gram, prepend=-1) > 0
            recurs = ~(first & np.append(first[1:], True))
            starts, first = starts[recurs], first[recurs]
            if not len(starts):
                return
            yield _Grams(starts, np.append(np.flatnonzero(first), len(starts)))
            alike = np.cumsum(first)

    def order(self, grams: _Grams) -> np.ndarray:
        """(G,) numbers that sort n-grams of one length as the reference goes through them."""
        return self.first_place[grams.firsts] * len(self.follows) + grams.firsts

    def fit(self, grams: _Grams, length: int, whole_words: bool) -> np.ndarray:
        """(M,) bool: which occurrences may be spans, being not of stop words alone, and ending where they should."""
        ends = grams.starts + length
        content = self.content[ends] > self.content[grams.starts]
        if whole_words:
            return content & ~self.word_goes_on[ends]
        return content & np.repeat(~self.word_goes_on[grams.firsts + length], np.diff(grams.bounds))

    def clusters(self, whole_words: bool) -> list[list[Cluster]]:
        """See `recurring`."""
        found: list[list[Cluster]] = [[] for _ in range(self.passages)]
        by_length = list(self.grams())
        if by_length:
            ones = by_length[0]
            self.first_place[ones.starts] = np.repeat(ones.firsts, np.diff(ones.bounds))
        marks = bytearray(len(self.follows))
        taken = np.frombuffer(marks, bool)  # the same memory
        for length, grams in reversed(list(enumerate(by_length, 1))):
            grams, _ = grams.only(self.fit(grams, length, whole_words))
            order, mark = self.order(grams), b"\1" * length
            # what is taken is at least as long: it cannot lie between the first piece and the last
            grams, recur = grams.only(~(taken[grams.starts] | taken[grams.starts + length - 1]))
            local, bounds, firsts = self.local[grams.starts].tolist(), grams.bounds.tolist(), grams.firsts
            passage, base = self.passage[firsts].tolist(), (firsts - self.local[firsts]).tolist()
            for number in np.argsort(order[recur]).tolist():
                free = local[bounds[number] : bounds[number + 1]]
                if length > 1:  # n-grams of one piece have none in common
                    begin, last = base[number], base[number] + length - 1
                    free = [place for place in free if not (marks[begin + place] or marks[last + place])]
                    if len(free) < 2:
                        continue
                    for place in free:
                        marks[begin + place : begin + place + length] = mark
                found[passage[number]].append(Cluster(length, free))
        return found


class Random(Protocol):
    """What `mask` needs of numpy's RandomState, the generator of the reference."""

    def permutation(self, n: int) -> np.ndarray:
        """0..n-1 in random order."""

    def randint(self, n: Sequence[int]) -> np.ndarray:
        """A number below each n."""


@dataclass(frozen=True)
class Masked:
    """A passage with its questions; holes keep their place.

    Attributes:
        tokens: (T,) ids; the first piece of a masked span is the question token, the others are padding.
        mask: (T,) 1, and 0 on holes.
        questions: (position of the question token, first and last piece of the answer), by position.
    """

    tokens: list[int]
    mask: list[int]
    questions: list[tuple[int, int, int]]


def limit(tokens: int, share: float = SHARE) -> int:
    """Most questions of a passage of so many pieces, [CLS] and [SEP] counted; half rounds to even."""
    return min(MAX_QUESTIONS, max(1, round(share * tokens)))


def mask(
    tokens: Sequence[int],
    clusters: Sequence[Cluster],
    random: Random,
    question: int,
    padding: int = 0,
    share: float = SHARE,
) -> Masked:
    """Keep one occurrence of each cluster, ask for it where the others stood, until there are questions enough.

    Args:
        clusters: of `recurring`.
        random: its stream decides; the same state gives the same questions.
        question, padding: ids of the two tokens.
    """
    ids, seen = list(tokens), [1] * len(tokens)
    questions: list[tuple[int, int, int]] = []
    most = limit(len(ids), share)
    masked, answers = bytearray(len(ids)), bytearray(len(ids))  # 1 on the pieces of questions, and of their answers
    order = random.permutation(len(clusters)).tolist()
    # all are drawn, whatever comes of them: the same numbers as one after the other, in one call
    picks = random.randint([len(clusters[number].starts) for number in order]).tolist() if order else []
    for number, pick in zip(order, picks, strict=True):
        if len(questions) >= most:
            break
        length, starts = clusters[number]
        kept = starts[pick]
        if masked.find(1, kept, kept + length) >= 0:
            continue
        answer = ids[kept : kept + length]
        for start in starts:
            if start == kept:
                continue
            end = start + length
            if len(questions) >= most or masked.find(1, kept, kept + length) >= 0:
                break
            # an answer of its own too, which an occurrence that overlaps it would hide
            if masked.find(1, start, end) >= 0 or answers.find(1, start, end) >= 0:
                continue
            if ids[start:end] != answer:
                continue
            ids[start:end] = [question] + [padding] * (length - 1)
            seen[start + 1 : end] = [0] * (length - 1)
            masked[start:end] = b"\1" * length
            answers[kept : kept + length] = b"\1" * length
            questions.append((start, kept, kept + length - 1))
    return Masked(ids, seen, sorted(questions))
