"""The reference side of the metric step: transformers' SQuAD scoring and decoding, and a twin of run_qa's.

Imports transformers only when called. Takes golds, predictions, examples and rows as `metric.py` does, so that both
sides see the same input.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from splinter.ports.common.proof.theirs import removed_in_5


def evaluate(golds, predictions, no_answer_odds=None, threshold=1.0):
    """`squad_evaluate` on golds and predictions as `metric.evaluate` takes them.

    Raises:
        KeyError: a question without prediction; theirs prints and skips it, then fails while averaging.
    """
    questions = [
        SimpleNamespace(qas_id=question, answers=[{"text": text} for text in texts])
        for question, texts in golds.items()
    ]
    squad_metrics = removed_in_5("data.metrics.squad_metrics")
    return dict(squad_metrics.squad_evaluate(questions, predictions, no_answer_odds, threshold))


def decode(
    examples,
    rows,
    start_logits,
    end_logits,
    vocab_file,
    n_best=20,
    max_answer_length=10,
    lower_case=False,
):
    """`compute_predictions_logits` on many examples.

    Args:
        examples: E examples with id and tokens.
        rows: E lists of windows, each as `metric.decode_paper` takes them.
        start_logits, end_logits: E arrays (R, T).
        vocab_file: path of the vocabulary, for the slow BertTokenizer.

    Returns:
        example id -> its candidates, best first, dicts of text, probability, start_logit, end_logit.
    """
    from transformers import BertTokenizer

    squad_metrics = removed_in_5("data.metrics.squad_metrics")
    tokenizer = BertTokenizer(str(vocab_file), do_lower_case=lower_case)
    features: list[SimpleNamespace] = []
    results: list[SimpleNamespace] = []
    for index, windows in enumerate(rows):
        for row, start, end in zip(windows, start_logits[index], end_logits[index], strict=True):
            unique_id = 1_000_000_000 + len(features)
            features.append(_feature(index, unique_id, row, tokenizer))
            results.append(
                SimpleNamespace(
                    unique_id=unique_id,
                    start_logits=np.asarray(start).tolist(),
                    end_logits=np.asarray(end).tolist(),
                )
            )
    with tempfile.TemporaryDirectory() as folder:  # candidates leave that function only through a file
        nbest_file = Path(folder, "nbest.json")
        squad_metrics.compute_predictions_logits(
            [SimpleNamespace(qas_id=example.id, doc_tokens=example.tokens) for example in examples],
            features,
            results,
            n_best_size=n_best,
            max_answer_length=max_answer_length,
            do_lower_case=lower_case,
            output_prediction_file=None,
            output_nbest_file=str(nbest_file),
            output_null_log_odds_file=None,
            verbose_logging=False,
            version_2_with_negative=False,
            null_score_diff_threshold=0.0,
            tokenizer=tokenizer,
        )
        return json.loads(nbest_file.read_text())  # JSON keeps floats to the last bit


def decode_offsets(example, rows, start_logits, end_logits, n_best=20, max_answer_length=30):
    """Twin of `metric.decode_hf`: run_qa's rule restated candidate by candidate.

    Returns:
        Candidates, best first, as dicts with the fields of `metric.Span`.
    """
    found = []
    for row, start, end in zip(rows, start_logits, end_logits, strict=True):
        offsets = _column(row, "offsets")
        for i in sorted(range(len(start)), key=lambda i: start[i], reverse=True)[:n_best]:
            for j in sorted(range(len(end)), key=lambda j: end[j], reverse=True)[:n_best]:
                if offsets[i][0] < 0 or offsets[j][0] < 0:
                    continue
                if j < i or j - i + 1 > max_answer_length:
                    continue
                entry = {"start_logit": start[i], "end_logit": end[j], "score": start[i] + end[j]}
                found.append(entry | {"start_char": int(offsets[i][0]), "end_char": int(offsets[j][1])})
    found = sorted(found, key=lambda entry: entry["score"], reverse=True)[:n_best]
    for entry in found:
        entry["text"] = example.context[entry["start_char"] : entry["end_char"]]
    if len(found) == 0 or (len(found) == 1 and found[0]["text"] == ""):
        nonce = {"text": "empty", "start_logit": 0.0, "end_logit": 0.0, "score": 0.0}
        found.insert(0, nonce | {"start_char": None, "end_char": None})

    scores = np.array([entry["score"] for entry in found])  # an array, for the same exp and the same sum
    exponentials = np.exp(scores - np.max(scores))
    for entry, probability in zip(found, exponentials / exponentials.sum(), strict=True):
        entry["probability"] = probability
    return found


def _feature(example_index, unique_id, row, tokenizer):
    length = int(np.sum(_column(row, "attention_mask")))
    tokens = tokenizer.convert_ids_to_tokens(np.asarray(_column(row, "input_ids"))[:length].tolist())
    token_of_piece, max_context = _column(row, "token_of_piece"), _column(row, "max_context")
    in_context = [i for i in range(length) if token_of_piece[i] >= 0]
    return SimpleNamespace(
        example_index=example_index,
        unique_id=unique_id,
        tokens=tokens,
        token_to_orig_map={i: int(token_of_piece[i]) for i in in_context},
        token_is_max_context={i: bool(max_context[i]) for i in in_context},
    )


def _column(row, name):
    return row[name] if isinstance(row, Mapping) else getattr(row, name)
