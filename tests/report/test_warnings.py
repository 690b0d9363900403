"""Bad input is named: other conditions, copies, lost thresholds, samples too small to tell."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from caloforge.data import Conditions, Showers
from caloforge.detector import CylinderMesh, Mesh
from caloforge.evaluation import compute_features
from caloforge.evaluation.binning import linear_edges, log_edges
from caloforge.evaluation.context import compare_conditions
from caloforge.evaluation.histograms import CellCounts, HistogramPlan, cell_histogram, fill_histogram
from caloforge.evaluation.repeats import Fingerprints, count_repeats
from caloforge.evaluation.results import Histogram
from caloforge.report.words import find_warnings

Make = Callable[..., Showers]
MESH = CylinderMesh.regular(n_z=4, n_phi=8, n_r=3)


def said(
    reference: Conditions, generated: Conditions, histograms: list[Histogram] | None = None, **counts: int
) -> str:
    """All warnings of two samples with these conditions."""
    numbers = {
        "reference": len(reference),
        "generated": len(generated),
        "reference_empty": 0,
        "generated_empty": 0,
    }
    compared = compare_conditions(reference, generated)
    return "\n".join(find_warnings(numbers | counts, compared, histograms or [], {}))


def log_uniform(n: int, low: float, high: float, seed: int) -> Conditions:
    rng = np.random.default_rng(seed)
    return Conditions(low * (high / low) ** rng.random(n), particle="e-")


def test_two_samples_of_one_spectrum_give_no_warning() -> None:
    quiet = [said(log_uniform(2000, 1e3, 5e4, i), log_uniform(2000, 1e3, 5e4, i + 100)) for i in range(20)]
    assert sum(text != "" for text in quiet) <= 2  # a test at 1 %
    same = log_uniform(1000, 1e3, 5e4, 0)
    assert said(same, same) == ""


def test_other_energies_are_named_with_both_ranges() -> None:
    text = said(log_uniform(2000, 1e3, 5e4, 0), log_uniform(2000, 1e3, 1e4, 1))
    for expected in ("incident energy", "1 to 49.9 GeV", "generated 1 to 10 GeV", "--like"):
        assert expected in text
    assert "of the reference showers have an incident energy that the generated sample does not cover" in text


def test_other_angles_particles_and_detectors_are_named() -> None:
    energy = np.full(1500, 1e4)
    rng = np.random.default_rng(0)
    first = Conditions(energy, theta=1 + 0.1 * rng.random(1500), particle="e-", detector="odd")
    second = Conditions(energy, theta=1.05 + 0.1 * rng.random(1500), particle="gamma", detector="par04")
    text = said(first, second)
    assert "incident theta" in text
    assert "rad" in text
    assert "--like" not in text
    assert "differ in particle: e- against gamma" in text
    assert "differ in detector: odd against par04" in text


@pytest.mark.parametrize(("weights", "differs"), [((1, 1, 1), False), ((1, 1.4, 1), True), ((1, 0, 1), True)])
def test_populations_of_discrete_energies_are_compared(weights: tuple[float, ...], differs: bool) -> None:
    levels = np.array([256.0, 512.0, 1024.0])
    first = Conditions(np.repeat(levels, 400))
    counts = np.array([380, 410, 405]) * weights
    second = Conditions(np.repeat(levels, counts.astype(int)))
    assert compare_conditions(first, second)["energy_chi2"]["ndf"] == 2
    assert ("numbers of showers at each energy" in said(first, second)) == differs


def test_chi2_of_equal_populations_has_the_stated_mean() -> None:
    rng = np.random.default_rng(1)
    levels = 2.0 ** np.arange(8, 18)
    values = [
        compare_conditions(Conditions(rng.choice(levels, 3000)), Conditions(rng.choice(levels, 500)))
        for _ in range(60)
    ]
    statistics = [v["energy_chi2"]["statistic"] for v in values]
    assert np.mean(statistics) == pytest.approx(9, abs=4 * np.sqrt(18 / 60))


def test_an_energy_that_the_reference_lacks_is_outside() -> None:
    first = Conditions(np.repeat([256.0, 512.0], 100))
    second = Conditions(np.repeat([256.0, 300.0], 100))
    outside = compare_conditions(first, second)["energy_outside"]
    assert outside == {"reference": 0.5, "generated": 0.5}


def test_what_few_showers_cannot_tell_is_said_in_numbers() -> None:
    few, fewer = said(*[Conditions(np.full(450, 1e4))] * 2), said(*[Conditions(np.full(50, 1e4))] * 2)
    assert "only 450 showers" in few
    assert "about 0.2 standard deviations" in few
    assert "an AUC from 0.63 on (90 showers" in few
    assert "about 0.6 standard deviations" in fewer
    assert said(*[Conditions(np.full(1000, 1e4))] * 2) == ""


def test_copies_are_counted(mesh: Mesh, make: Make) -> None:
    reference, generated = make(mesh, n=40), make(mesh, n=30, seed=1)
    cells = generated.energies.reshape(30, -1).copy()
    cells[3:6] = cells[0]
    cells[10] = reference.energies.reshape(40, -1)[7]
    cells[11:14] = 0
    copied = Showers(cells, generated.conditions, mesh)
    found = Fingerprints(mesh.n_voxels), Fingerprints(mesh.n_voxels)
    for showers, prints in zip((reference, copied), found, strict=True):
        compute_features(showers, batch_size=7, visitors=[prints])
    counts = count_repeats(*found)
    assert counts == {"reference_repeated": 0, "generated_repeated": 3, "generated_in_reference": 1}
    text = said(reference.conditions, generated.conditions, **counts)
    assert "1 of 30 generated showers are in the reference" in text
    assert "3 of 30 generated showers equal another" in text
    assert count_repeats(found[0], found[0])["generated_in_reference"] == 40
    every = said(reference.conditions, reference.conditions, generated_in_reference=40)
    assert "All generated showers are in the reference" in every


def test_the_smallest_change_of_one_cell_is_no_copy() -> None:
    cells = np.random.default_rng(0).exponential(size=(1, MESH.n_voxels)).astype(np.float32)
    changed = np.repeat(cells, MESH.n_voxels, axis=0)
    place = np.arange(MESH.n_voxels)
    changed[place, place] = np.nextafter(changed[place, place], np.float32(np.inf))
    prints = Fingerprints(MESH.n_voxels)
    prints(0, np.concatenate([cells, changed, np.roll(cells, 1)]), Conditions(np.ones(1)))
    assert len(np.unique(prints.values)) == MESH.n_voxels + 2


def test_a_forgotten_threshold_is_seen(make: Make) -> None:
    reference = np.where(make(MESH, n=200).energies > 1, make(MESH, n=200).energies, 0)
    low = reference.copy()
    low[:, 0, 0, 0] = 0.01

    def warned(first: np.ndarray, second: np.ndarray) -> str:
        edges = log_edges(1.0, float(first.max()), 50)
        counts = CellCounts(edges), CellCounts(edges)
        for cells, sample in zip((first, second), counts, strict=True):
            sample(0, cells.reshape(200, -1), Conditions(np.ones(200)))
        conditions = Conditions(np.full(1000, 1e4))
        return said(conditions, conditions, [cell_histogram(*counts)])

    assert "below the threshold of 1 MeV (0.00% of the reference's): was the threshold not" in warned(
        reference, low
    )
    assert "of the reference's cells with energy lie below" in warned(low, low)
    assert warned(reference, reference) == ""


@pytest.mark.parametrize(("above", "expected"), [(8, ""), (60, "Values of e_ratio_at_256mev outside")])
def test_values_outside_are_held_against_the_showers_of_that_energy(above: int, expected: str) -> None:
    first, second = np.full(100, 1.0), np.r_[np.full(above, 9.0), np.full(100 - above, 1.0)]
    plan = HistogramPlan(
        "e_ratio_at_256mev", "e_ratio_at_energy", None, "", linear_edges(0.4, 1.4, 20), (first, second)
    )
    same = log_uniform(2000, 1e3, 5e4, 0)
    text = said(same, same, [fill_histogram(plan, 0)])
    assert text.startswith(expected)
    assert bool(text) == bool(expected)


def test_empty_showers_are_counted() -> None:
    same = log_uniform(1000, 1e3, 5e4, 0)
    assert said(same, same, generated_empty=3) == "3 of 1000 generated showers have no energy at all."
