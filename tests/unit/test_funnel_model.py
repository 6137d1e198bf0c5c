"""funnel/{encoder,model,config}.py: every option against transformers, positions by a look-up, sizes, checkpoints."""

import itertools
import json
import math
import shutil
import warnings

import numpy as np
import paddle
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import FunnelConfig as TheirConfig
from transformers import FunnelForQuestionAnswering as TheirAnswering
from transformers import FunnelModel as TheirModel

from splinter.align.files import WeightError
from splinter.ports.common.checkpoint import CheckpointError
from splinter.ports.common.paddle.model import load_weights
from splinter.ports.funnel import config, encoder, model, twin
from splinter.ports.funnel.config import FunnelConfig
from splinter.ports.funnel.proof import cases

SMALL = {
    "vocab_size": 200,
    "block_sizes": (1, 2, 1),
    "block_repeats": (1, 2, 1),
    "d_model": 16,
    "n_head": 2,
    "d_head": 8,
    "d_inner": 32,
}
OPTIONS = {
    "attention_type": ("relative_shift", "factorized"),
    "pooling_type": ("mean", "max"),
    "separate_cls": (True, False),
    "truncate_seq": (True, False),
    "pool_q_only": (True, False),
}
LENGTHS = (5, 6, 7, 8, 9, 13, 16, 17, 31, 33)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """A model this small only waits for its second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def both(**options):
    """transformers' FunnelModel with random weights and ours with the same, in float64."""
    torch.manual_seed(0)
    theirs = TheirModel(TheirConfig(**SMALL, **options)).eval().double()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    ours = model.FunnelModel(FunnelConfig(**SMALL, **options)).to(dtype="float64")
    ours.eval()
    tensors = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    load_weights(ours, config.weight_map("full", False), tensors, "a model in memory")
    return theirs, ours


