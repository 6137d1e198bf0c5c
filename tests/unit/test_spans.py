"""Recurring spans: the golden examples of the spec, the reference's rule stated plainly, what masking keeps."""

import sys
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splinter.ports.splinter.pretraining import spans
from splinter.ports.splinter.pretraining.proof import reference_mining
from splinter.ports.splinter.pretraining.spans import Cluster, Pieces

PAD, QUESTION = 0, 1
CHURCHILL = (
    "Roosevelt met Churchill in New York . Churchill told Roosevelt that New York was cold . "
    "New York and Roosevelt were fine ."
)
STOP_LIST = """
    ourselves hers between yourself but again there about once during out very having with they own an be some for do
    its yours such into of most itself other off is s am or who as from him each the themselves until below are we
    these your his through don nor me were her more himself this down should our their while above both up to ours had
    she all no when at any before them same and been have in will on does yourselves then that because what over why so
    can did not now under he you herself has just where too only myself which those i after few whom t being if theirs
    my against a by doing it how further was here than also could would
"""  # typed from section 3 of the spec
WORDS = ("New", "York", "play", "é", "7", "the", "The", "of", "##ing", "##s", "##'", ".", "-", "[SEP]", "[UNK]")


def passage(text):
    """Pieces of a text between [CLS] and [SEP], their ids, and a vocabulary made of them."""
    pieces = ["[CLS]", *(text.split() if isinstance(text, str) else text), "[SEP]"]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(["[PAD]", "[QUESTION]", *pieces]))}
    return pieces, [vocabulary[piece] for piece in pieces], Pieces(vocabulary)


def recurring(text, whole_words=False):
    _, ids, pieces = passage(text)
    return spans.recurring([ids], pieces, whole_words)[0]


def masked(text, share=1.0, seed=0, whole_words=False):
    _, ids, pieces = passage(text)
    found = spans.recurring([ids], pieces, whole_words)[0]
    return spans.mask(ids, found, np.random.RandomState(seed), QUESTION, PAD, share)


def holes(one):
    return [place for place, seen in enumerate(one.mask) if not seen]


# -- the rule, stated plainly -----------------------------------------------------------------------------


def plainly(tokens, whole_words=False, maximal=False, by_name=False):
    """Steps A, B and C of the spec, by comparing every place with every other: quadratic, and plain.

    Args:
        tokens: (T,) pieces as strings.
        whole_words: an occurrence whose word goes on counts for nothing.
        maximal: the trap of recording only the longest common run of a pair.
        by_name: the trap of taking equally long clusters in another order than that of their creation.
    """
    whole = [not follower.startswith("##") for follower in [*tokens[1:], ""]]
    first_place = {piece: place for place, piece in reversed(list(enumerate(tokens)))}
    alike = [(a, b) for a, b in combinations(range(len(tokens)), 2) if tokens[a] == tokens[b]]
    cluster_of, clusters = {}, []
    for a, b in sorted(alike, key=lambda pair: (first_place[tokens[pair[0]]], pair)):
        run = 0
        while run < 10 and b + run < len(tokens) and tokens[a + run] == tokens[b + run]:
            run += 1
        for length in range(run if maximal else 1, run + 1):
            if whole_words and not (whole[a + length - 1] and whole[b + length - 1]):
                continue
            first, second = (a, length), (b, length)
            if first not in cluster_of:
                cluster_of[first] = cluster_of[second] = [first, second]
                clusters.append(cluster_of[first])
            elif second not in cluster_of:
                cluster_of[first].append(second)
                cluster_of[second] = cluster_of[first]

    def valid(start, length):
        span = tokens[start : start + length]
        return (
            not span[0].startswith("##")
            and whole[start + length - 1]
            and all(piece.startswith("##") or piece.isalnum() for piece in span)
            and not all(piece.lower() in STOP_LIST.split() for piece in span)
        )

    clusters = [cluster for cluster in clusters if valid(*cluster[0])]
    if by_name:
        clusters.sort(key=lambda cluster: tokens[cluster[0][0]])
    clusters.sort(key=lambda cluster: -cluster[0][1])
    taken, kept = set(), []
    for cluster in clusters:
        length = cluster[0][1]
        free = sorted(start for start, _ in cluster if not taken & set(range(start, start + length)))
        if len(free) >= 2:
            kept.append(Cluster(length, free))
            taken |= {start + step for start in free for step in range(length)}
    return kept


