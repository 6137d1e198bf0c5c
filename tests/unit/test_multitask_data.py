"""The course's files: text rules, dropped rows, counts, errors; batches, and the order in which they are fed."""

import csv
import gzip
from dataclasses import replace

import numpy as np
import pytest

from splinter import datasets
from splinter.ports.multitask import config, data
from splinter.ports.multitask.config import TASKS
from splinter.ports.multitask.data import DataError
from splinter.ports.multitask.feed import MixedFeed, steps_of_an_epoch
from splinter.sample import PATH

SAMPLE = PATH / "multitask"
HEADERS = {
    "sentiment": ["", "id", "sentence", "sentiment"],
    "paraphrase": ["", "id", "sentence1", "sentence2", "is_duplicate"],
    "similarity": ["", "id", "sentence1", "sentence2", "similarity"],
}


@pytest.fixture(scope="module")
def pieces():
    """The shipped vocabulary, lower-cased."""
    return data.WordPieces(PATH / "vocab.txt", lower_case=True, python=True)


@pytest.fixture
def file(tmp_path):
    """Write a file of a task from rows without their first column."""

    def write(task, *rows, header=None, name="file.csv"):
        with open(tmp_path / name, "w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out, delimiter="\t")
            writer.writerows([header or HEADERS[task], *([i, f"ID{i} ", *row] for i, row in enumerate(rows))])
        return tmp_path / name

    return write


# -- text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" It 's FINE . ", "it 's fine ."),
        ("Two  spaces\tstay", "two  spaces\tstay"),
        ("\u00c9T\u00c9", "\u00e9t\u00e9"),
    ],
)
def test_a_sentence_is_lowered_and_stripped(text, expected):
    """
    Nothing else: what is inside stays as it is.
    """
    assert data.sentence(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Isn't it 3.5, really?", "isn 't it 3 .5 , really ?"),
        ("  A\tb\n c\u00a0d ", "a b c d"),
        ("Wait...", "wait . . ."),
        ("Stop! (now): \u2019", "stop! (now): \u2019"),
        ("", ""),
    ],
)
def test_a_side_gets_spaces_before_four_marks(text, expected):
    """
    . ? , ' and no other; white space is collapsed.
    """
    assert data.pair_text(text) == expected


# -- files ------------------------------------------------------------------------------------------------


def test_ids_texts_and_labels(file):
    """
    Ids are lowered too, labels are whole numbers, or float32 for similarity.
    """
    rows = data.read(file("sentiment", [" A Film ", "3"], ['say "yes"\tor no', "0"]), "sentiment")
    assert (rows.ids, rows.texts) == (["id0", "id1"], (["a film", 'say "yes"\tor no'],))
    assert (rows.labels.tolist(), rows.labels.dtype) == ([3, 0], np.int64)
    rows = data.read(file("similarity", ["A.", "B", "2.6"], ["c", "d\ne", "5"]), "similarity")
    assert rows.texts == (["a .", "c"], ["b", "d e"])
    assert (rows.labels.tolist(), rows.labels.dtype) == (np.float32([2.6, 5]).tolist(), np.float32)


def test_rows_whose_label_is_no_number_are_dropped_and_counted(file):
    """
    The real Quora file has two such rows; a later line number shows where.
    """
    rows = data.read(
        file("paraphrase", ["a", "b", "1.0"], ["two\nlines", "d", ""], ["e", "f", "yes"], ["g", "h", "0.0"]),
        "paraphrase",
    )
    assert (rows.labels.tolist(), rows.dropped) == ([1, 0], [4, 5])
    assert rows.ids == ["id0", "id3"]


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("sentiment", ["a", "5"], r"line 2: sentiment is '5', expected a whole number from 0 to 4; correct it"),
        ("sentiment", ["a", "1.5"], r"line 2: sentiment is '1.5', expected a whole number from 0 to 4"),
        ("paraphrase", ["a", "b", "2"], r"line 2: is_duplicate is '2', expected a whole number from 0 to 1"),
        ("similarity", ["a", "b", "nan"], r"line 2: similarity is 'nan', expected a number from 0 to 5"),
        ("similarity", ["a", "b", "-1"], r"line 2: similarity is '-1', expected a number from 0 to 5"),
        ("similarity", ["a", "b", "c", "1"], r"line 2: 6 columns, the header has 5; separate columns by one tab"),
        ("paraphrase", ["a", "b"], r"line 2: 4 columns, the header has 5"),
    ],
)
def test_a_row_that_cannot_be_meant_is_an_error(file, task, row, message):
    """
    File, line, value and way out.
    """
    with pytest.raises(DataError, match=message):
        data.read(file(task, row), task)


