"""Recurring span selection: which spans of a passage recur, and which occurrences become questions.

Task: Ram et al., ACL 2021, section 3. Algorithm: oriram/splinter pretraining/ at 1df4c13, quirks included; it
looks at every pair of positions, here an n-gram is refined piece by piece, in time linear in the text.
Plain Python on lists of piece ids; knows no files and no framework.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

MAX_SPAN = 10
"""Pieces of the longest span."""
MAX_QUESTIONS = 30
SHARE = 0.15
"""Questions per piece of a passage, at most."""

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


def recurring(tokens: Sequence[int], pieces: Pieces, whole_words: bool = False) -> list[Cluster]:
    """The recurring spans of a passage, longest first, no two sharing a piece.

    Occurrences of one cluster may overlap each other. The order is the reference's: by length, then by where
    the first piece first stands in the text, then by the first occurrence.

    Args:
        tokens: (T,) piece ids of a passage with its [CLS] and [SEP].
        whole_words: every occurrence must end where a word ends. The reference asks that of the first occurrence
            alone: a later one may be half a word, and a cluster whose first one is, is lost.
    """
    by_length = _candidates(tokens, pieces, whole_words)
    taken, clusters = bytearray(len(tokens)), []
    for length in range(MAX_SPAN, 0, -1):
        mark = b"\1" * length
        candidates = by_length[length]
        candidates.sort()  # no two begin at the same place: what follows is never compared
        for _, _, starts, shorter in candidates:
            free = [start for start in starts if taken.find(1, start, start + length) < 0]
            if len(free) > 1:
                clusters.append(Cluster(length, free))
                for start in free:
                    taken[start : start + length] = mark
            if shorter is not None and len([start for start in shorter[1][2] if not taken[start]]) > 1:
                by_length[shorter[0]].append(shorter[1])
    return clusters


Candidate = tuple[int, int, list[int], Any]
"""First place of the first piece, first occurrence, occurrences, and (length, candidate) of the next shorter one that
they all begin with, or None. Candidates of one length sort as the reference goes through them."""


def _candidates(tokens: Sequence[int], pieces: Pieces, whole_words: bool) -> list[list[Candidate]]:
    """The valid recurring n-grams by length; one that recurs only as the beginning of a longer one hangs on that."""
    ids = np.asarray(tokens)
    inside = pieces.inside[ids]
    # -1 ends every span; one more so that the last piece has a successor
    follows = [*np.where(inside, ids, -1).tolist(), -1]
    word_goes_on = [*pieces.continues[ids].tolist(), False]
    content = [0, *np.cumsum(pieces.content[ids] & inside).tolist()]  # content[b] - content[a]: pieces in a..b
    by_piece: dict[int, list[int]] = {}
    for place in np.flatnonzero(inside & ~pieces.continues[ids]).tolist():
        by_piece.setdefault(follows[place], []).append(place)
    found: list[list[Candidate]] = [[] for _ in range(MAX_SPAN + 1)]

    # occurrences that have gone on alike so far; one that goes on alone recurs no more
    groups = [(starts[0], 1, starts) for starts in by_piece.values() if len(starts) > 1]
    while groups:
        place, length, starts = groups.pop()
        first, second, several = starts[0], starts[1], len(starts) > 2
        longest: tuple[int, Candidate] | None = None
        while True:  # as long as they all go on alike
            end = first + length
            if content[end] > content[first]:
                if whole_words:
                    ends = [start for start in starts if not word_goes_on[start + length]]
                    if len(ends) > 1:
                        longest = length, (place, ends[0], ends, longest)
                elif not word_goes_on[end]:
                    longest = length, (place, first, starts, longest)
            following = follows[end]
            if length == MAX_SPAN or following < 0 or follows[second + length] != following:
                break
            if several and [start for start in starts if follows[start + length] != following]:
                break
            length += 1
        if longest is not None:
            found[longest[0]].append(longest[1])
        if several and length < MAX_SPAN:
            by_next: dict[int, list[int]] = {}
            for start in starts:
                by_next.setdefault(follows[start + length], []).append(start)
            by_next.pop(-1, None)
            groups += [(place, length + 1, group) for group in by_next.values() if len(group) > 1]
    return found


class Random(Protocol):
    """What `mask` needs of numpy's RandomState, the generator of the reference."""

    def permutation(self, n: int) -> np.ndarray:
        """0..n-1 in random order."""

    def randint(self, n: int) -> int:
        """A number below n."""


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
    masked, answers = bytearray(len(ids)), [0] * len(ids)  # answers: 1 + the cluster that a piece is an answer of
    for number in random.permutation(len(clusters)).tolist():
        length, starts = clusters[number]
        kept = starts[random.randint(len(starts))]  # drawn even when nothing can come of it: the stream stays the same
        if len(questions) >= most or masked.find(1, kept, kept + length) >= 0:
            continue
        own = number + 1
        answer = ids[kept : kept + length]
        for start in starts:
            if start == kept:
                continue
            end = start + length
            if len(questions) >= most or masked.find(1, kept, kept + length) >= 0:
                break
            if masked.find(1, start, end) >= 0 or any(label not in (0, own) for label in answers[start:end]):
                continue
            if ids[start:end] != answer:
                continue
            ids[start:end] = [question] + [padding] * (length - 1)
            seen[start + 1 : end] = [0] * (length - 1)
            masked[start:end] = b"\1" * length
            answers[kept : kept + length] = [own] * length
            questions.append((start, kept, kept + length - 1))
    return Masked(ids, seen, sorted(questions))
