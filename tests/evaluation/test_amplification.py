"""Amplification: what samples of known worth must give; and the upsampling test."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from caloforge.cli.app import app
from caloforge.data import Conditions, Showers, write_showers
from caloforge.detector import CylinderMesh
from caloforge.errors import DataError, MeshError
from caloforge.evaluation.amplification import AmplificationResult, amplification
from caloforge.evaluation.classifiers import ClassifierSettings
from caloforge.evaluation.upsampling import UpsamplingResult, upsampling_curve
from caloforge.report import in_words, summary

Columns = dict[str, np.ndarray]
Q = 20
EXPECTED = 1 - 1 / Q  # times 1 / m: the mean error of m true showers


def normal(n: int, seed: int) -> Columns:
    """Two correlated observables and one with three values."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    y = np.exp(0.5 * x + rng.normal(size=n))
    return {"x": x, "y": y, "layer": rng.choice([3.0, 4.0, 9.0], n, p=[0.5, 0.3, 0.2])}


def rows(sample: Columns, index: np.ndarray) -> Columns:
    return {name: column[index] for name, column in sample.items()}


def worth(truth: Columns, training: Columns, generated: Columns, **options: object) -> AmplificationResult:
    return amplification(truth, training, generated, **{"observables": ["x"], "quantiles": Q} | options)  # type: ignore[arg-type]


@pytest.mark.parametrize("observables", [["x"], ["layer"], [("x", "y")]])
def test_the_error_of_true_samples_is_that_of_the_multinomial(observables: list[str]) -> None:
    scaled = []
    for seed in range(60):
        result = worth(
            normal(2000, 3 * seed),
            normal(500, 3 * seed + 1),
            normal(900, 3 * seed + 2),
            observables=observables,
            seed=seed,
        )
        curve = result.curves[0]
        assert curve.constant == pytest.approx(1 - 1 / curve.bins, abs=1e-3)
        assert curve.truth_error == curve.constant / 2000
        scaled.append([500 * curve.training_error, *(curve.sizes * curve.errors)] / np.array(curve.constant))
    mean, error = np.mean(scaled, axis=0), np.std(scaled, axis=0) / np.sqrt(60)
    # without the correction for the truth the training sample would have 1.25
    assert (np.abs(mean - 1) < 4 * error).all()


def test_the_standard_deviations_are_right() -> None:
    for shift in (0.0, 0.1):
        curves = []
        for seed in range(100):
            made = normal(3000, 3 * seed + 2)
            made["x"] += shift
            curves.append(worth(normal(5000, 3 * seed), normal(300, 3 * seed + 1), made).curves[0])
        spread = np.std([c.errors for c in curves], axis=0)
        stated = np.mean([c.errors_std for c in curves], axis=0)
        assert (np.abs(np.log(stated / spread)) < 0.35).all()
        by_chance = np.std([c.training_error for c in curves])
        assert curves[0].training_error_std == pytest.approx(by_chance, rel=0.3)


def test_rounding_does_not_hide_shared_energies() -> None:
    mesh = CylinderMesh.regular(n_z=2, n_phi=2, n_r=2)
    rng = np.random.default_rng(0)

    def showers(energy: np.ndarray) -> Showers:
        return Showers(rng.exponential(1.0, (len(energy), 8)), Conditions(energy), mesh)

    energy = 1000 * 50 ** rng.random((3, 300))
    truth, training = showers(energy[0]), showers(energy[1])
    options: dict[str, Any] = {"observables": ["e_ratio"], "quantiles": np.int64(4)}
    for generated, shared in ((energy[0].astype(np.float32), True), (energy[2], False)):
        result = amplification(truth, training, showers(generated), **options)
        assert ("generated" in result.shared_energies) == shared
    few = showers(1000.0 * (1 + np.arange(300) % 3) * (1 + 1e-7 * rng.random(300)))
    assert amplification(few, few, few, **options).shared_energies == {}  # three energies, no spectrum


def test_more_true_showers_amplify_by_their_number() -> None:
    truth, training = normal(400_000, 0), normal(500, 1)
    for seed in range(2, 7):
        curve = worth(truth, training, normal(10_000, seed), quantiles=100).curves[0]
        assert curve.amplification_low < curve.amplification < curve.amplification_high
        assert curve.amplification == pytest.approx(20, rel=0.6)  # 4 standard deviations of 99 bins
        assert curve.equivalent == pytest.approx(500 * curve.amplification)


def test_copies_of_the_training_sample_are_worth_no_more_than_it_is() -> None:
    truth = normal(100_000, 0)
    factors = []
    for seed in range(1, 11):
        training = normal(1000, seed)
        copies = rows(training, np.random.default_rng(seed).integers(0, 1000, 50_000))
        curve = worth(truth, training, copies, quantiles=50).curves[0]
        # what they are worth is what this training sample happens to be worth
        assert curve.amplification == pytest.approx(curve.constant / 1000 / curve.training_error, rel=0.2)
        factors.append(curve.amplification)
    assert np.mean(factors) == pytest.approx(1, abs=0.3)


