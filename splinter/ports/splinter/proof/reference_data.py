"""Theirs, for dev_data and train_data: transformers' own feature code on plain re-statements of the readers.

Shares no code with data.py. Columns carry the names and dtypes of `data.Features`, as a dict of numpy arrays.

Source: transformers 4.57 data/processors/squad.py, SplinterTokenizerFast and SplinterTokenizer as installed.
The MRQA reader re-states oriram/splinter finetuning/mrqa_processor.py, the hf labels transformers' run_qa.py.
"""

import gzip
import json
import tempfile
from contextlib import contextmanager
from functools import cache
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from transformers import BertTokenizer, SplinterTokenizer, SplinterTokenizerFast

from splinter.ports.common.proof.theirs import removed_in_5

SIZES = {"max_length": 384, "doc_stride": 128, "max_query_length": 64}


def paper_features(path, vocabulary, training, limit=None, lower_case=False, **sizes):
    """The old SQuAD features, by `squad_convert_examples_to_features` and the Python BertTokenizer.

    Args:
        path: MRQA or SQuAD file.
        vocabulary: vocab.txt.
        training: whether labels are made.
        limit: number of examples, None for all.
        lower_case: of an uncased model.
        sizes: max_length, doc_stride, max_query_length where they differ from 384, 128, 64.

    Returns:
        dict of columns; `cls_index` (N,) int64 besides those of `Features`.
    """
    sizes = SIZES | sizes
    examples = squad_examples(path, training)[:limit]
    for example in examples:
        if not example.question_text.endswith(" [MASK]."):
            example.question_text += " [MASK]."
    tokenizer = BertTokenizer(vocabulary, do_lower_case=lower_case)
    tokenizer.tokenize = cache(tokenizer.tokenize)  # it is asked for the same words again and again
    with _in_this_process() as squad:
        rows = squad.squad_convert_examples_to_features(
            examples,
            tokenizer,
            max_seq_length=sizes["max_length"],
            doc_stride=sizes["doc_stride"],
            max_query_length=sizes["max_query_length"],
            is_training=training,
            threads=1,
            tqdm_enabled=False,
        )
    columns = {name: _column([getattr(row, name) for row in rows]) for name in _SAME_NAME}
    columns["questions"] = np.array([row.qas_id for row in rows])
    columns["token_of_piece"] = _scatter([row.token_to_orig_map for row in rows], sizes["max_length"], -1, np.int32)
    columns["max_context"] = _scatter([row.token_is_max_context for row in rows], sizes["max_length"], False, bool)
    if training:
        columns["start_positions"] = _column([row.start_position for row in rows])
        columns["end_positions"] = _column([row.end_position for row in rows])
    return columns | _question(columns["input_ids"], 103)


def hf_features(path, vocabulary, training, limit=None, witness=100, lower_case=False, **sizes):
    """SplinterTokenizerFast called as run_qa.py calls it, with that script's labels.

    Args: as `paper_features`; `witness` is the number of examples whose first window's ids the Python
        SplinterTokenizer must spell the same (evenly spread; texts on which the two are known to differ are
        passed over: not printable ASCII, or holding [QUESTION]).

    Returns:
        dict of columns.

    Raises:
        AssertionError: fast and Python tokenizer disagree on a witness.
    """
    sizes = SIZES | sizes
    examples = _raw_examples(path, training)[:limit]
    with _splinter_vocabulary(vocabulary) as file:
        fast = SplinterTokenizerFast(file, do_lower_case=lower_case)
        slow = SplinterTokenizer(file, do_lower_case=lower_case)
    questions = [one["question"].removesuffix(" [MASK].").lstrip() for one in examples]
    parts = []
    for first in range(0, len(examples), 1000):  # as datasets.map does: all at once would hold gigabytes of lists
        some = slice(first, first + 1000)
        encoded = fast(
            questions[some],
            [one["context"] for one in examples[some]],
            truncation="only_second",
            max_length=sizes["max_length"],
            stride=sizes["doc_stride"],
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_token_type_ids=True,  # transformers 5 leaves them out
            padding="max_length",
        )
        parts.append(_hf_columns(encoded, examples[some], first, fast.cls_token_id, training))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    columns["unique_id"] = 1_000_000_000 + np.arange(len(columns["input_ids"]))
    columns["questions"] = np.array([examples[number]["id"] for number in columns["example_index"]])
    _check_witness(slow, questions, examples, columns, sizes["max_length"], witness)
    return columns | _question(columns["input_ids"], 104)


