"""ports/splinter/answering.py: probabilities over all spans, what is shown of an answer, texts that cannot be read."""

from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splinter import datasets
from splinter.ports.common import checkpoint
from splinter.ports.common.answers import Span, normalize
from splinter.ports.splinter import answering, data, tasks
from splinter.ports.splinter.config import read_checkpoint
from splinter.ports.splinter.proof import cases

MODES = pytest.mark.parametrize("mode", ["paper", "hf"])
SIZES = asdict(tasks.Sizes(160, 32, 64))


# -- how sure ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("longest", [1, 3, 99])
def test_probabilities_are_a_softmax_over_all_spans_that_may_answer(longest, scale):
    """
    As spelled out span by span: windows, places that may not answer, longest answer; they add up to 1 at any scale.
    """
    random = np.random.RandomState(0)
    start, end = (scale * random.randn(2, 7).astype(np.float32) for _ in range(2))
    start[0, 5:] = end[0, 5:] = np.finfo(np.float32).min  # padding
    may_start, may_end = random.rand(2, 7) < 0.6, random.rand(2, 7) < 0.6
    found = answering.log_softmax(answering.span_scores(start, end, may_start, may_end, longest))
    spans = {
        (r, i, j): float(start[r, i]) + float(end[r, j])
        for r, i, j in product(range(2), range(7), range(7))
        if may_start[r, i] and may_end[r, j] and i <= j < i + longest
    }
    whole = np.logaddexp.reduce(sorted(spans.values()))
    assert found.shape == (2, 7, min(longest, 7))
    for r, i, extra in np.ndindex(found.shape):
        assert found[r, i, extra] == pytest.approx(spans.get((r, i, i + extra), -np.inf) - whole, rel=1e-12)
    assert np.exp(found).sum() == pytest.approx(1, abs=1e-12)


def test_where_nothing_may_answer_nothing_is_probable():
    """
    No NaN of 0 / 0; a context of no length neither.
    """
    for length in (0, 3):
        logits, no = np.zeros((1, length)), np.zeros((1, length), bool)
        found = answering.log_softmax(answering.once(answering.span_scores(logits, logits, no, no, 10), no, no))
        assert (found == -np.inf).all()
        assert answering.masses(found, lambda *span: "Ann") == {}


def test_a_span_that_two_windows_hold_counts_once():
    """
    Windows of pieces a b and b c, all alike: a third for each; b is kept where it scores more.
    """
    begin = np.array([[0, 2], [2, 4]])
    starts, ends, inside = np.zeros((2, 2)), np.zeros((2, 2)), np.ones((2, 2), bool)
    starts[1, 0] = 0.5
    found = answering.once(answering.span_scores(starts, ends, inside, inside, 1), begin, begin + 1)
    assert found[..., 0].tolist() == [[0, -np.inf], [0.5, 0]]
    longer = answering.once(answering.span_scores(starts, ends, inside, inside, 2), begin, begin + 1)
    assert np.isfinite(longer).sum() == 5  # a, b, c, a b, b c


def test_windows_that_overlap_change_no_probability():
    """
    Of logits that depend on the piece alone, in one window or in two.
    """
    random = np.random.RandomState(0)
    logits, places = random.randn(2, 8), np.arange(8)
    whole = answering.log_softmax(answering.span_scores(*logits[:, None], *np.ones((2, 1, 8), bool), 3))
    cut = np.stack([logits[:, :5], logits[:, 3:8]], axis=1)  # (2, R, T)
    at = np.stack([places[:5], places[3:8]])
    parts = answering.once(answering.span_scores(*cut, *np.ones((2, 2, 5), bool), 3), at, at + 1)
    held = np.exp(whole)[0, :, 0].sum() / np.exp(whole)[0, :, 0]  # spans of one piece are in some window
    singles = np.exp(answering.log_softmax(parts)[..., 0])
    found = np.zeros(8)
    np.add.at(found, at, singles)
    assert found.sum() / found == pytest.approx(held)


def test_one_answer_in_several_spans_has_the_sum():
    """
    With a comma, with an article, elsewhere, in another window.
    """
    texts = [["Ann", "Ann,"], ["the Ann", "Bo"]]
    log_p = np.log([[[0.1], [0.2]], [[0.3], [0.4]]])
    found = answering.masses(log_p, lambda window, first, last: texts[window][first])
    assert found == pytest.approx({"ann": 0.6, "bo": 0.4})


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Ann", "the Ann,", True),
        ("(1874)", "1874.", True),
        ("U.S.", "US", True),
        ("1,500", "1500", True),
        ("1.5", "15", False),
        ("-5", "5", False),
        ("3-1", "31", False),
        ("A", "the", False),
    ],
)
def test_answers_that_read_alike_are_one(one, other, alike):
    """
    As the metric has it, but for numbers and for an answer that is an article.
    """
    assert (answering.reads(one) == answering.reads(other)) is alike
    assert answering.reads(one)


