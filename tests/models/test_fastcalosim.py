"""FastCaloSim against the showers it was fitted to, whose distributions are known, and what it cannot do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.checkpoint import Checkpoint
from caloforge.data import Conditions, Showers
from caloforge.detector import CylinderMesh
from caloforge.errors import DataError, RecipeError, TrainingError
from caloforge.generation import generate
from caloforge.models.base import ConditionTensors
from caloforge.models.parametrised import fastcalosim
from caloforge.models.parametrised.fastcalosim import FastCaloSim
from caloforge.models.parametrised.quantiles import gaussianised, levels, principal_components, quantile_table
from caloforge.training import Recipe, train

MESH = CylinderMesh.regular(n_z=5, n_phi=4, n_r=3)
Floats = NDArray[np.float64]


def toy(n: int = 6000, seed: int = 1, empty: float = 0.0, particle: str = "e-") -> Showers:
    """Showers that reach deeper at higher energies, with σ/E = 15 %/√E, 40 hits a GeV and a known profile."""
    random = np.random.default_rng(seed)
    energy = np.exp(random.uniform(np.log(2e3), np.log(3e4), n))
    total = energy * response(energy) * (1 + 0.15 / np.sqrt(energy / 1e3) * random.normal(size=n))
    depth = np.log(energy / 1e3) * 0.6 + 0.4 * random.normal(size=n)
    shares = np.exp(-0.5 * ((np.arange(5) - depth[:, None]) / 1.2) ** 2)
    layers = shares / shares.sum(axis=1, keepdims=True) * total[:, None]
    hits = random.poisson(layers * 0.04)[..., None, None]
    cells = random.multinomial(hits[..., 0, 0], PROFILE.ravel()).reshape(n, 5, 4, 3)
    energies = cells / np.maximum(hits, 1) * layers[..., None, None]
    energies[: int(empty * n)] = 0
    order = random.permutation(n)
    conditions = Conditions(energy[order], np.pi / 2, 0.0, particle, "toy")
    return Showers(energies[order].astype(np.float32), conditions, MESH, {"action": "toy"})


def response(energy: Floats) -> Floats:
    """Mean ΣE/E, which bends."""
    bent: Floats = 0.9 + 0.05 * np.log(energy / 1e3) ** 0.5
    return bent


PROFILE = np.array([0.6, 0.3, 0.1]) * np.array([0.4, 0.3, 0.2, 0.1])[:, None]
TRUTH = toy()


@pytest.fixture(scope="module")
def model() -> FastCaloSim:
    fitted = FastCaloSim(MESH, {"energies": 6})
    fitted.fit(TRUTH)
    return fitted.eval()


def made(model: FastCaloSim, conditions: Conditions, seed: int = 3) -> Floats:
    tensors = ConditionTensors.of(conditions)
    with torch.no_grad():
        noise = model.noise(len(conditions), torch.Generator().manual_seed(seed))
        energies: Floats = model.decode(noise, tensors).double().numpy()
    return energies


def test_gaussians_of_any_distribution() -> None:
    random = np.random.default_rng(0)
    values = np.column_stack(
        [random.exponential(size=5000), (random.random(5000) > 0.7) * random.random(5000)]
    )
    normal = gaussianised(values, random)
    np.testing.assert_allclose(normal.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(normal.std(axis=0), 1, atol=0.01)
    assert (np.diff(normal[values[:, 0].argsort(), 0]) > 0).all()
    assert len(np.unique(normal[:, 1])) == 5000  # what is equal is spread at random
    np.testing.assert_allclose(quantile_table(values, 5)[0], np.quantile(values[:, 0], levels(5)))


def test_components_have_the_covariance() -> None:
    random = np.random.default_rng(0)
    mixed = random.normal(size=(4000, 4)) @ random.normal(size=(4, 4))
    components = principal_components(mixed)
    np.testing.assert_allclose(components @ components.T, np.corrcoef(mixed, rowvar=False), atol=1e-6)
    widths = np.linalg.norm(components, axis=0)
    assert (np.diff(widths) <= 0).all()


def test_showers_are_distributed_as_those_it_was_fitted_to(model: FastCaloSim) -> None:
    conditions = TRUTH.conditions
    ours, theirs = made(model, conditions), TRUTH.energies.astype(np.float64)
    energy = conditions.energy
    for low, high in ((2e3, 4e3), (4e3, 1e4), (1e4, 3e4)):
        here = (energy >= low) & (energy < high)
        n = here.sum()
        for ratio in ([x[here].sum(axis=(1, 2, 3)) / energy[here] for x in (ours, theirs)],):
            assert ratio[0].mean() == pytest.approx(ratio[1].mean(), abs=4 * ratio[1].std() / n**0.5)
            assert ratio[0].std() == pytest.approx(ratio[1].std(), rel=0.1)
        layers = [x[here].sum(axis=(2, 3)) for x in (ours, theirs)]
        shares = [x / x.sum(axis=1, keepdims=True) for x in layers]
        np.testing.assert_allclose(shares[0].mean(0), shares[1].mean(0), atol=0.01)
        np.testing.assert_allclose(shares[0].std(0), shares[1].std(0), rtol=0.12, atol=0.003)
        np.testing.assert_allclose(*(np.corrcoef(x, rowvar=False) for x in shares), atol=0.1)
    np.testing.assert_allclose(ours.sum(axis=(0, 1)) / ours.sum(), PROFILE, atol=0.006)


def test_the_response_is_a_spline_and_the_resolution_that_of_the_showers(model: FastCaloSim) -> None:
    energy = np.geomspace(3e3, 2.5e4, 20)
    logs = torch.from_numpy(np.log(energy)).float()
    np.testing.assert_allclose(model._mean_response(logs), response(energy), atol=0.008)
    a, c = model.resolution
    assert float(a) == pytest.approx(0.15, rel=0.15)
    assert float(c) < 0.03


def test_the_number_of_hits_is_that_of_the_resolution(model: FastCaloSim) -> None:
    """1/(σ/E)² hits: what a layer of 1 GeV is made of, by the spread of its cells."""
    n = 4000
    conditions = ConditionTensors.of(Conditions(np.full(n, 1e4), np.pi / 2, 0.0, "e-", "toy"))
    conditions.layer_energies = torch.full((n, 5), 1000.0)
    with torch.no_grad():
        cells = model.decode(model.noise(n, torch.Generator().manual_seed(3)), conditions).double().numpy()
    shares = cells[:, 1] / 1000
    mean = shares.mean(axis=0)
    hits = (mean * (1 - mean)).sum() / shares.var(axis=0).sum()
    assert hits == pytest.approx(float(1 / model.resolution.square().sum()), rel=0.1)


def test_total_energies_are_brought_to_the_right_distribution(model: FastCaloSim) -> None:
    drawn, right = model.total[2]
    place = torch.full((len(drawn),), 2)
    torch.testing.assert_close(model._reweighted(drawn, place), right, rtol=1e-5, atol=1e-5)
    outside = torch.tensor([float(drawn[0]) - 1, float(drawn[-1]) + 1])
    torch.testing.assert_close(model._reweighted(outside, place[:2]), right[[0, -1]])


def test_a_fit_to_many_showers_draws_a_few_at_a_time(
    model: FastCaloSim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes a matrix of its own: for a million in 45 layers that would be 8 GB."""
    monkeypatch.setattr(fastcalosim, "SLICE", 1000)
    sizes, draw = [], FastCaloSim._shares

    def counted(self: FastCaloSim, bins: Tensor, layers: Tensor, logs: Tensor) -> tuple[Tensor, ...]:
        sizes.append(len(logs))
        return draw(self, bins, layers, logs)

    monkeypatch.setattr(FastCaloSim, "_shares", counted)
    again = FastCaloSim(model.mesh, model.settings)
    again.fit(TRUTH)
    assert max(sizes) == 1000
    for name, values in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], values), name


