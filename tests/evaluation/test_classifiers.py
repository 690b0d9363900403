"""Classifiers: blind on equal samples, certain on different ones, reproducible, and defined as published."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from sklearn.metrics import roc_auc_score

from caloforge.data import Conditions, Showers
from caloforge.detector import CylinderMesh, Mesh, calochallenge_mesh
from caloforge.errors import DataError, RecipeError
from caloforge.evaluation import PRESETS, ClassifierSettings, compute_features, train_classifier
from caloforge.evaluation.classifiers import (
    INPUTS,
    ClassifierInputs,
    auc,
    auc_and_jsd,
    auc_noise,
    classifier_settings,
    engine,
    repeats,
)
from caloforge.evaluation.classifiers.batches import Batches
from caloforge.evaluation.classifiers.inputs import Layout, Sample, fill_table
from caloforge.evaluation.classifiers.inputs.high import high_inputs
from caloforge.evaluation.classifiers.networks import make_network
from caloforge.evaluation.classifiers.scores import log_posterior, temperature
from caloforge.evaluation.classifiers.settings import TreeSettings
from caloforge.evaluation.classifiers.split import are_twins, split_rows
from caloforge.evaluation.features import Features

Make = Callable[..., Showers]
MESH = CylinderMesh.regular(n_z=4, n_phi=8, n_r=3)
TINY = ClassifierSettings(
    hidden=32,
    layers=2,
    epochs=12,
    batch_size=50,
    learning_rate=2e-3,
    repeats=2,
    standardise=True,
    threads=1,
    calibration_floor=None,
    widths=(4, 4, 8, 8),
    trees=TreeSettings(most=40),
    special={name: {"epochs": 5, "repeats": 1} for name in ("resnet", "c2st")},
)


def sample(showers: Showers) -> Sample:
    return showers, compute_features(showers)


def hotter(showers: Showers) -> Showers:
    """The same showers with all energy moved into half of the cells."""
    cells = showers.energies.copy()
    cells[:, :, ::2] = 0
    return Showers(cells * np.float32(2), showers.conditions, showers.mesh)


@pytest.mark.parametrize("name", INPUTS.names())
def test_equal_samples_cannot_be_told_apart_and_different_ones_can(name: str, make: Make) -> None:
    first, second = make(MESH, n=400), make(MESH, n=400, seed=1)
    same = train_classifier(name, sample(first), sample(second), TINY)
    assert abs(same.auc - 0.5) < 5 * same.auc_noise
    assert -0.5 < same.jsd < 0.2
    assert same.error_rate == pytest.approx(0.5, abs=5 * same.auc_noise)
    different = train_classifier(name, sample(first), sample(hotter(second)), TINY)
    assert different.auc > (0.8 if name in ("resnet", "c2st") else 0.99)
    assert different.error_rate is not None
    assert different.error_rate < (0.4 if name in ("resnet", "c2st") else 0.1)
    assert different.parameters > 0


def test_which_sample_is_called_real_does_not_matter(make: Make) -> None:
    first, second = sample(make(MESH, n=400)), sample(hotter(make(MESH, n=400, seed=1)))
    for pair in ((first, second), (second, first)):
        result = train_classifier("low", *pair, TINY)
        assert result.auc > 0.99
        assert 0.3 < result.jsd <= 1


def test_the_seed_decides_everything_and_the_global_stream_is_left_alone(make: Make) -> None:
    first, second = sample(make(MESH)), sample(make(MESH, n=80, seed=1))
    torch.manual_seed(1)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    results = [train_classifier("high", first, second, TINY, seed=s) for s in (3, 3, 4)]
    assert (torch.get_rng_state() == state).all()
    assert torch.get_num_threads() == threads
    assert results[0].aucs == results[1].aucs
    assert results[0].jsds == results[1].jsds
    assert results[0].aucs != results[2].aucs


@pytest.mark.parametrize("name", ["high", "resnet"])
def test_trainings_side_by_side_are_those_one_after_the_other(
    name: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = sample(make(MESH)), sample(make(MESH, n=80, seed=1))
    settings = TINY.replace(repeats=4, floor=True, threads=None, special={}, epochs=2)
    results, seen = [], set()
    fit = engine.fit

    def watched(*arguments: Any, **options: Any) -> engine.Trained:
        seen.add((threading.get_ident(), torch.get_num_threads()))
        return fit(*arguments, **options)

    monkeypatch.setattr(engine, "fit", watched)
    for cores in (1, 4):
        monkeypatch.setattr(repeats, "usable_threads", lambda cores=cores: cores)
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        results.append(train_classifier(name, first, second, settings))
    assert results[0].aucs == results[1].aucs
    assert results[0].auc_floor == results[1].auc_floor
    assert results[0].diagnosis is not None
    assert results[1].diagnosis is not None
    assert (results[0].diagnosis.generated == results[1].diagnosis.generated).all()
    assert len(seen) > 1
    assert {threads for _, threads in seen} == {1}


def test_the_result_says_how_it_was_made(make: Make) -> None:
    heard: list[float] = []
    settings = TINY.replace(floor=True, epochs=2)
    result = train_classifier(
        "high", sample(make(MESH, n=100)), sample(make(MESH, n=70, seed=1)), settings, progress=heard.append
    )
    assert result.showers == (42, 14, 14)
    assert len(result.aucs) == len(result.jsds) == len(result.best_epochs) == 2
    assert result.auc == pytest.approx(np.mean(result.aucs))
    assert result.auc_std == pytest.approx(np.std(result.aucs))
    assert result.auc_floor is not None
    assert result.settings["hidden"] == 32
    assert heard == sorted(heard)
    assert heard[-1] == 1


def test_auc_and_jsd_by_their_definitions() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 0], 3000)
    scores = 1 / (1 + np.exp(-rng.normal(np.where(labels == 1, 1.0, -1.0))))
    auc, jsd = auc_and_jsd(scores, labels, (scores, labels))
    assert auc == pytest.approx(roc_auc_score(labels, scores))
    x = np.linspace(-8, 8, 4001)
    p, q = (np.exp(-((x - m) ** 2) / 2) / np.sqrt(2 * np.pi) for m in (1, -1))
    m = (p + q) / 2
    exact = trapezoid(p * np.log2(p / m) + q * np.log2(q / m), x) / 2
    assert jsd == pytest.approx(exact, abs=0.03)
    certain = np.repeat([1.0, 0.0], 3000)
    assert auc_and_jsd(certain, labels, (certain, labels)) == pytest.approx((1, 1), abs=1e-5)
    nothing = np.full(6000, 0.5)
    assert auc_and_jsd(nothing, labels, (nothing, labels)) == pytest.approx((0.5, 0))


def test_the_noise_of_the_auc_is_what_random_scores_show() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 0], [60, 90])
    seen = [roc_auc_score(labels, rng.random(150)) for _ in range(300)]
    assert np.std(seen) == pytest.approx(auc_noise(60, 90), rel=0.1)


def test_the_published_settings() -> None:
    settings = classifier_settings("calochallenge")
    assert settings.replace(preset="", special={}) == ClassifierSettings()
    assert (settings.hidden, settings.layers, settings.epochs) == (2048, 3, 50)
    assert (settings.batch_size, settings.learning_rate, settings.standardise) == (1000, 2e-4, False)
    layout = Layout(10, {}, np.arange(1))
    shapes = [tuple(p.shape) for p in make_network(10, 1, layout, settings).parameters() if p.ndim == 2]
    assert shapes == [(2048, 10), (2048, 2048), (2048, 2048), (1, 2048)]
    assert PRESETS["quick"].standardise


def test_inputs_have_the_published_sizes_and_values(make: Make) -> None:
    mesh = calochallenge_mesh("2")
    showers = make(mesh, n=4)
    features, rows = compute_features(showers), np.array([1, 3])
    size = {"low": 1 + 6480, "low-normed": 1 + 6480 + 45, "high": 1 + 45 + 4 * 45 + 1 + 45 + 2 * 45}
    for name, expected in size.items():
        assert np.concatenate(list(INPUTS[name].batches(showers, features, rows))).shape == (2, expected)
    low = next(iter(INPUTS["low"].batches(showers, features, rows)))
    np.testing.assert_allclose(low[:, 0], np.log10(showers.conditions.energy[rows]), rtol=1e-6)
    np.testing.assert_allclose(low[:, 1:].sum(axis=1), features.e_ratio[rows], rtol=1e-5)
    normed = next(iter(INPUTS["low-normed"].batches(showers, features, rows)))
    np.testing.assert_allclose(mesh.layer_energies(normed[:, 1:6481]), 1, rtol=1e-5)
    high = high_inputs(features, rows)
    np.testing.assert_allclose(high[:, 1:46], np.log10(features.e_layer[rows] + 1e-8), rtol=1e-6)


def test_standardised_inputs_use_the_training_rows_alone() -> None:
    rng = np.random.default_rng(0)
    inputs = (rng.exponential(1.0, (60, 6)) * (rng.random((60, 6)) < 0.7)).astype(np.float32)
    layout = Layout(6, {}, np.arange(1), cells=slice(1, 5), sums=slice(5, 5))
    train = np.r_[0:20, 30:50]
    constants = train, (train < 30).astype(np.int64)
    changed = inputs.copy()
    changed[50:] *= 1000
    made = [Batches(x, layout, constants, torch.device("cpu")) for x in (inputs, changed)]
    assert (made[0](np.arange(50)) == made[1](np.arange(50))).all()
    values = made[0](train)
    assert values.shape == (40, made[0].width) == (40, 10)
    np.testing.assert_allclose(values.mean(dim=0), 0, atol=1e-5)
    np.testing.assert_allclose(values[:, [0, 5]].std(dim=0, correction=0), 1, rtol=1e-5)
    for group in (slice(1, 5), slice(6, 10)):
        assert float(values[:, group].var(dim=0, correction=0).mean()) == pytest.approx(1, rel=1e-5)
    assert made[0].columns(np.array([0, 2])).tolist() == [0, 2, 7]
    kept = Batches(inputs, layout, constants, torch.device("cpu"), memory_limit=1e9)
    assert (kept(train) == values).all()
    plain = Batches(inputs, layout, None, torch.device("cpu"))
    assert (plain(train).numpy() == inputs[train]).all()


def test_an_input_that_differs_strikingly_counts_more() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 500)
    inputs = rng.normal(size=(1000, 3)).astype(np.float32)
    inputs[:, 2] += labels
    layout = Layout(3, {}, np.arange(1))
    batches = Batches(inputs, layout, (np.arange(1000), labels), torch.device("cpu"))
    spread = batches(np.arange(1000)).std(dim=0, correction=0)
    t = abs(inputs[labels == 1, 2].mean() - inputs[:, 2].mean()) / (inputs[:, 2].std() / np.sqrt(500))
    np.testing.assert_allclose(spread, [1, 1, t - 2], rtol=1e-4)
    assert t > 7


def test_sums_of_cells_are_what_their_names_say(mesh: Mesh, make: Make) -> None:
    showers = make(mesh, n=5)
    features, rows = compute_features(showers), np.arange(5)
    layout = INPUTS["low"].layout(features, sums=True)
    table = fill_table("low", [((showers, features), rows)], layout, 1.0)
    assert table.shape == (5, layout.width)
    assert sorted(np.concatenate(list(layout.features.values())).tolist()) == list(range(layout.width))
    total = layout.features["cells summed over layers"]
    n_sums = layout.sums.stop - layout.sums.start
    np.testing.assert_allclose(table[:, layout.sums.stop - 1], features.e_ratio, rtol=1e-5)
    np.testing.assert_allclose(
        table[:, layout.sums.stop - 1 + n_sums], (showers.energies > 0).reshape(5, -1).sum(1)
    )
    assert layout.sums.stop - 1 in total
    if mesh.is_regular:
        z, y, x = mesh.shape
        assert n_sums == z * y + z * x + y * x + z + y + x + 1
    of_layer = layout.features[f"cells of layer {mesh.layer_numbers[0]}"]
    cells = showers.energies.reshape(5, -1).copy()
    cells[:, : mesh.layer_sizes[0]] = 0
    other = Showers(cells, showers.conditions, mesh)
    changed = fill_table("low", [((other, compute_features(other)), rows)], layout, 1.0) != table
    assert set(np.flatnonzero(changed.any(axis=0))) <= {*of_layer, *total}


def test_twins_share_their_part_and_strangers_do_not(make: Make) -> None:
    rng = np.random.default_rng(0)
    for part in split_rows([50, 50], rng, twins=True):
        first, second = part[part < 50], part[part >= 50]
        assert set(first) == set(second - 50)
    assert any(
        set(part[part < 50]) != set(part[part >= 50] - 50) for part in split_rows([50, 50], rng, twins=False)
    )
    first = make(MESH, n=200)
    assert are_twins([sample(first), sample(hotter(first))])
    assert not are_twins([sample(first), sample(make(MESH, n=200, seed=1))])
    # a copy that a network could learn by heart gives exactly nothing away
    copy = train_classifier("low", sample(first), sample(first), TINY)
    assert copy.auc == pytest.approx(0.5)


def test_a_second_reference_gives_the_floor(make: Make) -> None:
    first, generated, second = (sample(make(MESH, n=100, seed=s)) for s in range(3))
    fast = TINY.replace(epochs=3)
    result = train_classifier("high", first, generated, fast, second=second)
    assert result.auc_floor is not None
    assert abs(result.auc_floor - 0.5) < 5 * result.auc_noise
    bad = train_classifier("high", first, generated, TINY, second=sample(hotter(second[0])))
    assert bad.auc_floor is not None
    assert bad.auc_floor > 0.9
    assert train_classifier("high", first, generated, fast).auc_floor is None


def test_the_temperature_repairs_a_network_that_is_too_sure() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 4000)
    exact = 2 * rng.normal(np.where(labels == 1, 1.0, -1.0))  # log-weights of two normals, 2 apart
    logits = np.stack([np.zeros(8000), 3 * exact], axis=1)
    assert temperature(logits, labels) == pytest.approx(1 / 3, rel=0.05)
    np.testing.assert_allclose(np.exp(log_posterior(logits)).sum(axis=1), 1)


def test_the_auc_is_that_of_scikit_learn_with_ties_and_in_batches() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 80)
    scores = rng.integers(0, 5, (3, 80)).astype(float)
    np.testing.assert_allclose(auc(scores, labels), [roc_auc_score(labels, s) for s in scores])


def test_large_inputs_lie_in_a_file_and_give_the_same_result(make: Make) -> None:
    first, second = sample(make(MESH)), sample(make(MESH, seed=1))
    layout = INPUTS["low"].layout(first[1])
    assert isinstance(fill_table("low", [(first, np.arange(9))], layout, 0.0), np.memmap)
    for changes in ({}, {"standardise": False}):
        settings = TINY.replace(epochs=3, **changes)
        in_file = settings.replace(memory_limit_gib=0.0)
        results = [train_classifier("low", first, second, s) for s in (settings, in_file)]
        assert results[0].aucs == results[1].aucs


def test_no_more_showers_than_are_wanted_are_drawn(make: Make) -> None:
    first, other = sample(make(MESH, n=200)), sample(make(MESH, n=150, seed=1))
    twin = sample(hotter(first[0]))
    settings = TINY.replace(epochs=1, most=50, floor=True)
    for second in (other, twin):
        result = train_classifier("high", first, second, settings)
        assert result.showers == (30, 10, 10)
        assert result.scores is not None
        assert len(np.unique(result.scores.rows)) >= 10
        assert result.scores.rows.max() > 60  # of all, not only the first ones
    assert PRESETS["quick"].most == PRESETS["boosted"].most == 100_000


def test_an_input_that_never_varies_does_no_harm(make: Make) -> None:
    first, second = (make(MESH, seed=s) for s in (0, 1))
    flat = [Showers(s.energies, Conditions(np.full(60, 5e4)), MESH) for s in (first, second)]
    assert np.isfinite(train_classifier("low", sample(flat[0]), sample(flat[1]), TINY).jsd)


def test_mistakes_are_named(make: Make) -> None:
    showers = sample(make(MESH, n=8))
    with pytest.raises(DataError, match="at least 10 showers"):
        train_classifier("high", showers, showers, TINY)
    with pytest.raises(RecipeError, match="unknown classifier 'mid'"):
        train_classifier("mid", showers, showers, TINY)
    with pytest.raises(RecipeError, match="unknown classifier preset"):
        classifier_settings("fast")
    with pytest.raises(RecipeError, match="epochs"):
        ClassifierSettings(epochs=0)
    with pytest.raises(RecipeError, match=r"classifier: batch_size: .* greater than or equal to 2"):
        ClassifierSettings(batch_size=1)
    with pytest.raises(
        RecipeError, match=r"classifier 'resnet': .* unknown key 'epoch' .did you mean 'epochs'"
    ):
        ClassifierSettings(special={"resnet": {"epoch": 3}})
    with pytest.raises(RecipeError, match=r"unknown classifier 'resnet18' .did you mean 'resnet'"):
        ClassifierSettings(special={"resnet18": {"epochs": 3}})


class Sums(ClassifierInputs):
    """Total and incident energy: a classifier from outside the package."""

    def layout(self, features: Features, *, sums: bool = False) -> Layout:
        columns = {"e_inc": np.arange(1), "e_total": np.arange(1, 2)}
        return Layout(width=2, features=columns, energies=np.arange(2))

    def batches(
        self, showers: Showers, features: Features, rows: np.ndarray, *, sums: bool = False
    ) -> Iterator[np.ndarray]:
        table = np.stack([features.incident_energy[rows], features.e_total[rows] + 1e-8], axis=1)
        yield np.log10(table).astype(np.float32)


def test_inputs_and_presets_may_come_from_outside(make: Make) -> None:
    INPUTS.add("sums")(Sums())
    PRESETS.add("tiny")(TINY)
    first = make(MESH, n=200)
    faint = make(MESH, n=200, seed=1)
    pair = sample(first), sample(Showers(faint.energies * np.float32(0.5), faint.conditions, MESH))
    assert train_classifier("sums", *pair, classifier_settings("tiny")).auc > 0.9
