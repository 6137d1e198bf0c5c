"""paddlenlp 2.8.1's own BERT, schedules and tokenizer under the steps that concern them: what agrees, and each fault.

Faults are strict expected failures, as in test_paddlenlp_funnel.py. Skipped where the extra `paddlenlp` is not
installed.
"""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest
import torch
import transformers
from tolerances import PEER_BERT, PEER_RATES

from splinter.align import Pair, Port, Rule, Side, WeightMap, steps

pytestmark = pytest.mark.audit
SIZES = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
EPSILON = 1e-12
"""BERT's; paddlenlp's configuration has it under the same name, layer_norm_eps."""


@pytest.fixture(scope="module")
def nlp():
    """paddlenlp's BERT, or the reason for doing without."""
    pytest.importorskip("paddlenlp", reason="the extra 'paddlenlp' is not installed", exc_type=ImportError)
    from paddlenlp.transformers.bert import configuration, modeling

    return SimpleNamespace(modeling=modeling, config=configuration.BertConfig)


def weights(mode):
    """transformers' names -> paddlenlp's."""
    layer, mine = "encoder.layer.*", "encoder.layers.*"
    linear = {
        "attention.self.query": "self_attn.q_proj",
        "attention.self.key": "self_attn.k_proj",
        "attention.self.value": "self_attn.v_proj",
        "attention.output.dense": "self_attn.out_proj",
        "intermediate.dense": "linear1",
        "output.dense": "linear2",
    }
    rules = [Rule(f"embeddings.{n}_embeddings.weight", f"embeddings.{n}_embeddings.weight")
             for n in ("word", "position", "token_type")]  # fmt: skip
    rules += [Rule(f"{layer}.{t}.weight", f"{mine}.{o}.weight", transpose=True) for t, o in linear.items()]
    rules += [Rule(f"{layer}.{t}.bias", f"{mine}.{o}.bias") for t, o in linear.items()]
    norms = {"attention.output.LayerNorm": "norm1", "output.LayerNorm": "norm2"}
    rules += [
        Rule(f"{layer}.{t}.{leaf}", f"{mine}.{o}.{leaf}") for t, o in norms.items() for leaf in ("weight", "bias")
    ]
    rules += [Rule(f"embeddings.LayerNorm.{leaf}", f"embeddings.layer_norm.{leaf}") for leaf in ("weight", "bias")]
    rules += [Rule("pooler.dense.weight", "pooler.dense.weight", transpose=True)]
    return WeightMap([*rules, Rule("pooler.dense.bias", "pooler.dense.bias")])


def reference(epsilon=EPSILON):
    """transformers' BertModel, every weight random and large enough to matter."""
    torch.manual_seed(0)
    config = transformers.BertConfig(**SIZES, layer_norm_eps=epsilon, attn_implementation="eager")
    model = transformers.BertModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.15 + (parameter.ndim == 1))
    return model


def audited(nlp, **changes):
    """paddlenlp's with the same weights."""
    model = nlp.modeling.BertModel(nlp.config(**SIZES, **{"layer_norm_eps": EPSILON, "pool_act": "tanh", **changes}))
    model.eval()
    own = dict(model.named_parameters())
    theirs = {name: p.detach().numpy() for name, p in reference().named_parameters()}
    for name, array in weights("bert").convert(theirs, {n: tuple(p.shape) for n, p in own.items()}):
        own[name].set_value(np.ascontiguousarray(array))
    return model


def batches(folder, mode):
    """Ids with padding on the right, both segments, and a row of one token."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 120, size=(3, 20))
    mask = (np.arange(20) < np.array([[20], [13], [1]])).astype("int64")
    positions = np.tile(np.arange(20), (3, 1))  # given, since transformers embeds one row of them for all
    inputs = {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": (ids % 2) * mask}
    return {"padded": {**inputs, "position_ids": positions}}


def their_forward(model, batch):
    found = model(**batch)
    return {"states": found.last_hidden_state, "pooled": found.pooler_output}


def our_forward(model, batch):
    states, pooled = model(**batch)[:2]
    return {"states": states, "pooled": pooled}


def pair(nlp, dtype="float64", **changes):
    """Both, as a port of one mode."""
    shared = {
        "build": lambda folder: None,
        "loss": lambda model, outputs, batch: sum(o.sum() for o in outputs.values()),
    }
    sides = [
        Side("torch", ("transformers.models.bert.modeling_bert",), "transformers", lambda folder: reference(),
             forward=their_forward, **shared),
        Side("paddle", ("paddlenlp.transformers.bert.modeling",), "paddlenlp", lambda folder: audited(nlp, **changes),
             forward=our_forward, **shared),
    ]  # fmt: skip
    port = Port(
        name="paddlenlp-bert", modes=("bert",), theirs=lambda mode: sides[0], ours=lambda mode: sides[1],
        weights=weights, batches=batches, train_batches=lambda folder, mode: [], loss_cases=lambda folder, mode: {},
        readout=lambda outputs, batch: outputs, recipe=lambda: None, features=(), data_sources=lambda step, mode: [],
        metric_cases=lambda mode: {}, zero_gradient=r"k_proj\.bias$", steps=("forward",), checkpoints={},
        fetch=lambda name: name,
    )  # fmt: skip
    return Pair(port, "bert", "random", None, dtype)


# -- the model --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_forward(nlp, dtype):
    """With an attention mask given, every layer and both outputs are transformers'."""
    alignment = steps.forward(pair(nlp, dtype)).judge(PEER_BERT[dtype])
    assert alignment.passed, alignment.message()


