"""Verdicts: equal samples are not told apart, faults are named, and small samples say nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from caloforge.data import Conditions, Showers
from caloforge.detector import CylinderMesh
from caloforge.evaluation import evaluate
from caloforge.evaluation.differences import response_shift, uneven_slices, worst_features
from caloforge.evaluation.results import (
    ClassifierResult,
    Comparison,
    Conservation,
    Correlation,
    Diagnosis,
    Estimate,
    Evaluation,
    FeatureShare,
    Localisation,
    Memorisation,
    Separation,
    Shift,
    Slice,
)
from caloforge.evaluation.significance import beyond_chance, chance_sigmas, detectable_auc, equivalent_auc
from caloforge.report import summary
from caloforge.report.words import find_verdict
from caloforge.report.words.findings import find_all
from caloforge.report.words.text import feature_words, group_title, number, percent, scatter_percent

MESH = CylinderMesh.regular(n_z=4, n_phi=8, n_r=3)


def fluctuating(n: int, seed: int) -> Showers:
    """Showers of 1 to 50 GeV with random cells, two fifths of them lit, and a response of 1.0 ± 0.1."""
    rng = np.random.default_rng(seed)
    energy = 1000 * 50 ** rng.random(n)
    cells = rng.exponential(1.0, (n, MESH.n_voxels)) * (rng.random((n, MESH.n_voxels)) < 0.4)
    cells *= (energy * rng.normal(1, 0.1, n) / np.maximum(cells.sum(axis=1), 1e-9))[:, None]
    return Showers(cells.astype(np.float32), Conditions(energy, particle="e-"), MESH)


def judged(reference: Showers, generated: Showers) -> Evaluation:
    """An evaluation by features, response, correlations and slices."""
    return evaluate(reference, generated, classifiers="none", distances=False, progress=False)


def changed(showers: Showers, change: Callable[[np.ndarray], None]) -> Showers:
    """The showers with cells (N, z, φ, r) altered in place by a function."""
    cells = showers.energies.astype(np.float32).reshape(len(showers), 4, 8, 3).copy()
    change(cells)
    return Showers(cells, showers.conditions, showers.mesh)


@pytest.fixture(scope="module")
def equal() -> Evaluation:
    """Samples of one origin, judged by their features alone."""
    evaluation = judged(fluctuating(900, 1), fluctuating(900, 2))
    return evaluation.replace(
        responses=[], correlations={}, slices=[], conservation=None, localisation=None, verdict=None
    )


def classifier(auc: float, name: str = "high", noise: float = 0.02, share: float = 0.0) -> ClassifierResult:
    diagnosis = None
    if share:
        features = [
            FeatureShare(name="e_layer_2", drop=share, error=0.01),
            FeatureShare(name="sparsity_0", drop=0.001, error=0.01),
        ]
        diagnosis = Diagnosis(
            edges=np.arange(3.0),
            reference=np.ones(2),
            generated=np.ones(2),
            features=features,
            generated_tails=[],
            reference_tails=[],
        )
    return ClassifierResult(
        name=name,
        auc=auc,
        auc_std=0.0,
        jsd=0.1,
        jsd_std=0.0,
        auc_noise=noise,
        auc_floor=None,
        auc_floor_std=None,
        aucs=(auc,),
        jsds=(0.1,),
        best_epochs=(3,),
        showers=(540, 180, 180),
        seconds=1.0,
        device="cpu",
        settings={"preset": "quick"},
        diagnosis=diagnosis,
    )


@pytest.mark.parametrize("seed", range(4))
def test_independent_samples_of_one_origin_are_not_told_apart(seed):
    first, second = (fluctuating(900, 10 + 2 * seed + k) for k in (0, 1))
    verdict = find_verdict(judged(first, second))
    assert verdict.level == 0
    assert verdict.differs == []
    assert verdict.giveaway == ""
    assert verdict.headline.startswith("Not told apart")
    assert verdict.agrees
    assert verdict.limits  # what could not have been seen is always said


def test_a_fault_is_named_and_gives_the_generator_away():
    def emptied(cells: np.ndarray) -> None:
        energy = cells[:, 2].sum(axis=(1, 2), keepdims=True)
        cells[:, 2, :, 2] = 0
        cells[:, 2] *= energy / cells[:, 2].sum(axis=(1, 2), keepdims=True).clip(1e-9)

    def stronger(cells: np.ndarray) -> None:
        cells *= 1.05

    reference, generated = fluctuating(900, 1), fluctuating(900, 2)
    verdict = find_verdict(judged(reference, changed(generated, emptied)))
    assert verdict.level >= 2
    assert "layer 2" in verdict.giveaway
    assert "r differs in 1 of 4 histograms, most the" in verdict.differs[0]
    assert any("Less, but more than chance: " in text for text in verdict.differs)
    assert any("Mean response" in text and "agrees: " in text for text in verdict.agrees)
    shifted = find_verdict(judged(reference, changed(generated, stronger)))
    assert shifted.level >= 1
    assert "total energy / incident energy: mean 0.4" in shifted.giveaway
    assert any("response" in text and "too high: +4" in text for text in shifted.differs)


def test_the_reference_itself_is_recognised():
    showers = fluctuating(900, 1)
    evaluation = judged(showers, showers)
    verdict = find_verdict(evaluation)
    assert any("900 of 900 generated showers are reference showers" in text for text in verdict.differs)
    assert "are not new" in verdict.headline
    counts = {name: evaluation.counts[name] for name in ("reference", "generated")}
    by_histograms = find_verdict(evaluation.replace(counts=counts, localisation=None))
    assert any("seem to be the reference showers" in text for text in by_histograms.differs)


def test_few_showers_say_nothing_unless_a_difference_is_plain():
    few = find_verdict(judged(fluctuating(150, 1), fluctuating(900, 2)))
    assert few.level == -1
    assert few.agrees == []
    assert "150 reference showers" in few.headline
    assert "poor generator would pass" in few.limits

    def only_the_centre(cells: np.ndarray) -> None:
        cells[..., 1:] = 0

    wrong = changed(fluctuating(150, 2), only_the_centre)
    plain = find_verdict(judged(fluctuating(150, 1), wrong))
    assert plain.level == 3
    assert "only 150 showers" in plain.limits


def test_level_follows_the_strongest_classifier(equal):
    levels, headlines = [], set()
    for auc in (0.51, 0.6, 0.7, 0.95):
        judged = {"low": classifier(auc, "low"), "high": classifier(0.5)}
        verdict = find_verdict(equal.replace(classifiers=judged))
        levels.append(verdict.level)
        headlines.add(verdict.headline)
        assert any(f"{auc:.3f}" in text for text in verdict.agrees + verdict.differs)
    assert levels == [0, 1, 2, 3]
    assert len(headlines) == 4


def test_a_noisy_classifier_passes_no_judgement(equal):
    judged = equal.replace(histograms=[], classifiers={"high": classifier(0.55, noise=0.08)})
    assert find_verdict(judged).level == -1


def test_an_auc_below_chance_is_no_praise(equal):
    verdict = find_verdict(equal.replace(classifiers={"high": classifier(0.3)}))
    assert any("below chance" in text for text in verdict.differs)


def test_the_input_a_classifier_relies_on_is_told_only_where_it_matters(equal):
    told = find_verdict(equal.replace(classifiers={"high": classifier(0.7, share=0.1)}))
    assert told.giveaway.startswith(
        "The classifier of high-level features relies most on the energy in layer 2"
    )
    for result in (classifier(0.51, share=0.1), classifier(0.7, share=0.02)):
        assert find_verdict(equal.replace(classifiers={"high": result})).giveaway == ""


def test_a_place_gives_the_generator_away_where_no_feature_does(equal):
    places = PLACES.replace(found={"layer": 1}, shifts=[SHIFT])
    verdict = find_verdict(equal.replace(localisation=places))
    assert verdict.level == 1
    assert verdict.giveaway == "The mean energy of layer 2: +1.02 ± 0.15 %, given all other layers."


def test_response_shift_of_known_numbers(equal):
    features = {
        "e_ratio": Comparison(reference_mean=0.9, reference_std=0.09, generated_mean=0.909, generated_std=0.1)
    }
    mean, spread = response_shift(equal.replace(features=features)) or (None, None)
    assert mean.value == pytest.approx(0.01)
    assert mean.error == pytest.approx(math.hypot(0.1, 0.1 / 0.909) / 30)
    assert spread.value == pytest.approx(0.1 / 0.909 / 0.1 - 1)
    assert spread.error == pytest.approx(1 / 30)


MEMORY = Memorisation(
    counts={"generated": 900, "training": 900, "held_out": 900},
    space="cells",
    edges=np.arange(3.0),
    generated_to_training=np.ones(2),
    generated_to_held_out=np.ones(2),
    held_out_to_training=np.ones(2),
    nearer=Estimate(value=0.5, error=0.017, floor=0.5, floor_error=0.0),
    copies=1,
    copies_expected=0.9,
    rows=(),
    verdict="",
)
CONSERVED = Conservation(
    limit=1.2,
    reference_above=0.001,
    generated_above=0.002,
    expected_error=0.0015,
    largest=1.25,
    largest_reference=1.22,
    worst=(),
    negative_or_empty=0,
)


PLACES = Localisation(shifts=[], tested={"layer": 4, "cell": 96}, found={}, shared_showers=0.0, exact={})
SHIFT = Shift(name="layer 2", kind="layer", relative=0.0102, error=0.0015, z=6.8, p_value=1e-9)


def slices(*excess: float) -> list[Slice]:
    return [
        Slice(
            condition="energy",
            low=float(k),
            high=k + 1.0,
            label=f"{k} to {k + 1} GeV",
            counts={"reference": 300, "generated": 300},
            separation={
                "e_layer": Separation(value=0.02 + e, floor=0.02, floor_std=0.003),
                "sparsity": Separation(value=0.02 + e, floor=0.02, floor_std=0.003),
            },
            response=Comparison(reference_mean=1.0, reference_std=0.1, generated_mean=1.0, generated_std=0.1),
            metrics={},
        )
        for k, e in enumerate(excess)
    ]


def correlation(value: float) -> Correlation:
    return Correlation(
        name="layers",
        labels=("0", "1"),
        reference=np.eye(2),
        generated=np.eye(2),
        distance=Estimate(value=value, error=0.004, floor=0.03, floor_error=0.005),
    )


@pytest.mark.parametrize(
    ("good", "bad", "word"),
    [
        (
            {"distances": {"fpd": Estimate(value=0.011, error=0.003, floor=0.010, floor_error=0.002)}},
            {"distances": {"fpd": Estimate(value=0.080, error=0.003, floor=0.010, floor_error=0.002)}},
            "FPD",
        ),
        (
            {
                "distances": {
                    "recall": Estimate(
                        value=0.84, error=0.02, floor=0.85, floor_error=0.02, ideal=1.0, higher_is_better=True
                    )
                }
            },
            {
                "distances": {
                    "recall": Estimate(
                        value=0.40, error=0.02, floor=0.85, floor_error=0.02, ideal=1.0, higher_is_better=True
                    )
                }
            },
            "Recall",
        ),
        (
            {"correlations": {"layers": correlation(0.035)}},
            {"correlations": {"layers": correlation(0.2)}},
            "Correlations between layers differ",
        ),
        ({"slices": slices(0.0, 0.001, -0.001)}, {"slices": slices(0.0, 0.06, 0.001)}, "incident energy"),
        ({"conservation": CONSERVED}, {"conservation": CONSERVED.replace(generated_above=0.05)}, "ΣE/E_inc"),
        (
            {"conservation": CONSERVED},
            {"conservation": CONSERVED.replace(negative_or_empty=9)},
            "no energy at all",
        ),
        (
            {"localisation": PLACES},
            {"localisation": PLACES.replace(found={"layer": 1}, shifts=[SHIFT])},
            "given all other layers, differs in 1 of 4 layers, most in layer 2 (+1.02 ± 0.15 %)",
        ),
        ({"localisation": PLACES}, {"localisation": PLACES.replace(shared_showers=0.5)}, "50 % of the rows"),
        (
            {
                "counts": {
                    "reference": 900,
                    "generated": 900,
                    "generated_repeated": 2,
                    "reference_repeated": 2,
                }
            },
            {
                "counts": {
                    "reference": 900,
                    "generated": 900,
                    "generated_repeated": 9,
                    "reference_repeated": 2,
                }
            },
            "repeat another generated one",
        ),
        (
            {},
            {"counts": {"reference": 900, "generated": 900, "generated_in_reference": 3}},
            "3 of 900 generated showers are reference showers",
        ),
        (
            {"memorisation": MEMORY},
            {
                "memorisation": MEMORY.replace(
                    nearer=Estimate(value=0.9, error=0.01, floor=0.5, floor_error=0.0), copies=700
                )
            },
            "training shower",
        ),
    ],
)
def test_every_kind_of_number_is_judged_both_ways(equal, good, bad, word):
    fine = find_verdict(equal.replace(**good))
    assert fine.level == 0
    assert fine.differs == []
    wrong = find_verdict(equal.replace(**bad))
    assert wrong.level >= 1
    assert any(word in text for text in wrong.differs)


def test_a_distance_without_a_floor_is_no_evidence(equal):
    blind = equal.replace(distances={"fpd": Estimate(value=5.0)})
    assert not any("FPD" in finding.text for finding in find_all(blind))


def test_copies_are_reported_although_nothing_can_be_told_apart(equal):
    copies = MEMORY.replace(nearer=Estimate(value=1.0, error=0.0, floor=0.5, floor_error=0.017), copies=900)
    verdict = find_verdict(equal.replace(memorisation=copies))
    assert verdict.headline.startswith("Not told apart")
    assert "are not new" in verdict.headline
    assert "repeats training showers" in verdict.differs[0]


def test_slices_are_uneven_only_beyond_chance():
    assert uneven_slices(slices(0.1, 0.1, 0.1)) is None
    worst, excess, others = uneven_slices(slices(0.01, 0.09, 0.01)) or (None, 0, 0)
    assert worst.label == "1 to 2 GeV"
    assert (excess, others) == (pytest.approx(0.09), pytest.approx(0.01))


def test_sigmas_of_chance_are_normal():
    """A χ² of few bins has a skewed tail; three standard deviations stay as rare as they should."""
    rng = np.random.default_rng(0)
    for bins in (4, 10, 60):
        values = rng.chisquare(bins - 1, 40_000) / 3300
        floor, spread = (bins - 1) / 3300, math.sqrt(2 * (bins - 1)) / 3300
        z = np.array([chance_sigmas(Separation(value=v, floor=floor, floor_std=spread)) for v in values])
        assert abs(z.mean()) < 0.03
        assert z.std() == pytest.approx(1, abs=0.03)
        assert 0.0005 < (z > 3).mean() < 0.0025
    assert chance_sigmas(Separation(value=0.0, floor=0.0, floor_std=0.0)) == 0
    assert chance_sigmas(Separation(value=0.1, floor=0.0, floor_std=0.0)) == math.inf


def test_hundreds_of_equal_features_raise_no_alarm(equal):
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(60):
        values = rng.chisquare(39, 370) / 3300
        features = [
            equal.histograms[0].replace(
                separation=Separation(value=v, floor=39 / 3300, floor_std=math.sqrt(78) / 3300)
            )
            for v in values
        ]
        alarms += bool(beyond_chance(features).any())
        bad = features[7].replace(
            separation=Separation(value=0.05, floor=39 / 3300, floor_std=math.sqrt(78) / 3300)
        )
        named = beyond_chance([*features[:7], bad, *features[8:]])
        assert named[7]
    assert alarms <= 3
    assert beyond_chance([]).tolist() == []


def test_a_shift_gives_the_auc_that_its_separation_says():
    x = np.linspace(-8, 8, 4001)
    for d in (0.1, 0.3, 0.6):
        p, q = (np.exp(-((x - m) ** 2) / 2) / math.sqrt(2 * math.pi) for m in (0, d))
        separation = 0.5 * np.sum((p - q) ** 2 / (p + q)) * (x[1] - x[0])
        auc = np.sum(np.cumsum(p) * (x[1] - x[0]) * q) * (x[1] - x[0])
        assert equivalent_auc(separation) == pytest.approx(auc, abs=0.01)
    assert math.isnan(detectable_auc([]))


def test_worst_features_are_those_beyond_chance(equal):
    assert worst_features(equal) == []
    wrong = [
        h.replace(separation=Separation(value=0.1 * k, floor=0.01, floor_std=0.001))
        for k, h in enumerate(equal.histograms[:4])
    ]
    evaluation = equal.replace(histograms=wrong + equal.histograms[4:])
    assert [h.name for h in worst_features(evaluation)] == [h.name for h in wrong[:0:-1]]


def test_summary_table_holds_verdict_and_floors(equal):
    full = equal.replace(
        classifiers={"resnet": classifier(0.7, "resnet")},
        memorisation=MEMORY,
        distances={"fpd": Estimate(value=0.0123, error=0.003, floor=0.0101, floor_error=0.002)},
        warnings=["Beware."],
    )
    table = summary(full)
    cells = "|".join(str(cell) for column in table.columns for cell in column.cells)
    for text in ("AUC cells (3D ResNet) (quick)", "0.700", "0.500 ± 0.020", "12.3 ± 3.0", "10.1 ± 2.0"):
        assert text in cells, text
    assert "Visibly different" in str(table.title)
    assert "Beware." in str(table.caption)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (percent(0.0123, 0.0031), "+1.23 ± 0.31 %"),
        (percent(-0.5), "−50 %"),
        (percent(0.0), "+0.0 %"),
        (percent(math.nan, math.nan), "not known"),
        (scatter_percent(math.inf), "not known"),
        (percent(0.00042, 0.00011, signed=False), "0.042 ± 0.011 %"),
        (number(-3), "−3"),
        (number(1.234e-5), "1.23·10⁻⁵"),
        (group_title("ec_eta"), "Centre of energy in η"),
        (group_title("new_thing"), "New thing"),
        (feature_words("cells_of_layer_3"), "cells of layer 3"),
    ],
)
def test_words_and_numbers(text, expected):
    assert text == expected
