"""The reference side of the metric step: seqeval, and monologg/JointBERT's two accuracies restated."""

import warnings

import numpy as np


def evaluate(gold_intents, predicted_intents, gold_tags, predicted_tags):
    """Scores as `metric.evaluate` gives them; slots by seqeval's own functions."""
    from seqeval.metrics import f1_score, precision_score, recall_score

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PAD and UNK are no tags to seqeval, and empty predictions are undefined
        gold, found = [list(map(str, tags)) for tags in gold_tags], [list(map(str, tags)) for tags in predicted_tags]
        slots = [score(gold, found) for score in (precision_score, recall_score, f1_score)]
    right = np.array(gold_intents) == np.array(predicted_intents)
    frames = []
    for gold_row, found_row in zip(gold, found, strict=True):
        frame = True
        for one, other in zip(gold_row, found_row, strict=True):
            if one != other:
                frame = False
                break
        frames.append(frame)
    return {
        "intent_acc": right.mean(),
        "slot_precision": slots[0],
        "slot_recall": slots[1],
        "slot_f1": slots[2],
        "sentence_acc": np.multiply(right, np.array(frames)).mean(),
    }


def tags_at(ids, slot_labels, slots):
    """Tag names at the positions with a gold label, position by position."""
    names = dict(enumerate(slots))
    rows: list[list[str]] = [[] for _ in range(len(slot_labels))]
    for i in range(slot_labels.shape[0]):
        for j in range(slot_labels.shape[1]):
            if slot_labels[i, j] != 0:
                rows[i].append(names[int(ids[i, j])])
    return rows