def logits_apart(nlp, mask):
    """Largest difference of the states for a mask, None included."""
    ids = np.array([[5, 6, 7, 0], [8, 9, 0, 0]])
    theirs = reference().double()(
        input_ids=torch.tensor(ids), attention_mask=None if mask is None else torch.tensor(mask)
    )
    model = audited(nlp)
    model.to(dtype="float64")
    ours = model(paddle.to_tensor(ids), attention_mask=None if mask is None else paddle.to_tensor(mask))[0]
    return np.abs(theirs.last_hidden_state.detach().numpy() - ours.numpy()).max()


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="without a mask it hides what has the padding's id")
def test_forward_without_a_mask(nlp):
    """No mask means no mask."""
    assert logits_apart(nlp, None) < 1e-6


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="-1e4 is added: a row of padding keeps its raw scores")
def test_forward_of_a_row_of_padding(nlp):
    """A row of which nothing may be attended attends all of it alike, as transformers' minimum makes it."""
    assert logits_apart(nlp, np.array([[1, 1, 1, 0], [0, 0, 0, 0]])) < 1e-6


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="init_weights sets the epsilon of every LayerNorm")
def test_forward_keeps_the_epsilon_of_a_head(nlp):
    """A head of one's own, on paddlenlp's base class, keeps the epsilon it was built with."""

    class Head(nlp.modeling.BertPretrainedModel):
        def __init__(self, config):
            super().__init__(config)
            self.norm = paddle.nn.LayerNorm(config.hidden_size, epsilon=1e-5)

    assert Head(nlp.config(**SIZES, layer_norm_eps=EPSILON)).norm._epsilon == 1e-5


# -- schedules --------------------------------------------------------------------------------------------


def rates(schedule, updates):
    """What each update uses."""
    found = []
    for _ in range(updates):
        found.append(schedule.get_lr())
        schedule.step()
    return found


def their_rates(build, updates):
    """The same of a schedule of transformers, peak 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule, found = build(optimizer), []
    for _ in range(updates):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


def their_cosine(restarts, updates):
    """transformers' cosine schedule over 200 updates, 20 of them warm-up, by its defaults."""
    kind = "get_cosine_with_hard_restarts_schedule_with_warmup" if restarts else "get_cosine_schedule_with_warmup"
    return their_rates(lambda optimizer: getattr(transformers, kind)(optimizer, 20, 200), updates)


@pytest.mark.xfail(
    strict=True, raises=AssertionError, reason="the defaults 1 and 0.5 of num_cycles are swapped between the two kinds"
)
@pytest.mark.parametrize("restarts", [False, True])
def test_lr_cosine_by_default(nlp, restarts):
    """CosineDecayWithWarmup falls to 0 by the end, as transformers' do."""
    from paddlenlp.transformers import CosineDecayWithWarmup

    ours = rates(CosineDecayWithWarmup(1.0, 200, 20, with_hard_restarts=restarts), 200)
    np.testing.assert_allclose(ours, their_cosine(restarts, 200), rtol=PEER_RATES.rtol, atol=PEER_RATES.atol)


def test_lr_cosine_returns_to_its_peak(nlp):
    """What the swap amounts to: without restarts the last update has the peak rate again."""
    from paddlenlp.transformers import CosineDecayWithWarmup

    ours = rates(CosineDecayWithWarmup(1.0, 200, 20), 201)
    assert ours[20] == ours[200] == 1.0 and min(ours[20:]) < 1e-3


def test_lr_cosine_with_one_restart(nlp):
    """Told to restart once, its schedule is transformers'; without restarts no such value is accepted."""
    from paddlenlp.transformers import CosineDecayWithWarmup

    ours = rates(CosineDecayWithWarmup(1.0, 200, 20, with_hard_restarts=True, num_cycles=1.0), 200)
    np.testing.assert_allclose(ours, their_cosine(True, 200), rtol=PEER_RATES.rtol, atol=PEER_RATES.atol)
    with pytest.raises(AssertionError, match="should be an integer"):
        CosineDecayWithWarmup(1.0, 200, 20, num_cycles=0.5)


@pytest.mark.parametrize("share", [0.1, 0.15])
def test_lr_linear_with_a_share_of_warmup(nlp, share):
    """A share of warm-up is as many updates as its product with the total, rounded down."""
    from paddlenlp.transformers import LinearDecayWithWarmup

    total = 257
    theirs = their_rates(lambda o: transformers.get_linear_schedule_with_warmup(o, int(share * total), total), total)
    np.testing.assert_allclose(
        rates(LinearDecayWithWarmup(1.0, total, share), total), theirs, rtol=PEER_RATES.rtol, atol=PEER_RATES.atol
    )


def test_lr_linear_beyond_the_end(nlp):
    """Beyond the last update the rate is 0, never negative."""
    from paddlenlp.transformers import LinearDecayWithWarmup

    found = rates(LinearDecayWithWarmup(1.0, 50, 5), 120)
    assert max(found[:50]) == 1.0 and set(found[50:]) == {0.0}


# -- the tokenizer ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    """The shipped one."""
    from splinter.sample import PATH

    path = tmp_path_factory.mktemp("bert") / "vocab.txt"
    path.write_bytes((PATH / "vocab.txt").read_bytes())
    return path


TEXTS = ["Who wrote it ? [MASK] .", "unwritten", "Ville-Marie, 1990", "a\u0301ccent", "\u4e2d\u6587 text", "x" * 120]


@pytest.mark.parametrize("text", TEXTS)
def test_dev_data_pieces(nlp, vocabulary, text):
    """Read from a folder, its pieces are those of transformers' BertTokenizer."""
    from paddlenlp.transformers import BertTokenizer

    (vocabulary.parent / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    theirs = transformers.BertTokenizer(str(vocabulary), do_lower_case=False).tokenize(text)
    assert BertTokenizer.from_pretrained(str(vocabulary.parent)).tokenize(text) == theirs