def test_a_biased_generator_saturates_at_its_bias() -> None:
    rng = np.random.default_rng(0)
    truth, training = {"x": rng.random(200_000)}, {"x": rng.random(1000)}
    slope = 0.2  # density 1 + slope (2 x − 1) by rejection
    proposed = rng.random((2, 300_000))
    made = proposed[0][proposed[1] * (1 + slope) < 1 + slope * (2 * proposed[0] - 1)]
    centres = (np.arange(Q) + 0.5) / Q
    bias = ((slope * (2 * centres - 1) / Q) ** 2).sum()
    for n in (20_000, 200_000):
        curve = worth(truth, training, {"x": made[:n]}).curves[0]
        assert curve.errors[-1] == pytest.approx(bias + EXPECTED / n, rel=0.15)
        assert curve.amplification == pytest.approx(EXPECTED / (bias + EXPECTED / n) / 1000, rel=0.15)
    assert curve.amplification_high < 2 * curve.amplification


def test_a_truth_too_small_to_resolve_the_error_gives_a_limit() -> None:
    curves = [
        worth(normal(2000, s), normal(1000, s + 100), normal(300_000, s + 200)).curves[0] for s in range(10)
    ]
    assert all(0.5 < curve.amplification_low < 300 for curve in curves)  # the generated ones are worth 300
    assert sum(np.isnan(curve.amplification_high) for curve in curves) >= 5
    unresolved = [curve for curve in curves if np.isnan(curve.amplification)]
    assert unresolved
    assert all(curve.errors[-1] <= 0 and np.isnan(curve.equivalent) for curve in unresolved)


def test_a_wrong_correlation_shows_only_in_joint_bins() -> None:
    truth, training, made = normal(100_000, 0), normal(1000, 1), normal(20_000, 2)
    made["y"] = np.random.default_rng(3).permutation(made["y"])
    alone_x, alone_y, both = worth(truth, training, made, observables=["x", "y", ("x", "y")]).curves
    assert both.bins == 16
    assert both.name == "x × y"
    assert alone_x.amplification_low > 5
    assert alone_y.amplification_low > 5
    assert both.amplification_high < 0.5


def test_only_the_order_of_values_matters() -> None:
    samples = [normal(n, seed) for seed, n in enumerate((20_000, 500, 3000))]
    first = worth(*samples, observables=["x", ("x", "y")])
    for sample in samples:
        sample["x"] = np.exp(sample["x"])
    second = worth(*samples, observables=["x", ("x", "y")])
    for a, b in zip(first.curves, second.curves, strict=True):
        assert np.array_equal(a.errors, b.errors)
    assert json.dumps(worth(*samples).to_dict()["curves"]) == json.dumps(worth(*samples).to_dict()["curves"])
    other = worth(*samples, seed=1).curves[0]
    assert other.errors[0] != second.curves[0].errors[0]  # other sub-samples
    assert other.errors[-1] == second.curves[0].errors[-1]  # all generated showers


def test_results_survive_json() -> None:
    result = worth(normal(2000, 0), normal(100, 1), normal(30_000, 2), quantiles=[5, 20])
    assert [c.bins for c in result.curves] == [5, 20]
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    again = AmplificationResult.from_dict(plain)
    assert json.dumps(again.to_dict()) == json.dumps(plain)
    assert np.array_equal(again.curves[0].errors, result.curves[0].errors)
    assert summary(again).row_count == 2


def test_observables_of_showers(make: Callable[..., Showers]) -> None:
    mesh = CylinderMesh.regular(n_z=4, n_phi=8, n_r=3)
    samples = [make(mesh, n, seed) for seed, n in enumerate((2000, 200, 600))]
    names = ["e_ratio", "depth", "width", "max_layer", "e_layer_2", ("depth", "sparsity_1")]
    result = amplification(*samples, observables=names)  # type: ignore[arg-type]
    assert [c.name for c in result.curves] == [*names[:-1], "depth × sparsity_1"]
    assert result.counts == {"truth": 2000, "training": 200, "generated": 600}
    assert not in_words(result).warnings
    again = amplification(samples[0], samples[1], samples[0])
    assert "generated showers have incident energies of the truth" in in_words(again).warnings[0]
    cells = np.zeros((3, *mesh.shape), dtype=np.float32)
    cells[0, 1], cells[1, 3, :, 0], cells[1, 2, :, 0] = 1.0, 2.0, 1.0
    from caloforge.evaluation.amplification import _all_columns
    from caloforge.evaluation.features import compute_features

    columns = _all_columns(compute_features(Showers(cells, Conditions([1e3] * 3), mesh)))
    assert columns["depth"] == pytest.approx([1, 8 / 3, 0])
    assert columns["max_layer"].tolist() == [1, 3, 0]
    assert columns["width"] == pytest.approx([columns["width_r_1"][0], 0, 0], abs=1e-6)


