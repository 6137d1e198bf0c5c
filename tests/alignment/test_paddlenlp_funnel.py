"""paddlenlp 2.8.1's own Funnel under the same steps: where it agrees with transformers, and each fault that it has.

Faults are strict expected failures: a release that mends one turns its test red, and its row in docs/funnel.md
goes. Skipped where the extra `paddlenlp` is not installed.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from tolerances import PEER_FUNNEL

from splinter.align import EXACT, Pair, steps
from splinter.align.port import Side
from splinter.align.weights import Rule, WeightMap
from splinter.ports.common import checkpoint
from splinter.ports.common.paddle.train import AdamW
from splinter.ports.common.training.schedule import rates
from splinter.ports.funnel import config, data, metric, train
from splinter.ports.funnel.model import MODELS
from splinter.ports.funnel.proof import cases, port
from splinter.ports.funnel.proof.reference_metric import evaluate

pytestmark = pytest.mark.audit


@pytest.fixture(scope="module")
def nlp():
    """paddlenlp's Funnel, or the reason for doing without."""
    pytest.importorskip("paddlenlp", reason="the extra 'paddlenlp' is not installed", exc_type=ImportError)
    from paddlenlp.transformers.funnel import configuration, modeling

    return SimpleNamespace(modeling=modeling, config=configuration.FunnelConfig)


@pytest.fixture(scope="module")
def squad(nlp):
    """paddlenlp's SQuAD metric."""
    from paddlenlp.metrics import squad

    return squad


def weights(kind):
    """transformers' names -> paddlenlp's: they are the same."""
    rules = config.weight_map(kind).rules
    return WeightMap([Rule(rule.theirs, rule.theirs, rule.transpose) for rule in rules], config.weight_map(kind).drop)


def build(nlp, folder, kind, **changes):
    """One of its models with the configuration of a checkpoint, dropout 0."""
    values = {**checkpoint.read_json(folder / "config.json"), "hidden_dropout": 0.0, "attention_dropout": 0.0}
    known = {name: values[name] for name in values if name in config.FunnelConfig.__dataclass_fields__}
    model = getattr(nlp.modeling, config.ARCHITECTURES[kind])(nlp.config(**{**known, **changes}))
    model.eval()
    return model


def load(nlp, folder, kind, **changes):
    """The same with the weights of the checkpoint, every tensor by name."""
    model = build(nlp, folder, kind, **changes)
    own = dict(model.named_parameters())
    tensors = checkpoint.open_weights(folder)
    for name, array in weights(kind).convert(tensors, {n: tuple(p.shape) for n, p in own.items()}):
        own[name].set_value(np.ascontiguousarray(array))
    return model


def forward(model, batch):
    """Its outputs under the names of ours; `return_dict`, because its answering model fails without."""
    found = model(**{name: batch[name] for name in data.INPUTS}, return_dict=True)
    if "Answering" in type(model).__name__:
        return {"start_logits": found[0], "end_logits": found[1]}
    return {"logits": found}


def loss(model, outputs, batch):
    """Ours: its own is dropped with return_dict, and not to be had without."""
    mode = "answering" if len(outputs) == 2 else "classification"
    return MODELS[mode].loss(*outputs.values(), *(batch[name] for name in data.TARGETS[mode]))


def pair(nlp, mode, attention="relative_shift"):
    """transformers and paddlenlp."""
    base = port.PORT
    if attention == "factorized":
        base = replace(base, checkpoints={"tiny": cases.tiny_factorized})

    def ours(mode):
        return Side(
            framework="paddle",
            sources=("paddlenlp.transformers.funnel.modeling",),
            kind="paddlenlp",
            load=lambda folder: load(nlp, folder, mode),
            build=lambda folder: build(nlp, folder, mode),
            forward=forward,
            loss=loss,
            optimizer=AdamW,
            decayed=train.decayed,
            rates=rates,
        )

    audited = replace(base, name="paddlenlp-funnel", ours=ours, weights=weights)
    return Pair(audited, mode, "tiny", base.checkpoints["tiny"](), "float32")


def judged(alignment, tolerance):
    """The message of a failure, else an empty string."""
    alignment.judge(tolerance)
    return "" if alignment.passed else alignment.message()


# -- where it agrees --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", config.MODES)
def test_forward(nlp, mode):
    """With the published options, every layer and the logits are transformers', hostile batches included."""
    assert not judged(steps.forward(pair(nlp, mode)), PEER_FUNNEL["forward"])


