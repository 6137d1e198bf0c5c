"""JointBERT's data and metric: files and their faults, label sets, rows, chunks, the counts of ATIS and Snips."""

import warnings

import numpy as np
import pytest
from seqeval.metrics.sequence_labeling import get_entities

from splinter import datasets
from splinter.ports.common.text import DataError, WordPieces
from splinter.ports.jointbert import data, metric
from splinter.ports.jointbert.proof import cases, reference_data, reference_metric
from splinter.sample import PATH

PIECES = WordPieces(PATH / "vocab.txt", lower_case=True, python=True)
LABELS = data.Labels(("UNK", "a", "b"), ("PAD", "UNK", "O", "B-x", "I-x"))


def part(folder, words="i go home\nstop", tags="O O B-x\nO", intents="a\nb"):
    """A part of a corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("seq.in", words), ("seq.out", tags), ("label", intents)):
        (folder / name).write_text(text if text.endswith("\n") or not text else text + "\n", encoding="utf-8")
    return folder


# -- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"words": "one\ntwo\nthree"}, r"differ in number of lines \(seq.in 3, seq.out 2, label 2\)"),
        ({"words": "", "tags": "", "intents": ""}, r"seq\.in is empty; expected one sentence per line"),
        ({"words": "i go\nstop"}, r"seq\.out, line 1 has 3 tags for the 2 words of seq\.in"),
        ({"words": "i go home\n\n", "tags": "O O O\n\n", "intents": "a\n\n"}, r"seq\.in, line 2 is empty; remove it"),
        ({"intents": "a\n \n"}, r"label, line 2 is empty"),
        ({"tags": "O O B-x\n\n"}, r"seq\.out, line 2 is empty"),
        ({"intents": "a\nb c"}, r"label, line 2 is 'b c'; expected one intent"),
    ],
)
def test_faults_are_named_with_their_line(tmp_path, files, message):
    """
    File, line, value, way out.
    """
    with pytest.raises(DataError, match=message):
        data.read(part(tmp_path / "train", **files))


def test_files_that_are_not_there_are_named(tmp_path):
    """
    The folder, then each of its three files; and bytes that are no text.
    """
    with pytest.raises(DataError, match=r"train: no such folder; give a folder with seq\.in, seq\.out and label"):
        data.read(tmp_path / "train")
    part(tmp_path / "train")
    (tmp_path / "train" / "label").write_bytes(b"\xff\n\xff\n")
    with pytest.raises(DataError, match="label: not UTF-8 text"):
        data.read(tmp_path / "train")
    (tmp_path / "train" / "label").unlink()
    with pytest.raises(DataError, match="label: no such file; give the label of a corpus"):
        data.read(tmp_path / "train")
    with pytest.raises(DataError, match=r"is a whole corpus; name one part of it, such as .*train"):
        data.read(tmp_path)
    with pytest.raises(DataError, match=r"seq\.in: is a file; give a folder"):
        data.read(tmp_path / "train" / "seq.in")


def test_spaces_line_ends_and_marks_do_not_count(tmp_path):
    """
    Two spaces, Windows line ends, a byte order mark, no line end at the end.
    """
    part(tmp_path / "train")
    (tmp_path / "train" / "seq.in").write_bytes("\ufeffi  go home\r\n stop ".encode())
    found = data.read(tmp_path / "train")
    assert [one.words for one in found] == [["i", "go", "home"], ["stop"]]
    assert (found[0].tags, found[1].intent) == (["O", "O", "B-x"], "b")
    assert found[1].where.endswith("train line 2")


def test_blank_lines_are_passed_over(tmp_path):
    """
    Sentences keep the number of their line; a file without any is refused.
    """
    (tmp_path / "in.txt").write_text("go home\n\n  \nstop\n")
    found = list(data.read_texts(tmp_path / "in.txt"))
    assert [one.words for one in found] == [["go", "home"], ["stop"]]
    assert found[1].where.endswith("in.txt, line 4")
    (tmp_path / "in.txt").write_text(" \n")
    with pytest.raises(DataError, match=r"in\.txt is empty"):
        list(data.read_texts(tmp_path / "in.txt"))


# -- labels -----------------------------------------------------------------------------------------------


def test_label_sets_are_those_of_train_in_their_own_order():
    """
    B-x and I-x are neighbours, O comes first, UNK and PAD before all.
    """
    tags = ["B-b", "I-a", "O", "B-a", "I-b"]
    made = data.build_labels([data.Sentence(["w"] * 5, tags, "go", ""), data.Sentence(["w"], ["O"], "fly", "")])
    assert made == data.Labels(("UNK", "fly", "go"), ("PAD", "UNK", "O", "B-a", "I-a", "B-b", "I-b"))


def test_label_files_go_before_train(tmp_path):
    """
    Both or none; what cannot be used is said.
    """
    assert data.read_labels(tmp_path) is None
    (tmp_path / "intent_label.txt").write_text("UNK\na\n")
    with pytest.raises(DataError, match=r"slot_label\.txt: no such file; give both label files or none"):
        data.read_labels(tmp_path)
    (tmp_path / "slot_label.txt").write_text("PAD\nUNK\nO\n")
    assert data.read_labels(tmp_path) == data.Labels(("UNK", "a"), ("PAD", "UNK", "O"))
    for text, message in (
        ("", "is empty"),
        ("UNK\nPAD\n", "first label is 'UNK', expected 'PAD'"),
        ("PAD\nO\n", "UNK"),
    ):
        (tmp_path / "slot_label.txt").write_text(text)
        with pytest.raises(DataError, match=f"slot_label.txt.*{message}"):
            data.read_labels(tmp_path)


# -- rows -------------------------------------------------------------------------------------------------


def row(words, tags, max_length=12, intent="a"):
    """The features of one sentence."""
    return data.features([data.Sentence(words.split(), tags.split(), intent, "")], PIECES, LABELS, max_length)


def test_the_golden_row():
    """
    `i want to fly`: [CLS] and [SEP] around it, PAD beside the words; only first pieces carry a tag.
    """
    made = row("i want to fly", "O O B-x I-x")
    ids = made["input_ids"][0]
    assert PIECES.pieces(ids[:6])[:4] == ["[CLS]", "i", "want", "to"]
    pieces = int(made["attention_mask"].sum())
    assert ids[pieces - 1] == PIECES.sep
    assert made["slot_labels"][0, :5].tolist() == [0, 2, 2, 3, 4]
    assert not made["slot_labels"][0, 5:].any()
    assert not ids[pieces:].any()
    assert (made["intent_labels"].tolist(), made["intent_labels"].dtype) == ([1], np.int64)


def test_continuations_unknown_labels_and_words_without_pieces():
    """
    Label PAD for all but the first piece, UNK for what training did not know, [UNK] where nothing is left of a word.
    """
    made = row("tomorrow \u200b stop", "B-x B-new O", intent="new")
    slots = made["slot_labels"][0]
    pieces = PIECES.encode_words(["tomorrow"])[0]
    assert len(pieces) > 1
    assert slots[: len(pieces) + 3].tolist() == [0, 3, *[0] * (len(pieces) - 1), 1, 2]
    assert made["input_ids"][0, len(pieces) + 1] == PIECES.unk
    assert made["intent_labels"].tolist() == [0]


def test_long_sentences_lose_their_end():
    """
    max_length - 2 pieces are kept, [SEP] comes last.
    """
    made = row("i go home now", "B-x I-x O O", max_length=4)
    assert made["input_ids"][0, [0, -1]].tolist() == [PIECES.cls, PIECES.sep]
    assert made["slot_labels"].tolist() == [[0, 3, 4, 0]]
    assert made["attention_mask"].all()


def test_the_shipped_corpus():
    """
    60, 20, 20 sentences, label files as train gives them, hostile lines that must stay.
    """
    parts = {name: data.read(cases.CORPUS / name) for name in ("train", "dev", "test")}
    assert [len(part) for part in parts.values()] == [60, 20, 20]
    labels = data.read_labels(cases.CORPUS)
    assert labels == data.build_labels(parts["train"])
    unknown = {n: (data.features(p, PIECES, labels)["slot_labels"] == 1).sum() for n, p in parts.items()}
    assert (unknown["train"], unknown["dev"], unknown["test"]) == (0, 2, 2)
    assert min(len(one.words) for one in parts["dev"]) == 1
    assert any("\u200b" in one.words for one in parts["train"])


# -- ATIS and Snips ---------------------------------------------------------------------------------------


def corpus(name):
    """The folder of a corpus; skips without data."""
    try:
        return datasets.find(f"{name}/train/seq.in").parent.parent, datasets.find("vocab/bert-base-uncased-vocab.txt")
    except datasets.DataMissing as error:
        pytest.skip(str(error))


COUNTS = {
    "atis": {
        "sentences": (4478, 500, 893),
        "words": (46, 35, 30),
        "chunks": (14851, 1710, 2839),
        "unknown": ((0, 0), (1, 1), (5, 6)),
        "labels": (22, 122),
        "cut": (1, 0, 0),
    },
    "snips": {
        "sentences": (13084, 700, 700),
        "words": (35, 22, 24),
        "chunks": (33958, 1794, 1790),
        "unknown": ((0, 0), (0, 0), (0, 0)),
        "labels": (8, 74),
        "cut": (0, 0, 0),
    },
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_of_the_real_corpora(name):
    """
    Sentences, longest sentence, chunks, unknown labels, rows that are cut, label sets.
    """
    folder, vocabulary = corpus(name)
    pieces, wanted = WordPieces(vocabulary, lower_case=True, python=True), COUNTS[name]
    labels = data.read_labels(folder)
    assert (len(labels.intents), len(labels.slots)) == wanted["labels"]
    for number, part in enumerate(("train", "dev", "test")):
        sentences = data.read(folder / part)
        made = data.features(sentences, pieces, labels)
        tags = metric.tags_at(made["slot_labels"], made["slot_labels"], labels.slots)
        assert len(sentences) == wanted["sentences"][number]
        assert max(len(one.words) for one in sentences) == wanted["words"][number]
        assert len(metric.chunks(tags)) == wanted["chunks"][number]
        unknown = ((made["intent_labels"] == 0).sum(), (made["slot_labels"] == 1).sum())
        assert unknown == wanted["unknown"][number]
        full = [i for i, row in enumerate(made["attention_mask"]) if row.all()]
        pieces_of = [sum(map(len, pieces.encode_words(sentences[i].words))) for i in full]
        assert sum(count > 48 for count in pieces_of) == wanted["cut"][number]
    assert [-(-count // 32) for count in wanted["sentences"][:1]] == [{"atis": 140, "snips": 409}[name]]


@pytest.mark.parametrize("name", COUNTS)
def test_built_labels_are_the_shipped_ones(name):
    """
    From train alone, by our rule and by the reference's.
    """
    folder, _ = corpus(name)
    shipped = data.read_labels(folder)
    assert data.build_labels(data.read(folder / "train")) == shipped
    assert reference_data.built_labels(folder) == (list(shipped.intents), list(shipped.slots))


def test_the_highest_score_that_atis_allows():
    """
    Five test intents are unknown to train: 888 of 893 can be right. 2837 tags begin with B-, 2839 chunks count UNK.
    """
    folder, _ = corpus("atis")
    labels, test = data.read_labels(folder), data.read(folder / "test")
    assert sum(one.intent in labels.intents for one in test) == 888
    assert sum(tag.startswith("B-") for one in test for tag in one.tags) == 2837


# -- metric -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gold", "found", "counts"),
    [
        ("B-a I-a O B-b", "B-a I-a O I-b", (2, 2, 2)),
        ("B-a I-a", "B-a B-a", (0, 2, 1)),
        ("UNK UNK O", "UNK UNK O", (1, 1, 1)),
        ("O O", "PAD O", (0, 1, 0)),
    ],
)
def test_golden_chunks(gold, found, counts):
    """
    (right, found, wanted), by hand; I- after O starts a chunk, labels without a hyphen are chunks.
    """
    one, other = metric.chunks([gold.split()]), metric.chunks([found.split()])
    assert (len(one & other), len(other), len(one)) == counts
    scores = metric.slot_scores([gold.split()], [found.split()])
    right, predicted, wanted = counts
    assert scores["slot_precision"] == (right / predicted if predicted else 0)
    assert scores["slot_recall"] == (right / wanted if wanted else 0)


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_seqeval(seed):
    """
    Random tags of every kind, to the last bit.
    """
    rng = np.random.default_rng(seed)
    labels = np.array(["PAD", "UNK", "O", "O", "B-a", "I-a", "B-a.b", "I-a.b", "I-c"])
    rows = [int(rng.integers(1, 15)) for _ in range(200)]
    gold, found = ([labels[rng.integers(0, len(labels), n)].tolist() for n in rows] for _ in range(2))
    intents = [rng.integers(0, 4, 200).astype(str).tolist() for _ in range(2)]
    ours, theirs = (side.evaluate(*intents, gold, found) for side in (metric, reference_metric))
    assert list(ours) == list(theirs)
    assert list(ours.values()) == [float(value) for value in theirs.values()]


def test_the_stored_evaluation_of_the_first_paddle_port():
    """
    ATIS test, 893 sentences: 871 intents, 2728 of 2850 chunks right of 2839, give its six printed figures.
    """
    precision, recall = 2728 / 2850, 2728 / 2839
    assert (871 / 893, precision, recall) == (0.975363941769317, 0.9571929824561404, 0.960901725959845)
    gold = [["B-a"]] * 2728 + [["B-b"]] * 111
    found = [["B-a"]] * 2728 + [["B-c"]] * 111
    scores = metric.slot_scores([*gold, ["O"] * 11], [*found, ["B-c"] * 11])
    assert list(scores.values()) == [precision, recall, 0.959043768676393]


HOSTILE = """
O B-a I-a E-a S-a B-b I-b U-a L-a U-b B_x I_x B-a-b I-a-b I--a B- I- B I E S U L PAD UNK O-a OTHER . .-a - -- -a word x
B-a.b é-a"""


def test_chunks_of_any_tags_are_those_of_seqeval():
    """
    BIO, BIOES, BILOU, B_x, plain words, empty types: the chunks of seqeval's get_entities, across sentences, too.
    """
    rng = np.random.default_rng(0)
    for _ in range(2000):
        alphabet = rng.choice(HOSTILE.split(), size=rng.integers(2, 9), replace=False)
        tags = [rng.choice(alphabet, size=rng.integers(1, 7)).tolist() for _ in range(rng.integers(1, 5))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # seqeval warns of every other tag
            assert metric.chunks(tags) == set(get_entities(tags)), tags


def test_bioes_chunks_end_where_they_say():
    """
    "E" and "S" end a chunk: two cities in a row are two, though nothing begins with B.
    """
    assert metric.chunks([["S-city", "S-city"], ["B-date", "E-date", "E-date"]]) == {
        *(("city", 0, 0), ("city", 1, 1), ("date", 3, 4), ("date", 5, 5))
    }


def test_a_line_of_a_prediction_file():
    """
    O plain, others in brackets.
    """
    assert metric.line("fly", ["to", "old", "york"], ["O", "B-to", "I-to"]) == "<fly> -> to [old:B-to] [york:I-to]"
