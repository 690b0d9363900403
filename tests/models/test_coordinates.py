"""Laws of the coordinates of cells and of layer energies, also at the ends of float32."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from caloforge.data import Conditions, Showers
from caloforge.detector import CylinderMesh
from caloforge.errors import DataError, RecipeError
from caloforge.models.coordinates import (
    CellCoordinates,
    DecadesBelowLargest,
    LargestCellLogits,
    Layers,
    PartLogits,
    RunningMoments,
    ShareLogits,
    ThresholdLogarithms,
    Whole,
    cut_noise,
    energy_logits,
    energy_range,
    exp_threshold,
    fill_below,
    inverse_squeezed_logit,
    layer_energies_from_logits,
    least_energy,
    log_energy,
    log_threshold,
    renormalise_layers,
    squeezed_logit,
)
from caloforge.models.coordinates.values import LARGEST, U_MAX

T = 0.015625
N_CELLS = 9
NOISE = 1e-4 * T
COORDINATES: dict[str, CellCoordinates] = {
    "threshold": ThresholdLogarithms(width=2.0, smear=0.0),
    "scaled": ThresholdLogarithms(width=2.0, smear=0.0, scale=2.0),
    "knee": ThresholdLogarithms(width=1.0, smear=0.0, knee=2.5 * T),
    "largest": LargestCellLogits(width=2.0, smear=0.0),
    "shares": ShareLogits(noise=NOISE),
    "parts": PartLogits(noise=NOISE),
    "decades": DecadesBelowLargest(noise=NOISE),
}
THRESHOLDS = ("threshold", "scaled", "knee")
ENERGIES = st.one_of(st.just(0.0), st.floats(T, 1e6, width=32))
NOISES = st.sampled_from([0.0, 1e-9, 0.3, 0.999, U_MAX, 1.0])
every = pytest.mark.parametrize("name", COORDINATES)


def random_cells(seed: int, spread: float = 2.0, n: int = 20) -> tuple[Tensor, Whole]:
    """Layers of cells (n, 9), float64, of energies over orders of magnitude, two thirds empty."""
    rng = torch.Generator().manual_seed(seed)
    cells = (spread * torch.randn(n, N_CELLS, generator=rng, dtype=torch.float64)).exp().clamp(T, 1e4)
    cells = torch.where(torch.rand(n, N_CELLS, generator=rng) < 0.6, 0.0, cells)
    cells[:, 0] = cells[:, 0].clamp_min(T)
    return cells, Whole(cells.sum(dim=1, keepdim=True), N_CELLS, cells.max())


def forward(name: str, cells: Tensor, whole: Whole, seed: int = 0) -> Tensor:
    y: Tensor = COORDINATES[name](cells, T, torch.Generator().manual_seed(seed), whole)
    return y


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.1, 2.0]))
@every
def test_cells_come_back_and_empty_ones_stay_below_the_threshold(name: str, seed: int, spread: float) -> None:
    cells, whole = random_cells(seed, spread)
    y = forward(name, cells, whole)
    assert torch.isfinite(y).all()
    back = COORDINATES[name].inverse(y, T, whole)
    lit = cells > 0
    assert ((back[lit] - cells[lit]).abs() <= 1e-4 * T + 1e-3 * cells[lit]).all() or name == "parts"
    assert (back >= 0).all()
    assert (back[~lit] < T).all()
    if name in THRESHOLDS:
        torch.testing.assert_close(back[lit], cells[lit], rtol=1e-9, atol=0)
        assert torch.equal(y > 0, lit)
    closed = renormalise_layers(back, whole.energy, Layers([N_CELLS]), T * (1 - 1e-3))
    torch.testing.assert_close(closed, cells, rtol=2e-3, atol=1e-3 * T)


@every
def test_noise_comes_from_the_generator_alone_and_places_empty_cells(name: str) -> None:
    cells, whole = random_cells(3)
    assert torch.equal(forward(name, cells, whole, 1), forward(name, cells, whole, 1))
    assert not torch.equal(forward(name, cells, whole, 1), forward(name, cells, whole, 2))


@every
def test_any_number_of_a_network_is_a_legal_energy(name: str) -> None:
    _, whole = random_cells(4, n=3)
    y = torch.tensor([-1e9, -30.0, -1.0, 0.0, 1.0, 30.0, 1e9, 5.0, -5.0]).expand(3, -1)
    cells = COORDINATES[name].inverse(
        y, T, Whole(*(x.float() if isinstance(x, Tensor) else x for x in whole))
    )
    assert torch.isfinite(cells).all()
    assert (cells >= 0).all()
    assert torch.isfinite(cells.sum())


@every
def test_a_shower_does_not_depend_on_its_batch(name: str) -> None:
    cells, whole = random_cells(5)
    y = forward(name, cells, whole).float()
    whole = Whole(whole.energy.float(), N_CELLS, float(whole.largest))
    alone = COORDINATES[name].inverse(y[4:5], T, whole._replace(energy=whole.energy[4:5]))
    assert torch.equal(alone, COORDINATES[name].inverse(y, T, whole)[4:5])


class Decoder(torch.nn.Module):
    """The way back as an exported generator has it."""

    def __init__(self, coordinates: CellCoordinates) -> None:
        super().__init__()
        self.coordinates, self.layers = coordinates, Layers([N_CELLS])

    def forward(self, y: Tensor, energy: Tensor) -> Tensor:
        cells = self.coordinates.inverse(y, T, Whole(energy, N_CELLS, 100.0))
        return renormalise_layers(cells, energy, self.layers, T)


@every
def test_the_inverse_is_exported_for_any_batch_size(name: str) -> None:
    cells, whole = random_cells(6)
    arguments = (forward(name, cells, whole).float(), whole.energy.float())
    batch = {0: torch.export.Dim("n")}
    decoder = Decoder(COORDINATES[name])
    graph = torch.export.export(decoder, arguments, dynamic_shapes=(batch, batch))
    fewer = tuple(value[:3] for value in arguments)
    assert torch.equal(graph.module()(*fewer), decoder(*fewer))


@pytest.mark.parametrize("cls", [ThresholdLogarithms, LargestCellLogits])
def test_smearing_is_relative_and_crosses_no_threshold(
    cls: type[ThresholdLogarithms] | type[LargestCellLogits],
) -> None:
    cells = torch.full((1, 40_000), 3.0)
    whole = Whole(torch.tensor(1.0), 1, 100.0)
    coordinates = cls(width=2.0, smear=0.01)
    y = coordinates(cells, T, torch.Generator().manual_seed(0), whole)
    back = coordinates.inverse(y, T, whole)
    assert (back / 3).log().std().item() == pytest.approx(0.01, rel=0.02)
    faint = coordinates(cells * 0 + T, T, torch.Generator().manual_seed(0), whole)
    assert (coordinates.inverse(faint, T, whole) >= T * (1 - 1e-4)).all()


@settings(max_examples=100, deadline=None)
@given(arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=ENERGIES))
def test_logits_of_any_layers(layers: np.ndarray) -> None:
    x = torch.from_numpy(layers)
    energy = x.sum(1).clamp(min=1.0)
    z = energy_logits(x, energy, 1.5)
    back = layer_energies_from_logits(z, energy, 1.5)
    assert (z.abs() <= 25).all()
    assert torch.isfinite(back).all()
    total = x.sum(1, keepdim=True)
    assert ((back - x).abs() <= 3e-5 * x + 1e-9 * total + 1e-9).all()


def test_logits_of_layers_by_hand() -> None:
    x = torch.tensor([[10.0, 30.0, 60.0], [5.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 7.0]])
    z = energy_logits(x, torch.tensor([100.0, 5.0, 5.0, 7.0]), 2.0, bound=20.0)
    expected = [[0.5, 0.1, 1 / 3], [0.5, 1.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.0, 0.0]]
    torch.testing.assert_close(torch.sigmoid(z), torch.tensor(expected))
    assert z[2].tolist() == [-20.0] * 3


def test_logits_keep_a_tail_that_rounded_ratios_would_lose() -> None:
    x, energy = torch.tensor([[1e6, 0.016]]), torch.tensor([1e6])
    back = layer_energies_from_logits(energy_logits(x, energy, 2.0), energy, 2.0)
    torch.testing.assert_close(back[0, 1], torch.tensor(0.016), rtol=1e-4, atol=0)


@pytest.mark.parametrize("alpha", [1e-6, 1e-2])
def test_squeezed_logits_are_finite_at_both_ends_and_come_back(alpha: float) -> None:
    share = torch.tensor([0.0, 1e-30, 1e-7, 0.5, 1 - 2**-24, 1.0])
    y = squeezed_logit(share, alpha)
    assert torch.isfinite(y).all()
    torch.testing.assert_close(inverse_squeezed_logit(y, alpha), share, rtol=0, atol=2e-7)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(ENERGIES, NOISES), min_size=1, max_size=5), st.sampled_from([1e-3, 0.01, T]))
def test_noise_is_cut_within_half_its_width(cells: list[tuple[float, float]], width: float) -> None:
    x, noise = torch.tensor(cells, dtype=torch.float32).T
    back = cut_noise(x + width * noise.clamp(0, U_MAX), width, T)
    assert torch.equal(back > 0, x > 0)
    assert ((back - x).abs() <= width / 2 + 2e-7 * x + 1e-9).all()
    assert (back[back > 0] >= T).all()


def test_noise_leaves_the_mean() -> None:
    u = (torch.arange(1000) + 0.5) / 1000
    torch.testing.assert_close(cut_noise(3.0 + 0.5 * u, 0.5, 1.0).mean(), torch.tensor(3.0))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(ENERGIES, NOISES), min_size=1, max_size=5), st.booleans())
def test_the_threshold_keeps_lit_and_empty_apart(cells: list[tuple[float, float]], cut: bool) -> None:
    x, noise = torch.tensor(cells, dtype=torch.float32).T
    y = log_threshold(x, T, fill_below(noise, 1.0))
    assert torch.isfinite(y).all()
    assert torch.equal(y > 0, x > 0)
    assert (y.abs() >= 9e-5).all()
    for off in (-5e-5, 0.0, 5e-5):  # the rounding of whatever comes after
        back = exp_threshold(y + off, T, cut)
        lit = back >= T
        assert torch.equal(lit, x > 0)
        torch.testing.assert_close(back[lit], x[lit], rtol=1e-4, atol=0)
        assert (back[~lit] == 0).all() if cut else (back[~lit] < T * (1 - 2e-6)).all()


def test_empty_cells_are_log_normal_below_the_threshold() -> None:
    u = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    y = fill_below(u, 2.0)
    torch.testing.assert_close(-y.mean(), torch.tensor(2 * np.exp(0.045)), rtol=1e-3, atol=0)
    assert (-y / 2).log().std().item() == pytest.approx(0.3, rel=1e-3)


def test_the_threshold_is_bounded() -> None:
    y = torch.tensor([[1e9, -1e9, 0.0]])
    assert exp_threshold(y, 2.0).tolist() == [[pytest.approx(2 * LARGEST, rel=1e-5), 0.0, 2.0]]
    x = torch.tensor([[2.0, 1.0]])
    assert log_threshold(x, 2.0, torch.full((1, 2), -3.0)).tolist() == [[pytest.approx(1e-4), -3.0]]


def test_without_cut_the_hottest_of_empty_cells_is_known() -> None:
    y = torch.tensor([[-0.5, -0.2, -3.0]])
    x = exp_threshold(y, T, cut=False)
    assert ((x > 0) & (x < T)).all()
    assert torch.equal(exp_threshold(y, T), torch.zeros(1, 3))
    closed = renormalise_layers(x, torch.tensor([[4.0]]), Layers([3]), T)
    assert closed.tolist() == [[0.0, 4.0, 0.0]]


def test_energies_as_context_are_of_order_one() -> None:
    context = log_energy(torch.tensor([0.0, T, 1e5]), torch.tensor(T), 4.0)
    torch.testing.assert_close(
        context, torch.tensor([-1.0, math.log(2) / 4 - 1, math.log1p(1e5 / T) / 4 - 1])
    )


def test_moments_of_batches_are_those_of_all() -> None:
    x = torch.randn(1000, 4, dtype=torch.float64) * torch.tensor([0.1, 1.0, 1e4, 0.0]) + 1e5
    for shape in ((), (4,)):
        at_once, streamed = RunningMoments(shape), RunningMoments(shape)
        at_once.add(x)
        for part in (*x.split(7), x[:0]):
            streamed.add(part)
        torch.testing.assert_close(streamed.mean, at_once.mean, rtol=1e-9, atol=0)
        torch.testing.assert_close(streamed.std(), at_once.std(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(streamed.mean, x.mean(0))
    torch.testing.assert_close(streamed.std(), x.std(0, correction=0), rtol=1e-6, atol=1e-9)
    mean, std = torch.zeros(4), torch.zeros(4)
    streamed.store(mean, std)
    assert torch.equal(mean, streamed.mean.float())
    assert std[3].item() == pytest.approx(1e-3)  # never varies


def test_moments_survive_large_offsets() -> None:
    moments = RunningMoments((1,))
    x = torch.randn(500, 1, dtype=torch.float64)
    for part in x.split(13):
        moments.add(part + 1e9)
    torch.testing.assert_close(moments.std(), x.std(0, correction=0), rtol=1e-6, atol=0)
    with pytest.raises(RecipeError, match="do not fit"):
        RunningMoments((3,)).add(torch.ones(3, 2))


def test_the_range_of_energies_is_read_off_the_showers() -> None:
    mesh = CylinderMesh.regular(n_z=2, n_phi=2, n_r=1)
    energies = np.zeros((1200, 2, 2, 1))
    energies[3, 0, 1], energies[1100, 1, 0], energies[7, 1, 1] = 4.0, 0.5, 9.0
    showers = Showers(energies, Conditions(np.full(1200, 10.0), particle="e-", detector="toy"), mesh)
    least, largest = energy_range(showers)
    assert least == pytest.approx(0.5, rel=2e-6)
    assert least < 0.5
    assert largest.tolist() == [4.0, 9.0]
    with pytest.raises(DataError, match="all cells of all showers of 'toy' are empty"):
        least_energy([torch.zeros(3, 4)], "showers of 'toy'")
