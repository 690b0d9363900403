"""Response, resolution and their fit on toys with known constants; linearity; conservation of energy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from caloforge.data import Conditions
from caloforge.errors import DataError
from caloforge.evaluation.physics import conservation, response_curves
from caloforge.evaluation.physics.resolution import binned_response
from caloforge.evaluation.results import ResponseCurve

A, B, C = 0.12, 0.06, 0.015
Floats = NDArray[np.float64]


def toy(
    seed: int, n: int = 4000, constants: tuple[float, float, float] = (A, B, C), span: float = 100.0
) -> tuple[Floats, Conditions]:
    """Responses that scatter around 0.97 with σ/E = a/√E ⊕ b/E ⊕ c, log-uniform from 1 GeV on."""
    rng = np.random.default_rng(seed)
    energy = 1000 * span ** rng.random(n)
    gev = energy / 1000
    a, b, c = constants
    spread = np.sqrt(a**2 / gev + b**2 / gev**2 + c**2)
    return 0.97 * (1 + spread * rng.standard_normal(n)), Conditions(energy)


def energy_curve(
    reference: tuple[Floats, Conditions], generated: tuple[Floats, Conditions], seed: int = 0
) -> ResponseCurve:
    curve = response_curves(*reference, *generated, seed=seed)[0]
    assert curve.condition == "energy"
    return curve


def test_constants_are_recovered_within_errors() -> None:
    pulls, chi2, at_bound = [], [], 0
    for seed in range(60):
        fit = energy_curve(toy(seed), toy(seed)).fits["reference"]
        chi2.append(fit.chi2 / fit.ndf)
        at_bound += math.isnan(fit.noise_error)
        pulls.append(
            [
                (fit.stochastic - A) / fit.stochastic_error,
                (fit.noise - B) / fit.noise_error,
                (fit.constant - C) / fit.constant_error,
            ]
        )
    mean, spread = np.nanmean(pulls, axis=0), np.nanstd(pulls, axis=0)
    assert (np.abs(mean) < 0.5).all(), mean
    assert (np.abs(spread - 1) < 0.35).all(), spread
    assert np.mean(chi2) == pytest.approx(1.0, abs=0.2)
    assert at_bound < 15


def test_a_constant_at_its_bound_has_no_error() -> None:
    fits = [energy_curve(toy(s, constants=(A, 0.0, C)), toy(s)).fits["reference"] for s in range(10)]
    bound = [fit for fit in fits if fit.noise == 0.0]
    assert bound
    assert all(math.isnan(fit.noise_error) and fit.stochastic_error > 0 for fit in bound)
    assert all(fit.ndf == 10 for fit in bound)


def test_wide_bins_do_not_bias_the_fit() -> None:
    fits = [energy_curve(toy(s, n=900), toy(s, n=900)).fits["reference"] for s in range(40)]
    assert all(fit.ndf <= 2 for fit in fits)  # 4 bins over two decades
    assert np.mean([fit.stochastic for fit in fits]) == pytest.approx(A, rel=0.1)


@pytest.mark.parametrize(
    ("energies", "why"),
    [
        (np.full(2000, 1e4), "one energy"),
        (np.repeat([1e3, 1e4, 1e5], 500), "three energies for three constants"),
        (np.geomspace(1e4, 3e4, 4000), "less than a factor of four"),
        (np.geomspace(1e3, 1e5, 60), "too few showers a bin"),
    ],
)
def test_where_the_fit_is_not_determined_there_is_none(energies: Floats, why: str) -> None:
    ratio = np.random.default_rng(0).normal(1.0, 0.05, len(energies))
    conditions = Conditions(energies)
    assert energy_curve((ratio, conditions), (ratio, conditions)).fits == {}, why


def test_error_of_the_resolution_holds_for_skewed_responses() -> None:
    rng = np.random.default_rng(0)
    n = 400
    ratio = rng.gamma(1.0, 1.0, (1000, n)).ravel()
    binned = binned_response(ratio, np.repeat(np.arange(1000), n), 1000)
    assert binned.resolution.mean() == pytest.approx(1.0, rel=0.01)
    assert binned.resolution_error.mean() == pytest.approx(binned.resolution.std(), rel=0.1)
    gaussian = np.sqrt(1 / (2 * n) + 1 / n)
    assert abs(gaussian / binned.resolution.std() - 1) > 0.15  # the usual formula would be wrong here


def test_a_sample_against_itself() -> None:
    sample = toy(0)
    curve = energy_curve(sample, sample)
    assert curve.linearity.value == 0.0
    assert curve.reference_count.sum() == 4000
    assert curve.fits["reference"] == curve.fits["generated"]
    assert (np.diff(curve.positions) > 0).all()
    assert ((curve.edges[:-1] <= curve.positions) & (curve.positions <= curve.edges[1:])).all()


def test_the_floor_covers_samples_of_one_origin() -> None:
    pulls = []
    for seed in range(100):
        found = energy_curve(toy(2 * seed, 1500), toy(2 * seed + 1, 1500)).linearity
        pulls.append((found.value - found.floor) / found.floor_error)
    assert abs(np.mean(pulls)) < 0.4
    assert np.std(pulls) == pytest.approx(1.0, abs=0.3)


def test_a_wrong_response_at_one_end_is_seen() -> None:
    ratio, conditions = toy(1)
    wrong = np.where(conditions.energy > 5e4, 1.02 * ratio, ratio)
    found = energy_curve(toy(0), (wrong, conditions)).linearity
    assert found.value == pytest.approx(0.02, abs=4 * found.error)
    assert found.sigmas() > 5


def test_few_showers_say_nothing_of_linearity() -> None:
    found = energy_curve(toy(0, 90), toy(1, 90)).linearity
    assert math.isnan(found.value)


def test_discrete_energies_are_the_bins() -> None:
    energies = np.repeat(2.0 ** np.arange(8, 23), 100)
    ratio = np.random.default_rng(0).normal(1.0, 0.1, len(energies))
    generated = Conditions(
        np.concatenate([energies.astype(np.float32), [777.0]])
    )  # one value is none of them
    curve = energy_curve((ratio, Conditions(energies)), (np.append(ratio, 1.0), generated))
    assert len(curve.edges) == 0
    assert curve.positions.tolist() == (2.0 ** np.arange(8, 23)).tolist()
    assert (curve.generated_count == 100).all()


def test_curves_against_whatever_varies() -> None:
    rng = np.random.default_rng(0)
    n = 2000
    names = np.where(rng.random(n) < 0.5, "here", "there")
    conditions = Conditions(1e3 * 50 ** rng.random(n), rng.uniform(1.0, 2.0, n), 0.0, "e-", names)
    ratio = rng.normal(np.where(names == "here", 0.9, 1.1), 0.05)
    curves = {c.condition: c for c in response_curves(ratio, conditions, ratio, conditions)}
    assert list(curves) == ["energy", "theta", "detector"]
    assert curves["theta"].edges[[0, -1]].tolist() == [conditions.theta.min(), conditions.theta.max()]
    assert np.diff(curves["theta"].edges) == pytest.approx(np.diff(curves["theta"].edges)[0])
    assert curves["detector"].names == ("here", "there")
    assert curves["detector"].reference_response == pytest.approx([0.9, 1.1], abs=0.01)
    elsewhere = Conditions(conditions.energy, 1.5, 0.0, "e-", "elsewhere")
    detector = response_curves(ratio, conditions, ratio, elsewhere)[-1]
    assert detector.generated_count.tolist() == [0, 0]
    assert np.isnan(detector.generated_response).all()
    assert math.isnan(detector.linearity.value)


def test_same_seed_same_numbers_and_json() -> None:
    samples = toy(0), toy(1)
    curves = [energy_curve(*samples, seed=s) for s in (3, 3, 4)]
    assert curves[0].linearity == curves[1].linearity
    assert curves[0].linearity != curves[2].linearity
    assert ResponseCurve.from_dict(curves[0].to_dict()).to_dict() == curves[0].to_dict()


def test_conservation_of_a_good_generator() -> None:
    excess = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        found = conservation(rng.normal(1.0, 0.1, 5000), rng.normal(1.0, 0.1, 2000))
        assert found.reference_above == pytest.approx(0.001)
        excess.append((found.generated_above - found.reference_above) / found.expected_error)
    assert np.std(excess) == pytest.approx(1.0, abs=0.25)


def test_conservation_names_the_worst_showers() -> None:
    rng = np.random.default_rng(0)
    generated = np.minimum(rng.normal(1.0, 0.1, 500), 1.2)
    generated[[40, 7, 300]] = 3.0, 5.0, 0.0
    found = conservation(rng.normal(1.0, 0.1, 5000), generated)
    assert found.worst == (7, 40)
    assert (found.largest, found.negative_or_empty) == (5.0, 1)
    few = conservation(np.array([0.9, 1.0, 1.1]), np.array([1.0, 1.2]))
    assert (few.limit, few.reference_above, few.generated_above, few.worst) == (1.1, 0.0, 0.5, (1,))


@pytest.mark.parametrize(
    ("ratio", "message"), [(np.ones(3), "for 4 showers"), (np.array([1.0, 1.0, np.nan, 1.0]), "shower 2")]
)
def test_wrong_ratios_are_errors(ratio: Floats, message: str) -> None:
    conditions = Conditions(np.full(4, 1e4))
    with pytest.raises(DataError, match=message):
        response_curves(np.ones(4), conditions, ratio, conditions)
    with pytest.raises(DataError, match="at least 1"):
        conservation(np.ones(4), np.zeros(0))
