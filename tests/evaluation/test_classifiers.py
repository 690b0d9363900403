"""Classifiers: blind on equal samples, certain on different ones, reproducible, and defined as published."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from caloforge.data import Conditions, Showers
from caloforge.detector import CylinderMesh, calochallenge_mesh
from caloforge.errors import DataError, RecipeError
from caloforge.evaluation import PRESETS, ClassifierSettings, compute_features, train_classifier
from caloforge.evaluation.classifiers import CLASSIFIERS, auc_and_jsd, auc_noise, classifier_settings
from caloforge.evaluation.classifiers.batches import Batches
from caloforge.evaluation.classifiers.inputs import Layout, allocate, high_inputs, input_batches
from caloforge.evaluation.classifiers.networks import make_network

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
    special={name: {"epochs": 5, "repeats": 1} for name in ("resnet", "c2st")},
)


def sample(showers: Showers) -> tuple[Showers, object]:
    return showers, compute_features(showers)


def hotter(showers: Showers) -> Showers:
    """The same showers with all energy moved into half of the cells."""
    cells = showers.energies.copy()
    cells[:, :, ::2] = 0
    return Showers(cells * np.float32(2), showers.conditions, showers.mesh)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_equal_samples_cannot_be_told_apart_and_different_ones_can(name: str, make: Make) -> None:
    first, second = make(MESH, n=400), make(MESH, n=400, seed=1)
    same = train_classifier(name, sample(first), sample(second), TINY)
    assert abs(same.auc - 0.5) < 5 * same.auc_noise
    assert -0.5 < same.jsd < 0.2
    different = train_classifier(name, sample(first), sample(hotter(second)), TINY)
    assert different.auc > 0.99
    assert 0.3 < different.jsd <= 1


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


def test_the_result_says_how_it_was_made(make: Make) -> None:
    heard: list[float] = []
    settings = dataclasses.replace(TINY, floor=True, epochs=2)
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
    exact = np.trapezoid(p * np.log2(p / m) + q * np.log2(q / m), x) / 2
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
    assert dataclasses.replace(settings, preset="", special={}) == ClassifierSettings()
    assert (settings.hidden, settings.layers, settings.epochs) == (2048, 3, 50)
    assert (settings.batch_size, settings.learning_rate, settings.standardise) == (1000, 2e-4, False)
    layout = Layout(10, slice(0, 0), False, (), {}, {}, np.arange(1))
    shapes = [tuple(p.shape) for p in make_network(10, 1, layout, settings).parameters() if p.ndim == 2]
    assert shapes == [(2048, 10), (2048, 2048), (2048, 2048), (1, 2048)]
    assert PRESETS["quick"].standardise


def test_inputs_have_the_published_sizes_and_values(make: Make) -> None:
    mesh = calochallenge_mesh("2")
    showers = make(mesh, n=4)
    features, rows = compute_features(showers), np.array([1, 3])
    size = {"low": 1 + 6480, "low-normed": 1 + 6480 + 45, "high": 1 + 45 + 4 * 45 + 1 + 45 + 2 * 45}
    for name, expected in size.items():
        assert np.concatenate(list(input_batches(name, showers, features, rows))).shape == (2, expected)
    low = next(input_batches("low", showers, features, rows))
    np.testing.assert_allclose(low[:, 0], np.log10(showers.conditions.energy[rows]), rtol=1e-6)
    np.testing.assert_allclose(low[:, 1:].sum(axis=1), features.e_ratio[rows], rtol=1e-5)
    normed = next(input_batches("low-normed", showers, features, rows))
    np.testing.assert_allclose(mesh.layer_energies(normed[:, 1:6481]), 1, rtol=1e-5)
    high = high_inputs(features, rows)
    np.testing.assert_allclose(high[:, 1:46], np.log10(features.e_layer[rows] + 1e-8), rtol=1e-6)


def test_standardised_inputs_use_the_training_rows_alone() -> None:
    rng = np.random.default_rng(0)
    inputs = (rng.exponential(1.0, (60, 6)) * (rng.random((60, 6)) < 0.7)).astype(np.float32)
    layout = Layout(6, slice(1, 5), False, (), {}, {}, np.arange(1))
    train = np.r_[0:20, 30:50]
    changed = inputs.copy()
    changed[50:] *= 1000
    made = [Batches(x, layout, train, torch.device("cpu")) for x in (inputs, changed)]
    assert (made[0](np.arange(50)) == made[1](np.arange(50))).all()
    values = made[0](train)
    assert values.shape == (40, made[0].width) == (40, 10)
    np.testing.assert_allclose(values.mean(dim=0), 0, atol=1e-5)
    np.testing.assert_allclose(values[:, [0, 5]].std(dim=0, correction=0), 1, rtol=1e-5)
    for group in (slice(1, 5), slice(6, 10)):
        assert float(values[:, group].var(dim=0, correction=0).mean()) == pytest.approx(1, rel=1e-5)
    assert made[0].columns(np.array([0, 2])).tolist() == [0, 2, 7]
    plain = Batches(inputs, layout, None, torch.device("cpu"))
    assert (plain(train).numpy() == inputs[train]).all()


def test_large_inputs_lie_in_a_file_and_give_the_same_result(make: Make) -> None:
    assert isinstance(allocate(10, 10, 100), np.memmap)
    first, second = sample(make(MESH)), sample(make(MESH, seed=1))
    in_file = dataclasses.replace(TINY, memory_limit_gib=0.0)
    results = [train_classifier("low", first, second, s) for s in (TINY, in_file)]
    assert results[0].aucs == results[1].aucs


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
