"""ports/common/paddle/kernels.cc against float64: as near as paddle's own kernels, the same for any number of threads;
what builds, loads and uses them.
"""

import contextlib
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from splinter import runtime
from splinter.datasets import PROJECT
from splinter.ports.common.paddle import kernels, layers
from splinter.ports.common.paddle.train import AdamW, PaddleTrainer
from splinter.ports.common.training.schedule import Recipe
from splinter.ports.funnel import encoder as funnel
from splinter.ports.funnel.proof import cases as funnel_cases

EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
LEAST = np.finfo("float32").min


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache with the kernels in it."""
    if not sys.platform.startswith("linux") or not kernels.compiler():
        pytest.skip("no g++ here to build the kernels with")
    folder = tmp_path_factory.getbasetemp() / "cache"  # of this worker: a process takes them from one place only
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        kernels.build()
    return folder


@pytest.fixture
def built(cache, monkeypatch):
    """The kernels in use."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv(kernels.VARIABLE, "1")
    kernels.forget()
    assert kernels.loaded()
    yield
    kernels.forget()


def numbers(*shape, seed=0, spread=3.0):
    return np.random.default_rng(seed).normal(scale=spread, size=shape)


def mask(fill):
    """Hides the last third of the keys, and all keys of the second text."""
    added = np.zeros((3, 1, 1, 37))
    added[..., 25:] = fill
    added[1] = fill
    return added


NO_DROP = layers.Dropout(0.0)


def attention(added, heads):
    """A kernel of queries, keys and values, and paddle's own."""

    def ours(q, k, v):
        return layers.attention(q, k, v, paddle.to_tensor(added).astype(q.dtype), heads, 0.37, NO_DROP)

    def plain(*given):
        with kernels.unused():
            return ours(*given)

    return ours, plain


def relative(shift, apart, heads=2):
    """A kernel of queries, keys, values, u, table and offset; plain operations that pick each score by its place."""

    def given(q, k):
        added = np.zeros((q.shape[0], 1, 1, k.shape[1]))
        added[1, ..., 5:] = -1e6
        same = np.random.default_rng(4).random((q.shape[0], q.shape[1], k.shape[1])) < 0.5
        return paddle.to_tensor(added).astype(q.dtype), paddle.to_tensor(same)

    def ours(q, k, v, u, table, offset):
        added, same = given(q, k)
        key = paddle.zeros([2], "int32")
        tensors = q, k, v, added, key, u, table, offset, same
        return kernels.run("relative_attention", *tensors, heads, 0.37, 0.0, shift, apart)[0]

    def plain(q, k, v, u, table, offset):
        added, same = given(q, k)
        asking, keys, values = (layers.split_heads(one, heads) for one in (q + u, k, v))  # (B, H, T, d)
        rows = table.reshape([table.shape[0], heads, -1]).transpose([1, 2, 0]).unsqueeze(0)  # (1, H, d, N + 2)
        positions = paddle.matmul(asking, rows) + offset.unsqueeze(1)  # (B, H, Q, N + 2)
        queries, listed = q.shape[1], table.shape[0] - 2
        place = shift * (queries - np.arange(queries))[:, None] + np.arange(k.shape[1])  # (Q, K)
        place = np.broadcast_to(place, [q.shape[0], heads, *place.shape])
        added_here = paddle.take_along_axis(positions, paddle.to_tensor(place), axis=3)
        segments = paddle.where(same.unsqueeze(1), positions[..., listed + 1 :], positions[..., listed : listed + 1])
        factor = np.ones(place.shape[2:])
        if apart:
            factor[0], factor[:, 0] = 0, 0
        scores = paddle.matmul(asking, keys, transpose_y=True)
        scores = scores + (added_here + segments) * paddle.to_tensor(factor).astype(q.dtype)
        return layers.join_heads(paddle.matmul(F.softmax(scores * 0.37 + added, axis=-1), values), q.shape[2])

    return ours, plain


def related(batch, queries, keys, width, listed, heads=2):
    """Arrays of `relative`."""
    shapes = (batch, queries, width), (batch, keys, width), (batch, keys, width), (width,), (listed + 2, width)
    arrays = [numbers(*shape, seed=seed, spread=0.7) for seed, shape in enumerate(shapes)]
    return *arrays, numbers(heads, listed + 2, seed=8)