def test_what_cannot_be_done_is_said(make: Callable[..., Showers]) -> None:
    truth, few = normal(1000, 0), normal(100, 1)
    with pytest.raises(DataError, match=r"no observable 'z'; there are x, y, layer"):
        worth(truth, few, few, observables=["z"])
    with pytest.raises(DataError, match=r"1000 true showers are too few for 400 bins in x"):
        worth(truth, few, few, quantiles=400)
    with pytest.raises(DataError, match="quantiles must be at least 2"):
        worth(truth, few, few, quantiles=1)
    with pytest.raises(DataError, match="x of generated shower 7 is not finite"):
        worth(truth, few, few | {"x": np.where(np.arange(100) == 7, np.nan, few["x"])})
    with pytest.raises(DataError, match="training observables must be"):
        worth(truth, rows(few, np.arange(1)), few)
    a, b = (make(CylinderMesh.regular(n_z=4, n_phi=8, n_r=n_r), 300) for n_r in (3, 4))
    with pytest.raises(MeshError):
        amplification(a, b, a)


TINY = ClassifierSettings(
    hidden=32,
    layers=2,
    epochs=8,
    batch_size=50,
    learning_rate=2e-3,
    repeats=1,
    standardise=True,
    threads=1,
    calibration_floor=None,
)


@pytest.fixture(scope="module")
def upsampling(make: Callable[..., Showers]) -> UpsamplingResult:
    """Copies of 10 and 60 showers, and 600 different ones, all against an independent reference."""
    mesh = CylinderMesh.regular(n_z=3, n_phi=4, n_r=2)
    reference, other = make(mesh, 600, 1), make(mesh, 600, 2)
    samples = {n: other[np.arange(600) % n] for n in (600, 10, 60)}
    return upsampling_curve(reference, samples, classifiers=TINY, which=["low"], progress=False)


def test_fewer_coarse_showers_are_easier_to_tell(upsampling: UpsamplingResult) -> None:
    assert [point.coarse for point in upsampling.points] == [10, 60, 600]
    few, some, all_different = (point.scores["low"].auc for point in upsampling.points)
    assert few.value > 0.98
    assert few.value > some.value > all_different.value + 0.2
    assert abs(all_different.value - 0.5) < 4 * all_different.error
    assert all_different.error == pytest.approx(np.sqrt((2 * 108 + 1) / 12) / 108, rel=0.1)
    jsds = [point.scores["low"].jsd.value for point in upsampling.points]
    assert jsds == sorted(jsds, reverse=True)


def test_copies_of_geant4_showers_are_the_anchor(upsampling: UpsamplingResult) -> None:
    assert upsampling.reference == 540  # 60 are set aside to be repeated
    for point in upsampling.points[:2]:  # the samples are copies of other showers
        score, anchor = point.scores["low"].auc, point.copies["low"].auc
        assert abs(score.value - anchor.value) < 4 * np.hypot(score.error, anchor.error) + 0.02
    assert not upsampling.points[2].copies
    assert "too few Geant4 showers" in in_words(upsampling).points[2].note
    again = UpsamplingResult.from_dict(json.loads(json.dumps(upsampling.to_dict())))
    assert again.points[0] == upsampling.points[0] or np.isnan(again.points[0].scores["low"].jsd.error)
    assert summary(again).row_count == 3


def test_upsampling_without_samples_or_classifiers(make: Callable[..., Showers]) -> None:
    showers = make(CylinderMesh.regular(n_z=3, n_phi=4, n_r=2), 100)
    with pytest.raises(DataError, match="number of coarse showers"):
        upsampling_curve(showers, {})
    with pytest.raises(DataError, match="number of coarse showers"):
        upsampling_curve(showers, {0: showers})
    with pytest.raises(DataError, match="test by classifiers"):
        upsampling_curve(showers, {10: showers}, classifiers="none")


def amplify(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["amplify", *map(str, arguments)])


def test_the_command(upsampling: UpsamplingResult, make: Callable[..., Showers], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from caloforge.report.figures.amplification import draw_upsampling

    mesh = CylinderMesh.regular(n_z=3, n_phi=4, n_r=2)
    for name, n in (("truth", 800), ("training", 100), ("generated", 300)):
        write_showers(make(mesh, n, n), tmp_path / f"{name}.h5")
    files = [tmp_path / f"{name}.h5" for name in ("truth", "training", "generated")]
    options = ["--observables", "e_ratio,depth+width", "--quantiles", "10,20"]
    assert amplify(*files, "-o", tmp_path / "a", *options).exit_code == 0
    written = json.loads((tmp_path / "a" / "amplification.json").read_text())
    assert [curve["bins"] for curve in written["curves"]] == [10, 20, 9, 16]
    for arguments, message in (
        (files, "exists"),
        (files[:1], "give either TRUTH TRAINING GENERATED"),
        ([files[0], "--upsampled", "a.h5"], "expected N_c=FILE"),
        ([files[0], "--upsampled", "0=a.h5"], "whole numbers from 1"),
    ):
        folder = tmp_path / ("a" if arguments is files else "b")
        assert message in str(amplify(*arguments, "-o", folder).exception)
    draw_upsampling(upsampling, tmp_path / "a")
    for name in ("amplification", "upsampling"):
        for ending in ("pdf", "png", "svg"):
            assert (tmp_path / "a" / f"{name}.{ending}").stat().st_size > 5000