def plainly_masked(ids, clusters, random, share):
    """Step D of the spec: (ids, mask, questions)."""
    ids, seen = list(ids), [1] * len(ids)
    most = min(30, max(1, round(share * len(ids))))
    hit, labels, questions = set(), set(), []
    for number in random.permutation(len(clusters)):
        length, starts = clusters[number]
        kept = starts[random.randint(len(starts))]
        keeps = set(range(kept, kept + length))
        if keeps & hit:
            continue
        for start in starts:
            places = set(range(start, start + length))
            if start == kept:
                continue
            if len(questions) == most or keeps & hit:
                break
            if places & (hit | labels):
                continue
            if ids[start : start + length] != ids[kept : kept + length]:
                continue
            for place in places:
                ids[place], seen[place] = PAD, 0
            ids[start], seen[start] = QUESTION, 1
            hit |= places
            labels |= keeps
            questions.append((start, kept, kept + length - 1))
    return ids, seen, sorted(questions)


some_words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5, unique=True)
texts = some_words.flatmap(lambda words: st.lists(st.sampled_from(words), max_size=58))
some_phrases = st.lists(st.lists(st.sampled_from(WORDS[:10]), min_size=1, max_size=6), min_size=1, max_size=5)
texts |= some_phrases.flatmap(lambda phrases: st.lists(st.sampled_from(phrases), max_size=20)).map(
    lambda drawn: [word for phrase in drawn for word in phrase][:58]
)
clusters = st.tuples(st.integers(1, 4), st.sets(st.integers(1, 16), min_size=2, max_size=6)).map(
    lambda drawn: Cluster(drawn[0], sorted(drawn[1]))
)
modes = pytest.mark.parametrize("whole_words", [False, True])


@modes
@given(text=texts)
@settings(max_examples=300, deadline=None)
def test_the_spans_are_those_of_the_plain_rule(whole_words, text):
    """
    Sorting n-grams, one piece longer each time, finds the clusters of the quadratic rule, in its order.
    """
    assert recurring(text, whole_words) == plainly(passage(text)[0], whole_words)