GELU = numbers(7, 33), numbers(1, 1), np.linspace(-9, 9, 5001), numbers(3, 20_000)
CASES = {
    "linear": (
        lambda x, w, b: kernels.run("linear", x, w, b)[0],
        F.linear,
        (numbers(3, 67, 20), numbers(20, 33, seed=1), numbers(33, seed=2)),
    ),
    "linear, one row": (
        lambda x, w, b: kernels.run("linear", x, w, b)[0],
        F.linear,
        (numbers(1, 20), numbers(20, 3, seed=1), numbers(3, seed=2)),
    ),
    "linear, several threads": (
        lambda x, w, b: kernels.run("linear", x, w, b)[0],
        F.linear,
        (numbers(2, 300, 32), numbers(32, 64, seed=1), numbers(64, seed=2)),
    ),
    **{f"gelu {x.shape}": (lambda x: kernels.run("gelu", x, False)[0], F.gelu, (x,)) for x in GELU},
    **{
        f"gelu by tanh {x.shape}": (
            lambda x: kernels.run("gelu", x, True)[0],
            lambda x: F.gelu(x, approximate=True),
            (x,),
        )
        for x in GELU
    },
    **{
        f"layer norm {shape}": (
            lambda x, w, b: kernels.run("layer_norm", x, w, b, 1e-6)[0],
            lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b, 1e-6),
            (numbers(*shape) + 2.0, numbers(shape[-1], seed=1), numbers(shape[-1], seed=2)),
        )
        for shape in ((3, 67, 33), (1, 16), (2, 300, 64))
    },
    **{
        f"attention, {name}": (
            *attention(added, 2),
            (numbers(3, 11, 8), numbers(3, 37, 8, seed=1), numbers(3, 37, 8, seed=2)),
        )
        for name, added in {"hard mask": mask(LEAST), "soft mask": mask(-1e6), "no mask": 0 * mask(1)}.items()
    },
    "attention, one token": (
        *attention(np.zeros((2, 1, 1, 1)), 2),
        (numbers(2, 1, 8), numbers(2, 1, 8, seed=1), numbers(2, 1, 8, seed=2)),
    ),
    "attention, several threads": (
        *attention(np.zeros((3, 1, 1, 90)), 4),
        (numbers(3, 70, 32, spread=1.0), numbers(3, 90, 32, seed=1), numbers(3, 90, 32, seed=2)),
    ),
    "relative attention": (*relative(1, False), related(3, 9, 9, 8, 19)),
    "relative attention, [CLS] apart": (*relative(1, True), related(3, 9, 9, 8, 18)),
    "relative attention, pooled queries": (*relative(2, True), related(11, 8, 16, 12, 32)),
    "relative attention, several threads": (*relative(1, True), related(21, 40, 40, 64, 80)),
}


def results(function, arrays, dtype):
    """What a function of tensors gives, and the gradients of a weighted sum of it, as float64."""
    given = [paddle.to_tensor(one.astype(dtype), stop_gradient=False) for one in arrays]
    out = function(*given)
    out.backward(paddle.to_tensor(numbers(*out.shape, seed=9, spread=1.0).astype(dtype)))
    return [one.numpy().astype("float64") for one in (out, *(tensor.grad for tensor in given))]


def errors(found, truth):
    """The largest error of each array, relative to its largest number."""
    return [np.abs(a - b).max() / max(np.abs(b).max(), 1e-30) for a, b in zip(found, truth, strict=True)]


def excess(ours, plain, arrays, dtype):
    """By how much the errors of a kernel exceed what they may be: twice paddle's own, or eight units in the last place
    of the largest number. The truth is paddle's float64 on the same numbers, itself off by its roundings; in float64
    the limit is 64 units: sums of 600 numbers in two orders differ by sqrt(600) = 25 or so."""
    arrays = [one.astype("float32").astype("float64") for one in arrays]
    truth = results(plain, arrays, "float64")
    paddles = errors(results(plain, arrays, "float32"), truth) if dtype == "float32" else [0.0] * len(truth)
    found, units = errors(results(ours, arrays, dtype), truth), {"float32": 8, "float64": 64}[dtype]
    shares = [mine / max(2 * theirs, units * EPS[dtype]) for mine, theirs in zip(found, paddles, strict=True)]
    return np.max(shares)  # not max(), which passes over a NaN


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_a_kernel_is_as_exact_as_paddles(built, case, dtype):
    assert excess(*CASES[case], dtype) <= 1


INSENSITIVE = "(1, ", "soft mask", "one token"
"""One number to a row is normal whatever it is, one key has all of the attention."""


@pytest.mark.parametrize("case", [case for case in CASES if not any(one in case for one in INSENSITIVE)])
def test_the_comparison_sees_a_fault(built, case):
    """
    Of 1e-5 or so in what goes in; and gelu by tanh is not gelu. The row of a soft mask that hides all is left out:
    float32 has steps of 0.06 at a million.
    """
    ours, plain, arrays = CASES[case]
    shift = numbers(*arrays[0].shape, seed=5, spread=1e-5).astype("float32")
    assert excess(lambda x, *rest: ours(x + paddle.to_tensor(shift), *rest), plain, arrays, "float32") > 1
    if case.startswith("gelu ("):
        assert excess(CASES[case.replace("gelu", "gelu by tanh")][0], plain, arrays, "float32") > 1


def test_numbers_that_are_none_stay_so(built):
    """
    A NaN spoils what torch and paddle let it spoil, no more; infinities have their limits.
    """
    x = np.array([np.nan, np.inf, -np.inf, 0.0, 1.0, 1e30, -1e30], "float32")
    found = kernels.run("gelu", paddle.to_tensor(x), False)[0].numpy()
    np.testing.assert_array_equal(found, F.gelu(paddle.to_tensor(x)).numpy())
    assert np.isnan(found[0]) and found[1] == np.inf and found[5] == x[5]
    key = paddle.to_tensor([1, 2], dtype="int32")
    assert np.isnan(kernels.run("dropout", paddle.full([1000], np.nan), key, 0.5)[0].numpy()).all()
    q, k = numbers(2, 3, 8).astype("float32"), paddle.to_tensor(numbers(2, 5, 8).astype("float32"))
    q[0, 1, 2], q[1, 0, 5] = np.nan, np.inf  # of the first head, of the second
    found = layers.attention(paddle.to_tensor(q), k, k, paddle.zeros([2, 1, 1, 5]), 2, 1.0, NO_DROP).numpy()
    assert np.isnan(found[0, 1, :4]).all() and np.isnan(found[1, 0, 4:]).all() and np.isnan(found).sum() == 8


