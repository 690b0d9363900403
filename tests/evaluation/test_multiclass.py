"""The classifier of several models ranks them by their nearness to the reference."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from caloforge.data import Conditions, Showers
from caloforge.detector import CylinderMesh
from caloforge.errors import MeshError, RecipeError
from caloforge.evaluation import ClassifierSettings, compute_features
from caloforge.evaluation.classifiers import train_multiclass
from caloforge.evaluation.classifiers.inputs import Sample
from caloforge.evaluation.results import MulticlassResult

Make = Callable[..., Showers]
MESH = CylinderMesh.regular(n_z=4, n_phi=8, n_r=3)
TINY = ClassifierSettings(
    hidden=32, layers=2, epochs=10, batch_size=50, learning_rate=2e-3, repeats=2, standardise=True, threads=1
)


def sample(showers: Showers, factor: float = 1.0) -> Sample:
    cells = showers.energies.copy()
    cells[:, 2] *= np.float32(factor)
    changed = Showers(cells, showers.conditions, MESH)
    return changed, compute_features(changed)


def test_models_are_ranked_by_their_distance(make: Make) -> None:
    samples = {
        "Geant4": sample(make(MESH, n=400)),
        "bad": sample(make(MESH, n=400, seed=1), 3.0),
        "good": sample(make(MESH, n=450, seed=2)),
        "fair": sample(make(MESH, n=400, seed=3), 1.3),
    }
    heard: list[float] = []
    result = train_multiclass(samples, TINY, progress=heard.append)
    by_name = dict(zip(result.names, result.log_posterior, strict=True))
    errors = dict(zip(result.names, result.log_posterior_error, strict=True))
    assert result.names[0] == "Geant4"
    assert result.nearest == "good"
    assert by_name["good"] > by_name["fair"] > by_name["bad"]
    assert by_name["good"] - by_name["bad"] > 5 * errors["bad"]
    assert abs(by_name["good"] - by_name["Geant4"]) < 5 * np.hypot(errors["good"], errors["Geant4"])
    np.testing.assert_allclose(result.confusion.sum(axis=1), 1)
    assert result.confusion[1, 1] > 0.6  # the bad model is recognised
    assert result.showers == (240, 80, 80)
    assert heard[-1] == 1
    again = train_multiclass(samples, TINY)
    assert (again.log_posterior == result.log_posterior).all()


@pytest.mark.parametrize("inputs", ["low", "high"])
def test_copies_of_one_sample_are_at_chance(inputs: str, make: Make) -> None:
    samples = {name: sample(make(MESH, n=150)) for name in ("Geant4", "a", "b")}
    result = train_multiclass(samples, TINY.replace(epochs=3), inputs=inputs)
    np.testing.assert_allclose(result.log_posterior, 0, atol=0.02)
    # twins lie in the same part and the network gives them the same answer, so each class gets the same
    np.testing.assert_allclose(result.confusion, np.broadcast_to(result.confusion[0], (3, 3)))


def test_two_gaussians_have_their_known_divergence() -> None:
    """ln p_ref − ln p_model, averaged over the reference, is the Kullback-Leibler divergence, here 1/2."""
    rng, n = np.random.default_rng(0), 4000
    samples = {}
    for name, shift in (("Geant4", 0.0), ("model", 1.0)):
        cells = np.zeros((n, 4, 8, 3))
        cells[:, 0, 0, 0] = 1e4 * 10 ** (0.05 * rng.normal(shift, 1, n))
        showers = Showers(cells.astype(np.float32), Conditions(np.full(n, 5e4)), MESH)
        samples[name] = sample(showers)
    result = train_multiclass(samples, TINY.replace(epochs=5))
    assert result.log_posterior[0] - result.log_posterior[1] == pytest.approx(0.5, abs=0.1)


def test_the_result_survives_json(make: Make) -> None:
    samples = {"a": sample(make(MESH, n=40)), "b": sample(make(MESH, n=40, seed=1))}
    result = train_multiclass(samples, TINY.replace(epochs=1))
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert MulticlassResult.from_dict(plain).to_dict() == plain


def test_mistakes_are_named(make: Make) -> None:
    one = sample(make(MESH))
    with pytest.raises(RecipeError, match="reference and a model"):
        train_multiclass({"Geant4": one}, TINY)
    with pytest.raises(RecipeError, match="unknown classifier 'middle'"):
        train_multiclass({"Geant4": one, "a": one}, TINY, inputs="middle")
    other = make(CylinderMesh.regular(n_z=3, n_phi=8, n_r=3))
    with pytest.raises(MeshError):
        train_multiclass({"Geant4": one, "a": (other, compute_features(other))}, TINY)