def test_a_file_that_is_another_is_an_error(file, tmp_path):
    """
    Columns, bytes, quotes, emptiness, absence: each says what it is.
    """
    other = file("paraphrase", ["a", "b", "1"])
    with pytest.raises(
        DataError, match=r"line 1: column 'similarity' is missing .*a similarity file has id, sentence1"
    ):
        data.read(other, "similarity")
    commas = tmp_path / "commas.csv"
    commas.write_text(",id,sentence,sentiment\n0,x,a,1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"column 'id' is missing .*separated by tabs"):
        data.read(commas, "sentiment")
    latin = tmp_path / "latin.csv"
    latin.write_bytes("\tid\tsentence\tsentiment\n0\tx\tcaf\u00e9\t1\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.csv, line 2: not UTF-8"):
        data.read(latin, "sentiment")
    quote = tmp_path / "quote.csv"
    quote.write_text('\tid\tsentence\tsentiment\n0\tx\t"never closed\t1\n1\ty\tb\t1\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"quote\.csv, line 2: .*mend the quotes of this line"):
        data.read(quote, "sentiment")
    with pytest.raises(DataError, match=r"holds no row; give a sentiment file with rows"):
        data.read(file("sentiment"), "sentiment")
    with pytest.raises(DataError, match=r"holds no row; the labels of all 1 are no numbers"):
        data.read(file("sentiment", ["a", "?"]), "sentiment")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(DataError, match=r"column 'id' is missing"):
        data.read(tmp_path / "empty.csv", "sentiment")
    with pytest.raises(DataError, match=r"no such file; give a file of sentiment, tab-separated"):
        data.read(tmp_path / "none.csv", "sentiment")
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"broken\.csv\.gz: cannot be read"):
        data.read(broken, "sentiment")


@pytest.mark.parametrize(
    "later",
    ["", '3\tz\ta "film" indeed\t1\n', '3\tz"\t1\n', '3\tz\ta"b\t1\n'],
    ids=["never closed", "by a quoted word", "in another row of as many columns", "by a single quote"],
)
def test_an_open_quote_is_named_where_it_opens(tmp_path, later):
    """
    Wherever the next quote stands, the rows up to it are not swallowed; a text of two lines before it is none.
    """
    path, rows = tmp_path / "quote.csv", "".join(f"{n}\ty{n}\tb\t1\n" for n in range(300))
    for name, line in (("x", 4), ('"x\ny"', 5)):
        head = f'\tid\tsentence\tsentiment\n0\tw\t"go""\nod"\t1\n0\t{name}\t"open\t1\n'
        path.write_text(head + rows * 20 * (not later) + rows + later, encoding="utf-8")
        with pytest.raises(DataError, match=rf"quote\.csv, line {line}: .*; mend the quotes of this line"):
            data.read(path, "sentiment")


def test_files_are_found_by_the_names_of_the_course(file, tmp_path):
    """
    Plain before .gz, the whole before a subset, and what was looked for where there is none.
    """
    subset = file("paraphrase", ["a", "b", "1"], name="quora-train-subset.csv")
    assert data.find(tmp_path, "paraphrase", "train") == subset
    whole = tmp_path / "quora-train.csv.gz"
    whole.write_bytes(gzip.compress(subset.read_bytes()))
    assert data.find(tmp_path, "paraphrase", "train") == whole
    assert data.read(whole, "paraphrase").ids == ["id0"]
    movies = file("sentiment", ["a", "1"], name="ids-cfimdb-dev.csv")
    assert data.find(tmp_path, "sentiment", "dev", "cfimdb") == movies
    with pytest.raises(DataError, match=r"holds no ids-sst-dev\.csv, plain or \.gz; .*--sentiment-dev, or fewer tasks"):
        data.find(tmp_path, "sentiment", "dev")


REAL = {
    ("cs224n/ids-sst-train.csv", "sentiment"): (8544, 0),
    ("cs224n/ids-sst-dev.csv", "sentiment"): (1101, 0),
    ("cs224n/quora-dev.csv", "paraphrase"): (20212, 2),
    ("cs224n/sts-train.csv", "similarity"): (6040, 0),
    ("cs224n/sts-dev.csv", "similarity"): (863, 0),
    ("cs224n/ids-cfimdb-train.csv", "sentiment"): (1707, 0),
    ("cs224n/ids-cfimdb-dev.csv", "sentiment"): (245, 0),
}


def real(name):
    """A file of the course, or a skip."""
    try:
        return datasets.find(name)
    except datasets.DataMissing as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("name", "task"), REAL)