CONTEXT = "Ann, Bo and Cy"


def spans(*given):
    """(text, score) as the spans of a decoder."""
    places = [(CONTEXT.index(text), CONTEXT.index(text) + len(text)) if text else (None, None) for text, _ in given]
    return [Span(t or "empty", 0.5, s, 0.0, s, *at) for (t, s), at in zip(given, places, strict=True)]


def test_what_is_shown_keeps_the_first_and_sorts_the_others():
    """
    One answer for texts that differ by punctuation alone, its place trimmed with it; `empty` is no answer.
    """
    mass = {"ann": 0.2, "bo": 0.1, "cy": 0.7}
    found = answering.shown(spans(("Ann,", 9.0), ("Ann", 8.0), ("Bo", 7.0), ("Cy", 6.0)), mass, CONTEXT)
    assert [(one.text, one.probability, one.start, one.end) for one in found] == [
        ("Ann", 0.2, 0, 3), ("Cy", 0.7, 12, 14), ("Bo", 0.1, 5, 7)
    ]  # fmt: skip
    assert found[0].score == 9.0
    assert answering.shown(spans(("", 0.0)), mass, CONTEXT) == []


@pytest.fixture(scope="module", params=["tiny", "splinter-mini-qa"])
def answerer(request):
    """In mode paper, and of each kind of model: one without training, one that answers."""
    if request.param == "tiny":
        return tasks.open_answerer(tasks.Settings(str(cases.tiny()), "torch", mode="paper", sizes=SIZES))
    return tasks.open_answerer(tasks.Settings("splinter-mini-qa", "torch"))


def agree(answerer, examples):
    """What `predict` shows first is what `evaluate` scores; returns how many questions."""
    for (example, scored), reply in zip(answerer.answers(examples), answerer.ask(examples), strict=True):
        assert reply.example is example
        first = reply.answers[0]
        told = scored[0].text[answering.trimmed(scored[0].text)]
        assert "".join(first.text.split()) == "".join(told.split())  # the protocol puts blanks between MRQA's tokens
        assert first.text == example.context[first.start : first.end]
        assert 0 <= first.probability <= 1
        assert sum(one.probability for one in reply.answers) < 1 + 1e-9
    return len(examples)


def test_predict_and_evaluate_agree_on_every_question_of_the_sample(answerer):
    """
    On all 120 questions of the shipped sample.
    """
    path, counts = tasks.shipped(Path("sample"), tasks.DEV_SAMPLE)
    assert agree(answerer, [one for one in data.read_examples(path, "paper") if counts(one)]) == 120


def test_predict_and_evaluate_agree_in_mode_hf():
    """
    Where a span may be seen in two windows, and answers are longer.
    """
    path, counts = tasks.shipped(Path("sample"), tasks.DEV_SAMPLE)
    hf = tasks.open_answerer(tasks.Settings(str(cases.tiny()), "torch", mode="hf", sizes=SIZES))
    assert agree(hf, [one for one in data.read_examples(path, "hf") if counts(one)]) == 120


def test_predict_and_evaluate_agree_on_real_questions(answerer):
    """
    On 200 questions of SQuAD's dev file.
    """
    try:
        path = datasets.find("squad_v1/dev-v1.1.json")
    except datasets.DataMissing as missing:
        pytest.skip(str(missing))
    assert agree(answerer, list(tasks.drawn(list(data.read_examples(path, "paper")), 200))) == 200


@MODES
def test_how_many_are_shown_changes_nothing_else(mode):
    """
    Answers and probabilities of --n-best 1, 3 and 50; there are never more than the 20 that were searched for.
    """
    asked = data.example("1", "Who wrote it?", "Ann wrote it in 1990, and Bo read it in Oslo. " * 9, mode, "here")
    model = tasks.Settings(str(cases.tiny()), "torch", mode=mode, sizes=SIZES)
    many, few, one = (next(tasks.open_answerer(model, n_best=n).ask([asked])).answers for n in (50, 3, 1))
    assert 3 < len(many) <= 20
    assert (many[:3], many[:1]) == (few, one)


