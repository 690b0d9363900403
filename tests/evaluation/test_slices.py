"""Slices: which showers are in which bin, and whether a difference is seen in the bin that has it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from caloforge.data import Conditions, Showers
from caloforge.detector import CylinderMesh, calochallenge_mesh
from caloforge.errors import ConditionError
from caloforge.evaluation import compute_features
from caloforge.evaluation.binning import log_edges
from caloforge.evaluation.distances import feature_matrix
from caloforge.evaluation.histograms import CellCounts, cell_histogram, feature_histograms, histogram_plans
from caloforge.evaluation.results import Estimate, Scores, Slice
from caloforge.evaluation.separation import separation_error
from caloforge.evaluation.slices import SliceSpec, default_slices, slice_edges, slice_metrics
from caloforge.report.words.notes import note_of, slice_note

Make = Callable[..., Showers]
MESH = CylinderMesh.regular(n_z=4, n_phi=8, n_r=3)


def sliced(reference: Showers, generated: Showers, specs: list[SliceSpec], **options: object) -> list[Slice]:
    edges = log_edges(1.0, float(reference.energies.max()), 50)
    cells = CellCounts(edges), CellCounts(edges)
    features = [compute_features(s, visitors=[c]) for s, c in zip((reference, generated), cells, strict=True)]
    plans, matrices = histogram_plans(*features, 1.0), tuple(map(feature_matrix, features))
    options = {"plans": plans, "cells": cells, "matrices": matrices} | options
    return slice_metrics(*features, reference.conditions, generated.conditions, specs, **options)  # type: ignore[misc,arg-type]


def test_equally_filled_bins_hold_every_shower_once(make: Make) -> None:
    reference, generated = make(MESH, n=400).conditions, make(MESH, n=300, seed=1).conditions
    specs = slice_edges(reference, generated, {"energy": 4})
    assert [int(s.holds(reference).sum()) for s in specs] == [100] * 4
    assert (sum(s.holds(generated).astype(int) for s in specs) == 1).all()
    assert specs[0].label == f"energy {specs[0].low / 1000:.3g} to {specs[0].high / 1000:.3g} GeV"


def test_energies_that_were_rounded_are_in_the_bins_of_the_exact_ones() -> None:
    energies = np.repeat([1000.0, 2000.0, 5000.0], 10)
    exact = Conditions(energies, theta=1.2)
    rounded = Conditions(energies * (1 - 6e-8 * (np.arange(30) % 3)), theta=1.2 + 1e-8 * (np.arange(30) % 2))
    for spec in slice_edges(exact, rounded, {"energy": [1000.0, 2000.0, 5000.0], "theta": [1.2, 1.3]}):
        assert int(spec.holds(exact).sum()) == int(spec.holds(rounded).sum()) > 0
    assert "theta" not in default_slices(rounded)
    assert len(slice_edges(exact, exact, {"energy": np.int64(2)})) == 3  # discrete ones, a bin each


def test_impact_points_are_sliced_where_both_samples_know_them() -> None:
    known = Conditions(np.full(30, 1e4), impact=np.stack([np.arange(30.0), np.zeros(30)], axis=1))
    assert default_slices(known) == {"impact_x": 3}
    specs = slice_edges(known, known)
    assert [int(s.holds(known).sum()) for s in specs] == [10] * 3
    assert specs[0].label == "impact x 0 to 9.67 mm"
    unknown = Conditions(known.energy)
    assert not slice_edges(known, unknown)
    with pytest.raises(ConditionError, match="cannot slice in impact_x: the impact points are not known"):
        slice_edges(known, unknown, {"impact_x": 2})


def test_given_edges_discrete_energies_and_names_are_taken_as_they_are() -> None:
    energies = np.repeat([256.0, 512.0, 1024.0], 10)
    detector = np.where(np.arange(30) % 2, "odd", "par04")
    conditions = Conditions(energies, particle="e-", detector=detector)
    discrete = slice_edges(conditions, conditions, {"energy": 2})
    assert [(s.low, s.label, int(s.holds(conditions).sum())) for s in discrete] == [
        (256.0, "energy 256 MeV", 10),
        (512.0, "energy 512 MeV", 10),
        (1024.0, "energy 1.02 GeV", 10),
    ]
    given = slice_edges(conditions, conditions, {"energy": [256, 512, 1000]})
    assert [int(s.holds(conditions).sum()) for s in given] == [10, 10]
    assert [s.label for s in slice_edges(conditions, conditions, {"detector": 1, "particle": 1})] == [
        "detector odd",
        "detector par04",
        "particle e-",
    ]
    assert list(default_slices(conditions)) == ["energy", "detector"]
    assert default_slices(Conditions([5.0, 5.0])) == {}
    for wrong in ({"mass": 3}, {"energy": 0}, {"theta": [1.0, 0.5]}):
        with pytest.raises(ConditionError):
            slice_edges(conditions, conditions, wrong)


@pytest.mark.parametrize(("n", "m"), [(300, 200), (1500, 700)])
def test_the_slice_of_everything_is_the_whole_sample(make: Make, n: int, m: int) -> None:
    reference, generated = make(MESH, n=n), make(MESH, n=m, seed=1)
    everything = slice_edges(reference.conditions, generated.conditions, {"energy": 1})
    (found,) = sliced(reference, generated, everything)
    edges = log_edges(1.0, float(reference.energies.max()), 50)
    cells = CellCounts(edges), CellCounts(edges)
    features = [compute_features(s, visitors=[c]) for s, c in zip((reference, generated), cells, strict=True)]
    histograms = [*feature_histograms(*features, threshold_mev=1.0), cell_histogram(*cells)]
    assert found.counts == {"reference": n, "generated": m}
    assert slice_note(found) == ""
    for group, separation in found.separation.items():
        members = [h.separation for h in histograms if h.group == group]
        assert separation.value == pytest.approx(np.mean([s.value for s in members])), group
        expected = float(np.mean([s.floor for s in members]))
        noise = separation.floor_std / np.sqrt(20) + np.mean([s.floor_std for s in members]) / np.sqrt(200)
        assert separation.floor == pytest.approx(expected, abs=4 * noise), group
        if len(members) > 1:  # the error of a mean over layers knows of their correlation
            assert separation.error < 1.2 * np.mean([s.error for s in members]), group
    whole = histograms[0]
    exact = separation_error(whole.reference, whole.generated, repeats=3000)
    assert found.separation["e_ratio"].error == pytest.approx(exact, rel=0.25)
    assert found.response.reference_mean == pytest.approx(features[0].e_ratio.mean())


def test_a_difference_at_high_energy_is_seen_there_and_only_there(make: Make) -> None:
    reference, generated = make(MESH, n=800), make(MESH, n=800, seed=1)
    middle = float(np.median(reference.conditions.energy))
    cells = generated.energies.copy()
    cells[generated.conditions.energy >= middle, 1] *= np.float32(2)
    changed = Showers(cells, generated.conditions, MESH)
    low, high = sliced(
        reference,
        changed,
        slice_edges(reference.conditions, generated.conditions, {"energy": [1000, middle, 50000]}),
    )

    def sigmas(found: Slice) -> float:
        s = found.separation["e_layer"]
        return (s.value - s.floor) / s.floor_std

    assert sigmas(high) > 10
    assert abs(sigmas(low)) < 4
    assert high.response.generated_mean > 1.2 * high.response.reference_mean


@pytest.mark.parametrize(("n", "m"), [(150, 150), (400, 60)])
def test_the_floor_is_what_equal_samples_show(make: Make, n: int, m: int) -> None:
    pairs = [(make(MESH, n=n, seed=2 * i), make(MESH, n=m, seed=2 * i + 1)) for i in range(20)]
    found = [
        sliced(a, b, slice_edges(a.conditions, b.conditions, {"energy": 1}), seed=i)[0].separation
        for i, (a, b) in enumerate(pairs)
    ]
    for group in ("e_ratio", "e_layer", "ec_eta", "sparsity"):
        values = np.array([f[group].value for f in found])
        floors = np.array([f[group].floor for f in found])
        spread = np.mean([f[group].floor_std for f in found])
        assert abs(values.mean() - floors.mean()) < 4 * values.std() / np.sqrt(len(pairs)), group
        assert spread == pytest.approx(values.std(), rel=0.5), group


def test_classifier_scores_and_distances_are_given_per_slice(make: Make) -> None:
    reference, generated = make(MESH, n=240), make(MESH, n=240, seed=1)
    middle = float(np.median(reference.conditions.energy))
    specs = slice_edges(reference.conditions, generated.conditions, {"energy": [0, middle, 1e5]})
    rng = np.random.default_rng(99)
    rows, labels = np.concatenate([np.arange(240)] * 2), np.repeat([1, 0], 240)
    energies = np.concatenate([reference.conditions.energy, generated.conditions.energy])
    told = np.where(energies < middle, 0.8 * labels + 0.1, rng.random(480))  # low energies are told apart
    asked: list[int] = []

    def distances(first: np.ndarray, second: np.ndarray) -> dict[str, Estimate]:
        asked.append(len(first) + len(second))
        return {"fpd": Estimate(value=float(first.mean() - second.mean()))}

    low, high = sliced(
        reference,
        generated,
        specs,
        scores={
            "low": Scores(rows=rows, labels=labels, probabilities=told),
            "few": Scores(rows=rows[235:245], labels=labels[235:245], probabilities=told[:10]),
        },
        distances=distances,
    )
    assert low.metrics["auc_low"].value == 1
    assert abs(high.metrics["auc_low"].sigmas()) < 4
    assert high.metrics["auc_low"].error == pytest.approx(high.metrics["auc_low"].floor_error, rel=0.2)
    assert "says nothing" in note_of("auc_few", low.metrics["auc_few"], low.counts)
    assert len(asked) == sum("fpd" in s.metrics for s in (low, high)) >= 1


def test_too_few_showers_are_said(make: Make) -> None:
    reference, generated = make(MESH, n=150), make(MESH, n=150, seed=1)
    spans = slice_edges(reference.conditions, generated.conditions, {"energy": [1000, 1300, 60000, 70000]})
    few, many, none = sliced(reference, generated, spans)
    assert "too few" in slice_note(few)
    assert slice_note(many) == ""
    assert none.counts == {"reference": 0, "generated": 0}
    assert none.separation == none.metrics == {}
    assert math.isnan(none.response.reference_mean)
    assert "0 reference and 0 generated" in slice_note(none)


def test_responses_at_discrete_energies_are_no_group_of_a_slice(make: Make) -> None:
    mesh = calochallenge_mesh("1-photons")
    showers = make(mesh, n=60)
    showers = Showers(showers.energies, Conditions(np.repeat([256.0, 512.0], 30)), mesh)
    found = sliced(showers, showers, slice_edges(showers.conditions, showers.conditions))
    assert [s.label for s in found] == ["energy 256 MeV", "energy 512 MeV"]
    assert all(separation.value == 0 for s in found for separation in s.separation.values())
    assert "e_ratio_at_energy" not in found[0].separation
