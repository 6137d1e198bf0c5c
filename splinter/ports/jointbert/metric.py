"""Scores of JointBERT: intent accuracy, slot precision, recall and F1 over chunks, sentence accuracy. Pure Python.

Chunks as seqeval 1.2.2 finds them by default (conlleval's rules); sentence accuracy is what monologg/JointBERT calls
sementic_frame_acc.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

Tags = Sequence[Sequence[str]]


def _type(tag: str) -> str:
    """What the tag says beside B or I: PAD and UNK, which have no hyphen, are types of their own."""
    return tag[2:] if tag[1:2] == "-" else tag


def chunks(tags: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Chunks of a sentence as (type, first word, last word).

    A tag goes on with the chunk before it when it has the same type and is no B-; any other but O starts one. So
    I-x after O is a chunk, and so is PAD or UNK, equal neighbours together.
    """
    begin, before = 0, "O"
    for place, tag in enumerate([*tags, "O"]):
        goes_on = tag != "O" and not tag.startswith("B-") and before != "O" and _type(tag) == _type(before)
        if goes_on:
            before = tag
            continue
        if before != "O":
            yield _type(before), begin, place - 1
        begin, before = place, tag


def slot_scores(gold: Tags, predicted: Tags) -> dict[str, float]:
    """Precision, recall and F1 (0 to 1) over the chunks of all sentences; 0 where there is nothing to divide by."""
    right = found = wanted = 0
    for one, other in zip(gold, predicted, strict=True):
        mine, theirs = set(chunks(one)), set(chunks(other))
        right, wanted, found = right + len(mine & theirs), wanted + len(mine), found + len(theirs)
    precision = right / found if found else 0.0
    recall = right / wanted if wanted else 0.0
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
    """One sentence of a prediction file: `<intent> -> word [word:slot] word`, O plain.

    Words that were cut off have no tag and do not appear, as in monologg/JointBERT.
    """
    marked = (word if tag == "O" else f"[{word}:{tag}]" for word, tag in zip(words, tags, strict=False))
    return f"<{intent}> -> {' '.join(marked)}"