def test_scores_of_the_protocol_keep_their_punctuation(monkeypatch, answerer):
    """
    A model that ends its answer on the comma: `evaluate` scores that text and its old share, a reader sees the date.
    """
    context = "She was born on 3 March 1987, in Oslo."
    asked = data.example("1", "When was she born?", context, "paper", "here")
    after = context.index(",") + 1

    def logits(rows):
        ids = rows.input_ids[0].tolist()
        begin, end = (
            ids.index(102) + 1 + len(answerer.tokenizer.encode([context[:n]])[0]) for n in (16, after)
        )  # fmt: skip
        scores = np.zeros((2, *rows.input_ids.shape), np.float32)
        scores[0, 0, begin] = scores[1, 0, end - 1] = 9
        return scores[0], scores[1]

    monkeypatch.setattr(answerer, "logits", logits)
    ((_, scored),) = answerer.answers([asked])
    (reply,) = answerer.ask([asked])
    assert scored[0].text == "3 March 1987,"
    shown = reply.answers[0]
    assert (shown.text, context[shown.start : shown.end]) == ("3 March 1987", "3 March 1987")


# -- where an answer ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("3 March 1987,", "3 March 1987"),
        ("3 March 1987.", "3 March 1987"),
        (" , Oslo ;", "Oslo"),
        ("Marsden Hall (opened in 1874)", "Marsden Hall (opened in 1874)"),
        ("1874)", "1874"),
        ("(opened in 1874", "opened in 1874"),
        ('"Emma"', '"Emma"'),
        ('Emma",', "Emma"),
        ("the U.S.", "the U.S."),
        ("Samuel L.", "Samuel L."),
        ("It has 5.", "It has 5"),
        ("$3.5.", "$3.5"),
        ("(a) b)", "(a) b"),
        ("a (b", "a (b"),
        (") a (", "a"),
        ("((a)", "(a)"),
        ("$5", "$5"),
        ("50%", "50%"),
        ("C++", "C++"),
        ("-5", "-5"),
        ("Who's Afraid?", "Who's Afraid?"),
        ("the lighthouse", "the lighthouse"),
        (",", ","),
        ("", ""),
    ],
)
def test_an_answer_ends_where_its_words_end(text, kept):
    """
    Stray marks go, what carries meaning stays, and something is always left.
    """
    assert text[answering.trimmed(text)] == kept


@settings(deadline=None, max_examples=500)
@given(st.text(st.sampled_from("aA .,;:()[]{}\"'-$%é\n"), max_size=12))
def test_the_metric_does_not_see_what_is_trimmed(text):
    """
    The score of an answer is the same before and after, and nothing is left to trim.
    """
    kept = text[answering.trimmed(text)]
    assert normalize(kept) == normalize(text)
    assert kept[answering.trimmed(kept)] == kept


# -- whether a text could be read -------------------------------------------------------------------------

READABLE = {
    "English": "The lighthouse on Tern Island was built by Ingrid Solheim in 1874. It is 41 metres high.",
    "names": "Thutmose, Hatshepsut, Czesław Miłosz and Ngũgĩ wa Thiong'o met Szymborska in Kraków.",
    "German": "Die Donau ist mit einer mittleren Wasserführung nach der Wolga der zweitgrößte Fluss in Europa.",
    "a rare sign": "Ann ate 🍕.",
    "nothing": "",
}
FOREIGN = {
    "Russian": "Москва является столицей России и крупнейшим городом страны. Город основан в 1147 году.",
    "Greek": "Η Αθήνα είναι η πρωτεύουσα της Ελλάδας και η μεγαλύτερη πόλη της χώρας.",
    "Chinese": "北京是中华人民共和国的首都,位于华北平原的北部,是全国的政治和文化中心。",
    "Japanese": "東京は日本の首都であり、世界最大級の都市の一つである。",
    "Korean": "서울은 대한민국의 수도이자 최대 도시이다. 한강을 끼고 있다.",
    "Arabic": "القاهرة هي عاصمة جمهورية مصر العربية وأكبر مدنها.",
    "Hebrew": "ירושלים היא עיר הבירה של מדינת ישראל והעיר הגדולה בה.",
    "Hindi": "दिल्ली भारत की राजधानी है और एक महानगर है।",
    "Thai": "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย",
    "Amharic": "አዲስ አበባ የኢትዮጵያ ዋና ከተማ ናት።",
}


@pytest.mark.parametrize(("name", "text"), [*READABLE.items(), *FOREIGN.items()])
def test_a_text_that_the_vocabulary_cannot_read_is_told(name, text):
    """
    Other scripts, spelled letter by letter or not at all; not names, and no language of its own letters.
    """
    folder = checkpoint.resolve("splinter-mini-qa")
    tokenizer = tasks.open_tokenizer(folder, read_checkpoint(folder)[0])
    share = answering.unread(np.array(tokenizer.encode([text])[0], int), tokenizer)
    assert (share >= answering.UNREADABLE) is (name in FOREIGN)
