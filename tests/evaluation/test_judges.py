"""Judges that do not flatter: boosted trees, a dense network that is given much, and learning curves."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from caloforge.data import Showers
from caloforge.detector import CylinderMesh, Mesh
from caloforge.errors import MissingDependencyError, RecipeError
from caloforge.evaluation import PRESETS, ClassifierSettings, Evaluation, compute_features, train_classifier
from caloforge.evaluation.classifiers import INPUTS, chosen_classifiers
from caloforge.evaluation.classifiers.curve import extrapolate, learning_curve, shares
from caloforge.evaluation.classifiers.inputs import Sample, check_names, fill_table
from caloforge.evaluation.classifiers.inputs.strong import RANKS
from caloforge.evaluation.classifiers.settings import TreeSettings
from caloforge.report import evaluate

Make = Callable[..., Showers]
MESH = CylinderMesh.regular(n_z=4, n_phi=8, n_r=3)
SMALL = ClassifierSettings(
    hidden=64,
    layers=2,
    epochs=15,
    batch_size=50,
    learning_rate=1e-3,
    repeats=1,
    standardise=True,
    threads=1,
    calibration_floor=None,
    dropout=0.2,
    weight_decay=0.02,
    trees=TreeSettings(most=60),
)


def sample(showers: Showers) -> Sample:
    return showers, compute_features(showers)


def clumpy(make: Make, n: int, seed: int) -> Showers:
    """Showers in which cells next to each other in φ are lit together."""
    showers = make(MESH, n=n, seed=seed)
    seeds = np.random.default_rng(seed).random(showers.energies.shape) < 0.15
    cells = showers.energies * 0 + np.random.default_rng(seed + 1).exponential(1.0, seeds.shape)
    cells *= seeds | np.roll(seeds, 1, axis=2)
    cells *= (showers.conditions.energy / np.maximum(cells.sum(axis=(1, 2, 3)), 1e-9))[:, None, None, None]
    return Showers(cells.astype(np.float32), showers.conditions, MESH)


def dealt(showers: Showers) -> Showers:
    """The cells of each ring of each layer in another order."""
    cells = np.random.default_rng(5).permuted(showers.energies, axis=2)
    return Showers(cells, showers.conditions, showers.mesh)


@pytest.mark.parametrize("name", ["boosted", "strong"])
def test_what_only_neighbours_tell_is_seen(name: str, make: Make) -> None:
    truth, other = clumpy(make, 500, 0), clumpy(make, 500, 1)
    same = train_classifier(name, sample(truth), sample(other), SMALL)
    assert abs(same.auc - 0.5) < 4 * same.auc_noise
    found = train_classifier(name, sample(truth), sample(dealt(other)), SMALL)
    assert found.auc > 0.9
    assert found.parameters > 0
    assert found.diagnosis is not None
    told = {share.name for share in found.diagnosis.features[:8]}
    assert {"pairs_phi", "correlation_phi_1", "isolated", "isolated_share", "clusters", "cluster_size"} & told
    if name == "boosted":
        assert found.diagnosis.groups[0].name == "all neighbours"


@pytest.mark.parametrize("name", ["boosted", "strong"])
@pytest.mark.parametrize("sums", [False, True])
def test_the_inputs_fit_their_layout(name: str, sums: bool, mesh: Mesh, make: Make) -> None:
    chosen = sample(make(mesh, n=6))
    layout = INPUTS[name].layout(chosen[1], sums=sums)
    table = fill_table(name, [(chosen, np.array([4, 1]))], layout, 1.0)
    assert table.shape == (2, layout.width)
    assert np.isfinite(table).all()
    columns = np.concatenate(list(layout.features.values()))
    assert columns.max() == layout.width - 1
    whole = fill_table(name, [(chosen, np.arange(6))], layout, 1.0)
    np.testing.assert_allclose(table, whole[[4, 1]], rtol=1e-6)


def test_ranks_and_quantiles_by_their_definition(mesh: Mesh, make: Make) -> None:
    showers = make(mesh, n=5)
    chosen, rows = sample(showers), np.arange(5)
    shares_of = showers.energies.reshape(5, -1) / showers.conditions.energy.astype(np.float32)[:, None]
    layout = INPUTS["strong"].layout(chosen[1], sums=True)
    table = fill_table("strong", [(chosen, rows)], layout, 1.0)
    for place, number in enumerate(mesh.layer_numbers):
        cells = shares_of[:, mesh.voxel_layers == place]
        ranked = np.sqrt(np.sort(cells, axis=1)[:, ::-1][:, :RANKS])
        np.testing.assert_allclose(
            table[:, layout.features[f"brightest cells of layer {number}"]], ranked, rtol=1e-6
        )
    layout = INPUTS["boosted"].layout(chosen[1])
    table = fill_table("boosted", [(chosen, rows)], layout, 1.0)
    for row, cells in enumerate(shares_of):
        expected = np.log10(np.quantile(cells[cells > 0], 0.5, method="nearest"))
        ordered = np.log10(np.sort(cells[cells > 0]))
        found = table[row, layout.features["cell_quantile_50"][0]]
        assert np.abs(ordered - found).min() < 1e-5
        assert abs(np.searchsorted(ordered, found + 1e-5) - np.searchsorted(ordered, expected + 1e-5)) <= 1
        largest = table[row, layout.features["cell_quantile_100"][0]]
        assert largest == pytest.approx(ordered[-1], abs=1e-5)


def test_without_scikit_learn_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(MissingDependencyError, match="scikit-learn"):
        check_names(("boosted",), MESH)
    check_names(("low", "high", "strong"), MESH)


def test_presets_name_their_classifiers() -> None:
    assert list(chosen_classifiers("quick")) == ["low", "high"]
    assert chosen_classifiers("none", ["low"]) == {}
    several = chosen_classifiers("quick, strong,boosted")
    assert list(several) == ["low", "high", "strong", "boosted"]
    assert [s.preset for s in several.values()] == ["quick", "quick", "strong", "boosted"]
    named = chosen_classifiers("quick", ["boosted", "resnet", "low-normed", "boosted"])
    assert {name: s.preset for name, s in named.items()} == {
        "boosted": "boosted",
        "resnet": "quick",
        "low-normed": "quick",
    }
    own = ClassifierSettings(epochs=3)
    assert chosen_classifiers(own, ["boosted"]) == {"boosted": PRESETS["boosted"]}
    assert chosen_classifiers(own) == {"low": own, "high": own}
    with pytest.raises(RecipeError, match="strnog"):
        chosen_classifiers("quick,strnog")


def test_patience_ends_a_training_where_its_best_epoch_is_known(make: Make) -> None:
    first, second = sample(make(MESH, n=120)), sample(make(MESH, n=120, seed=1))
    patient = SMALL.replace(epochs=30, patience=2)
    ended = train_classifier("high", first, second, patient)
    assert ended.best_epochs[0] < 30
    again = train_classifier("high", first, second, SMALL.replace(epochs=ended.best_epochs[0]))
    assert ended.aucs == again.aucs
    assert (
        train_classifier("high", first, second, SMALL.replace(epochs=ended.best_epochs[0] + 2)).aucs
        == ended.aucs
    )


def test_a_learning_curve_ends_at_the_auc(make: Make) -> None:
    heard: list[float] = []
    pair = sample(clumpy(make, 220, 0)), sample(dealt(clumpy(make, 220, 1)))
    settings = SMALL.replace(curve=4, repeats=2)
    result = train_classifier("boosted", *pair, settings, progress=heard.append)
    assert heard[-1] == pytest.approx(1)
    assert result.curve is not None
    assert result.curve.showers == (55, 110, 220)  # with 28 there would be nothing to learn from
    assert result.curve.aucs[-1] == pytest.approx(result.auc)
    assert result.curve.at == 100_000
    assert 0.8 < result.curve.expected.value <= 1
    assert train_classifier("boosted", *pair, settings.replace(curve=0)).curve is None


def test_shares_are_halves_of_halves() -> None:
    assert shares(1600, 4) == [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1]
    assert shares(120, 4) == [0.5, 1]
    assert shares(20, 4) == [1]


SIZES = (100, 200, 400, 800, 1600)


def aucs_of(limit: float, half: float, power: float, n: np.ndarray) -> np.ndarray:
    """AUCs of a classifier whose separation grows from showers to showers, d' = D / √(1 + (m / n)^p)."""
    separation = math.sqrt(2) * norm.ppf(limit)
    return np.asarray(norm.cdf(separation / np.sqrt(1 + (half / n) ** power) / math.sqrt(2)))