def outputs(theirs, ours, *inputs):
    """Last hidden states of both; inputs are arrays or None."""
    with torch.no_grad(), twin.float64_scores(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        a = theirs(*(None if x is None else torch.tensor(x) for x in inputs)).last_hidden_state.numpy()
    with paddle.no_grad():
        b = ours(*(None if x is None else paddle.to_tensor(x) for x in inputs)).numpy()
    return a, b


def batch(length, rng):
    """Three rows, one of four tokens among padding; segments 0, 1 and 2."""
    ids, segments = rng.integers(0, 200, (3, length)), rng.integers(0, 3, (3, length))
    mask = np.ones_like(ids)
    mask[1, -2:], mask[2, 4:] = 0, 0
    return ids, mask, segments


@pytest.mark.parametrize("choice", list(itertools.product(*OPTIONS.values())), ids=lambda c: "-".join(map(str, c)))
def test_every_option_equals_transformers(choice):
    """
    All 32 variants, odd and even lengths, with and without mask and segments: float64 to 1e-12.
    """
    options = dict(zip(OPTIONS, choice, strict=True))
    theirs, ours = both(**options)
    rng, compared = np.random.default_rng(1), 0
    for length in LENGTHS:
        if length == 6 and choice[0] == "relative_shift" and choice[2:4] == (True, False):
            continue  # see test_transformers_runs_out_of_positions
        ids, mask, segments = batch(length, rng)
        for inputs in ((ids, mask, segments), (ids, None, None), (ids, mask, None)):
            a, b = outputs(theirs, ours, *inputs)
            np.testing.assert_allclose(b, a, rtol=0, atol=1e-12)
            compared += 1
    assert compared >= 27


@pytest.mark.parametrize("attention", OPTIONS["attention_type"])
@pytest.mark.parametrize("length", [128, 511, 512])
def test_real_lengths(attention, length):
    """
    Rows of QNLI and SQuAD in both precisions; in float32 our error is of the size of the reference's own.
    """
    rng = np.random.default_rng(4)
    ids = rng.integers(0, 200, (2, length))
    mask, segments = np.ones_like(ids), np.broadcast_to(np.arange(length) > 20, ids.shape).astype("int64")
    mask[1, length // 2 :], segments[:, 0] = 0, 2
    exact, ours = outputs(*both(attention_type=attention), ids, mask, segments)
    np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-12)
    theirs, mine = both(attention_type=attention)
    rounded, ours = outputs(theirs.float(), mine.to(dtype="float32"), ids, mask, segments)
    assert np.abs(ours - exact).max() < 3 * np.abs(rounded - exact).max() < 1e-4


def test_transformers_runs_out_of_positions():
    """
    A fault of the reference: six tokens, no truncation, three blocks ask for one distance more than its table has.
    """
    theirs, ours = both(truncate_seq=False)
    ids = np.arange(6)[None]
    with pytest.raises((RuntimeError, IndexError)):
        outputs(theirs, ours, ids)
    assert np.isfinite(ours(paddle.to_tensor(ids)).numpy()).all()


@pytest.mark.parametrize("length", [2, 3, 4])
def test_too_short_a_sequence_is_refused_where_transformers_fails(length):
    """
    Three blocks need five tokens; both fail below, ours with the way out.
    """
    theirs, ours = both()
    ids = np.arange(length)[None]
    with pytest.raises((RuntimeError, IndexError, ValueError)):
        outputs(theirs, ours, ids)
    with pytest.raises(ValueError, match="too few for 3 blocks; pad to 5 or more"):
        ours(paddle.to_tensor(ids))


def test_the_lift_to_float64_is_still_needed():
    """
    Without it transformers rounds its scores to float32, and a float64 run stalls there.
    """
    theirs, ours = both()
    inputs = batch(16, np.random.default_rng(2))
    a, b = outputs(theirs, ours, *inputs)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rounded = theirs(*map(torch.tensor, inputs)).last_hidden_state.numpy()
    assert np.abs(a - b).max() < 1e-12 < 1e-9 < np.abs(rounded - b).max()


# -- positions and pooling --------------------------------------------------------------------------------


def sequences(length, blocks=3):
    """The sequence of each block."""
    pooling = encoder.Pooling(FunnelConfig())
    mask = paddle.to_tensor([[1.0] * (length - 3) + [0.0] * 3])
    found = [encoder.Sequence(np.arange(length), 1, paddle.zeros([1, length], "int64"), mask)]
    for _ in range(blocks - 1):
        found.append(pooling.sequence(found[-1]))
    return found


GOLDEN = {  # length -> positions of blocks 1 and 2, masks with the last three padded, means of 0, 1, 2, ...
    8: ([-1, 1, 3, 5], [-3, 1], "1110", "11", [0, 1.5, 3.5, 5.5], [0, 2.5]),
    9: ([-1, 1, 3, 5, 7], [-3, 1, 5], "11100", "110", [0, 1.5, 3.5, 5.5, 7], [0, 2.5, 5.5]),
    13: (
        [-1, 1, 3, 5, 7, 9, 11],
        [-3, 1, 5, 9],
        "1111100",
        "1110",
        [0, 1.5, 3.5, 5.5, 7.5, 9.5, 11],
        [0, 2.5, 6.5, 9.5],
    ),
}


@pytest.mark.parametrize("length", GOLDEN)
def test_golden_pooling(length):
    """
    Positions, masks and means worked out by hand.
    """
    _, one, two = sequences(length)
    first, second, mask_one, mask_two, mean_one, mean_two = GOLDEN[length]
    assert [one.positions(True).tolist(), two.positions(True).tolist()] == [first, second]
    for sequence, mask in ((one, mask_one), (two, mask_two)):
        assert "".join(str(int(x)) for x in sequence.mask.numpy()[0]) == mask
    pooling, x = encoder.Pooling(FunnelConfig()), paddle.arange(length, dtype="float32").reshape([1, length, 1])
    pooled = pooling.states(x)
    assert pooled.flatten().tolist() == mean_one
    assert pooling.states(pooled).flatten().tolist() == mean_two


def test_golden_upsampling():
    """
    [CLS] once, the others four times, zeros for what was truncated; cut to the length.
    """
    decoder = encoder.Decoder(FunnelConfig(**{**SMALL, "num_decoder_layers": 1}))
    spread = {}
    for length, states in ((8, [0, 2.5]), (9, [0, 2.5, 5.5]), (13, [0, 2.5, 6.5, 9.5])):
        x = paddle.to_tensor(states).reshape([1, -1, 1])
        spread[length] = decoder.upsample(x, length).flatten().tolist()
    assert spread == {
        8: [0, 2.5, 2.5, 2.5, 2.5, 0, 0, 0],
        9: [0, *[2.5] * 4, *[5.5] * 4],
        13: [0, *[2.5] * 4, *[6.5] * 4, *[9.5] * 4],
    }


def test_golden_distances():
    """
    The descending lists of the reference: pooled on unpooled, then equal lengths, of blocks 1 and 2.
    """
    found = {}
    for length in (8, 9):
        zero, one, two = sequences(length)
        found[length] = [
            encoder.distances(*pair, True).tolist() for pair in ((one, zero), (one, one), (two, one), (two, two))
        ]
    assert found[8][0] == list(range(7, -9, -1))
    assert found[8][1:] == [[8, 6, 4, 2, 0, -2, -4, -6], [6, 4, 2, 0, -2, -4, -6, -8], [8, 4, 0, -4]]
    assert found[9][0] == list(range(9, -10, -1))
    assert found[9][1:] == [list(range(10, -9, -2)), list(range(10, -11, -2)), [12, 8, 4, 0, -4, -8]]


@pytest.mark.parametrize("length", range(5, 34))
def test_the_shift_is_a_look_up_by_distance(length):
    """
    Scores of distances, sorted into place by reshaping, stand where position minus position says.
    """
    zero, one, two = sequences(length)
    for queries, keys in ((zero, zero), (one, zero), (one, one), (two, one), (two, two)):
        listed = encoder.distances(queries, keys, True)
        scores = np.broadcast_to(listed.astype("float32"), (1, 1, len(queries), len(listed)))
        shift = queries.step // keys.step
        placed = encoder.relative_shift(paddle.to_tensor(scores), len(queries), len(keys), shift).numpy()[0, 0]
        wanted = queries.positions(True)[:, None] - keys.positions(True)[None]
        np.testing.assert_array_equal(placed, wanted)


def test_sinusoids_by_hand():
    """
    Frequencies 1 and 1/100 for width 4.
    """
    sin, cos = encoder.sinusoids(-2, 3, 4)
    assert sin[3].tolist() == [math.sin(1), math.sin(0.01)]
    assert cos[0].tolist() == [math.cos(2), math.cos(0.02)]
    assert (sin[2].tolist(), cos[2].tolist()) == ([0, 0], [1, 1])


def padded(ours, ids, segments, amount):
    """States of the text's tokens with so much padding behind them."""
    rows = [np.pad(x, ((0, 0), (0, amount))) for x in (ids, np.ones_like(ids), segments)]
    with paddle.no_grad():
        return ours(*map(paddle.to_tensor, rows)).numpy()[:, : ids.shape[1]]


@pytest.mark.parametrize("attention", OPTIONS["attention_type"])
@pytest.mark.parametrize("pooling", OPTIONS["pooling_type"])
def test_padding_changes_the_answer_until_there_is_enough(attention, pooling):
    """
    The first tokens of padding move every output; behind 2 ** blocks of them more change nothing.
    """
    _, ours = both(attention_type=attention, pooling_type=pooling)
    rng = np.random.default_rng(3)
    for length in range(5, 21):
        ids = rng.integers(0, 200, (1, length))
        segments = (np.arange(length)[None] > 3).astype("int64")
        few, enough, plenty = (padded(ours, ids, segments, amount) for amount in (0, 8, 29))
        assert np.abs(few - enough).max() > 1e-3
        np.testing.assert_allclose(enough, plenty, rtol=0, atol=1e-12)


# -- configuration and checkpoints ------------------------------------------------------------------------

PUBLISHED = {
    "small": (130_973_184, 115_611_648),
    "medium": (130_973_184, 115_611_648),
    "intermediate": (177_057_792, 161_696_256),
    "large": (386_127_872, 358_830_080),
    "xlarge": (468_021_248, 440_723_456),
}


def numbers(sizes, kind):
    """How many numbers a checkpoint holds."""
    return sum(math.prod(shape) for shape in config.shapes(sizes, kind).values())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name):
    """
    Numbers with and without decoder are those of the authors' checkpoints.
    """
    sizes = config.PUBLISHED[name]
    assert (numbers(sizes, "full"), numbers(sizes, "base")) == PUBLISHED[name]