def test_nothing_in_nothing_out(built):
    """
    Not in the gradients either, and those of weights are zero.
    """
    for batch, queries, keys in ((0, 3, 3), (2, 0, 0), (2, 0, 5), (2, 3, 0)):
        x, seen = paddle.ones([batch, queries, 4]), paddle.ones([batch, keys, 4])
        x.stop_gradient = seen.stop_gradient = False
        out = layers.attention(x, seen, seen, paddle.zeros([batch, 1, 1, keys]), 2, 1.0, NO_DROP)
        out.sum().backward()
        assert out.shape == x.grad.shape == [batch, queries, 4] and seen.grad.shape == [batch, keys, 4]
        assert not (out.numpy().any() or x.grad.numpy().any() or seen.grad.numpy().any())
    for shape in ([0, 4], [2, 0, 4]):
        for layer in (layers.gelu, layers.LayerNorm(4, 1e-6), layers.Linear(4, 4), lambda x: layers.dropout(x, 0.5)):
            x = paddle.zeros(shape)
            x.stop_gradient = False
            out = layer(x)
            out.sum().backward()
            assert out.shape == x.grad.shape == shape
            if isinstance(layer, layers.Linear):
                assert not layer.weight.grad.numpy().any() and not layer.bias.grad.numpy().any()


def test_a_mask_may_be_one_for_all_texts(built):
    x, added = paddle.to_tensor(numbers(3, 5, 8).astype("float32")), numbers(1, 1, 1, 5).astype("float32")
    found = [
        layers.attention(x, x, x, paddle.to_tensor(mask), 2, 0.5, NO_DROP).numpy()
        for mask in (added, np.repeat(added, 3, axis=0))
    ]
    assert np.array_equal(*found)


@pytest.mark.parametrize("shape", [(2, 1, 1, 7), (2, 1, 1, 9), (3, 1, 1, 8), (2, 3, 1, 8), (2, 8), (8,), (2, 1, 5, 8)])
def test_a_mask_of_another_shape_is_refused(built, shape):
    """
    In place of numbers from beyond its end; paddle makes an OSError of what a kernel refuses.
    """
    x = paddle.zeros([2, 8, 4])
    with pytest.raises(OSError, match=r"attention: the mask has not the shape \(2 or 1, 1, 1, 8\)"):
        layers.attention(x, x, x, paddle.zeros(shape), 2, 1.0, NO_DROP)


@pytest.mark.parametrize(
    ("keys", "values", "heads"), [([3, 8, 4], [3, 8, 4], 2), ([2, 8, 4], [2, 7, 4], 2), ([2, 8, 4], [2, 8, 4], 3)]
)
def test_keys_of_another_shape_are_refused(built, keys, values, heads):
    q, k, v, added = (paddle.zeros(shape) for shape in ([2, 8, 4], keys, values, [2, 1, 1, 8]))
    with pytest.raises(OSError, match="attention: keys or values have not the texts or the width of the queries"):
        layers.attention(q, k, v, added, heads, 1.0, NO_DROP)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, ""),
        ({"table": [19, 8], "offset": [2, 19]}, "too few distances, or another width"),
        ({"table": [20, 4]}, "too few distances, or another width"),
        ({"offset": [1, 20]}, "too few distances, or another width"),
        ({"u": [7]}, "too few distances, or another width"),
        ({"same": [1, 9, 9]}, "the segments have not the shape"),
    ],
    ids=str,
)
def test_what_is_related_otherwise_is_refused(built, change, told):
    """
    9 queries and 9 keys want 18 distances.
    """
    shapes = {"u": [8], "table": [20, 8], "offset": [2, 20], "same": [2, 9, 9], **change}
    u, table, offset = (paddle.zeros(shapes[name]) for name in ("u", "table", "offset"))
    x, same = paddle.zeros([2, 9, 8]), paddle.zeros(shapes["same"], "bool")
    tensors = x, x, x, paddle.zeros([2, 1, 1, 9]), paddle.zeros([2], "int32"), u, table, offset, same
    with pytest.raises(OSError, match=told) if told else contextlib.nullcontext():
        kernels.run("relative_attention", *tensors, 2, 1.0, 0.0, 1, False)


def test_a_norm_of_another_width_is_refused(built):
    with pytest.raises(OSError, match="layer_norm: rows have 64 numbers, the weight 32, the bias 32"):
        layers.LayerNorm(32, 1e-6)(paddle.zeros([2, 64]))


def test_whole_numbers_are_numbers(built):
    """
    A scale of 2 is 2.0, as in paddle.
    """
    x, added = paddle.to_tensor(numbers(2, 3, 8).astype("float32")), paddle.zeros([2, 1, 1, 3])
    found = layers.attention(x, x, x, added, 2, 2, NO_DROP)
    with kernels.unused():
        plain = layers.attention(x, x, x, added, 2, 2, NO_DROP)
    np.testing.assert_allclose(found.numpy(), plain.numpy(), rtol=1e-5)