@pytest.mark.parametrize(("limit", "half", "power"), [(0.9, 500, 1.0), (0.8, 3000, 0.5), (0.99, 100, 1.0)])
def test_a_known_curve_is_continued(limit: float, half: float, power: float) -> None:
    rng, miss = np.random.default_rng(0), []
    exact = aucs_of(limit, half, power, np.array(SIZES, dtype=float))
    truth = aucs_of(limit, half, power, np.array([100_000.0]))[0]
    error = np.full(5, 0.004)
    for _ in range(60):
        seen = exact + rng.normal(0, 0.004) + rng.normal(0, 0.004, 5)
        found = extrapolate(SIZES, np.minimum(seen, 0.999), error, error)
        miss.append((found.value - truth) / found.error)
    assert np.abs(np.median(miss)) < 1.5
    assert np.mean(np.abs(miss) < 2.5) > 0.85


def test_few_showers_that_see_nothing_say_little() -> None:
    blind, many = (learning_curve(SIZES, [[0.5] * 5], judged=n).expected for n in (300, 30_000))
    assert blind.value == pytest.approx(0.5, abs=0.01)
    assert blind.error > 0.02
    assert many.error < 0.005


def test_a_curve_that_still_rises_is_continued_upwards() -> None:
    rising = learning_curve(SIZES, [[0.52, 0.55, 0.58, 0.62, 0.66]], judged=320).expected
    assert rising.value > 0.75
    flat = learning_curve(SIZES, [[0.66] * 5], judged=320).expected
    assert flat.value == pytest.approx(0.66, abs=0.05)
    assert flat.error < rising.error
    assert learning_curve(SIZES, [[0.66] * 5], judged=320).expected == flat


def test_an_evaluation_with_the_judges_survives_json(make: Make, tmp_path: Path) -> None:
    pair = make(MESH, n=60), make(MESH, n=60, seed=1)
    made = evaluate(*pair, which=["boosted"], distances=False, out=tmp_path, progress=False)
    assert list(made.classifiers) == ["boosted"]
    assert made.classifiers["boosted"].settings["preset"] == "boosted"
    again = Evaluation.read(tmp_path / "metrics.json")
    curve = again.classifiers["boosted"].curve
    assert curve is not None
    assert curve.showers == (60,)
    assert again.neighbourhoods["pairs_phi"] == made.neighbourhoods["pairs_phi"]
    assert again.equivalent["longitudinal"].bins == 4