@pytest.mark.parametrize("mode", config.MODES)
def test_backward(nlp, mode):
    """So are the gradients, and twenty updates of the recipe."""
    assert not judged(steps.backward(pair(nlp, mode)), PEER_FUNNEL["backward"])


# -- its model's faults -----------------------------------------------------------------------------------


def inputs(mode="answering", name="padded"):
    """A batch as its tensors."""
    batch = cases.batches(cases.tiny(), mode)[name]
    return {key: paddle.to_tensor(value) for key, value in batch.items()}


@pytest.mark.xfail(strict=True, raises=AttributeError, reason="FunnelModel reads attributes of what is a tuple")
def test_forward_with_defaults(nlp):
    """Its answering model can be called as its documentation says."""
    batch = inputs()
    load(nlp, cases.tiny(), "answering")(**{name: batch[name] for name in data.INPUTS})


@pytest.mark.xfail(
    strict=True,
    raises=(AssertionError, pytest.fail.Exception),
    reason="with return_dict the loss is computed and dropped",
)
def test_loss_is_returned(nlp):
    """Its answering model returns the loss of given labels."""
    assert len(load(nlp, cases.tiny(), "answering")(**inputs(), return_dict=True)) == 3


@pytest.mark.xfail(strict=True, raises=AttributeError, reason="stride pooling casts to bool what here is a tuple")
def test_forward_factorized(nlp):
    """Factorized attention is transformers'."""
    assert not judged(steps.forward(pair(nlp, "answering", "factorized")), PEER_FUNNEL["forward"])


def compared(nlp, **changes):
    """Largest difference of logits to our port with another option than the checkpoint's; ours are transformers'."""
    batch = inputs(name="padded")
    given = {name: batch[name] for name in data.INPUTS}
    theirs = load(nlp, cases.tiny(), "answering", **changes)(**given, return_dict=True)[0]
    ours = MODELS["answering"].from_pretrained(cases.tiny(), **changes)(*given.values())[0]
    return float((theirs - ours).abs().max())


@pytest.mark.parametrize("option", [{"pooling_type": "max"}, {"pool_q_only": False}], ids=str)
def test_forward_with_another_pooling(nlp, option):
    """These options agree."""
    assert compared(nlp, **option) < 1e-4


@pytest.mark.xfail(strict=True, raises=ValueError, reason="stride pooling drops the last token whatever is asked for")
@pytest.mark.parametrize("option", ["truncate_seq", "separate_cls"])
def test_forward_without_truncation(nlp, option):
    """Both may be switched off."""
    assert compared(nlp, **{option: False}) < 1e-4


@pytest.mark.xfail(
    strict=True,
    raises=(AssertionError, pytest.fail.Exception),
    reason="a model that is built, not loaded, keeps Paddle's laws; relative tensors are 0",
)
def test_init(nlp):
    """A fresh model follows the laws of transformers."""
    assert not judged(steps.init(pair(nlp, "answering")), EXACT)


@pytest.mark.xfail(
    strict=True, raises=(AssertionError, pytest.fail.Exception), reason="squeeze() takes all axes of length 1"
)
def test_forward_of_the_discriminator_on_one_row(nlp):
    """The pretraining head keeps the batch axis of a single row."""
    made = cases.TINY
    values = nlp.config(d_model=made.d_model, hidden_act=made.hidden_act)
    head = nlp.modeling.FunnelDiscriminatorPredictions(values)
    assert head(paddle.zeros([1, 5, made.d_model])).shape == [1, 5]


# -- its metric's faults ----------------------------------------------------------------------------------


def scored(squad, golds, texts, odds, with_flag):
    """Its scores of answers."""
    examples = [
        {"id": name, "answers": {"text": found, "answer_start": [0] * len(found)}}
        | ({"is_impossible": not found} if with_flag else {})
        for name, found in golds.items()
    ]
    return dict(squad.squad_evaluate(examples, texts, odds, float("inf")))


@pytest.fixture
def plain():
    """Hostile predictions without the quotes that its normaliser removes."""
    golds, texts, odds = cases.predictions()
    kept = [n for n, found in golds.items() if not set("".join([*found, texts[n]])) & set("\u201c\u201d")]
    return tuple({n: one[n] for n in kept} for one in (golds, texts, odds))


SAME = ("exact", "f1", "total", "HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1", "best_exact", "best_f1")


def test_metric_without_the_flag(squad, plain):
    """Told by empty lists of golds which questions have no answer, its scores are SQuAD's."""
    theirs, ours = scored(squad, *plain, with_flag=False), evaluate(*plain)
    assert {name: theirs[name] for name in SAME} == {name: ours[name] for name in SAME}