NAMED = {
    "small": "B4-4-4H768",
    "medium": "B6-3x2-3x2H768",
    "intermediate": "B6-6-6H768",
    "large": "B8-8-8H1024",
    "xlarge": "B10-10-10H1024",
}


@pytest.mark.parametrize("name", NAMED)
def test_published_layouts(name):
    """
    Blocks, their repeats and the width are as the authors' names say (section 3 of the paper): a repeat adds no number
    to a checkpoint.
    """
    sizes = config.PUBLISHED[name]
    blocks = zip(sizes.block_sizes, sizes.block_repeats, strict=True)
    told = "-".join(f"{size}x{repeats}" if repeats > 1 else str(size) for size, repeats in blocks)
    assert f"B{told}H{sizes.d_model}" == NAMED[name]


def test_xlarge_with_heads():
    """
    Tensors and numbers of the largest model with each head.
    """
    sizes = config.PUBLISHED["xlarge"]
    found = {kind: (len(config.shapes(sizes, kind)), numbers(sizes, kind)) for kind in config.MODES}
    assert found == {"answering": (645, 468_023_298), "classification": (607, 441_775_106)}


@pytest.mark.parametrize("kind", config.KINDS)
def test_our_shapes_are_those_of_the_names(kind):
    """
    The map takes every name of a checkpoint, and the model has the shapes, transposes aside.
    """
    classes = [model.FunnelBaseModel, model.FunnelModel]
    classes += [model.FunnelForSequenceClassification, model.FunnelForQuestionAnswering]
    made = dict(zip(config.KINDS, classes, strict=True))[kind](cases.TINY)
    sizes = config.shapes(cases.TINY, kind)
    links = config.weight_map(kind, prefixed=kind in config.MODES).plan(sizes, dict(made.named_parameters()))
    ours = {name: tuple(parameter.shape) for name, parameter in made.named_parameters()}
    for link in links:
        assert ours[link.ours] == (sizes[link.theirs][::-1] if link.transpose else sizes[link.theirs])