@modes
@given(several=st.lists(texts, max_size=6), portion=st.sampled_from([1, 60, 2**16]))
@settings(max_examples=200, deadline=None)
def test_passages_do_not_meddle_with_each_other(whole_words, several, portion):
    """
    Gone through together, some at a time or alone, each has the spans that it has by the plain rule.
    """
    texts = [passage(text)[0] for text in several]
    _, ids, pieces = passage([piece for text in texts for piece in text])
    rows = iter(ids[1:-1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spans, "PORTION", portion)
        found = spans.recurring([[next(rows) for _ in text] for text in texts], pieces, whole_words)
    assert found == [plainly(text, whole_words) for text in texts]


@modes
@given(text=texts, seed=st.integers(0, 99), share=st.sampled_from([0.05, 0.15, 1.0]))
@settings(max_examples=200, deadline=None)
def test_the_questions_are_those_of_the_plain_rule(whole_words, text, seed, share):
    """
    The same draws from the same stream, none less, and the same questions and holes.
    """
    _, ids, pieces = passage(text)
    found = spans.recurring([ids], pieces, whole_words)[0]
    ours, theirs = np.random.RandomState(seed), np.random.RandomState(seed)
    one = spans.mask(ids, found, ours, QUESTION, PAD, share)
    assert (one.tokens, one.mask, one.questions) == plainly_masked(ids, found, theirs, share)
    assert ours.randint(2**30) == theirs.randint(2**30)


@given(
    ids=st.lists(st.integers(2, 3), min_size=20, max_size=20),
    found=st.lists(clusters, max_size=5),
    seed=st.integers(0, 99),
    share=st.sampled_from([0.15, 1.0]),
)
@settings(max_examples=300, deadline=None)
def test_masking_minds_answers_and_text_of_other_clusters(ids, found, seed, share):
    """
    The plain rule holds for clusters that share pieces or differ in their text, which `recurring` never gives.
    """
    one = spans.mask(ids, found, np.random.RandomState(seed), QUESTION, PAD, share)
    assert (one.tokens, one.mask, one.questions) == plainly_masked(ids, found, np.random.RandomState(seed), share)


# -- golden examples --------------------------------------------------------------------------------------


def test_an_answer_is_not_hidden_by_an_occurrence_that_overlaps_it():
    """
    Once it answers a question, as in the authors' masking.py; before that it is masked by it, and the cluster ends.
    """
    found = [Cluster(2, [1, 8, 9])]
    kept = {number: np.random.RandomState(number) for number in range(20)}
    one = {n: spans.mask([9, *[2] * 12], found, random, QUESTION, PAD, 1.0).questions for n, random in kept.items()}
    assert {tuple(asked) for asked in one.values()} == {((1, 8, 9),), ((1, 9, 10),), ((8, 1, 2),)}


def test_golden_1_spans_of_two_and_of_one_piece():
    """
    `New York` three times, then `Roosevelt`, then `Churchill`: five questions with room for all.
    """
    assert recurring(CHURCHILL) == [(2, [5, 12, 17]), (1, [1, 10, 20]), (1, [3, 8])]
    one = masked(CHURCHILL)
    assert one.questions == [(3, 8, 8), (5, 12, 13), (10, 1, 1), (17, 12, 13), (20, 1, 1)]
    assert holes(one) == [6, 18]


def test_golden_1_with_the_share_of_the_paper():
    """
    0.15 of 24 pieces are four questions: the occurrence at 17 stays as text.
    """
    _, ids, _ = passage(CHURCHILL)
    one = masked(CHURCHILL, share=0.15)
    assert one.questions == [(3, 8, 8), (5, 12, 13), (10, 1, 1), (20, 1, 1)]
    assert holes(one) == [6]
    assert one.tokens[17:19] == ids[17:19]


def test_golden_2_a_half_word_first_loses_the_cluster():
    """
    `play ##ing` comes first, so the two whole words `play` are no cluster.
    """
    assert recurring("play ##ing chess is fun and chess is play time play") == [(2, [3, 7])]


def test_golden_3_a_half_word_later_is_kept():
    """
    The later `play ##ing` counts as `play`, and may be the answer.
    """
    text = "play chess is fun and chess is play ##ing"
    assert recurring(text) == [(2, [2, 6]), (1, [1, 8])]
    assert (1, 8, 8) in masked(text).questions


def test_golden_4_a_span_that_overlaps_itself():
    """
    The kept occurrence holds the question that asks for it, as in the reference.
    """
    text = "New York New York New York"
    assert recurring(text) == [(4, [1, 3])]
    one = masked(text)
    assert (one.questions, holes(one)) == ([(3, 1, 4)], [4, 5, 6])


def test_golden_5_stop_words_alone_are_nothing():
    """
    `the of in` recurs and is no span.
    """
    assert recurring("the of in the of in the of") == []
    assert masked("the of in the of in the of").questions == []


def test_golden_6_ten_pieces_are_the_longest_span():
    """
    Thirteen words that come twice: ten of them, then the other three.
    """
    assert recurring(" ".join("abcdefghijklm" * 2)) == [(10, [1, 14]), (3, [11, 24])]


def test_the_stop_words_are_those_of_the_spec():
    """
    130 words, none more and none less.
    """
    assert set(STOP_LIST.split()) == spans.STOP_WORDS
    assert len(spans.STOP_WORDS) == 130


def test_pieces_are_told_apart():
    """
    Letters and digits of any script may stand in a span, and any ## piece; stop words whatever their case.
    """
    words = ["Ada", "é7", "the", "The", "##the", "##'", ".", "co-op", "[SEP]"]
    found = Pieces({word: number for number, word in enumerate(words)})
    assert found.inside.tolist() == [True, True, True, True, True, True, False, False, False]
    assert found.continues.tolist() == [False, False, False, False, True, True, False, False, False]
    assert found.content[:6].tolist() == [True, True, False, False, True, True]


# -- traps of the spec, section 8 -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "trap"),
    [
        ("play ##ing . play . play", {"whole_words": True}),
        ("play . play ##ing", {"whole_words": True}),
        ("New York . New York .", {"maximal": True}),
        ("York New Ada . York New . New Ada", {"by_name": True}),
        ("York 7 . York Ada , York Ada . New 7 - New 7", {"by_name": True}),
    ],
    ids=[
        "1-first-occurrence-is-half",
        "1-later-occurrence-is-half",
        "2-maximal-only",
        "3-unstable-order",
        "3-order-of-names",
    ],
)
def test_a_trap_would_be_seen(text, trap):
    """
    On these texts the plain rule with the trap built in gives something else.
    """
    right, wrong = plainly(passage(text)[0]), plainly(passage(text)[0], **trap)
    assert recurring(text) == right != wrong


def test_trap_1_whole_words_are_asked_of_each_occurrence_on_request():
    """
    The two whole words are found where the first occurrence is half, and a later half one is left out.
    """
    assert recurring("play ##ing . play . play", whole_words=True) == [(1, [4, 6])]
    text = "P x ##s . P P x . P P . P x"  # of equal lengths the one whose first whole occurrence comes first
    assert recurring(text, whole_words=True) == [(2, [5, 9]), (1, [1, 12]), (1, [7, 13])]
    assert reference_mining.kept(["[CLS]", *text.split(), "[SEP]"], True)[0] == [(5, 6), (9, 10)]
    assert recurring("play . play ##ing", whole_words=True) == []


