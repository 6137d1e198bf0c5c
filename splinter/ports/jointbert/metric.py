"""Scores of JointBERT: intent accuracy, slot precision, recall and F1 over chunks, sentence accuracy. Pure Python.

Chunks are those that seqeval 1.2.2 finds by default (conlleval's rules), in tags of any kind; sentence accuracy is what
monologg/JointBERT calls sementic_frame_acc.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

Tags = Sequence[Sequence[str]]


def _type(tag: str) -> str:
    """What stands behind the letter and its hyphen; "_" where nothing does. PAD, without hyphen, has the type AD."""
    return tag[1:].split("-", maxsplit=1)[-1] or "_"


def chunks(sentences: Tags) -> set[tuple[str, int, int]]:
    """Chunks of all sentences as (type, first word, last word).

    B and S start a chunk, E and S end one, and so does a change of type. So I-x after O is a chunk, and so is PAD or
    UNK, equal neighbours together; the U and L of BILOU are letters like any other.

    Words are counted through all sentences, with an O after each: a tag of one letter other than O, B, I, E and S
    has a chunk that begins where the chunk before it began, be it in another sentence.
    """
    found, begin, before, kind = set(), 0, "O", ""
    for place, tag in enumerate(tag for tags in sentences for tag in (*tags, "O")):
        letter, new = tag[0], _type(tag)
        if before in "ES" or (before in "BI" and letter in "BSO") or (before not in "O." and kind != new):
            found.add((kind, begin, place - 1))
        if letter in "BS" or (before in "ESO" and letter in "EI") or (letter not in "O." and kind != new):
            begin = place
        before, kind = letter, new
    return found


def slot_scores(gold: Tags, predicted: Tags) -> dict[str, float]:
    """Precision, recall and F1 (0 to 1) over the chunks of all sentences; 0 where there is nothing to divide by."""
    wanted, found = chunks(gold), chunks(predicted)
    right = len(wanted & found)
    precision = right / len(found) if found else 0.0
    recall = right / len(wanted) if wanted else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {"slot_precision": precision, "slot_recall": recall, "slot_f1": f1}


def evaluate(
    gold_intents: Sequence[str], predicted_intents: Sequence[str], gold_tags: Tags, predicted_tags: Tags
) -> dict[str, float]:
    """All scores of N sentences, from 0 to 1.

    Args:
        gold_tags, predicted_tags: one tag per word; predictions at the words that have a gold tag.
    """
    intents = [a == b for a, b in zip(gold_intents, predicted_intents, strict=True)]
    whole = [i and list(a) == list(b) for i, a, b in zip(intents, gold_tags, predicted_tags, strict=True)]
    scores = {"intent_acc": sum(intents) / len(intents)}
    return scores | slot_scores(gold_tags, predicted_tags) | {"sentence_acc": sum(whole) / len(whole)}


def tags_at(ids: np.ndarray, slot_labels: np.ndarray, slots: Sequence[str]) -> list[list[str]]:
    """Slot ids (N, T) as tags, at the positions that have a gold label: the first piece of each word.

    Args:
        slot_labels: (N, T) gold ids, 0 where there is none.
    """
    return [[slots[i] for i in row[gold != 0]] for row, gold in zip(ids, slot_labels, strict=True)]


def line(intent: str, words: Sequence[str], tags: Iterable[str]) -> str:
    """One sentence of a prediction file: `<intent> -> word [word:slot] word`, O plain."""
    marked = (word if tag == "O" else f"[{word}:{tag}]" for word, tag in zip(words, tags, strict=True))
    return f"<{intent}> -> {' '.join(marked)}"
