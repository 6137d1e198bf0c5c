"""What the port works around in its dependencies, pinned: a test that fails here says that a workaround can go.

Versions: paddle 3.3.1, transformers 4.57.6, torch 2.13.
"""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
import torch
from tolerances import PEER_ADAMW

from splinter.align import torch_side
from splinter.ports.common.paddle import train as train_paddle
from splinter.ports.common.paddle.model import cross_entropy

pytestmark = pytest.mark.audit
RNG = np.random.default_rng(0)


@pytest.mark.skipif(paddle.device.get_device() != "cpu", reason="the clamp is one of Paddle's CPU kernels")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_paddle_softmax_still_clamps_at_64(dtype):
    """Paddle's cross_entropy cannot exceed 64; that is why the loss is logsumexp minus the picked logit."""
    logits = paddle.to_tensor([[0.0, 200.0]], dtype=dtype)
    label = paddle.to_tensor([0])
    assert F.cross_entropy(logits, label).item() == pytest.approx(64.0)
    assert cross_entropy(logits, label, ignore=2)[0].item() == pytest.approx(200.0)


def test_paddle_padding_idx_still_returns_zeros():
    """Paddle's padding_idx ignores the loaded row; torch's returns it. That is why the encoder sets none."""
    rows = np.ones((3, 2), "float32")
    ours = paddle.nn.Embedding(3, 2, padding_idx=0)
    ours.weight.set_value(rows)
    theirs = torch.nn.Embedding.from_pretrained(torch.tensor(rows), padding_idx=0)
    assert ours(paddle.to_tensor([0])).numpy().tolist() == [[0, 0]]
    assert theirs(torch.tensor([0])).tolist() == [[1, 1]]


def test_torch_padding_idx_still_blocks_the_gradient():
    """torch gives the padding row no gradient, so neither does the encoder."""
    layer = torch.nn.Embedding(3, 2, padding_idx=0)
    layer(torch.tensor([0, 1])).sum().backward()
    assert layer.weight.grad.tolist() == [[0, 0], [1, 1], [0, 0]]


def test_paddle_adam_still_rounds_beta2_in_float32():
    """The fused kernel forms 1 - beta2 in float32: its second moment is 1.3e-5 off after one update."""
    weight = paddle.create_parameter([1], "float32")
    adam = paddle.optimizer.Adam(1e-3, beta2=0.999, parameters=[weight])
    weight.grad = paddle.ones([1])
    adam.step()
    moment = adam._accumulators["moment2"][weight.name].item()
    assert 5e-6 < abs(moment / (1 - 0.999) - 1) < 5e-5


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_optimizer_paddle_adamw_equals_torch_adamw(decay):
    """paddle.optimizer.AdamW is torch.optim.AdamW to rounding in float64: neither is the recipe's variant."""
    start = RNG.normal(size=(4, 3))
    ours = paddle.create_parameter([4, 3], "float64", default_initializer=paddle.nn.initializer.Assign(start))
    theirs = torch.nn.Parameter(torch.tensor(start))
    left = paddle.optimizer.AdamW(1e-3, parameters=[ours], weight_decay=decay)
    right = torch.optim.AdamW([theirs], 1e-3, weight_decay=decay)
    for size in np.logspace(-10, 2, 200):
        gradient = RNG.normal(size=(4, 3)) * size
        ours.grad, theirs.grad = paddle.to_tensor(gradient), torch.tensor(gradient)
        left.step(), right.step()
    tolerance = PEER_ADAMW[decay]
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=tolerance.rtol, atol=tolerance.atol)


def test_paddle_global_norm_clipping_still_lacks_the_epsilon():
    """ClipGradByGlobalNorm divides by the norm, torch and paddle.nn.utils by the norm + 1e-6."""
    weight = paddle.create_parameter([1], "float32")
    clipped = paddle.nn.ClipGradByGlobalNorm(1e-3 / 2)([(weight, paddle.full([1], 1e-3))])[0][1].item()
    weight.grad = paddle.full([1], 1e-3)
    paddle.nn.utils.clip_grad_norm_([weight], 1e-3 / 2)
    assert clipped == pytest.approx(5e-4, rel=1e-6)
    assert weight.grad.item() == pytest.approx(5e-4 / (1 + 1e-3), rel=1e-5)


