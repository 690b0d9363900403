"""A dense layer whose weights are rounded once gives what one gives that rounds them in each call."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from caloforge.models.networks import linear
from caloforge.models.networks.linear import CastLinear


@pytest.fixture(params=["host", "elsewhere"])
def elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """As on a CPU, and as on other devices, which keep what is rounded."""
    if request.param == "elsewhere":
        if not hasattr(torch, "get_autocast_dtype"):
            pytest.skip("rounded in each call before torch 2.4")
        monkeypatch.setattr(linear, "keeps", lambda device: True)
    return bool(request.param == "elsewhere")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rounded", [True, False])
@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.usefixtures("elsewhere")
def test_it_is_a_dense_layer_to_the_last_bit(bias: bool, rounded: bool, gradients: bool) -> None:
    torch.manual_seed(0)
    ours, x = CastLinear(7, 5, bias=bias), torch.randn(3, 2, 7)
    torchs = nn.Linear(7, 5, bias=bias)
    for _ in range(2):
        torchs.load_state_dict(ours.state_dict())
        for layer in (ours, torchs):
            layer.zero_grad()
        with torch.set_grad_enabled(gradients), torch.autocast("cpu", torch.bfloat16, enabled=rounded):
            results = [layer(x) for layer in (ours, copy.deepcopy(ours), torchs)]
        assert all(torch.equal(result, results[-1]) for result in results)
        assert results[0].dtype == (torch.bfloat16 if rounded else torch.float32)
        if gradients:
            for result in (results[0], results[2]):
                result.float().square().sum().backward()
            assert torch.equal(ours.weight.grad, torchs.weight.grad)
        with torch.no_grad():
            ours.weight.mul_(-2)


def test_the_weights_are_rounded_once_elsewhere_and_take_no_memory_here(elsewhere: bool) -> None:
    layer, x = CastLinear(4, 4), torch.ones(2, 4)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        layer(x)
        first = layer.weights("cpu")[0]
        assert first.dtype == (torch.bfloat16 if elsewhere else torch.float32)
        assert layer.weights("cpu")[0] is first