def _hf_columns(encoded, examples, first, cls, training):
    columns = {name: _column(encoded[name]) for name in ("input_ids", "attention_mask", "token_type_ids")}
    sample, total = encoded["overflow_to_sample_mapping"], len(columns["input_ids"])
    context = [[part == 1 for part in encoded.sequence_ids(row)] for row in range(total)]
    offsets = np.array(encoded["offset_mapping"], np.int32)
    columns["offsets"] = np.where(np.array(context)[:, :, None], offsets, np.int32(-1))
    columns["paragraph_len"] = _column([sum(row) for row in context])
    columns["example_index"] = _column(sample) + first
    if training:
        ends = [
            _run_qa_label(encoded["offset_mapping"][row], context[row], examples[sample[row]]) or [ids.index(cls)] * 2
            for row, ids in enumerate(encoded["input_ids"])
        ]
        columns["start_positions"], columns["end_positions"] = _column(ends).T.copy()
    return columns


def _run_qa_label(offsets, context, example):
    """Walk from both ends of the window towards the answer; None when it is not wholly inside."""
    if example["answer"] is None:
        return None
    text, begin = example["answer"]
    stop = begin + len(text)
    left = context.index(True)
    right = len(context) - 1 - context[::-1].index(True)
    if not (offsets[left][0] <= begin and offsets[right][1] >= stop):
        return None
    while left < len(offsets) and offsets[left][0] <= begin:  # runs over [SEP] and padding, whose offset is 0
        left += 1
    while offsets[right][1] >= stop:
        right -= 1
    return [left - 1, right + 1]


