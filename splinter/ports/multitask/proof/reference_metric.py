"""The reference side of the metric step: scikit-learn and scipy, as the course's evaluation calls them."""

import warnings

import numpy as np


def accuracy(predicted, labels):
    """scikit-learn's accuracy."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predicted))


def macro_f1(predicted, labels):
    """scikit-learn's F1, averaged over classes."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predicted, average="macro"))


def pearson(predicted, labels):
    """scipy's Pearson correlation in float64; nan for constant input."""
    from scipy.stats import pearsonr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant input: the nan is what is compared
        return float(pearsonr(np.asarray(predicted, np.float64), np.asarray(labels, np.float64))[0])


def classes(logits):
    """Class of each row as the course's skeleton decides: argmax, or the rounded sigmoid of one logit."""
    if np.ndim(logits) == 2:
        return np.array([max(range(len(row)), key=lambda k: (row[k], -k)) for row in np.asarray(logits).tolist()])
    return np.round(1 / (1 + np.exp(-np.asarray(logits, np.float64)))).astype(np.int64)