@pytest.mark.parametrize("mode", config.MODES)
def test_round_trip_keeps_every_bit(mode, tmp_path):
    """
    Saved from Paddle, each tensor has name, shape and bits of the checkpoint, and transformers misses nothing.
    """
    kind = {"classification": model.FunnelForSequenceClassification, "answering": model.FunnelForQuestionAnswering}[
        mode
    ]
    kind.from_pretrained(cases.tiny()).save_pretrained(tmp_path)
    before, after = load_file(cases.tiny() / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert after.keys() == config.shapes(cases.TINY, mode).keys()
    for name, array in after.items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    _, report = twin.MODELS[mode].from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))


@pytest.fixture
def folder(tmp_path):
    """Writes a checkpoint folder: tensors, and changes to config.json."""

    def write(change=dict, **changes):
        target = tmp_path / "model"
        shutil.copytree(cases.tiny(), target, dirs_exist_ok=True)
        tensors = change(load_file(cases.tiny() / "model.safetensors"))
        save_file(
            {n: np.ascontiguousarray(a) for n, a in tensors.items()}, target / "model.safetensors", {"format": "pt"}
        )
        values = json.loads((target / "config.json").read_text()) | changes
        (target / "config.json").write_text(json.dumps(values))
        return target

    return write


def bare(tensors, decoder=True):
    """As the hub has them: no prefix, no heads."""
    kept = {n.removeprefix("funnel."): a for n, a in tensors.items() if n.startswith("funnel.")}
    return {n: a for n, a in kept.items() if decoder or "decoder" not in n}


