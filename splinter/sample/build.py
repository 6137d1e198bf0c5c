"""Build the sample data set from `passages.txt`: `python -m splinter.sample.build`.

`passages.txt` explains its own layout. Everything else in the folder is derived from it and must never be edited:
MRQA lines (spec/splinter.md section 2), SQuAD 1.1 documents of the same questions, a SQuAD 2.0 document and QNLI pairs
made from them, and a small cased vocabulary with BERT's ids where Splinter depends on them. The build needs the
standard library only and is deterministic.

Source: own work. Layouts: Fisch et al. 2019 (MRQA), Rajpurkar et al. 2016 (SQuAD), bert-base-cased (vocabulary head).
"""

import hashlib
import json
import re
import string
import unicodedata
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from . import PATH

VOCABULARY_SIZE = 2048
QNLI_PAIRS = {"train": 40, "dev": 20}
MARKS = "\u0300-\u036f\u0591-\u05c7\u064b-\u0652\ufe0f"  # combining marks and the emoji variation selector
IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff"  # BERT makes each of them a word
# A token is a number with its inner points, an English clitic, a word, or one other character, as spaCy would cut.
TOKEN = re.compile(rf"\d+(?:[.,:]\d+)+|['’](?:s|re|ve|ll|d|m|t)\b|(?:\w[{MARKS}]*)+|\S[{MARKS}]*")
WORD = re.compile(rf"[{IDEOGRAPHS}]|(?:[^\W_{IDEOGRAPHS}][{MARKS}]*)+|\S")
ANSWER = re.compile(r"(?P<text>.*?)(?P<which>(?: @\d+)*)")


class Gold(NamedTuple):
    """One gold answer: its text, and which of its occurrences in the passage are meant, counted from 1."""

    text: str
    which: tuple


class Question(NamedTuple):
    """One question with its gold answers and the tags that say what makes it hostile."""

    id: str
    text: str
    tags: list
    golds: list


class Passage(NamedTuple):
    """One passage; `whole` lists texts that stay one token where the token rule would cut them."""

    id: str
    title: str
    split: str
    text: str
    whole: list
    questions: list