@pytest.mark.xfail(
    strict=True,
    raises=(AssertionError, pytest.fail.Exception),
    reason="is_impossible is taken for 'has an answer': the two groups are swapped",
)
def test_metric_with_the_flag(squad, plain):
    """The same with is_impossible in the data, as SQuAD 2.0 has it."""
    theirs, ours = scored(squad, *plain, with_flag=True), evaluate(*plain)
    assert {name: theirs[name] for name in SAME} == {name: ours[name] for name in SAME}


def test_metric_swaps_the_groups(squad, plain):
    """What the fault amounts to: HasAns is NoAns and the other way round, exact and F1 of all stay right."""
    theirs, ours = scored(squad, *plain, with_flag=True), evaluate(*plain)
    assert (theirs["exact"], theirs["f1"]) == (ours["exact"], ours["f1"])
    for one, other in (("HasAns", "NoAns"), ("NoAns", "HasAns")):
        assert [theirs[f"{one}_{name}"] for name in ("exact", "f1", "total")] == [
            ours[f"{other}_{name}"] for name in ("exact", "f1", "total")
        ]


def decoded(squad, context, offsets, start, end, null=True):
    """Its answer to one question with one window, and its candidates."""

    class Examples(list):
        def __getitem__(self, key):
            return [one[key] for one in self] if isinstance(key, str) else list.__getitem__(self, key)

    examples = Examples([{"id": "q", "context": context}])
    features = [{"example_id": "q", "offset_mapping": offsets}]
    texts, nbest, odds = squad.compute_prediction(examples, features, ([start], [end]), version_2_with_negative=null)
    return texts["q"], nbest["q"], odds.get("q")


CONTEXT = "one two three"
OFFSETS = [None, None, (0, 3), (4, 7), (8, 13), (0, 0)]  # <cls>, a question, three words, <sep>


def our_decoding(start, end, null=True):
    """What our port says to the same."""
    spread = np.array([(-1, -1) if pair in (None, (0, 0)) else pair for pair in OFFSETS])
    row = {"offsets": spread}
    return metric.decode(SimpleNamespace(context=CONTEXT), [row], start[None], end[None], null=null)


def test_metric_decoding(squad):
    """Without ties, with the final <sep> scored low, its answer, odds and candidates are ours."""
    offsets = OFFSETS[:-1]
    rng = np.random.default_rng(0)
    for _ in range(50):
        start, end = rng.normal(size=(2, 6))
        text, nbest, odds = decoded(squad, CONTEXT, offsets, start[:5], end[:5])
        ours = our_decoding(np.append(start[:5], -99), np.append(end[:5], -99))
        assert text == ours.text()
        assert odds == pytest.approx(ours.odds, abs=1e-12)
        assert [one["text"] for one in nbest] == [span.text for span in ours.spans]


@pytest.mark.xfail(
    strict=True,
    raises=(AssertionError, pytest.fail.Exception),
    reason="the final <sep> has offset (0, 0), is neither None nor empty, so may answer",
)
def test_metric_final_separator_is_no_answer(squad):
    """A span that ends on the last <sep> is not among the candidates."""
    start, end = np.array([0.0, 0, 1, 0, 0, 0]), np.array([0.0, 0, 0, 0, 0, 9])
    _, nbest, _ = decoded(squad, CONTEXT, OFFSETS, start, end)
    assert len(nbest) == len(our_decoding(start, end).spans)


@pytest.mark.xfail(
    strict=True,
    raises=(AssertionError, pytest.fail.Exception),
    reason="argsort reversed: the higher index goes first among equal logits",
)
def test_metric_ties_go_to_the_lower_index(squad):
    """Of equal logits the first position counts, as in transformers' SQuAD metrics."""
    start, end = np.zeros(6), np.zeros(6)
    start[0] = end[0] = -9
    text, _, _ = decoded(squad, CONTEXT, OFFSETS[:-1], start[:5], end[:5])
    assert text == our_decoding(start, end).text()


@pytest.mark.xfail(strict=True, raises=IndexError, reason="it looks for a text among candidates that have none")
def test_metric_with_empty_candidates_only(squad):
    """Several candidates without text, the null answer and spans of <sep>, do not end in an error."""
    start, end = np.zeros(6), np.zeros(6)
    decoded(squad, CONTEXT, [None] * 5 + [(0, 0)], start, end)
