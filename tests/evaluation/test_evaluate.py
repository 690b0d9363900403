"""`evaluate`: the whole, its file, its warnings and its errors."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from caloforge.data import Conditions, Showers, write_showers
from caloforge.detector import CylinderMesh, Mesh, calochallenge_mesh
from caloforge.errors import ConditionError, DataError, MeshError, RecipeError
from caloforge.evaluation import ClassifierSettings, Evaluation
from caloforge.evaluation.binning import log_edges
from caloforge.evaluation.histograms import CellCounts
from caloforge.evaluation.reading import Span
from caloforge.report import evaluate, summary

Make = Callable[..., Showers]
MESH = CylinderMesh.regular(n_z=4, n_phi=8, n_r=3)
TINY = ClassifierSettings(
    hidden=16, layers=1, epochs=2, batch_size=20, repeats=1, standardise=True, threads=1
)


def quiet(reference: object, generated: object, **options: object) -> Evaluation:
    return evaluate(
        reference, generated, **({"classifiers": "none", "distances": False, "progress": False} | options)
    )  # type: ignore[arg-type]


def test_a_sample_against_itself_shows_no_difference(mesh: Mesh, make: Make) -> None:
    showers = make(mesh)
    evaluation = quiet(showers, showers)
    assert all(s.value == 0 for s in evaluation.separation.values())
    for comparison in evaluation.features.values():
        assert comparison.reference_mean == comparison.generated_mean
    for profile in evaluation.profiles.values():
        assert (profile.reference == profile.generated).all()
        assert (np.diff(profile.edges) > 0).all()
    total = evaluation.features["e_total"].reference_mean
    for name in ("longitudinal", "radial"):
        assert evaluation.profiles[name].reference.sum() == pytest.approx(total, rel=1e-5)
    assert evaluation.mean_shower["reference"].shape == (mesh.n_voxels,)
    assert evaluation.conditions["energy_ks"]["p_value"] == pytest.approx(1)


def test_a_shifted_layer_is_seen_where_it_is(make: Make) -> None:
    showers = make(MESH, n=400)
    cells = showers.energies.copy()
    cells[:, 2] *= np.float32(3)
    found = quiet(showers, Showers(cells, showers.conditions, MESH)).separation
    assert found["e_layer_2"].value > found["e_layer_2"].floor + 5 * found["e_layer_2"].floor_std
    assert found["e_layer_1"].value == found["ec_eta_2"].value == found["sparsity_2"].value == 0


def test_files_and_memory_and_any_order_of_reading_agree(make: Make, tmp_path: Path) -> None:
    pair = make(MESH, n=50), make(MESH, n=40, seed=1)
    paths = [tmp_path / "reference.h5", tmp_path / "generated.h5"]
    for showers, path in zip(pair, paths, strict=True):
        write_showers(showers, path)
    from_files, from_memory = (quiet(*p, classifiers=TINY).to_dict() for p in (paths, pair))
    for plain in (from_files, from_memory):
        plain.pop("provenance")
        for result in plain["classifiers"].values():
            result.pop("seconds")
    assert from_files == from_memory


def test_metrics_file_round_trip(make: Make, tmp_path: Path) -> None:
    evaluation = quiet(make(MESH), make(MESH, seed=1), out=tmp_path / "new" / "folder", classifiers=TINY)
    path = tmp_path / "new" / "folder" / "metrics.json"
    plain = json.loads(path.read_text())
    assert plain["schema"] == 2
    assert list(plain)[:3] == ["schema", "verdict", "counts"]
    assert plain == evaluation.to_dict() == Evaluation.read(path).to_dict()
    assert set(plain["classifiers"]) == {"low", "high"}
    assert [p.name for p in path.parent.iterdir()] == ["metrics.json"]
    with pytest.raises(DataError, match="overwrite"):
        quiet(make(MESH), make(MESH), out=path.parent)
    quiet(make(MESH), make(MESH), out=path.parent, overwrite=True)
    assert Evaluation.read(path).to_dict() != plain


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 99}', '{"schema": 2}'])
def test_damaged_metrics_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(text)
    with pytest.raises(DataError):
        Evaluation.read(path)


def test_summary_is_a_table_with_the_numbers(make: Make) -> None:
    evaluation = quiet(make(MESH), make(MESH, seed=1), classifiers=TINY, which=("high",), distances=True)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(summary(evaluation))
    text = console.export_text()
    for expected in ("AUC high", "sparsity", "60 generated and 60 reference", "FPD"):
        assert expected in text


def test_time_is_compared_at_the_same_energies(make: Make) -> None:
    reference = make(MESH)
    seconds = reference.conditions.energy / 1000 * 0.08
    reference = Showers(reference.energies, reference.conditions, MESH, extra={"geant4_cpu_seconds": seconds})
    half = Conditions(reference.conditions.energy / 2, particle="e-")
    made_by = {"performance": {"showers_per_second": 500.0, "batch_size": 100}}
    timing = quiet(reference, Showers(reference.energies, half, MESH, made_by)).timing
    assert timing.geant4_ms_per_gev == pytest.approx(80)
    assert timing.geant4_ms == pytest.approx(1000 * seconds.mean() / 2)
    assert timing.generator_ms == pytest.approx(2)
    assert timing.speed_up == pytest.approx(500 * seconds.mean() / 2)
    unknown = quiet(make(MESH), make(MESH)).timing
    assert unknown.geant4_ms is unknown.generator_ms is unknown.speed_up is None


def test_what_spoils_the_numbers_is_said(make: Make) -> None:
    showers = make(MESH, n=200)
    cells = showers.energies.copy()
    cells[:3] = 0
    shifted = Conditions(showers.conditions.energy * 3, particle="gamma")
    warnings = " ".join(quiet(showers, Showers(cells, shifted, MESH)).warnings)
    for expected in (
        "only 200 showers",
        "3 of 200 generated",
        "incident energy is distributed differently",
        "differ in particle",
        "e_ratio",
    ):
        assert expected in warnings
    assert quiet(make(MESH, n=1000), make(MESH, n=1000, seed=1)).warnings == []
    copied = quiet(showers, showers)
    assert "All generated showers are in the reference" in copied.warnings[0]


def test_everything_together(make: Make) -> None:
    """A second reference, training showers and slices: every number is there, and survives JSON."""
    parts = [make(MESH, n=240, seed=seed) for seed in range(4)]
    heard: set[str] = set()
    evaluation = quiet(
        parts[0],
        parts[1],
        second_reference=parts[2],
        training=parts[3],
        slices={"energy": 2},
        classifiers=TINY,
        distances=True,
        progress=lambda text, fraction: heard.add(text),
    )
    distances = {"fpd", "kpd", "fpd_trimmed", "sliced_wasserstein", "sliced_ks"}
    assert set(evaluation.distances) == distances | {"precision", "recall", "density", "coverage"}
    for estimate in evaluation.distances.values():
        assert np.isfinite([estimate.value, estimate.error, estimate.floor]).all()
        assert estimate.floor_from == "second reference"
    assert [len(part.metrics) for part in evaluation.slices] == [3, 3]
    assert {"fpd", "auc_low", "auc_high"} == set(evaluation.slices[0].metrics)
    assert evaluation.memorisation is not None
    assert abs(evaluation.memorisation.nearer.sigmas()) < 4
    assert set(evaluation.correlations) == {"layers", "cells"}
    assert [curve.condition for curve in evaluation.responses] == ["energy"]
    assert evaluation.localisation is not None
    assert evaluation.localisation.shared_showers == 0
    assert evaluation.cells is not None
    assert evaluation.cells.reference_hits == np.count_nonzero(parts[0].energies)
    assert evaluation.verdict is not None
    assert evaluation.verdict.level in (-1, 0)
    assert set(evaluation.provenance) == {
        "reference",
        "generated",
        "second reference",
        "training",
        "evaluation",
    }
    assert (
        Evaluation.from_dict(json.loads(json.dumps(evaluation.to_dict()))).to_dict() == evaluation.to_dict()
    )
    assert {"FPD and KPD", "nearest training showers", "slices", "classifier low"} <= heard


def test_another_threshold_is_seen(make: Make) -> None:
    first, second = make(MESH, n=300), make(MESH, n=300, seed=1)
    lowest = float(np.quantile(second.energies[second.energies > 0], 0.01))
    cells = np.where(second.energies < lowest, 0, second.energies)
    result = quiet(first, Showers(cells, second.conditions, MESH))
    assert result.cells is not None
    assert result.cells.generated_smallest >= lowest
    assert result.cells.reference_below == np.count_nonzero(
        (first.energies > 0) & (first.energies < result.cells.generated_smallest)
    )
    assert result.verdict is not None
    assert any("the threshold is higher" in text for text in result.verdict.differs)
    assert any("Cells begin at the same" in text for text in quiet(first, second).verdict.agrees)  # type: ignore[union-attr]


def test_cells_below_an_energy_are_counted_beyond_those_that_are_kept(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    showers = make(MESH, n=200)
    cells = showers.energies.reshape(200, -1)
    lit = np.sort(cells[cells > 0])
    counts = CellCounts(log_edges(float(lit[0]), float(lit[-1]), 50))
    found = Span()
    monkeypatch.setattr("caloforge.evaluation.reading.LOWEST", 100)
    for start in range(0, 200, 20):
        block = cells[start : start + 20]
        counts(start, block, showers.conditions)
        found(start, block, showers.conditions)
    assert (found.hits, found.smallest, found.largest) == (len(lit), lit[0], lit[-1])
    assert len(found.lowest) <= 200
    for place in (0, 1, 57, 100):  # exactly as far as they reach
        assert found.below(float(lit[place]), counts) == place
    for place in (1000, len(lit) // 2):  # and by the histogram beyond
        assert found.below(float(lit[place]), counts) == pytest.approx(place, rel=0.1)


def test_impact_points_are_in_all_samples_or_in_none(make: Make) -> None:
    def ends_at_once(*told: object) -> None:
        pytest.fail(f"work was begun: {told}")

    plain = make(MESH)
    known = dataclasses.replace(plain.conditions, impact=np.zeros((len(plain), 2)))
    placed = Showers(plain.energies, known, MESH)
    for pair, told in (((placed, plain), "has impact points, they have none"), ((plain, placed), "has no")):
        with pytest.raises(ConditionError, match=f"generated showers to evaluate: the reference {told}"):
            evaluate(*pair, progress=ends_at_once)


def test_mistakes_are_named(make: Make, tmp_path: Path) -> None:
    showers = make(MESH)
    with pytest.raises(MeshError, match="generated showers"):
        quiet(showers, make(calochallenge_mesh("1-pions")))
    with pytest.raises(DataError, match="19 generated showers"):
        quiet(showers, showers[:19])
    with pytest.raises(DataError, match="no such file"):
        quiet(showers, tmp_path / "none.h5")
    with pytest.raises(DataError, match="no reference shower has any energy"):
        quiet(Showers(np.zeros((60, MESH.n_voxels)), showers.conditions, MESH), showers)
    with pytest.raises(RecipeError, match="preset"):
        quiet(showers, showers, classifiers="best")
    with pytest.raises(RecipeError, match="unknown classifier"):
        quiet(showers, showers, classifiers=TINY, which=("medium",))


def test_progress_goes_to_a_function_or_stderr(make: Make, capfd: pytest.CaptureFixture[str]) -> None:
    heard: list[tuple[str, float]] = []
    quiet(make(MESH), make(MESH), classifiers=TINY, progress=lambda text, f: heard.append((text, f)))
    assert {text for text, fraction in heard if fraction == 1} >= {"reading the reference", "classifier low"}
    quiet(make(MESH), make(MESH), progress=True)
    assert capfd.readouterr().out == ""


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys, caloforge.evaluation; "
        "print([m for m in ('torch', 'sklearn', 'scipy', 'matplotlib', 'hist') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "rounded",
    [
        lambda e: (e / 1000).astype(np.float32).astype(np.float64) * 1000,  # stored in GeV
        lambda e: np.exp(np.log(e).astype(np.float32).astype(np.float64)),  # from a logarithm
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_rounding_of_energies_and_angles_changes_nothing(
    make: Make, rounded: Callable, swapped: bool
) -> None:
    energy = np.tile([1100.0, 10_000.1, 70_000.3], 40)
    theta = np.tile([1.1, 1.3], 60)

    def showers(energy: np.ndarray, theta: np.ndarray, seed: int) -> Showers:
        made = make(MESH, n=120, seed=seed)
        return Showers(made.energies, Conditions(energy, theta, particle="e-"), MESH)

    assert not np.isin(rounded(energy), energy).any()
    exact = showers(energy, theta, 0), showers(energy, theta, 1)
    pair = exact[0], showers(rounded(energy), rounded(theta), 1)
    if swapped:
        exact = showers(energy, theta, 1), showers(energy, theta, 0)
        pair = showers(rounded(energy), rounded(theta), 1), exact[1]
    expected, found = quiet(*exact), quiet(*pair)
    assert found.conditions["energy_outside"] == {"reference": 0.0, "generated": 0.0}
    assert found.conditions["energy_chi2"]["ndf"] == 2
    assert found.conditions["energy_ks"]["statistic"] == found.conditions["theta_ks"]["statistic"] == 0
    values = [
        [h.separation.value for h in e.histograms if h.group == "e_ratio_at_energy"]
        for e in (expected, found)
    ]
    assert len(values[0]) == len(values[1]) == 3
    np.testing.assert_allclose(values[1], values[0], atol=0.05)
    assert [part.counts for part in found.slices] == [part.counts for part in expected.slices]
    assert all(part.counts["generated"] for part in found.slices)