def read_passages(path=PATH / "passages.txt"):
    """Read the human-written source.

    Returns:
        A list of Passage in file order, `\\uXXXX` replaced by the character it names.

    Raises:
        ValueError: two passages have the same id, a split is not train or dev, or a question has no answer.
    """
    source = Path(path).read_text(encoding="utf-8")
    source = re.sub(r"\\u([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), source)
    lines = [line.strip(" ") for line in source.split("\n")]
    kept = "\n" + "\n".join(line for line in lines if line and line[0] != "%")
    passages = [_passage(block.split("\n")) for block in kept.split("\n# ")[1:]]
    if len({passage.id for passage in passages}) < len(passages):
        raise ValueError("two passages have the same id")
    return passages


def _passage(lines):
    plain = unicodedata.normalize("NFKD", lines[0]).encode("ascii", "ignore").decode().lower()
    name = "-".join(re.findall(r"[a-z0-9]+", plain))
    split, text, whole = "", [], []
    questions: list[Question] = []
    for line in lines[1:]:
        key, _, value = line.partition(": ")
        if key == "split":
            split = value
        elif key == "whole":
            whole.append(value)
        elif key == "Q":
            questions.append(Question(f"{name}-{len(questions) + 1}", value, [], []))
        elif key == "tags":
            questions[-1].tags.extend(value.split())
        elif key == "A":
            match = ANSWER.fullmatch(value)
            assert match, f"not an answer: {value!r}"
            which = tuple(int(number) for number in match["which"].replace("@", "").split()) or (1,)
            questions[-1].golds.append(Gold(match["text"], which))
        else:
            text.append(line)
    if split not in ("train", "dev") or not all(question.golds for question in questions):
        raise ValueError(f"{name}: split is {split!r}, or a question has no answer")
    return Passage(name, lines[0], split, " ".join(text), whole, questions)


def tokenize(text, whole=()):
    """Cut text into MRQA tokens.

    Returns:
        [[token, character offset], ...]; no token holds or is white space, no other character is lost.
    """
    rule = "|".join([re.escape(kept) for kept in whole] + [TOKEN.pattern])
    return [[match[0], match.start()] for match in re.finditer(rule, text)]


def locate(gold, text, tokens):
    """Find the spans of a gold answer among the places where whole tokens spell it.

    Returns:
        Character spans and token spans, [[first, last], ...] each, both ends inclusive as in MRQA.

    Raises:
        ValueError: the passage has fewer such places than the gold answer asks for.
    """
    starts = {start: index for index, (_, start) in enumerate(tokens)}
    ends = {start + len(token): index for index, (token, start) in enumerate(tokens)}
    places = [
        (start, start + len(gold.text))
        for start in starts
        if text.startswith(gold.text, start) and start + len(gold.text) in ends
    ]
    if max(gold.which) > len(places):
        raise ValueError(f"{gold.text!r} occurs {len(places)} times as whole tokens; asked for {gold.which}")
    chosen = [places[number - 1] for number in gold.which]
    return [[start, end - 1] for start, end in chosen], [[starts[start], ends[end]] for start, end in chosen]


def mrqa_lines(passages, split):
    """Write the passages of one split as MRQA, train with one question per line, dev with one context per line.

    Returns:
        A list of dicts, the header first.
    """
    lines: list[dict] = [{"header": {"dataset": "sample", "split": split}}]
    for passage in (passage for passage in passages if passage.split == split):
        tokens = tokenize(passage.text, passage.whole)
        qas = [_mrqa_question(question, passage, tokens) for question in passage.questions]
        for group in [[qa] for qa in qas] if split == "train" else [qas]:
            lines.append({"id": "", "context": passage.text, "qas": group, "context_tokens": tokens})
    return lines


def _mrqa_question(question, passage, tokens):
    detected = []
    for gold in question.golds:
        char_spans, token_spans = locate(gold, passage.text, tokens)
        detected.append({"text": gold.text, "char_spans": char_spans, "token_spans": token_spans})
    return {
        "answers": [gold.text for gold in question.golds],
        "question": question.text,
        "id": question.id,
        "qid": hashlib.md5(question.id.encode()).hexdigest(),
        "question_tokens": tokenize(question.text, passage.whole),
        "detected_answers": detected,
    }


def squad_document(passages):
    """Write passages as one SQuAD 1.1 document, an article each; a span of a gold answer is an answer.

    Returns:
        The document as a dict. `answer_start` counts characters.
    """
    articles = []
    for passage in passages:
        tokens = tokenize(passage.text, passage.whole)
        qas = []
        for question in passage.questions:
            answers = [
                {"text": gold.text, "answer_start": start}
                for gold in question.golds
                for start, _ in locate(gold, passage.text, tokens)[0]
            ]
            qas.append({"id": question.id, "question": question.text, "answers": answers})
        articles.append({"title": passage.title, "paragraphs": [{"context": passage.text, "qas": qas}]})
    return {"version": "1.1", "data": articles}


def squad2_document(passages, questions=2):
    """Write some questions as one SQuAD 2.0 document: the first of each passage, and one asked of the passage before.

    Args:
        questions: answerable ones of each passage.

    Returns:
        The document as a dict. The question that came from elsewhere has no answer here.
    """
    document = squad_document(passages)
    articles = document["data"]
    asked = [article["paragraphs"][0]["qas"] for article in articles]
    for number, article in enumerate(articles):
        stranger = asked[number - 1][-1]
        own = [{**qa, "is_impossible": False} for qa in asked[number][:questions]]
        foreign = {"id": f"{stranger['id']}-elsewhere", "question": stranger["question"], "answers": []}
        article["paragraphs"][0]["qas"] = [*own, {**foreign, "is_impossible": True}]
    return {"version": "v2.0", "data": articles}


SENTENCE = re.compile(r"\S.*?(?:[.!?]['’”\"]?(?=\s)|$)")


def qnli_lines(passages, pairs):
    """Write questions with sentences of their passage as QNLI: does the sentence hold the answer?

    Every other question gets the sentence around its answer, the others the sentence after it.

    Args:
        pairs: how many lines below the heading; questions of passages with a single sentence are passed over.

    Returns:
        Lines with tabs between the four columns and no quoting.
    """
    lines = ["index\tquestion\tsentence\tlabel"]
    for passage in passages:
        sentences = list(SENTENCE.finditer(passage.text))
        for question in passage.questions if len(sentences) > 1 else ():
            start = locate(question.golds[0], passage.text, tokenize(passage.text, passage.whole))[0][0][0]
            holding = next(i for i, sentence in enumerate(sentences) if sentence.end() > start)
            number = len(lines) - 1
            chosen = sentences[(holding + number % 2) % len(sentences)][0]
            label = "not_entailment" if number % 2 else "entailment"
            lines.append("\t".join([str(number), " ".join(question.text.split()), " ".join(chosen.split()), label]))
    if len(lines) <= pairs:
        raise ValueError(f"{len(lines) - 1} pairs, asked for {pairs}")
    return lines[: pairs + 1]


def train_vocabulary(texts, size=VOCABULARY_SIZE):
    """Train a cased WordPiece vocabulary by merging the most frequent pair of pieces, again and again.

    tokenizers' WordPieceTrainer does the same, but breaks ties by the order of a hash map and gives another result in
    every process; here the alphabetically first pair wins. Emoji, and foreign characters seen only once, stay unknown.

    Args:
        texts: strings, in any order.
        size: entries to return.

    Returns:
        A list of pieces by id. Ids 0 to 199 are those of bert-base-cased, but id 104 is `[QUESTION]`.

    Raises:
        ValueError: the texts have too few different pieces.
    """
    counts = Counter(word for text in texts for word in WORD.findall(text))
    known = {letter for letter, count in Counter("".join(texts)).items() if _is_spelled(letter, count)}
    words = [(_letters(word), count) for word, count in sorted(counts.items()) if known.issuperset(word)]
    vocabulary = dict.fromkeys(_head())
    letters = {piece for pieces, _ in words for piece in pieces}
    # Letters that no word here holds inside are added, so that any other English text can be spelled.
    letters |= {"##" + letter for letter in string.ascii_letters + string.digits}
    vocabulary.update(dict.fromkeys(sorted(letters)))
    for piece in _merges(words):
        if len(vocabulary) >= size:
            break
        vocabulary[piece] = None
    if len(vocabulary) != size:
        raise ValueError(f"{len(vocabulary)} pieces, asked for {size}")
    return list(vocabulary)


def _head():
    special = ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "[QUESTION]", "[unused101]"]
    return ["[PAD]", *(f"[unused{i}]" for i in range(1, 100)), *special, *map(chr, range(33, 127))]