@pytest.mark.parametrize("used", [True, False])
def test_a_mask_is_a_constant(built, used):
    """
    By kernels or not: no gradient reaches it.
    """
    x, added = paddle.ones([2, 3, 8]), paddle.zeros([2, 1, 1, 3])
    x.stop_gradient = added.stop_gradient = False
    with contextlib.nullcontext() if used else kernels.unused():
        layers.attention(x, x, x, added, 2, 1.0, NO_DROP).square().sum().backward()
    assert added.grad is None and x.grad is not None


def test_a_frozen_layer_is_left_to_paddle(built, monkeypatch):
    """
    Whose backward pass leaves out the gradient that nobody wants.
    """
    asked, plain = [], kernels.run
    monkeypatch.setattr(kernels, "run", lambda name, *given: asked.append(name) or plain(name, *given))
    layer, x = layers.Linear(4, 3), paddle.zeros([2, 4])
    layer(x)
    layer.weight.stop_gradient = layer.bias.stop_gradient = True
    layer(x)
    with paddle.no_grad():
        layer(x)
    assert asked == ["linear", "linear"]


def test_tensors_may_lie_in_memory_in_any_order(built):
    """
    A transposed view goes in, and a transposed gradient comes back.
    """
    x, found = paddle.to_tensor(numbers(6, 5).astype("float32"), stop_gradient=False), []
    for function in (lambda view: kernels.run("gelu", view, False)[0], F.gelu):
        turned = x.transpose([1, 0])
        assert not turned.is_contiguous()
        function(turned).transpose([1, 0]).backward(paddle.to_tensor(numbers(6, 5, seed=1).astype("float32")))
        found.append(x.grad.numpy())
        x.clear_gradient(False)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-6)


# -- dropout ----------------------------------------------------------------------------------------------


def philox(counter, key):
    """Philox 4x32-10 by the paper: (n, 4) and (2,) -> (n, 4) words."""
    a, b, c, d = (counter[:, i].astype(np.uint64) for i in range(4))
    low, (k0, k1) = np.uint64(2**32 - 1), (int(word) for word in key)
    for turn in range(10):
        left, right = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        w0, w1 = np.uint64((k0 + turn * 0x9E3779B9) % 2**32), np.uint64((k1 + turn * 0xBB67AE85) % 2**32)
        a, b, c, d = (right >> np.uint64(32)) ^ b ^ w0, right & low, (left >> np.uint64(32)) ^ d ^ w1, left & low
    return np.stack([a, b, c, d], axis=1)