def test_the_real_files_have_so_many_rows(name, task):
    """
    What the specification counted, dropped rows too.
    """
    rows = data.read(real(name), task)
    assert (len(rows.ids), len(rows.dropped)) == REAL[name, task]


def test_the_real_labels_are_distributed_as_specified():
    """
    Classes of SST, the negative share of Quora dev, the means of STS.
    """
    train, dev = (data.read(real(f"cs224n/ids-sst-{split}.csv"), "sentiment").labels for split in ("train", "dev"))
    assert np.bincount(train).tolist() == [1092, 2218, 1624, 2322, 1288]
    assert np.bincount(dev).tolist() == [139, 289, 229, 279, 165]
    quora = data.read(real("cs224n/quora-dev.csv"), "paraphrase").labels
    assert round(float((quora == 0).mean()), 5) == 0.62473
    means = [
        float(data.read(real(f"cs224n/sts-{split}.csv"), "similarity").labels.mean()) for split in ("train", "dev")
    ]
    assert [round(mean, 2) for mean in means] == [2.61, 2.72]


# -- pieces and batches -----------------------------------------------------------------------------------


def test_a_sentence_is_cut_with_its_separator_kept(pieces):
    """
    `longest` counts [CLS] and [SEP]; an empty sentence is nothing but these two.
    """
    found = data.tokens(["a b c d e f", "", "a"], pieces, longest=5)
    assert found.lengths.tolist() == [5, 2, 3]
    ids, mask = found.padded(np.array([0, 1, 2]))
    assert ids[:, 0].tolist() == [101] * 3
    assert [row[length - 1] for row, length in zip(ids, found.lengths, strict=True)] == [102] * 3
    assert ids[1].tolist() == [101, 102, 0, 0, 0]
    assert mask.sum(axis=1).tolist() == [5, 2, 3]


def test_the_sides_of_a_pair_are_padded_apart(pieces, file):
    """
    Each to its own longest, whatever else stands in the file.
    """
    some = data.load(
        [file("paraphrase", ["a", "b c d", "1"], ["a b", "c", "0"], ["a " * 40, "b", "1"])], "paraphrase", pieces
    )
    batch = some.batch(np.array([1, 0]))
    assert batch["paraphrase/a_input_ids"].shape == (2, 4)
    assert batch["paraphrase/b_input_ids"].shape == (2, 5)
    assert batch["paraphrase/labels"].tolist() == [0, 1]


def test_several_files_of_a_task_are_one_set(pieces, file):
    """
    One after the other; `first` keeps the first rows.
    """
    one = file("similarity", ["a", "b", "1.5"], ["c", "d", "x"], name="one.csv")
    two = file("similarity", ["e", "f", "2.5"], ["g", "h", "3.5"], name="two.csv")
    some = data.load([one, two], "similarity", pieces)
    assert (len(some), some.labels.tolist(), some.dropped) == (3, [1.5, 2.5, 3.5], 1)
    cut = some.first(2)
    assert (len(cut), cut.labels.tolist()) == (2, [1.5, 2.5])
    for name, array in cut.batch(np.arange(2)).items():
        np.testing.assert_array_equal(array, some.batch(np.arange(2))[name])
    assert some.first(0) is some
    assert some.hash() != cut.hash()