def test_paddle_norm_of_many_numbers_is_still_far_off():
    """One float32 for all squares of a word embedding; when this fails, `train_paddle.clip` is no longer needed."""
    from splinter.ports.common.paddle.train import clip

    numbers = (RNG.standard_normal((30522, 768)) * 1e-3).astype("float32")
    exact = np.sqrt(np.square(numbers, dtype=np.float64).sum())
    weight = paddle.create_parameter(numbers.shape, "float32")
    weight.grad = paddle.to_tensor(numbers)
    assert abs(paddle.nn.utils.clip_grad_norm_([weight], float("inf")).item() / exact - 1) > 1e-2
    gradient = paddle.to_tensor(numbers)
    assert clip([gradient], 1.0) == pytest.approx(exact, rel=1e-6)
    assert np.linalg.norm(gradient.numpy().astype(np.float64)) == pytest.approx(1.0, rel=2e-6)


def test_transformers_still_forces_float32_softmax():
    """Eager attention rounds its probabilities to float32 in a float64 model; the referee lifts that."""
    from transformers.models.splinter.modeling_splinter import eager_attention_forward

    q, k, v = (torch.tensor(RNG.normal(size=(1, 1, 4, 8))) for _ in range(3))
    exact = torch.softmax(q @ k.transpose(2, 3), dim=-1) @ v
    module = torch.nn.Identity().eval()

    def error():
        return (eager_attention_forward(module, q, k, v, None, 1.0)[0].transpose(1, 2) - exact).abs().max().item()

    assert error() > 1e-9
    with torch_side.float64_softmax():
        assert error() < 1e-15


def test_float64_softmax_leaves_float32_models_alone():
    """What is lifted for the referee is not lifted for the reference: float32 scores, float32 probabilities."""
    scores = torch.tensor(RNG.normal(size=(3, 5)), dtype=torch.float32)
    plain = torch.nn.functional.softmax(scores, dim=-1, dtype=torch.float32)
    with torch_side.float64_softmax():
        assert torch.equal(torch.nn.functional.softmax(scores, dim=-1, dtype=torch.float32), plain)
    assert torch.nn.functional.softmax(scores, dim=-1, dtype=torch.float64).dtype == torch.float64


def test_layer_norm_epsilon_is_still_float32_in_paddle():
    """Paddle holds epsilon as float32 in a float64 layer: a relative 2.6e-8 of 1e-5, the floor of forward."""
    x = RNG.normal(size=(3, 8)) * 1e-3
    ours = F.layer_norm(paddle.to_tensor(x), [8], epsilon=1e-5).numpy()
    variance = x.var(axis=1, keepdims=True)
    given, rounded = (
        (x - x.mean(axis=1, keepdims=True)) / np.sqrt(variance + e) for e in (1e-5, float(np.float32(1e-5)))
    )
    assert np.abs(ours - rounded).max() < 1e-13 < np.abs(ours - given).max()


def test_paddle_still_clears_gradients_to_zero():
    """clear_gradient(set_to_zero=False) leaves a gradient of zeros; torch's grad = None leaves none."""
    parameter = paddle.create_parameter([2], "float32")
    (parameter * 3).sum().backward()
    parameter.clear_gradient(set_to_zero=False)
    assert parameter.grad is not None and not parameter.grad.numpy().any()
    train_paddle.clear(parameter)
    assert parameter.grad is None


def test_paddle_still_cannot_go_back_through_products_of_four_and_three_axes():
    """The gradient of (B, H, Q, d) @ (H, d, N) fails for B > 1; Funnel's attention puts an axis of one in front."""
    left = paddle.ones([2, 3, 4, 5])
    left.stop_gradient = False
    right = paddle.ones([3, 5, 6])
    right.stop_gradient = False
    with pytest.raises((ValueError, RuntimeError, OSError)):
        paddle.matmul(left, right).sum().backward()
    paddle.matmul(left, right.unsqueeze(0)).sum().backward()
    assert right.grad.shape == [3, 5, 6]