def test_philox_has_the_words_that_its_authors_publish():
    """
    Random123 1.09, kat_vectors.
    """
    ones = np.full((1, 4), 2**32 - 1, np.uint64)
    assert [f"{word:08x}" for word in philox(0 * ones, (0, 0))[0]] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]
    assert [f"{word:08x}" for word in philox(ones, (2**32 - 1,) * 2)[0]] == [
        "408f276d", "41c83b0e", "a20bc7c6", "6d5451fd",
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rate", [1e-6, 0.1, 0.5, 0.999])
def test_dropout_falls_where_philox_says(built, rate, dtype):
    """
    Sixteen counters after one another give sixty-four words: all first ones, all second ones, and so on.
    """
    n, key = 64 * 40 + 13, np.array([-5, 123456789], "int32")
    words = philox(np.pad(np.arange(16 * 41)[:, None], [(0, 0), (0, 3)]).astype(np.uint64), key.view(np.uint32))
    words = words.reshape(41, 16, 4).transpose(0, 2, 1).ravel()[:n]
    x = numbers(n).astype(dtype)
    kept = words >= round(rate * 2**32)
    (found,) = kernels.run("dropout", paddle.to_tensor(x), paddle.to_tensor(key), rate)
    np.testing.assert_array_equal(found.numpy() != 0, kept)
    np.testing.assert_allclose(found.numpy(), np.where(kept, x / (1 - rate), 0), rtol=2 * EPS[dtype])


@pytest.mark.parametrize("rate", [0.1, 0.35, 0.9])
def test_the_law_of_dropout(built, rate):
    """
    The share within five deviations, gradients that fall with what is dropped, neighbours that know nothing of one
    another, the same again after the same seed, and other numbers after that.
    """
    paddle.seed(3)
    ones = paddle.ones([500, 500])
    ones.stop_gradient = False
    left = layers.dropout(ones, rate)
    left.sum().backward()
    assert np.array_equal(ones.grad.numpy(), left.numpy())
    kept, second = left.numpy() > 0, layers.dropout(ones, rate).numpy() > 0
    assert abs(kept.mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / kept.size)
    for one, other in ((kept[1:], kept[:-1]), (kept[:, 1:], kept[:, :-1]), (kept, second)):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 5 / np.sqrt(one.size)
    paddle.seed(3)
    assert np.array_equal(layers.dropout(ones, rate).numpy() > 0, kept)


@pytest.mark.parametrize("related", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dropout_in_attention_falls_where_philox_says(built, dtype, related):
    """
    A stream for each head of each text. Values that are rows of the identity bring to light what the probabilities
    became; the gradient is that of plain operations with the same mask.
    """
    texts, queries, keys, heads, rate = 2, 9, 13, 3, 0.3
    key = np.array([77, -4], "int32")
    kept = np.zeros((texts, heads, queries * keys), bool)
    for stream in range(texts * heads):
        counters = np.zeros((16 * 2, 4), np.uint64)
        counters[:, 0], counters[:, 2] = np.arange(16 * 2), stream
        words = philox(counters, key.view(np.uint32)).reshape(2, 16, 4).transpose(0, 2, 1).ravel()[: queries * keys]
        kept[divmod(stream, heads)] = words >= round(rate * 2**32)
    kept = kept.reshape(texts, heads, queries, keys)
    assert 0.6 < kept.mean() < 0.8

    def tensor(array):
        return paddle.to_tensor(array.astype(dtype), stop_gradient=False)

    q, k = tensor(numbers(texts, queries, heads * keys, spread=0.5)), tensor(numbers(texts, keys, heads * keys, seed=1))
    v = tensor(np.broadcast_to(np.tile(np.eye(keys), heads), (texts, keys, heads * keys)))
    added = paddle.zeros([texts, 1, 1, keys], dtype)
    up, found = tensor(numbers(texts, queries, heads * keys, seed=2)), []
    for kernel in (True, False):
        if kernel and related:  # to nothing
            listed = [paddle.zeros(shape, dtype) for shape in ([39], [queries + keys + 2, 39], [3, queries + keys + 2])]
            tensors = q, k, v, added, paddle.to_tensor(key), *listed, paddle.zeros([texts, queries, keys], "bool")
            out = kernels.run("relative_attention", *tensors, heads, 0.37, rate, 1, False)[0]
        elif kernel:
            out = kernels.run("attention", q, k, v, added, paddle.to_tensor(key), heads, 0.37, rate)[0]
        else:
            asking, keyed, valued = (layers.split_heads(one, heads) for one in (q, k, v))
            probs = F.softmax(paddle.matmul(asking, keyed, transpose_y=True) * 0.37, axis=-1)
            probs = probs * paddle.to_tensor(kept.astype(dtype)) / (1 - rate)
            out = layers.join_heads(paddle.matmul(probs, valued), heads * keys)
        out.backward(up)
        found.append([out.numpy(), *(one.grad.numpy() for one in (q, k, v))])
        for one in (q, k, v):
            one.clear_gradient(False)
    left = found[0][0].reshape(texts, queries, heads, keys).transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(left != 0, kept)
    for ours, plain in zip(*found, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=0, atol=16 * EPS[dtype] * np.abs(plain).max())


def attending(system):
    """A function that attends from ones to ones of 2 texts of 16 tokens by 2 heads, and the layer that has its dropout.

    Without dropout it gives ones.
    """
    x = paddle.ones([2, 16, 8])
    if system == "bert":
        model = SimpleNamespace(drop=layers.Dropout(0.5))
        added = paddle.zeros([2, 1, 1, 16])
        return lambda: layers.attention(x, x, x, added, 2, 1.0, model.drop).numpy(), model, "drop"
    config = replace(funnel_cases.TINY, d_model=8, n_head=2, d_head=4, attention_dropout=0.5, hidden_dropout=0.0)
    model, seen = funnel.RelativeAttention(config), []
    sequence = funnel.Sequence(np.arange(16), 1, paddle.zeros([2, 16], "int64"), paddle.ones([2, 16]))
    relation = funnel.Positions(config)(16, "float32")(sequence, sequence)
    for layer in (model.q_head, model.k_head, model.v_head):
        layer.forward = lambda x: x
    model.post_proj.forward = lambda x: seen.append(x) or x

    def attend():
        model(x, x, relation)
        return seen[-1].numpy()

    return attend, model, "attention_dropout"


@pytest.mark.parametrize("system", ["bert", "funnel"])
def test_attention_draws_anew_and_leaves_a_stand_in_to_paddle(built, monkeypatch, system):
    """
    Other numbers after each call, the same after the same seed; in evaluation mode none, and none are drawn. What
    stands in place of `dropout`, as while the proof holds masks, sees the probabilities; so does a layer in place of
    ours, or a `forward` of its own.
    """
    attend, model, name = attending(system)
    drop = getattr(model, name)
    paddle.seed(5)
    first, second = attend(), attend()
    paddle.seed(5)
    assert np.array_equal(attend(), first) and not np.array_equal(first, second) and first.std() > 0.1
    drop.eval()
    paddle.seed(5)
    np.testing.assert_allclose(attend(), 1, rtol=1e-6)
    drop.train()
    assert np.array_equal(attend(), first)
    seen = []
    with monkeypatch.context() as patch:
        patch.setattr(layers, "dropout", lambda x, p, training: seen.append((x.shape, p, training)) or x)
        np.testing.assert_allclose(attend(), 1, rtol=1e-6)
        assert ([2, 2, 16, 16], 0.5, True) in seen
    drop.forward = lambda x: 2 * x
    np.testing.assert_allclose(attend(), 2, rtol=1e-6)
    setattr(model, name, paddle.nn.Identity())
    np.testing.assert_allclose(attend(), 1, rtol=1e-6)


@pytest.mark.parametrize(
    "change",
    [{}, {"separate_cls": False}, {"truncate_seq": False}, {"pool_q_only": False}, {"attention_type": "factorized"}],
    ids=str,
)
@pytest.mark.parametrize("tokens", [27, 5])
def test_funnel_attends_alike_by_kernel_and_by_operations(built, monkeypatch, change, tokens):
    """
    States and all gradients in float64. The form with factors has no kernel: it is the same in all bits.
    """
    asked, plain = [], kernels.run
    monkeypatch.setattr(kernels, "run", lambda name, *given: asked.append(name) or plain(name, *given))
    none = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
    config = replace(funnel_cases.TINY, **none, **change)
    paddle.set_default_dtype("float64")
    try:
        paddle.seed(1)
        encoder = funnel.Encoder(config)
    finally:
        paddle.set_default_dtype("float32")
    for number, (name, parameter) in enumerate(encoder.named_parameters()):
        if "bias" in name:
            parameter.set_value(numbers(*parameter.shape, seed=number, spread=1.0))
    segments, seen = np.tile(np.arange(tokens) > 9, (11, 1)).astype(int), np.ones((11, tokens))
    segments[:, 0], seen[2, 20:] = funnel.CLS_SEGMENT, 0
    sequence = funnel.Sequence(np.arange(tokens), 1, paddle.to_tensor(segments), paddle.to_tensor(seen))
    x, found = paddle.to_tensor(numbers(11, tokens, config.d_model, spread=1.0), stop_gradient=False), []
    for use in (contextlib.nullcontext(), kernels.unused()):
        with use:
            out = encoder(x, sequence)[0]
            out.backward(paddle.to_tensor(numbers(*out.shape, seed=9)))
        found.append({"out": out.numpy(), "x": x.grad.numpy()})
        found[-1] |= {name: one.grad.numpy() for name, one in encoder.named_parameters() if one.grad is not None}
        encoder.clear_gradients(), x.clear_gradient(False)
    assert ("relative_attention" in asked) == (change.get("attention_type") != "factorized")
    assert found[0].keys() == found[1].keys() and len(found[0]) > 40
    largest = max(np.abs(one).max() for one in found[1].values())
    for name, one in found[0].items():
        np.testing.assert_allclose(one, found[1][name], rtol=0, atol=1e-13 * largest, err_msg=name)


# -- optimizer --------------------------------------------------------------------------------------------


def updated(recipe, dtype, steps=5):
    """Weights and moments after some updates; every second gradient is missing once."""
    start = {"a": numbers(40, 30), "b": numbers(7), "c": numbers(120, 100, seed=4)}
    named = {name: paddle.create_parameter(one.shape, dtype) for name, one in start.items()}
    for name, one in start.items():
        named[name].set_value(one.astype(dtype))
    optimizer, norms = AdamW(named, recipe, decayed=["a", "c"]), []
    for step in range(steps):
        for number, (name, parameter) in enumerate(named.items()):
            if step == 2 and name == "b":
                continue
            parameter.grad = paddle.to_tensor(numbers(*start[name].shape, seed=10 * step + number).astype(dtype))
        norms.append(optimizer.step(1e-2 * (step + 1)))
    assert all(parameter.grad is None for parameter in named.values())
    moments = [one.numpy() for pair in optimizer.moments().values() for one in pair]
    return [parameter.numpy() for parameter in named.values()], moments, norms, optimizer.counts


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["hf", "bert"])
@pytest.mark.parametrize("limit", [0.0, 1.0])
def test_the_optimizer_is_the_one_of_plain_operations(built, optimizer, limit, dtype):
    """
    Clipping, both forms of decay, a parameter without a gradient. A weight of 3 is rounded to 2^-22 three times per
    update; a moment is of the gradients' size.
    """
    recipe = Recipe(optimizer=optimizer, max_norm=limit, weight_decay=0.1)
    weights, moments, norms, counts = updated(recipe, dtype)
    with kernels.unused():
        plain = updated(recipe, dtype)
    assert counts == plain[3] == {"a": 5, "b": 4, "c": 5}
    np.testing.assert_allclose(norms, plain[2], rtol=1e-6 if dtype == "float32" else 1e-14)
    for found, known in zip([*weights, *moments], [*plain[0], *plain[1]], strict=True):
        np.testing.assert_allclose(found, known, rtol=0, atol=16 * EPS[dtype] * np.abs(known).max())
    other = updated(Recipe(optimizer=optimizer, max_norm=limit, weight_decay=0.1001), dtype)[0]
    assert np.abs(other[0] - weights[0]).max() > 16 * EPS[dtype] * np.abs(weights[0]).max()


# -- threads, compiled models, where they serve -----------------------------------------------------------

HASHES = """
import hashlib, sys
sys.path.insert(0, "tests/unit")
from splinter import runtime
runtime.import_paddle()
import paddle, test_kernels as tests
from splinter.ports.common.paddle import kernels
assert kernels.loaded()
for case, (ours, _, arrays) in tests.CASES.items():
    found = tests.results(ours, arrays, "float32")
    if case.startswith("linear"):  # its products are those of paddle, and MKL's depend on threads; not so the bias
        found = found[3:]
    print(case, len(found), hashlib.sha256(b"".join(one.tobytes() for one in found)).hexdigest())
big = paddle.to_tensor(tests.numbers(300, 200).astype("float32"))
print(kernels.run("squares", big)[0].item())
key = paddle.to_tensor([1, 2], dtype="int32")
state = [big + 0, big * 0, big * 0]
kernels.run("adamw", state[0], big, *state[1:], [0.5, 0.9, 0.999, 1e-6, 1e-2, 0.0, 1e-3])
print(hashlib.sha256(b"".join(one.numpy().tobytes() for one in state)).hexdigest())
print(hashlib.sha256(kernels.run("dropout", big, key, 0.3)[0].numpy().tobytes()).hexdigest())
ours, arrays = tests.relative(1, True)[0], tests.related(2, 384, 384, 128, 768)  # MKL divides such products
found = [one for dtype in ("float32", "float64") for one in tests.results(ours, arrays, dtype)]
print(hashlib.sha256(b"".join(one.tobytes() for one in found)).hexdigest())
"""


def test_the_number_of_threads_changes_no_bit(cache):
    """
    A run on two threads is resumed on one.
    """
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), kernels.VARIABLE: "1"}
    found = [
        subprocess.run(
            [sys.executable, "-c", HASHES],
            capture_output=True,
            text=True,
            cwd=PROJECT,
            env={**environment, "OMP_NUM_THREADS": str(threads), **more},
        )
        for threads, more in ((1, {}), (2, {}), (3, {}), (1, {"MKL_NUM_THREADS": "2"}), (3, {"OMP_THREAD_LIMIT": "1"}))
    ]
    assert found[0].returncode == 0, found[0].stderr
    assert len(found[0].stdout.splitlines()) > 12
    assert len({one.stdout for one in found}) == 1


