"""Energy ratios, noise and thresholds at the ends of float32, and on chains as the models use them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from caloforge.errors import DataError
from caloforge.models.coordinates import (
    AddNoise,
    Chain,
    Context,
    EnergyLogits,
    EnergyRatios,
    LayerClosure,
    Layers,
    Logit,
    Standardise,
    Threshold,
    cut_noise,
    energy_logits,
    energy_ratios,
    exp_threshold,
    fill_below,
    fit_batches,
    layer_energies_from_logits,
    layer_energies_from_ratios,
    log_threshold,
)
from caloforge.models.coordinates.noise import LARGEST, U_MAX, Fill

T = 0.0151515
energies = st.one_of(st.just(0.0), st.floats(0.015625, 1e6, width=32))
batches = arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=energies)


@settings(max_examples=100, deadline=None)
@given(batches)
def test_ratios_and_logits_of_any_layers(layers: np.ndarray) -> None:
    x = torch.from_numpy(layers)
    energy = x.sum(1).clamp(min=1.0)
    u = energy_ratios(x, energy, 1.5)
    assert ((u >= 0) & (u <= 1)).all()
    back = layer_energies_from_ratios(u, energy, 1.5)
    total = x.sum(1, keepdim=True)
    assert ((back - x).abs() <= 2e-6 * total).all()
    torch.testing.assert_close(back.sum(1), x.sum(1), rtol=2e-6, atol=0)

    z = energy_logits(x, energy, 1.5)
    back = layer_energies_from_logits(z, energy, 1.5)
    assert (z.abs() <= 25).all()
    assert torch.isfinite(back).all()
    assert ((back - x).abs() <= 3e-5 * x + 1e-9 * total + 1e-9).all()


def test_ratios_by_hand() -> None:
    x = torch.tensor([[10.0, 30.0, 60.0], [5.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 7.0]])
    u = energy_ratios(x, torch.tensor([100.0, 5.0, 5.0, 7.0]), 2.0)
    expected = [[0.5, 0.1, 1 / 3], [0.5, 1.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.0, 0.0]]
    torch.testing.assert_close(u, torch.tensor(expected))


def test_logits_keep_a_tail_that_ratios_lose() -> None:
    x = torch.tensor([[1e6, 0.016]])
    energy = torch.tensor([1e6])
    by_ratio = layer_energies_from_ratios(energy_ratios(x, energy, 2.0), energy, 2.0)
    by_logit = layer_energies_from_logits(energy_logits(x, energy, 2.0), energy, 2.0)
    assert (by_ratio[0, 1] - 0.016).abs() > 0.01
    torch.testing.assert_close(by_logit[0, 1], torch.tensor(0.016), rtol=1e-4, atol=0)


def test_overshooting_ratios_stay_legal() -> None:
    back = layer_energies_from_ratios(torch.tensor([[-0.1, 1.2, 0.5], [0.5, 1.2, -3.0]]), torch.ones(2) * 100)
    assert back.tolist() == [[0.0, 0.0, 0.0], [50.0, 0.0, 0.0]]


@pytest.mark.parametrize("transform", [EnergyRatios(1.0), EnergyLogits(1.0)], ids=repr)
def test_too_much_energy_is_an_error(transform: EnergyRatios | EnergyLogits) -> None:
    context = Context(energy=torch.tensor([10.0, 10.0]))
    with pytest.raises(DataError, match="choose a larger scale"):
        transform(torch.tensor([[4.0, 5.0], [6.0, 5.0]]), context)
    with pytest.raises(DataError, match="must not be negative"):
        transform(torch.tensor([[4.0, 5.0], [6.0, -5.0]]), context)
    transform(torch.tensor([[4.0, 6.0], [1.0, 5.0]]), context)


@pytest.mark.parametrize("alpha", [1e-6, 1e-2])
def test_logit_is_exact_at_both_ends_in_float32(alpha: float) -> None:
    x = torch.tensor([[0.0, 1e-30, 1e-7, 0.5, 1 - 2**-24, 1.0, 1 + 1e-7]])
    y, log_det = Logit(alpha)(x, {})
    exact, log_det_exact = Logit(alpha)(x.double().clamp(max=1.0), {})
    torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(log_det.double(), log_det_exact, rtol=1e-5, atol=1e-4)


noises = st.sampled_from([0.0, 1e-9, 0.3, 0.999, U_MAX, 1.0])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(energies, noises), min_size=1, max_size=5), st.sampled_from([1e-3, 0.01, 0.015625]))
def test_noise_is_cut_within_half_its_width(cells: list[tuple[float, float]], width: float) -> None:
    x, noise = torch.tensor(cells, dtype=torch.float32).T[:, None]
    transform = AddNoise(width, 0.015625)
    y, log_det = transform(x, {"noise": noise})
    back = transform.inverse(y, {})
    assert torch.equal(back > 0, x > 0)
    assert ((back - x).abs() <= width / 2 + 2e-7 * x + 1e-9).all()
    assert (back[back > 0] >= 0.015625).all()
    assert torch.equal(log_det, torch.zeros(1))


def test_noise_leaves_the_mean() -> None:
    u = (torch.arange(1000) + 0.5) / 1000
    back = cut_noise(3.0 + 0.5 * u, 0.5, 1.0)
    torch.testing.assert_close(back.mean(), torch.tensor(3.0))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(energies, noises), min_size=1, max_size=5),
    st.sampled_from(["uniform", "exponential", "normal", "log-normal"]),
    st.booleans(),
)
def test_threshold_keeps_lit_and_empty_apart(cells: list[tuple[float, float]], fill: Fill, cut: bool) -> None:
    x, noise = torch.tensor(cells, dtype=torch.float32).T[:, None]
    transform = Threshold(T, 1.0, fill, cut)
    y, log_det = transform(x, {"noise": noise})
    assert torch.isfinite(y).all()
    assert torch.isfinite(log_det).all()
    assert torch.equal(y > 0, x > 0)
    assert (y.abs() >= 9e-5).all()
    # the rounding of any later transform
    for off in (-5e-5, 0.0, 5e-5):
        back = transform.inverse(y + off, {})
        lit = back >= T
        assert torch.equal(lit, x > 0)
        torch.testing.assert_close(back[lit], x[lit], rtol=1e-4, atol=0)
        assert (back[~lit] == 0).all() if cut else (back[~lit] < T * (1 - 2e-6)).all()


@pytest.mark.parametrize(
    ("fill", "mean"),
    [("uniform", 0.5), ("exponential", 1.0), ("normal", (2 / np.pi) ** 0.5), ("log-normal", np.exp(0.045))],
)
def test_fills_have_their_density(fill: Fill, mean: float) -> None:
    u = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    y, slope = fill_below(u, 2.0, fill)
    torch.testing.assert_close(-y.mean(), torch.tensor(2 * mean, dtype=torch.float64), rtol=1e-3, atol=0)
    # 1/|dy/du| is the density: over y it integrates to one
    density = (-slope).exp()
    area = torch.trapezoid(density[y.argsort()], y.sort().values)
    assert abs(area - 1) < 1e-2


def test_threshold_is_bounded() -> None:
    y = torch.tensor([[1e9, -1e9, 0.0]])
    assert exp_threshold(y, 2.0).tolist() == [[pytest.approx(2 * LARGEST, rel=1e-5), 0.0, 2.0]]
    x = torch.tensor([[2.0, 1.0]])
    assert log_threshold(x, 2.0, torch.full((1, 2), -3.0)).tolist() == [[pytest.approx(1e-4), -3.0]]


def cascade(n: int, n_layers: int, cells: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Voxels (n, n_layers·cells), float32, like electromagnetic showers, and incident energies (n,)."""
    rng = torch.Generator().manual_seed(1)
    energy = 10 ** (3 + 3 * torch.rand(n, generator=rng))
    depth = torch.arange(n_layers) + 0.5
    profile = depth**2 * torch.exp(-0.5 * depth)
    side = torch.exp(3 * torch.randn(n, n_layers, cells, generator=rng) - torch.arange(cells) * 0.8)
    x = energy[:, None, None] * (profile / profile.sum())[:, None] * side / side.sum(-1, keepdim=True)
    return torch.where(x < T, 0.0, x).reshape(n, -1), energy