def _is_spelled(letter, count):
    return letter < "\x7f" or (count > 1 and unicodedata.category(letter)[0] in "LMNP") or letter in "€£"


def _letters(word):
    return [word[0], *("##" + letter for letter in word[1:])]


def _merges(words):
    counts: Counter = Counter()
    places = defaultdict(set)

    def add(index, sign):
        pieces, count = words[index]
        for pair in pairwise(pieces):
            counts[pair] += sign * count
            places[pair].add(index)

    for index in range(len(words)):
        add(index, 1)
    while counts and (top := max(counts.values())) > 0:
        pair = min(pair for pair, count in counts.items() if count == top)
        merged = pair[0] + pair[1][2:]
        yield merged
        for index in sorted(places.pop(pair)):
            add(index, -1)
            pieces = words[index][0]
            for place in range(len(pieces) - 2, -1, -1):
                if tuple(pieces[place : place + 2]) == pair:
                    pieces[place : place + 2] = [merged]
            add(index, 1)
        del counts[pair]


def write(folder=PATH):
    """Write the data files and `vocab.txt` into a folder, from the project's own passages."""
    passages = read_passages()
    texts = [passage.text for passage in passages]
    texts += [question.text for passage in passages for question in passage.questions]
    files = {"vocab.txt": "".join(piece + "\n" for piece in train_vocabulary(texts))}
    for split in ("train", "dev"):
        lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in mrqa_lines(passages, split)]
        files[f"fewshot-{split}.jsonl"] = "".join(lines)
        document = squad_document([passage for passage in passages if passage.split == split])
        files[f"squad-{split}.json"] = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
        lines = qnli_lines([passage for passage in passages if passage.split == split], QNLI_PAIRS[split])
        files[f"qnli-{split}.tsv"] = "".join(line + "\n" for line in lines)
    document = squad2_document([passage for passage in passages if passage.split == "dev"][-10:])
    files["squad2-dev.json"] = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    for name, content in files.items():
        (Path(folder) / name).write_bytes(content.encode("utf-8"))  # bytes: no \r\n on any system


if __name__ == "__main__":
    write()