def test_a_bare_checkpoint_gets_fresh_heads(folder):
    """
    The encoder is the checkpoint's, the head is new; classification leaves the decoder behind.
    """
    whole = model.FunnelForSequenceClassification.from_pretrained(cases.tiny())
    loaded = model.FunnelForSequenceClassification.from_pretrained(folder(bare), head="auto")
    assert loaded.head == "fresh"
    ids = paddle.arange(9).unsqueeze(0)
    assert paddle.equal_all(whole.funnel(ids), loaded.funnel(ids))
    assert not paddle.equal_all(whole(ids), loaded(ids))
    bare_model = model.FunnelModel.from_pretrained(folder(bare))
    assert bare_model(ids).shape == [1, 9, 32]


WRONG = {
    "another model": (dict, {"model_type": "bert"}, "checkpoint of another model"),
    "no head": (bare, {}, "holds no head for answering"),
    "a layer missing": (
        lambda t: {n: a for n, a in t.items() if "blocks.0.1" not in n},
        {},
        r"'funnel\.encoder\.blocks\.0\.1\.\S+' is missing; block_sizes are \(2, 1, 2\)",
    ),
    "a layer too many": (dict, {"block_sizes": [1, 1, 2]}, r"has no place; block_sizes are \(1, 1, 2\)"),
    "another width": (dict, {"d_inner": 65}, r"has shape \(56,.*\), the configuration asks for \(65,.*\)"),
    "integers": (lambda t: t | {"qa_outputs.bias": np.zeros(2, "int32")}, {}, "has dtype int32"),
    "odd width": (dict, {"d_model": 33}, "d_model 33 is odd"),
    "pooling": (dict, {"pooling_type": "min"}, "pooling_type 'min' is not known"),
    "repeats": (dict, {"block_repeats": [1, 1]}, "differ in length"),
    "kind of value": (dict, {"separate_cls": "yes"}, "separate_cls is 'yes'"),
}


@pytest.mark.parametrize(("change", "values", "message"), WRONG.values(), ids=WRONG)
def test_a_checkpoint_that_does_not_fit_is_refused(folder, change, values, message):
    """
    In one line that names the tensor or the key.
    """
    with pytest.raises((CheckpointError, WeightError), match=message) as error:
        model.FunnelForQuestionAnswering.from_pretrained(folder(change, **values))
    assert "\n" not in str(error.value)


def test_a_base_checkpoint_cannot_answer(folder):
    """
    Answering needs the decoder, which checkpoints called -base lack.
    """
    target = folder(lambda tensors: bare(tensors, decoder=False))
    with pytest.raises(CheckpointError, match="holds no decoder"):
        model.FunnelForQuestionAnswering.from_pretrained(target, head="fresh")
    with pytest.raises(CheckpointError, match="holds no decoder"):
        model.FunnelModel.from_pretrained(target)
    assert model.FunnelBaseModel.from_pretrained(target)(paddle.arange(9).unsqueeze(0)).shape == [1, 3, 32]


def test_config_of_transformers_is_read(tmp_path):
    """
    What transformers writes for three classes and no repeats is read back.
    """
    TheirConfig(block_sizes=[2, 2], num_labels=3, initializer_std=0.02).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    found = config.config_from_dict(values, "config.json")
    assert (found.block_sizes, found.block_repeats, found.num_labels) == ((2, 2), (1, 1), 3)
    assert found.initializer_std == 0.02


def test_the_loss_leaves_labels_alone():
    """
    Clamping happens on a copy.
    """
    labels = paddle.to_tensor([-4, 99])
    model.span_loss(paddle.zeros([2, 7]), paddle.zeros([2, 7]), labels, labels)
    assert labels.tolist() == [-4, 99]


def test_answering_matches_transformers_end_to_end():
    """
    In float32 on the embedded checkpoint, without segments.
    """
    ids = np.arange(3, 24)[None]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = TheirAnswering.from_pretrained(cases.tiny()).eval()(torch.tensor(ids)).start_logits.numpy()
    ours = model.FunnelForQuestionAnswering.from_pretrained(cases.tiny())(paddle.to_tensor(ids))[0].numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
