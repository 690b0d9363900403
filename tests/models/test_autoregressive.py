"""Laws of autoregressive spline flows, in both directions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from caloforge.models.networks.autoregressive.flow import AutoregressiveFlow

DIRECTIONS = ("density", "sampling")


def make_flow(dims: int = 5, context: int = 3, scale: float = 0.3, **settings: object) -> AutoregressiveFlow:
    """A flow in float64 whose splines are far from the identity."""
    chosen: dict = {"blocks": 3, "hidden": 24, "depth": 2, "context_units": 4, **settings}
    flow = AutoregressiveFlow(dims, context, **chosen).double().eval()
    generator = torch.Generator().manual_seed(1)
    for name, p in flow.named_parameters():
        if ".weight" not in name or name.endswith("enter.weight"):
            p.data.copy_(0.2 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    for block in flow.masked_splines():
        block.weight.data.copy_(scale * torch.randn(block.weight.shape, generator=generator).double())
    return flow


def inputs(n: int, dims: int = 5, context: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    x = 2 * torch.randn(n, dims, generator=generator, dtype=torch.float64)
    return x, torch.randn(n, context, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("grad", [False, True])
def test_the_two_directions_are_inverses(direction: str, grad: bool) -> None:
    flow = make_flow(direction=direction)
    x, context = inputs(200)
    x[0], x[1, 2] = 20.0, -7.0  # beyond the splines, where the map is the identity
    with torch.set_grad_enabled(grad):
        z, log_det = flow.to_noise(x, context)
        back, log_det_back = flow.to_data(z, context)
        again, _ = flow.to_noise(flow.to_data(x, context)[0], context)
    assert (z - x).abs().max() > 0.5
    torch.testing.assert_close(back, x, rtol=0, atol=1e-9)
    torch.testing.assert_close(again, x, rtol=0, atol=1e-9)
    torch.testing.assert_close(log_det, -log_det_back, rtol=0, atol=1e-8)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_log_determinant_is_that_of_autograd(direction: str) -> None:
    flow = make_flow(direction=direction)
    x, context = inputs(3)
    for method in (flow.to_noise, flow.to_data):
        _, log_det = method(x, context)
        for i in range(len(x)):
            one = context[i : i + 1]
            jacobian = torch.autograd.functional.jacobian(
                lambda v, m=method, c=one: m(v[None], c)[0][0], x[i]
            )
            expected = torch.linalg.slogdet(jacobian).logabsdet
            torch.testing.assert_close(log_det[i], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_block_looks_at_earlier_dimensions_alone(direction: str) -> None:
    flow = make_flow(direction=direction, blocks=1)
    x, context = inputs(1)
    jacobian = torch.autograd.functional.jacobian(lambda v: flow.to_noise(v[None], context)[0][0], x[0])
    assert jacobian.triu(1).abs().max() == 0
    assert jacobian.tril(-1).abs().max() > 1e-3


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_density_integrates_to_one(direction: str) -> None:
    flow = make_flow(dims=2, context=0, scale=0.2, direction=direction)
    axis = torch.linspace(-9, 9, 901, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        integral = flow.log_prob(points).exp().sum() * (axis[1] - axis[0]) ** 2
    assert abs(float(integral) - 1) < 1e-3


def test_untrained_flow_is_the_standard_normal() -> None:
    flow = AutoregressiveFlow(4, 2, blocks=2, hidden=8)
    x, context = torch.randn(10, 4), torch.randn(10, 2)
    expected = -0.5 * x.square().sum(dim=1) - 2 * math.log(2 * math.pi)
    torch.testing.assert_close(flow.log_prob(x, context), expected)
    torch.testing.assert_close(flow.sample(x, context), x)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_gradients_reach_every_parameter(direction: str) -> None:
    x, context = inputs(100)
    for method in ("log_prob", "sample"):
        flow = make_flow(direction=direction)
        getattr(flow, method)(x, context).square().sum().backward()
        for name, p in flow.named_parameters():
            assert p.grad is not None, name
            assert p.grad.abs().max() > 0, name


@pytest.mark.parametrize("depth", [1, 2])
def test_gradients_of_samples_are_those_of_finite_differences(depth: int) -> None:
    flow = make_flow(depth=depth, blocks=2)
    z, context = inputs(2)
    z.requires_grad_(), context.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: flow.sample(a, b), (z, context))


def test_orders_come_from_the_seed_and_weights_from_the_state() -> None:
    flow = make_flow(dims=7, blocks=5)
    other = AutoregressiveFlow(7, 3, blocks=5, hidden=24, depth=2, context_units=4).double().eval()
    assert torch.equal(flow.orders, other.orders)
    assert not torch.equal(flow.orders, AutoregressiveFlow(7, 3, blocks=5, hidden=24, seed=1).orders)
    other.load_state_dict(flow.state_dict())
    x, context = inputs(20, dims=7)
    with torch.no_grad():
        assert torch.equal(flow.sample(x, context), other.sample(x, context))


def test_bfloat16_is_close_and_dropout_acts_in_training_alone() -> None:
    flow = make_flow(dropout=0.3, scale=0.1).float()
    x, context = (t.float() for t in inputs(100))
    with torch.no_grad():
        exact, rough = flow.sample(x, context), flow.sample(x, context, True)
        assert rough.dtype == torch.float32
        torch.testing.assert_close(rough, exact, rtol=0, atol=0.1)
        assert torch.equal(flow.sample(x, context), exact)
        flow.train()
        assert not torch.equal(flow.sample(x, context), flow.sample(x, context))
