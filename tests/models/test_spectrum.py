"""Laws of the map that restores the spectrum of cell energies."""

import pytest
import torch
from torch import Tensor

from caloforge.models.coordinates.spectrum import SpectrumMap

THRESHOLD = 0.5


def energies(n: int, slope: float, seed: int) -> Tensor:
    """Cells (n,), MeV: two thirds are empty, the others fall as a power of energy."""
    u = torch.rand(n, 2, generator=torch.Generator().manual_seed(seed))
    lit = THRESHOLD * (1 - u[:, 0]) ** (-1 / slope)
    return torch.where(u[:, 1] < 2 / 3, 0.0, lit)


def histogram(values: Tensor) -> Tensor:
    lit = values[values > 0].log()
    counts = torch.histc(lit, bins=30, min=-0.7, max=5)
    return counts / counts.sum()


def test_it_is_the_identity_before_it_is_fitted_and_after_reset() -> None:
    spectrum, cells = SpectrumMap(), energies(5000, 1.0, 0)
    assert torch.allclose(spectrum(cells), cells, rtol=1e-6)
    spectrum.fit(energies(5000, 0.8, 1), cells, THRESHOLD)
    assert not torch.allclose(spectrum(cells), cells, rtol=1e-2)
    spectrum.reset()
    assert torch.allclose(spectrum(cells), cells, rtol=1e-6)


def test_of_equal_samples_it_is_the_identity() -> None:
    spectrum, cells = SpectrumMap(), energies(20000, 1.0, 0)
    spectrum.fit(cells, cells, THRESHOLD)
    assert torch.allclose(spectrum(cells), cells, rtol=1e-2)


@pytest.mark.parametrize("slope", [0.7, 1.4])
def test_it_brings_one_spectrum_to_another(slope: float) -> None:
    spectrum, reference = SpectrumMap(), energies(60000, 1.0, 0)
    spectrum.fit(energies(60000, slope, 1), reference, THRESHOLD)
    fresh = energies(60000, slope, 2)  # not those it was fitted on
    before = (histogram(fresh) - histogram(reference)).abs().sum()
    after = (histogram(spectrum(fresh)) - histogram(reference)).abs().sum()
    assert after < before / 5


def test_it_rises_and_respects_the_threshold() -> None:
    spectrum = SpectrumMap()
    spectrum.fit(energies(30000, 0.7, 0), energies(10000, 1.5, 1), THRESHOLD)
    grid = torch.cat([torch.zeros(1), torch.logspace(-3, 6, 2000)])
    mapped = spectrum(grid)
    assert (mapped.diff() > 0).all()
    assert torch.equal(mapped[grid < THRESHOLD * 0.99], grid[grid < THRESHOLD * 0.99])
    assert (mapped[grid >= THRESHOLD] >= THRESHOLD * (1 - 1e-6)).all()


def test_few_cells_leave_the_identity() -> None:
    spectrum, cells = SpectrumMap(), energies(100, 1.0, 0)
    spectrum.fit(cells, energies(10000, 0.5, 1), THRESHOLD)
    assert torch.allclose(spectrum(cells), cells, rtol=1e-6)
    spectrum.fit(torch.zeros(1000), torch.zeros(1000), THRESHOLD)
    assert torch.allclose(spectrum(cells), cells, rtol=1e-6)


def test_it_travels_with_the_state_dict() -> None:
    spectrum, other, cells = SpectrumMap(), SpectrumMap(), energies(2000, 0.7, 0)
    spectrum.fit(cells, energies(2000, 1.4, 1), THRESHOLD)
    other.load_state_dict(spectrum.state_dict())
    assert torch.equal(other(cells), spectrum(cells))
