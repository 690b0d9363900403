"""GFlash against the moments of its own formulas, and what it cannot do."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from caloforge.checkpoint import Checkpoint
from caloforge.checkpoint.untrained import gflash
from caloforge.data import Conditions
from caloforge.detector import (
    BoxMesh,
    CylinderMesh,
    Detector,
    Mesh,
    RaggedBoxLayer,
    RaggedBoxMesh,
    RaggedCylinderMesh,
    RaggedLayer,
)
from caloforge.errors import ConditionError, DetectorError, MeshError
from caloforge.generation import generate
from caloforge.models.base import ConditionTensors
from caloforge.models.coordinates import Layers
from caloforge.models.parametrised.formulas import Formulas
from caloforge.models.parametrised.gflash import CONVERSION, GFlash
from caloforge.models.parametrised.hits import gamma_numbers, hit_cells, poisson_numbers
from caloforge.models.parametrised.lateral import Profile, cells_of
from caloforge.models.parametrised.medium import Medium

N = 4000
DEEP = CylinderMesh.regular(n_z=45, dz=3.4, n_phi=1, n_r=1, dr=1e4)
"""All of par04-siw: two of its layers in each, and nothing outside."""


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def described(**changes: Any) -> Detector:
    return Detector.from_dict(Detector.load("par04-siw").to_dict() | changes)


def made(
    model: GFlash, n: int = N, particle: str = "e-", energy: float = 1e4, theta: float | None = None
) -> Any:
    detector = model.settings.detector
    angle = detector.normal_theta if theta is None else theta
    conditions = ConditionTensors.of(Conditions(np.full(n, energy), angle, 0.3, particle, detector.name))
    with torch.no_grad():
        return model.decode(model.noise(n, torch.Generator().manual_seed(5)), conditions).double().numpy()


def test_the_formulas_have_the_published_numbers() -> None:
    """Worked out by hand: y = 1000, Z = 26, with Fs = 1 and ê = 0.7 in the sampling calorimeter."""
    log_y, fs = torch.tensor(math.log(1000.0)), torch.tensor(1.0)
    whole, sampled = Formulas(26.0), Formulas(26.0, 0.7)
    assert [float(x) for x in whole.average(log_y, fs)] == pytest.approx([6.0498, 4.2409], abs=1e-3)
    assert [float(x) for x in sampled.average(log_y, fs)] == pytest.approx([5.3008, 3.7969], abs=1e-3)
    m = whole.moments(log_y, fs)
    assert float(m.log_t) == pytest.approx(math.log(6.0958), abs=1e-3)
    assert float(m.log_alpha) == pytest.approx(math.log(4.5742), abs=1e-3)
    assert [float(m.sigma_t), float(m.sigma_alpha)] == pytest.approx([0.13690, 0.18655], abs=1e-4)
    assert float(m.rho) == pytest.approx(0.54612, abs=1e-4)
    m = sampled.moments(log_y, fs)
    assert float(m.log_t) == pytest.approx(math.log(5.3388), abs=1e-3)
    assert float(m.log_alpha) == pytest.approx(math.log(4.0982), abs=1e-3)
    assert [float(m.sigma_t), float(m.sigma_alpha)] == pytest.approx([0.16298, 0.21567], abs=1e-4)
    e = torch.tensor(10.0)
    assert float(whole.spots(e, torch.tensor(0.1))) == pytest.approx(93 * math.log(26) * 10**0.876, rel=1e-5)
    assert float(sampled.spots(e, torch.tensor(0.1))) == pytest.approx(103 * 10**0.959, rel=1e-5)
    core, tail, part = whole.radial(torch.tensor(1.0), torch.tensor(0.0), fs)
    assert [float(core), float(part)] == pytest.approx([0.13139, 0.88838], abs=1e-4)
    assert float(tail) == pytest.approx(0.57866 * (math.exp(-0.91945) + math.exp(0.1272675)), rel=1e-4)
    core, tail, part = sampled.radial(torch.tensor(1.0), torch.tensor(0.0), fs)
    assert float(core) == pytest.approx(0.13139 - 0.00609 + 0.0397 / math.e, abs=1e-4)
    assert float(part) == pytest.approx(0.88838 + 0.3 * (0.348 - 0.642), abs=1e-4)


def test_draws_have_the_moments_of_the_formulas() -> None:
    log_y, fs = torch.full((20_000,), 7.0), torch.tensor(2.5)
    moments = Formulas(72.0, 0.7).moments(log_y, fs)
    t, alpha = moments.draw(*normal(2, 20_000))
    for x, mean, sigma in (
        (t, moments.log_t, moments.sigma_t),
        (alpha, moments.log_alpha, moments.sigma_alpha),
    ):
        assert float(x.log().mean()) == pytest.approx(float(mean[0]), abs=0.01)
        assert float(x.log().std()) == pytest.approx(float(sigma[0]), rel=0.02)
    rho = np.corrcoef(t.log().numpy(), alpha.log().numpy())[0, 1]
    assert rho == pytest.approx(float(moments.rho[0]), abs=0.02)


@pytest.mark.parametrize("mean", [0.003, 0.3, 2.0, 2.99, 3.01, 8.0, 60.0])
def test_poisson_numbers(mean: float) -> None:
    z = torch.linspace(-4.5, 4.5, 40_001)
    numbers = poisson_numbers(z, torch.full_like(z, mean)).numpy()
    exact = stats.poisson.ppf(stats.norm.cdf(z.double().numpy()), mean)
    weight = stats.norm.pdf(z.double().numpy())
    assert (weight * (numbers != exact)).sum() / weight.sum() < (1e-4 if mean < 3 else 0.01)
    assert np.abs(numbers - exact).max() <= 1


@pytest.mark.parametrize("shape", [0.02, 0.3, 1.0, 5.0, 100.0])
def test_gamma_numbers(shape: float) -> None:
    n = 400_000
    drawn = gamma_numbers(normal(n, 2, 1), torch.full((n, 1), shape)).double()
    error = 5 / math.sqrt(n) * max(1.0, shape**-0.5)
    assert float(drawn.mean()) == pytest.approx(shape, rel=0.01 + error)
    assert float(drawn.var()) == pytest.approx(shape, rel=0.02 + 4 * error)


def test_hits_share_out_layers_as_if_dropped_one_by_one() -> None:
    """Numbers of cells given their sum are multinomial: means and covariance of the shares."""
    n, p = 40_000, torch.tensor([0.5, 0.3, 0.15, 0.05])
    energies, hits = torch.full((n, 1), 100.0), torch.full((n, 1), 12.0)
    cells = hit_cells(normal(n, 4), energies, hits, p.expand(n, 4), Layers([4]), torch.tensor(0.01)).double()
    np.testing.assert_allclose(cells.sum(1), 100.0, rtol=1e-5)
    shares = (cells / 100).numpy()
    np.testing.assert_allclose(shares.mean(0), p, atol=0.005)
    inverse = (1 / stats.poisson.rvs(12, size=n, random_state=1).clip(1)).mean()
    expected = inverse * (np.diag(p) - np.outer(p, p))
    np.testing.assert_allclose(np.cov(shares, rowvar=False), expected, atol=0.001)


def test_a_layer_with_energy_has_a_hit_where_it_is_likely() -> None:
    n, p = 20_000, torch.tensor([0.6, 0.3, 0.1])
    energies, hits = torch.full((n, 1), 5.0), torch.full((n, 1), 1e-4)
    cells = hit_cells(normal(n, 3), energies, hits, p.expand(n, 3), Layers([3]), torch.tensor(0.1))
    assert torch.equal((cells > 0).sum(1), torch.ones(n, dtype=torch.int64))
    np.testing.assert_allclose(cells.double().mean(0) / 5, p, atol=0.02)


def radial_density(x: float, y: float, core: float, tail: float, part: float) -> float:
    return sum(
        w * r * r / math.pi / (x * x + y * y + r * r) ** 2 for w, r in ((part, core), (1 - part, tail))
    )


@pytest.mark.parametrize("centre", [None, (2.0, -3.0)])
def test_cells_have_the_integral_of_the_radial_profile(centre: tuple[float, float] | None) -> None:
    core, tail, part = 1.5, 9.0, 0.7
    profile = Profile(*(torch.full((1, 2, 1), x) for x in (core, tail, part)))
    weights = torch.ones(1, 2, 1)
    at = None if centre is None else torch.tensor(centre).view(2, 1, 1, 1).expand(2, 1, 2, 1)
    cx, cy = centre or (0.0, 0.0)
    y_edges, x_edges = (-6.0, -1.0, 0.5, 4.0), (-5.0, 0.0, 7.0)
    layers = [RaggedBoxLayer(0, y_edges, x_edges, (0, 1)), RaggedBoxLayer(1, y_edges[:2], x_edges, (1, 2))]
    meshes: list[Mesh] = [BoxMesh((0.0, 1.0, 2.0), y_edges, x_edges), RaggedBoxMesh(tuple(layers))]
    whole, ragged = (cells_of(mesh)(profile, weights, at)[0].double().numpy() for mesh in meshes)
    exact = [
        integrate.dblquad(
            lambda y, x: radial_density(x - cx, y - cy, core, tail, part), x0, x1, y0, y1, epsabs=1e-6
        )[0]
        for y0, y1 in itertools.pairwise(y_edges)
        for x0, x1 in itertools.pairwise(x_edges)
    ]
    np.testing.assert_allclose(whole, exact * 2, atol=2e-5)
    np.testing.assert_allclose(ragged, [*exact, *exact[:2]], atol=2e-5)


def test_rings_have_the_integral_of_the_radial_profile() -> None:
    profile = Profile(*(torch.full((1, 2, 1), x) for x in (1.5, 9.0, 0.7)))
    edges = np.array([0.0, 1.0, 5.0, 50.0])
    within = 0.7 * edges**2 / (edges**2 + 2.25) + 0.3 * edges**2 / (edges**2 + 81)
    mesh = CylinderMesh((0.0, 1.0, 2.0), 4, tuple(edges))
    regular = cells_of(mesh)(profile, torch.ones(1, 2, 1), None).view(2, 4, 3)
    np.testing.assert_allclose(regular, np.broadcast_to(np.diff(within) / 4, (2, 4, 3)), rtol=1e-4)
    layers = (RaggedLayer(0, 2, (0.0, 1.0, 5.0), (0, 1)), RaggedLayer(1, 1, tuple(edges), (1, 2)))
    ragged = cells_of(RaggedCylinderMesh(layers))(profile, torch.ones(1, 2, 1), None)[0]
    np.testing.assert_allclose(ragged, [*np.tile(np.diff(within)[:2] / 2, 2), *np.diff(within)], rtol=1e-4)


def test_showers_have_the_moments_of_their_profiles() -> None:
    """Response, resolution, mean profile and the spread of its centre, as the formulas have them."""
    model = GFlash(DEEP, {"detector": "par04-siw", "threshold_mev": 1e-3})
    layers = made(model).sum(axis=(2, 3))
    total = layers.sum(axis=1)
    assert total.mean() / 1e4 == pytest.approx(1, abs=0.005)
    c = float(model.medium.resolution(torch.tensor(1.0)))
    assert total.std() / 1e4 * math.sqrt(10) == pytest.approx(c, rel=0.05)
    log_y, fs = (
        torch.full((N,), math.log(1e4 / model.medium.critical_mev)),
        torch.tensor(model.medium.frequency),
    )
    t, alpha = model.formulas.moments(log_y, fs).draw(*normal(2, N, seed=9))
    middle = (alpha / (alpha - 1) * t).double()  # ⟨t⟩ = α/β of one shower
    bounds = model.medium.bounds[::2]  # between what the layers sample, two in each slice
    depth = (layers / total[:, None]) @ (bounds[1:] + bounds[:-1]) / 2
    assert depth.mean() == pytest.approx(float(middle.mean()), rel=0.02)
    edges = torch.from_numpy(bounds).float()
    shape = torch.special.gammainc(alpha[:, None], ((alpha - 1) / t)[:, None] * edges).diff(dim=1).mean(0)
    np.testing.assert_allclose(layers.mean(0) / total.mean(), shape, atol=0.006)


def test_a_photon_starts_where_it_converts() -> None:
    model = GFlash(DEEP, {"detector": "par04-siw"})
    electrons, photons = (made(model, particle=name).sum(axis=(0, 2, 3)) for name in ("e-", "gamma"))
    depths = [
        np.average((np.arange(45) + 0.5) * 3.4, weights=x) / model.medium.x0_mm for x in (electrons, photons)
    ]
    assert depths[1] - depths[0] == pytest.approx(CONVERSION, rel=0.1)


def test_a_homogeneous_detector_has_no_sampling_fluctuation() -> None:
    model = gflash(Detector.load("par04-pbwo4"))
    assert not model.medium.sampling
    assert set(model.noise_shapes()) == {"profile", "cells"}
    total = made(model, 500).sum(axis=(1, 2, 3)) / 1e4
    assert total.mean() == pytest.approx(0.985, abs=0.01)
    assert total.std() < 0.01


def test_layers_see_as_they_sample() -> None:
    """The last ten layers of ild-ecal have twice the tungsten before them, and see half as much."""
    medium = Medium.of(Detector.load("ild-ecal"))
    assert medium.weights[25] / medium.weights[5] == pytest.approx(2.6 / 4.7, abs=0.06)
    assert medium.frequency == pytest.approx(30 / medium.bounds[-1])
    odd = gflash(Detector.load("odd-ecal"))
    mean = made(odd, 400).mean(axis=0).sum(axis=(1, 2))
    at = np.outer(odd.medium.starts, [0, 0, 1])
    planes = np.bincount(odd.mesh.index(at) // 144, minlength=45)
    assert set(planes) == {0, 1, 2}
    assert not mean[planes == 0].any()
    assert mean[(planes > 0)].all()


def test_the_axis_crosses_the_cells_of_the_detector() -> None:
    columns = tuple(np.linspace(-400, 400, 81).tolist())
    mesh = BoxMesh((30.0, 40.0, 50.0, 60.0), (-400.0, 0.0, 400.0), columns, "detector")
    detector = Detector.load("lhcb-ecal")
    model = GFlash(mesh, {"detector": detector})
    theta, n = 0.4, 300
    impact = np.tile([20.0, 0.0], (n, 1))
    conditions = ConditionTensors.of(Conditions(np.full(n, 1e4), theta, 0.0, "e-", "lhcb-ecal", impact))
    with torch.no_grad():
        cells = model.decode(model.noise(n, torch.Generator().manual_seed(1)), conditions).sum(dim=(0, 2))
    x = (cells * torch.linspace(-395, 395, 80)).sum(1) / cells.sum(1)
    np.testing.assert_allclose(x, 20 + np.array([35, 45, 55]) * math.tan(theta), atol=1.5)


def test_tilted_layers_are_farther_apart() -> None:
    model = GFlash(DEEP, {"detector": "par04-siw"})
    straight, tilted = (made(model, theta=angle).sum(axis=(1, 2, 3)) for angle in (math.pi / 2, 0.6))
    cosine = torch.tensor([1.0, math.sin(0.6)])
    expected = model.medium.resolution(cosine)
    assert tilted.std() / straight.std() == pytest.approx(float(expected[1] / expected[0]), rel=0.1)


@pytest.mark.parametrize("name", Detector.names())
@pytest.mark.parametrize("particle", ["e-", "gamma"])
def test_every_detector_that_comes_with_caloforge(name: str, particle: str) -> None:
    checkpoint = Checkpoint.load(f"gflash:{name}")
    low, high = checkpoint.valid_range["energy"]
    first, last = checkpoint.valid_range["theta"]
    edges = [(e, t) for e in (low, high) for t in (first, last)]
    energy, theta = np.array(edges * 4).T
    showers = generate(
        checkpoint,
        conditions=Conditions(energy, theta, 0.1, particle, name, np.zeros((16, 2))),
        progress=False,
    )
    detector = Detector.load(name)
    assert showers.mesh == detector.mesh
    least = detector.threshold_mev / detector.sampling_fraction
    assert showers.energies[showers.energies > 0].min() >= least * (1 - 1e-4)
    response = showers.energies.reshape(16, -1).sum(axis=1) / energy
    assert 0.7 < response.mean() < 1.2


def test_a_file_may_be_saved_and_its_resolution_changed(tmp_path: Any) -> None:
    checkpoint = Checkpoint.load("gflash:par04-siw")
    saved = Checkpoint.load(checkpoint.save(tmp_path / "m"))
    assert saved.fingerprint == checkpoint.fingerprint
    one, other, wide = (
        generate(c, energy=1e4, n=200, progress=False).energies.sum(axis=(1, 2, 3))
        for c in (checkpoint, saved, saved.with_settings({"resolution": 0.4}))
    )
    np.testing.assert_array_equal(one, other)
    assert wide.std() > 2 * one.std()
    assert not saved.trained


def test_what_it_cannot_do() -> None:
    checkpoint = Checkpoint.load("gflash:par04-siw")
    for options, message in (
        ({"energy": 5e2}, r"energy of shower 0 is 500 MeV, outside the valid range 990 to 1.01e\+06"),
        ({"energy": 2e6}, "outside the valid range"),
        (
            {"energy": 50.0, "allow_extrapolation": True},
            r"logarithms of its formulas fail .* from 136 MeV on",
        ),
        ({"energy": 1e4, "theta": 0.01, "allow_extrapolation": True}, "beyond the parametrisation"),
        ({"energy": 1e4, "particle": "pi-"}, "is for particles e-, e\\+, gamma, not 'pi-'"),
        (
            {
                "conditions": Conditions(1e4, math.pi / 2, 0.0, "pi-", "par04-siw"),
                "allow_extrapolation": True,
            },
            r"particle of shower 0 is 'pi-'; the parametrisation is for .*Geant4",
        ),
    ):
        with pytest.raises(ConditionError, match=message):
            generate(checkpoint, n=1, progress=False, **options)  # type: ignore[arg-type]
    generate(checkpoint, energy=[200.0, 3e6], allow_extrapolation=True, progress=False)


def test_detectors_it_cannot_be_used_for() -> None:
    siw = Detector.load("par04-siw").to_dict()
    strange = {"material": "G4_STAINLESS-STEEL", "thickness_mm": 1.0}
    stack = [{"repeat": 90, "layers": [*siw["stack"][0]["layers"], strange]}]
    with pytest.raises(
        DetectorError, match=r"needs the composition of G4_STAINLESS-STEEL.*\[\[materials\]\]"
    ):
        gflash(described(stack=stack))
    with pytest.raises(DetectorError, match=r"described for pi-, pi\+, the parametrisation is for e-"):
        Checkpoint.of_detector(described(particles=["pi-", "pi+"]))
    thick = {"material": "G4_W", "thickness_mm": 600.0}
    coarse = described(stack=[{"repeat": 3, "layers": [thick, siw["stack"][0]["layers"][1]]}])
    with pytest.raises(DetectorError, match=r"holds at no energy; showers are sampled 0\.0058"):
        Checkpoint.of_detector(coarse)
    with pytest.raises(DetectorError, match=r"holds from 136\.5 MeV on, and it is described up to 100 MeV"):
        Checkpoint.of_detector(described(energy_range_mev=(10.0, 100.0)))
    with pytest.raises(DetectorError, match="no layer is sensitive"):
        described(stack=[{"layers": [thick]}])
    flat = RaggedCylinderMesh((RaggedLayer(3, 1, (0.0, 5.0)),))
    with pytest.raises(MeshError, match=r"layer 3 of .* has no depth"):
        GFlash(flat, {"detector": "par04-siw"})
    fixed = dataclasses.replace(CylinderMesh.regular(), frame="detector")
    with pytest.raises(MeshError, match="fixed to the detector"):
        GFlash(fixed, {"detector": "par04-siw"})