def test_a_compiled_model_computes_the_same_bits(built):
    layer = layers.Linear(20, 33)
    norm = layers.LayerNorm(33, 1e-6)
    layer.train()

    def function(x):
        states = norm(layers.gelu(layer(x)))
        mask = paddle.zeros_like(states[:, :, 0]).unsqueeze([1, 2])
        return layers.attention(states, states, states, mask, 3, 0.5, NO_DROP)

    spec = [paddle.static.InputSpec([None, None, 20], "float32")]
    found = []
    for one in (function, paddle.jit.to_static(function, input_spec=spec, full_graph=True)):
        x = paddle.to_tensor(numbers(3, 7, 20).astype("float32"), stop_gradient=False)
        out = one(x)
        out.backward(paddle.to_tensor(numbers(*out.shape, seed=1).astype("float32")))
        found.append([out.numpy(), x.grad.numpy(), layer.weight.grad.numpy(), norm.weight.grad.numpy()])
        layer.clear_gradients(), norm.clear_gradients()
    for eager, compiled in zip(*found, strict=True):
        assert np.abs(eager).max() > 0
        np.testing.assert_array_equal(eager, compiled)


def test_where_the_kernels_serve(built, monkeypatch):
    """
    On a CPU, for float32 and float64 that are not mixed, where nobody asked for paddle's own.
    """
    single, double = paddle.ones([2]), paddle.ones([2], "float64")
    assert kernels.serve(single) and kernels.serve(double, double)
    assert not kernels.serve(single, double) and not kernels.serve(paddle.ones([2], "bfloat16"))
    assert not kernels.serve(paddle.ones([2], "int64"))
    with kernels.unused():
        assert not kernels.serve(single)
    assert kernels.serve(single)
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    assert not kernels.serve(single)


