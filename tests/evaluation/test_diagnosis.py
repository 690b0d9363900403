"""The diagnosis names what was changed, and its numbers are what a plain computation gives."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from caloforge.data import Showers
from caloforge.detector import CylinderMesh
from caloforge.evaluation import ClassifierSettings, compute_features
from caloforge.evaluation.classifiers import train_classifier
from caloforge.evaluation.classifiers.diagnosis import _shuffled_scores
from caloforge.evaluation.classifiers.engine import fit
from caloforge.evaluation.classifiers.inputs import INPUTS, Sample, fill_table
from caloforge.evaluation.results import ClassifierResult, Diagnosis

Make = Callable[..., Showers]
MESH = CylinderMesh.regular(n_z=4, n_phi=8, n_r=3)
TINY = ClassifierSettings(
    hidden=32,
    layers=2,
    epochs=10,
    batch_size=50,
    learning_rate=2e-3,
    repeats=2,
    standardise=True,
    threads=1,
    calibration_floor=None,
    widths=(4, 4, 8, 8),
    special={"resnet": {"repeats": 1, "epochs": 6}},
)


def sample(showers: Showers) -> Sample:
    return showers, compute_features(showers)


def changed(showers: Showers, layer: int = 2, factor: float = 2.0) -> Sample:
    """The showers with more energy in one layer and, in total, as much as before."""
    cells = showers.energies.astype(np.float64)
    total = cells.sum(axis=(1, 2, 3), keepdims=True)
    cells[:, layer] *= factor
    cells *= total / cells.sum(axis=(1, 2, 3), keepdims=True)
    return sample(Showers(cells, showers.conditions, MESH))


def found(name: str, make: Make, generated: Sample) -> Diagnosis:
    result = train_classifier(name, sample(make(MESH, n=400)), generated, TINY)
    assert result.diagnosis is not None
    return result.diagnosis


@pytest.mark.parametrize(
    ("name", "feature"),
    [
        ("high", "e_layer_2"),
        ("low", "cells of layer 2"),
        ("low-normed", "e_layer_2"),
        ("resnet", "cells of layer 2"),
    ],
)
def test_the_layer_that_was_changed_is_named(name: str, feature: str, make: Make) -> None:
    diagnosis = found(name, make, changed(make(MESH, n=400, seed=1), factor=4 if name == "resnet" else 1.5))
    telling = [f for f in diagnosis.features if not f.name.startswith(("cell (", "cells summed"))]
    assert telling[0].name == feature
    assert telling[0].drop > 3 * telling[0].error > 0
    assert telling[0].alone == max(f.alone for f in telling) > 0.6
    if name == "high":
        assert diagnosis.groups[0].name == "all e_layer"
    else:
        assert diagnosis.groups == []


@pytest.mark.parametrize("standardise", [True, False])
def test_two_swapped_cells_are_named(standardise: bool, make: Make) -> None:
    def steep(showers: Showers) -> Showers:
        falling = np.array([1, 0.3, 0.1], dtype=np.float32)
        return Showers(showers.energies * falling, showers.conditions, MESH)

    first, second = steep(make(MESH, n=600)), steep(make(MESH, n=600, seed=1))
    cells = second.energies.copy()
    cells[:, 1, 3, [0, 2]] = cells[:, 1, 3, [2, 0]]
    settings = TINY.replace(standardise=standardise, repeats=1)
    swapped = sample(Showers(cells, second.conditions, MESH))
    result = train_classifier("low", sample(first), swapped, settings)
    assert result.diagnosis is not None
    assert {"cell (1, 3, 0)", "cell (1, 3, 2)"} == {
        f.name for f in result.diagnosis.features if f.name.startswith("cell (")
    }
    if standardise:
        assert result.auc > 0.6


def test_equal_samples_have_nothing_to_name(make: Make) -> None:
    diagnosis = found("low", make, sample(make(MESH, n=400, seed=1)))
    assert max(f.drop for f in diagnosis.features) < 0.2
    assert not [f for f in diagnosis.features if f.name.startswith("cell (")]


def test_weights_and_tails_are_those_of_the_held_out_showers(make: Make) -> None:
    reference = sample(make(MESH, n=400))
    generated = changed(make(MESH, n=500, seed=1), factor=1.2)
    result = train_classifier("high", reference, generated, TINY)
    diagnosis = result.diagnosis
    assert diagnosis is not None
    n = result.showers[2]
    assert diagnosis.reference.sum() == diagnosis.generated.sum() == n
    assert len(diagnosis.edges) == len(diagnosis.reference) + 1
    centres = (diagnosis.edges[1:] + diagnosis.edges[:-1]) / 2
    assert (diagnosis.reference * centres).sum() > 0 > (diagnosis.generated * centres).sum()
    low, high = ([t.log_weight for t in ts] for ts in (diagnosis.generated_tails, diagnosis.reference_tails))
    assert low == sorted(low)
    assert high == sorted(high, reverse=True)
    assert len(low) == len(high) == 10
    first = slice(0, 2 * n)  # the first training
    scores = result.scores
    assert scores is not None
    rows, labels, p = scores.rows[first], scores.labels[first], scores.probabilities[first]
    log_weight = np.log(p / (1 - p))
    assert high[0] == pytest.approx(log_weight[labels == 1].max())
    assert low[0] == pytest.approx(log_weight[labels == 0].min())
    for tails, label, (showers, _) in (
        (diagnosis.generated_tails, 0, generated),
        (diagnosis.reference_tails, 1, reference),
    ):
        for tail in tails:
            assert tail.row in rows[labels == label]
            assert tail.incident_energy == showers.conditions.energy[tail.row]


def test_scores_are_the_held_out_showers_of_every_training(make: Make) -> None:
    reference, generated = sample(make(MESH, n=100)), changed(make(MESH, n=140, seed=1))
    result = train_classifier("high", reference, generated, TINY)
    scores = result.scores
    assert scores is not None
    assert (
        scores.rows.shape == scores.labels.shape == scores.probabilities.shape == (2 * 2 * result.showers[2],)
    )
    assert scores.rows[scores.labels == 1].max() < 100
    assert scores.rows[scores.labels == 0].max() < 140
    areas = [
        roc_auc_score(*half)
        for half in zip(np.split(scores.labels, 2), np.split(scores.probabilities, 2), strict=True)
    ]
    np.testing.assert_allclose(areas, result.aucs)


@pytest.mark.parametrize("name", ["low", "high"])
def test_shuffling_through_the_first_layer_is_plain_shuffling(name: str, make: Make) -> None:
    pair = changed(make(MESH, n=60, seed=1)), sample(make(MESH, n=60))
    layout = INPUTS[name].layout(pair[0][1], sums=True)
    table = fill_table(name, [(s, np.arange(60)) for s in pair], layout, 1.0)
    trained = fit(table, layout, [60, 60], TINY.replace(epochs=2), [0], torch.device("cpu"))
    groups = [trained.batches.columns(c) for c in layout.features.values()]
    assert sorted(torch.cat(groups).tolist()) == list(range(trained.batches.width))
    order = np.random.default_rng(0).permutation(24)
    with torch.inference_mode():
        inputs = trained.batches(trained.rows)
        quick = _shuffled_scores(trained, inputs, order, groups)
        for scores, columns in zip(quick, groups, strict=True):
            mixed = inputs.clone()
            mixed[:, columns] = inputs[torch.from_numpy(order)][:, columns]
            np.testing.assert_allclose(scores, trained.network(mixed)[:, 0], atol=1e-4)


def test_a_feature_alone_is_its_own_auc(make: Make) -> None:
    reference, generated = sample(make(MESH, n=200)), changed(make(MESH, n=200, seed=1))
    result = train_classifier("high", reference, generated, TINY.replace(epochs=1))
    assert result.diagnosis is not None
    alone = {f.name: f.alone for f in result.diagnosis.features}["e_layer_2"]
    share = np.concatenate([f.e_layer[:, 2] / f.incident_energy for _, f in (reference, generated)])
    area = roc_auc_score(np.repeat([1, 0], 200), share)
    assert alone == pytest.approx(max(area, 1 - area), abs=1e-4)


def test_a_result_survives_json(make: Make) -> None:
    result = train_classifier(
        "high", sample(make(MESH, n=50)), sample(make(MESH, n=50, seed=1)), TINY.replace(epochs=1)
    )
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert ClassifierResult.from_dict(plain).to_dict() == plain