def test_the_sample_holds_no_unknown_piece(pieces):
    """
    The shipped sentences can be learnt: every word has pieces, every class occurs.
    """
    for task in TASKS:
        for split, rows in (("train", 60), ("dev", 29 if task == "paraphrase" else 30)):
            some = data.load([data.find(SAMPLE, task, split)], task, pieces)
            assert len(some) == rows
            assert all((one.flat != pieces.unk).all() for one in some.texts)
            if task != "similarity":
                assert len(np.unique(some.labels)) == (5 if task == "sentiment" else 2)


# -- the feed ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sets(pieces):
    """The shipped training data, of three different sizes."""
    rows = {"sentiment": 20, "paraphrase": 60, "similarity": 13}
    return {t: data.load([data.find(SAMPLE, t, "train")], t, pieces).first(rows[t]) for t in TASKS}


RECIPE = replace(config.RECIPE, epochs=2, batch_size=8)


def test_a_joint_update_sees_a_batch_of_every_task(sets):
    """
    And the nominal batch size, which the smaller last batch of a pass does not have.
    """
    batches = [batch for batch, _ in MixedFeed(sets, RECIPE, steps=3).batches(0)]
    assert len(batches) == 6
    sizes = [[len(batch[f"{task}/labels"]) for task in TASKS] for batch in batches]
    assert sizes == [[8, 8, 8], [8, 8, 5], [4, 8, 8], [8, 8, 5], [8, 8, 8], [4, 8, 5]]
    assert all(int(batch["batch_size"]) == 8 for batch in batches)


def test_every_pass_sees_every_row_once_in_another_order(sets):
    """
    Two passes over 20 rows are two permutations; another seed gives others.
    """

    def order(seed):
        feed = MixedFeed(sets, replace(RECIPE, seed=seed), steps=3)
        return [np.concatenate([feed.rows("sentiment", b) for b in range(3 * t, 3 * t + 3)]).tolist() for t in (0, 1)]

    first, second = order(1)
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    assert order(1) == [first, second]
    assert order(2)[0] != first


@pytest.mark.parametrize("sampling", ["joint", "proportional"])
def test_a_feed_goes_on_from_any_update(sets, sampling):
    """
    What follows update 4 is the same whether the first four were seen or not, and so are the names.
    """
    whole = list(MixedFeed(sets, RECIPE, steps=5, sampling=sampling).batches(0))
    rest = list(MixedFeed(sets, RECIPE, steps=5, sampling=sampling).batches(4))
    assert (len(whole), len(rest)) == (10, 6)
    for (one, named), (other, named_too) in zip(whole[4:], rest, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)
        assert named() == named_too()


def test_proportional_sampling_draws_by_size(sets):
    """
    One task per update; alpha 1 is by size, alpha 0 all alike, and the counts come near the shares.
    """
    hyper = replace(RECIPE, epochs=1)
    for alpha, shares in ((1.0, [20 / 93, 60 / 93, 13 / 93]), (0.0, [1 / 3] * 3)):
        feed = MixedFeed(sets, hyper, steps=3000, sampling="proportional", alpha=alpha)
        seen = np.array(list(feed.seen(3000).values())) / 3000
        np.testing.assert_allclose(seen, shares, atol=0.04)
    for batch, _ in list(feed.batches(0))[:20]:
        assert len({name.partition("/")[0] for name in batch} - {"batch_size"}) == 1


def test_passes_are_counted(sets):
    """
    After 6 joint updates of 8: 20 rows twice, 60 rows 0.8 times, 13 rows three times.
    """
    feed = MixedFeed(sets, RECIPE, steps=3)
    assert feed.passes(6) == {"sentiment": 2.0, "paraphrase": 0.8, "similarity": 3.0}
    assert feed.passes(0) == dict.fromkeys(TASKS, 0.0)


def test_an_epoch_is_a_pass_over_the_sentiment_data(sets):
    """
    Without them, over the smallest set.
    """
    assert steps_of_an_epoch(sets, 8) == 3
    assert steps_of_an_epoch({t: sets[t] for t in ("paraphrase", "similarity")}, 8) == 2
    with pytest.raises(ValueError, match="sampling 'random' is not known"):
        MixedFeed(sets, RECIPE, steps=3, sampling="random")