def test_trap_2_a_part_of_a_longer_span_survives():
    """
    `York` recurs beyond the `New York`s, which do not cover it.
    """
    assert recurring("New York , New York . York ; York") == [(2, [1, 4]), (1, [7, 9])]


def test_trap_3_equally_long_spans_go_in_the_order_of_the_text():
    """
    `York New` stands first and takes the `New` that `New Ada` would need.
    """
    assert recurring("York New Ada . York New . New Ada") == [(2, [1, 5]), (1, [3, 9])]


def test_trap_3_the_first_whole_occurrence_decides():
    """
    `New York` stands first, and yet `New York play` comes after `New Ada 7`, which recurs earlier.
    """
    text = "New York . New Ada 7 . New Ada 7 . New York play . New York play"
    assert recurring(text) == [(3, [4, 8]), (3, [12, 16])] == plainly(passage(text)[0])


def test_trap_4_the_limit_counts_the_ends_and_rounds_half_to_even(monkeypatch):
    """
    28 words and two ends allow four questions: 4.2 without the ends would too, five if halves went up.
    """
    assert len(masked("Ada . " * 14, share=0.15).questions) == 4  # round(4.5)
    assert len(masked("Ada . " * 4, share=0.15).questions) == 2  # round(1.5); without the ends round(1.2)
    whole = spans.limit
    monkeypatch.setattr(spans, "limit", lambda tokens, share: whole(tokens - 2, share))
    assert len(masked("Ada . " * 4, share=0.15).questions) == 1


@pytest.mark.parametrize(
    ("tokens", "most"),
    [(2, 1), (3, 1), (10, 2), (30, 4), (50, 8), (70, 10), (90, 14), (196, 29), (197, 30), (512, 30), (4096, 30)],
)
def test_the_limit_is_a_share_of_the_pieces(tokens, most):
    """
    At least one, at most 30, halves to the even number.
    """
    assert spans.limit(tokens) == most


# -- what masking keeps -----------------------------------------------------------------------------------


@given(text=texts, seed=st.integers(0, 99), share=st.sampled_from([0.05, 0.15, 1.0]))
@settings(max_examples=300, deadline=None)
def test_what_masking_promises(text, seed, share):
    """
    Not too many questions, each with its own pieces at the answer; holes are padding that nobody sees.
    """
    _, ids, _ = passage(text)
    one = masked(text, share, seed)
    length_of = {start: length for length, starts in recurring(text) for start in starts}
    starts_of = {start: starts for _, starts in recurring(text) for start in starts}
    assert len(one.questions) <= spans.limit(len(ids), share)
    assert [question for question, _, _ in one.questions] == [
        place for place, piece in enumerate(one.tokens) if piece == QUESTION
    ]
    expected = set()
    for question, first, last in one.questions:
        length = length_of[question]
        assert last - first + 1 == length
        assert ids[question : question + length] == ids[first : last + 1]
        others = [start for start in starts_of[question] if start != first]
        if all(abs(start - first) >= length for start in others):
            assert one.tokens[first : last + 1] == ids[first : last + 1]
        expected |= set(range(question + 1, question + length))
    assert set(holes(one)) == expected
    for place, piece in enumerate(ids):
        asked = one.tokens[place] == QUESTION
        assert one.tokens[place] == (PAD if place in expected else QUESTION if asked else piece)


def test_the_same_state_gives_the_same_questions():
    """
    And another one others.
    """
    assert masked(CHURCHILL, seed=3) == masked(CHURCHILL, seed=3)
    assert len({tuple(masked(CHURCHILL, seed=seed).questions) for seed in range(9)}) > 1


def test_the_input_stays_as_it_is():
    """
    Masking copies: the passage is asked again in every epoch.
    """
    _, ids, pieces = passage(CHURCHILL)
    found, before = spans.recurring([ids], pieces)[0], list(ids)
    spans.mask(ids, found, np.random.RandomState(0), QUESTION, PAD)
    assert ids == before
    assert found == spans.recurring([ids], pieces)[0]


def test_a_word_that_never_ends_takes_linear_time():
    """
    Twice the text, about twice the lines of Python that run; every pair of positions would be four times.
    """

    def lines(count):
        _, ids, pieces = passage(["Ada"] * count)
        ran, before = [0], sys.gettrace()

        def trace(_frame, event, _argument):
            ran[0] += event == "line"
            return trace

        sys.settrace(trace)
        try:
            found = spans.recurring([ids], pieces)[0]
            spans.mask(ids, found, np.random.RandomState(0), QUESTION, PAD)
        finally:
            sys.settrace(before)
        assert found == [(10, list(range(1, count - 8)))]
        return ran[0]

    assert lines(4096) < 2.2 * lines(2048)