def test_a_trainer_names_them(built):
    """
    By a run of its own: a run is resumed with the same.
    """

    def named():
        return PaddleTrainer(layers.Linear(2, 2), None, Recipe()).kernels()

    assert named() == kernels.path().stem == runtime.applied()["kernels"]
    with kernels.unused():
        assert named() is None


def test_layers_use_them_and_do_without(built, monkeypatch):
    """
    Each layer asks its kernel, and paddle where they are unused.
    """
    asked, plain = [], kernels.run
    monkeypatch.setattr(kernels, "run", lambda name, *given: asked.append(name) or plain(name, *given))
    x = paddle.to_tensor(numbers(2, 8, 8).astype("float32"))
    added = paddle.zeros([2, 1, 1, 8])

    def all_layers():
        layers.Linear(8, 8)(x), layers.LayerNorm(8, 1e-6)(x), layers.gelu(x), layers.dropout(x, 0.5)
        layers.attention(x, x, x, layers.spread(added, 4), 4, 1.0, NO_DROP)

    all_layers()
    assert asked == ["linear", "layer_norm", "gelu", "dropout", "attention"]
    assert layers.spread(added, 4) is added
    with kernels.unused():
        assert layers.spread(added, 4).shape == [2, 4, 8, 8]
        all_layers()
    assert len(asked) == 5


# -- building ---------------------------------------------------------------------------------------------