def _check_witness(slow, questions, examples, columns, length, witness):
    firsts = np.unique(columns["example_index"], return_index=True)[1]
    for i in range(0, len(examples), max(1, len(examples) // max(witness, 1))) if witness else ():
        text = questions[i] + examples[i]["context"]
        if text.isascii() and text.isprintable() and "[QUESTION]" not in text:
            theirs = slow(questions[i], examples[i]["context"], truncation="only_second", max_length=length)[
                "input_ids"
            ]
            row = columns["input_ids"][firsts[i]][: len(theirs)].tolist()
            assert theirs == row, f"SplinterTokenizer and SplinterTokenizerFast differ on {examples[i]['id']!r}"


def golds(path, mode):
    """{question id: gold texts} for evaluation."""
    if mode == "paper":
        return {one.qas_id: [answer["text"] for answer in one.answers] for one in squad_examples(path, False)}
    return {one["id"]: one["golds"] for one in _raw_examples(path, False)}


def decoding_examples(path, mode):
    """What decoding needs of each question, in order: id, doc tokens (mode paper) or context (mode hf)."""
    if mode == "paper":
        return [SimpleNamespace(id=one.qas_id, tokens=one.doc_tokens) for one in squad_examples(path, False)]
    return [SimpleNamespace(id=one["id"], context=one["context"]) for one in _raw_examples(path, False)]


def squad_examples(path, training):
    """transformers' `SquadExample`s: MRQA tokens and positions by the authors' rules, SQuAD by theirs."""
    layout, records = _load(path)
    if layout == "squad":
        with _in_this_process() as squad:
            return squad.SquadV1Processor()._create_examples(records, "train" if training else "dev")
    return [_mrqa_example(line, qa, training) for line in records for qa in line["qas"]]


def _mrqa_example(line, qa, training):
    tokens = [token for token, _ in line["context_tokens"]]
    spans = [answer["token_spans"][0] for answer in qa["detected_answers"]]
    joined = [" ".join(tokens[first : last + 1]) for first, last in spans]
    example = removed_in_5("data.processors.squad").SquadExample(
        qas_id=qa["id"] if "id" in qa else qa["qid"],
        question_text=qa["question"],
        context_text="",  # else it is cut into words, of which none is used
        answer_text=joined[0] if training else None,
        start_position_character=None,
        title="",
        answers=[] if training else [{"text": text} for text in joined],
    )
    token_of = []  # of each character; a gap belongs to the token before it, a leading one to the first
    for number, token in enumerate(tokens):
        token_of += [number] * len(token)
        if number + 1 < len(tokens):
            token_of += [number] * (line["context_tokens"][number + 1][1] - len(token_of))
    example.doc_tokens, example.char_to_word_offset = tokens, token_of
    if training:
        begin = qa["detected_answers"][0]["char_spans"][0][0]
        example.start_position = token_of[begin]
        example.end_position = token_of[min(begin + len(joined[0]) - 1, len(token_of) - 1)]
    return example


def _raw_examples(path, training):
    """id, question, context, golds and (text, first character) of each question, for mode hf."""
    layout, records = _load(path)
    if layout == "squad":
        records = [paragraph for article in records for paragraph in article["paragraphs"]]
    examples = []
    for record in records:
        for qa in record["qas"]:
            one = {
                "id": qa["id"] if "id" in qa else qa["qid"],
                "question": qa["question"],
                "context": record["context"],
            }
            one["answer"] = None
            if layout == "mrqa":
                one["golds"] = qa["answers"]
                if training:
                    first, last = qa["detected_answers"][0]["char_spans"][0]
                    one["answer"] = (record["context"][first : last + 1], first)
            else:
                answers = [] if qa.get("is_impossible") else qa["answers"]
                one["golds"] = [answer["text"] for answer in answers]
                if training and answers:
                    one["answer"] = (answers[0]["text"], answers[0]["answer_start"])
            examples.append(one)
    return examples


def _load(path):
    data = Path(path).read_bytes()
    text = (gzip.decompress(data) if str(path).endswith(".gz") else data).decode("utf-8")
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:  # several values: JSON lines
        lines = [json.loads(line) for line in text.split("\n") if line]
        if "question" in lines[0]:
            return "squad", [{"title": "", "paragraphs": [_paragraph(line) for line in lines]}]
        return "mrqa", lines[1:]  # after a header, which may stand in a list
    return "squad", whole["data"]


def _paragraph(row):
    """A row of `datasets`, whose answers are columns, as a paragraph of SQuAD with one question."""
    answers = [
        {"text": text, "answer_start": start}
        for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
    ]
    asked = {"id": row["id"], "question": row["question"], "answers": answers, "is_impossible": not answers}
    return {"context": row["context"], "qas": [asked]}


@contextmanager
def _in_this_process():
    """squad.py forks a pool even for one worker and shows bars; a silent thread gives the same features."""
    squad = removed_in_5("data.processors.squad")
    pool, bar = squad.Pool, squad.tqdm
    squad.Pool, squad.tqdm = ThreadPool, lambda items, **_: items
    try:
        yield squad
    finally:
        squad.Pool, squad.tqdm = pool, bar


@contextmanager
def _splinter_vocabulary(vocabulary):
    """The vocabulary file with [QUESTION] on line 104, where BERT's own has [unused100]."""
    lines = Path(vocabulary).read_text(encoding="utf-8").split("\n")
    lines[104] = "[QUESTION]"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vocab.txt"
        file.write_text("\n".join(lines), encoding="utf-8")
        yield str(file)


_SAME_NAME = (
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "example_index",
    "unique_id",
    "paragraph_len",
    "cls_index",
)


def _column(values):
    return np.array(values, np.int64)


def _scatter(maps, length, empty, dtype):
    """Dicts {row index: value} to an (N, T) array."""
    column = np.full((len(maps), length), empty, dtype)
    for row, one in enumerate(maps):
        column[row, list(one)] = list(one.values())
    return column


def _question(ids, token):
    """The question position rule of the model: the first such id, 0 where there is none."""
    rows = ids.tolist()
    return {
        "question_positions": _column([row.index(token) if token in row else 0 for row in rows]),
        "question_lost": np.array([token not in row for row in rows], bool),
    }