def test_empty_showers_are_a_bin_of_their_own() -> None:
    showers = toy(3000, empty=0.2)
    fitted = FastCaloSim(MESH, {"energies": 2, "components": 3})
    fitted.fit(showers)
    energies = made(fitted.eval(), showers.conditions)
    assert (energies.sum(axis=(1, 2, 3)) == 0).mean() == pytest.approx(0.2, abs=0.03)


def test_it_is_fitted_and_not_trained(tmp_path: Path) -> None:
    checkpoint = train(
        "fastcalosim", TRUTH, out=tmp_path / "m", progress=False, overrides={"settings.energies": 3}
    )
    assert checkpoint.trained
    assert checkpoint.metrics["steps"] == 0
    saved = Checkpoint.load(tmp_path / "m")
    showers = generate(saved, energy="5GeV", n=40, progress=False)
    assert showers.energies.sum(axis=(1, 2, 3)).mean() == pytest.approx(5e3 * 0.97, rel=0.1)


def test_models_with_networks_want_steps(tmp_path: Path) -> None:
    recipe = Recipe.load("layer-flow", {"training.steps": 0})
    with pytest.raises(
        TrainingError, match=r"training\.steps is 0, but a InductiveLayerFlow has to be trained"
    ):
        train(recipe, toy(60), out=tmp_path / "m", progress=False)


def test_showers_that_cannot_be_fitted() -> None:
    both = Showers.join([toy(200), toy(200, particle="gamma")])
    with pytest.raises(RecipeError, match=r"one particle at a time, the showers are of e-, gamma"):
        FastCaloSim(MESH).fit(both)
    with pytest.raises(DataError, match=r"energy bin \d+ of 50 has \d+ showers, and 20 are needed"):
        FastCaloSim(MESH, {"energies": 50}).fit(toy(300))
    with pytest.raises(DataError, match="empty"):
        FastCaloSim(MESH, {"energies": 1}).fit(toy(100, empty=1.0))