def command(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "splinter", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    return done.returncode, done.stdout + done.stderr


def test_the_command_builds_once(cache, tmp_path):
    """
    A second call finds what the first one made; nothing lies beside it.
    """
    place = {"XDG_CACHE_HOME": str(tmp_path), kernels.VARIABLE: "1"}
    code, told = command("kernels", **place)
    (made,) = (tmp_path / "splinter" / "kernels").iterdir()
    assert code == 0 and "were built in" in told and "used from now on" in told and str(made) in told
    before = made.stat().st_mtime_ns
    code, told = command("kernels", **place)
    assert code == 0 and "are built already" in told and made.stat().st_mtime_ns == before
    code, told = command("kernels", **{**place, kernels.VARIABLE: "0"})
    assert code == 0 and f"not used: {kernels.VARIABLE}=0" in told


@pytest.mark.parametrize(
    ("compiler", "told"),
    [
        ("no-such-compiler -m64", "no-such-compiler -m64 is not on the path; install g++, or name one in CXX"),
        ("false", "ended with 1"),
    ],
)
def test_what_cannot_be_built_is_one_line(tmp_path, compiler, told):
    """
    And leaves nothing behind.
    """
    code, said = command("kernels", XDG_CACHE_HOME=str(tmp_path), CXX=compiler)
    assert code == 2 and told in said and len(said.splitlines()) == 1
    assert not [*tmp_path.rglob("*.so")]


def test_asked_for_and_not_there(monkeypatch, tmp_path):
    """
    With 1 nobody computes by paddle's own unawares; a setting that is no number is named.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernels.forget()
    monkeypatch.setenv(kernels.VARIABLE, "1")
    with pytest.raises(kernels.BuildError, match="run `splinter kernels`"):
        kernels.loaded()
    monkeypatch.setenv(kernels.VARIABLE, "yes")
    with pytest.raises(runtime.SettingError, match=r"SPLINTER_KERNELS='yes'"):
        kernels.loaded()
    monkeypatch.delenv(kernels.VARIABLE)
    assert not kernels.loaded() and kernels.wanting() == bool(kernels.possible() and kernels.compiler())
    kernels.forget()


def test_another_kind_of_machine(monkeypatch):
    """
    Is told so, and is not advised to build.
    """
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delenv(kernels.VARIABLE)
    kernels.forget()
    assert not kernels.wanting()
    with pytest.raises(kernels.BuildError, match="for Linux on x86-64 and want"):
        kernels.build()
    monkeypatch.setenv(kernels.VARIABLE, "1")
    with pytest.raises(kernels.BuildError, match="there are none for this processor"):
        kernels.loaded()
    kernels.forget()


def test_a_paddle_without_mkl(cache, monkeypatch, tmp_path):
    """
    Cannot use kernels, and is not told to build them again.
    """
    monkeypatch.setattr(kernels, "_mkl", lambda: tmp_path / "libmklml_intel.so")
    monkeypatch.delenv(kernels.VARIABLE)
    kernels.forget()
    assert not kernels.loaded() and not kernels.wanting()
    kernels.forget()
    with pytest.raises(kernels.BuildError, match=r"want .*libmklml_intel\.so; this is linux"):
        kernels.build()
    with pytest.raises(kernels.BuildError, match="this paddle lacks MKL's products"):
        kernels._register.__wrapped__(kernels.path())


@pytest.mark.parametrize("error", [PermissionError, RuntimeError])
def test_a_cache_that_cannot_be_read_has_none(monkeypatch, error):
    """
    A service without a home, or with another user's: nobody asked for kernels.
    """

    def refused(*given, **more):
        raise error("no")

    monkeypatch.delenv(kernels.VARIABLE)
    kernels.path()  # what it reads of the source is kept
    kernels.forget()
    with monkeypatch.context() as patch:
        patch.setattr(*((kernels, "path") if error is RuntimeError else (os, "stat")), refused)
        found = kernels.loaded()
    kernels.forget()
    assert not found


def test_a_compiler_may_have_options(monkeypatch):
    monkeypatch.setenv("CXX", f"{sys.executable} -m64")
    assert kernels.compiler() == [sys.executable, "-m64"]
    monkeypatch.setenv("CXX", "no-such-compiler -m64")
    assert kernels.compiler() == []


def test_a_file_that_does_not_load_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(kernels.VARIABLE, "1")
    kernels.forget()
    kernels.path().parent.mkdir(parents=True)
    kernels.path().write_bytes(b"no library")
    with pytest.raises(kernels.BuildError, match=r"does not load .* remove it and run `splinter kernels` again"):
        kernels.loaded()
    kernels.forget()


def test_each_processor_and_each_source_has_its_own(monkeypatch):
    """
    A home that two machines share holds both; a new version of the source is not taken for the old.
    """

    def found():
        kernels._key.cache_clear()
        return kernels.path()

    here = found()
    monkeypatch.setattr(runtime, "instructions", lambda: frozenset({"sse2"}))
    there = found()
    monkeypatch.setattr(runtime, "instructions", lambda: frozenset({"sse2", "hypervisor", "pti"}))
    assert found() == there != here  # what the system says of itself decides nothing
    monkeypatch.setattr(kernels, "FLAGS", [*kernels.FLAGS, "-O2"])
    assert len({here, there, found()}) == 3 and here.parent == there.parent
    kernels._key.cache_clear()


def test_when_the_kernels_may_go():
    """
    Tells when to measure anew: what paddle 3.3.1 computes on one thread, or in several passes.
    """
    assert paddle.__version__ == "3.3.1", "measure anew: scripts/budget.py, without and with kernels"