def test_the_two_chains_of_a_model() -> None:
    x, energy = cascade(64, 30, 16)
    layers = Layers([16] * 30)
    sums = layers.sum(x)
    assert (sums == 0).any()
    rng = torch.Generator().manual_seed(2)
    energy_chain = Chain([AddNoise(0.005, T), EnergyLogits(2.0), Standardise((30,))])
    context = Context(energy=energy, noise=torch.rand(sums.shape, generator=rng))
    fit_batches(energy_chain, lambda: [(sums, context)])
    z, _ = energy_chain(sums, context)
    assert z.abs().max() < 12
    back = energy_chain.inverse(z, {"energy": energy})
    assert torch.equal(back > 0, sums > 0)
    torch.testing.assert_close(back, sums, rtol=1e-4, atol=0.0026)

    voxel_chain = Chain([LayerClosure(layers, T), Threshold(T, cut=False), Standardise()])
    given_noise = Context(noise=torch.rand(x.shape, generator=rng))
    fit_batches(voxel_chain, lambda: [(x, given_noise)])
    y, _ = voxel_chain(x, given_noise)
    # generation: any y, the layer energies of the other chain
    for proposal in (y, y + 0.3 * torch.randn(y.shape, generator=rng), torch.randn(y.shape, generator=rng)):
        voxels = voxel_chain.inverse(proposal, {"layer_energies": back})
        torch.testing.assert_close(layers.sum(voxels), back, rtol=2e-6, atol=0)
        assert (voxels[voxels > 0] >= T * (1 - 1e-6)).all()
