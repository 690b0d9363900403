"""Standard deviations become words in one place, and no headline says less than what stands below it."""

from __future__ import annotations

import math
import re

import pytest
from report_results import everything
from test_verdict import classifier, equal, judged  # noqa: F401

from caloforge.evaluation.differences import classifier_auc, noticeable
from caloforge.evaluation.results import (
    ClassifierResult,
    ComparedModel,
    Estimate,
    Evaluation,
    NeighbourhoodMetric,
    Timing,
    Verdict,
)
from caloforge.report.judges import importances, neighbourhoods
from caloforge.report.slices import slice_tables
from caloforge.report.tables import Cell, Table, classifiers, distances, linearity, numbers
from caloforge.report.words import find_verdict
from caloforge.report.words.columns import cell_text, floor_text, table_columns
from caloforge.report.words.comparison import headline, posterior_finding, sentences
from caloforge.report.words.rows import key_rows, number_rows
from caloforge.report.words.significance import sigma_text, significance, standing
from caloforge.report.words.text import percent, scatter, scatter_percent, with_error

NOISE = 0.0431
"""Of an AUC of 90 + 90 validation showers, those of 450 + 450."""


def judge(auc: float) -> ClassifierResult:
    return classifier(auc, noise=NOISE).replace(showers=(270, 90, 90))


@pytest.mark.parametrize(
    ("sigmas", "says", "text"),
    [
        (1.99, "agrees", "agrees, 1.9 σ"),
        (2.0, "hint", "hint, 2.0 σ"),
        (2.98, "hint", "hint, 2.9 σ"),
        (3.0, "told apart", "told apart, 3.0 σ"),
        (-2.9, "agrees", "agrees, −2.9 σ"),
        (-3.0, "below chance", "below chance, −3.0 σ"),
        (math.inf, "told apart", "told apart, > 100 σ"),
        (math.nan, "not known", ""),
    ],
)
def test_sigmas_become_words_and_are_never_rounded_up(sigmas: float, says: str, text: str) -> None:
    assert significance(sigmas).says == says
    assert standing(sigmas) == text
    assert sigma_text(-0.04) == "0.0 σ"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (with_error(-472, 811), "not significant (± 811)"),
        (with_error(-0.5, 0.2), "−0.50 ± 0.20"),
        (scatter(0.01, 0.1), "0.01 ± 0.10"),
        (percent(0.001, 0.0031), "not significant (± 0.31 %)"),
        (scatter_percent(0.001, 0.0031), "0.10 ± 0.31 %"),
        (cell_text("log_posterior", Estimate(value=-472, error=811)), "not significant (± 811)"),
        (cell_text("kpd", Estimate(value=1e-5, error=3e-5)), "not significant (± 0.030)"),
        (floor_text("kpd", Estimate(value=1e-5, error=3e-5)), "0.01 ± 0.03"),
        (floor_text("log_posterior", Estimate(value=-17007, error=29199)), "not significant (± 29\u202f199)"),
    ],
)
def test_a_number_drowned_in_its_error_is_no_result(text: str, expected: str) -> None:
    assert text == expected


def test_an_error_that_is_the_chance_of_an_exact_floor_counts_once() -> None:
    auc = Estimate(value=0.6, error=0.04, floor=0.5, floor_error=0.04, floor_from="expectation")
    assert auc.sigmas() == pytest.approx(2.5)
    assert auc.replace(floor_from="split of the reference").sigmas() == pytest.approx(2.5 / math.sqrt(2))
    assert auc.replace(floor_error=0.0).sigmas() == pytest.approx(2.5)


def test_an_auc_of_almost_three_sigmas_is_a_hint(equal: Evaluation) -> None:  # noqa: F811
    told = {}
    for auc in (0.52, 0.628, 0.63):
        verdict = find_verdict(equal.replace(classifiers={"high": judge(auc)}))
        told[auc] = verdict
        assert "with 900 generated and 900 reference showers" in verdict.headline
    agrees, hint, apart = told.values()
    assert any("cannot tell them apart: AUC 0.520" in text for text in agrees.agrees)
    assert agrees.hints == []
    assert not any("AUC" in text for text in hint.agrees)
    assert any("may tell them apart: AUC 0.628, 2.9 σ" in text for text in hint.hints)
    assert hint.level == 0
    assert "with a hint of a difference, up to 2.9 σ" in hint.headline
    assert apart.level == 1
    assert [told[auc].significance["auc_high"].says for auc in told] == ["agrees", "hint", "told apart"]


@pytest.mark.parametrize("floor", [None, 0.505])
def test_what_would_be_noticed_is_what_tells_apart(floor: float | None) -> None:
    result = judge(0.5).replace(auc_floor=floor, auc_floor_std=floor and 0.01)
    limit = noticeable(result)
    above, below = (classifier_auc(result.replace(auc=limit + d)).sigmas() for d in (0.01, -0.01))
    assert above > 3 > below


def model(name: str, evaluation: Evaluation, auc: float, level: int | None = None) -> ComparedModel:
    """A model judged by one classifier; its verdict is that of the evaluation, or of another level."""
    found = evaluation.replace(classifiers={"high": judge(auc)})
    verdict = find_verdict(found)
    if level is not None:
        verdict = Verdict(level=level, headline=f"Level {level}.", agrees=[], differs=[], giveaway="")
    timing = Timing(
        geant4_ms=None, geant4_ms_per_gev=None, generator_ms=None, speed_up=None, mean_energy_mev=1.0
    )
    return ComparedModel(
        name=name,
        file="",
        showers=900,
        metrics={"auc_high": classifier_auc(found.classifiers["high"])},
        timing=timing,
        warnings=[],
        verdict=verdict,
    )


def said(*models: ComparedModel) -> tuple[int, str]:
    return headline(table_columns({m.name: m.metrics for m in models}), models)


def test_the_headline_of_a_comparison_follows_from_its_rows(equal: Evaluation) -> None:  # noqa: F811
    first, second = model("first", equal, 0.632), model("second", equal, 0.634)
    level, text = said(first, second)
    assert level == 1
    assert text == (
        "first and second are equally near to Geant4 by the classifier of high-level features: close to "
        "Geant4, but told apart from it with 900 generated and 900 reference showers."
    )
    rows = " ".join(sentences(table_columns({"first": first.metrics}), [first], {}))
    assert "first 0.63 ± 0.04 (told apart, 3.0 σ)" in rows
    assert said(first) == (1, f"first: {first.verdict.headline[:1].lower()}{first.verdict.headline[1:]}")


def test_no_model_is_ranked_above_one_with_a_better_verdict(equal: Evaluation) -> None:  # noqa: F811
    models = [model("blind", equal, 0.5, 3), model("good", equal, 0.6, 1), model("other", equal, 0.61, 1)]
    assert said(*models) == (3, "good and other are equally near to Geant4: level 1; blind: level 3.")
    assert said(*models[:2]) == (3, "good is nearest to Geant4: level 1; blind: level 3.")
    alike = [model(name, equal, auc, 0) for name, auc in (("a", 0.5), ("b", 0.52), ("c", 0.61))]
    assert said(*alike) == (0, "All models: level 0.")
    unsure = [alike[0], model("few", equal, 0.5, -1)]
    assert said(*unsure) == (-1, "a: level 0; few: level -1.")


def test_the_network_for_all_samples_counts_in_a_models_verdict(equal: Evaluation) -> None:  # noqa: F811
    """A row that says "told apart" stands below no headline that says "not told apart"."""
    own = Estimate(
        value=-0.4, error=0.02, floor=0.09, floor_error=0.02, ideal=math.nan, higher_is_better=True
    )
    assert find_verdict(equal).level == 0
    verdict = find_verdict(equal, [posterior_finding(own)])
    assert verdict.level == 1
    assert "told apart from it" in verdict.headline
    assert any("One network for all samples tells it from Geant4" in text for text in verdict.differs)
    near = find_verdict(equal, [posterior_finding(own.replace(value=0.08))])
    assert near.level == 0
    lost = posterior_finding(own.replace(value=-472, error=811, floor=-17007, floor_error=29199))
    assert "log-posterior not significant (± 811), Geant4 itself not significant (± 29\u202f199)" in lost.text


@pytest.mark.parametrize(("key", "say"), [("log_posterior", "most readily"), ("fpd", "Pareto front")])
def test_no_order_follows_from_numbers_that_are_all_drowned(
    equal: Evaluation,  # noqa: F811
    key: str,
    say: str,
) -> None:
    def told(second: float) -> str:
        found = {"first": -0.01, "second": second}
        models = [
            m.replace(
                metrics={
                    **m.metrics,
                    key: Estimate(value=found[m.name], error=0.3, floor=0.1, floor_error=0.4),
                    "ms": Estimate(value=1.0),
                }
            )
            for m in (model(name, equal, 0.5) for name in found)
        ]
        columns = table_columns({m.name: m.metrics for m in models})
        return " ".join(sentences(columns, models, {key: list(found)}))

    assert say in told(0.9)
    assert say not in told(0.2)


def test_equal_numbers_of_showers_are_told_once(equal: Evaluation) -> None:  # noqa: F811
    level, text = said(model("good", equal, 0.64), model("bad", equal, 0.95))
    assert level == 3
    assert text == (
        "good is nearest to Geant4 by the classifier of high-level features: close to Geant4, but told apart "
        "from it; bad: easily told apart from Geant4 with 900 generated and 900 reference showers."
    )


def test_a_mean_of_neighbours_that_is_told_apart_is_in_the_verdict(equal: Evaluation) -> None:  # noqa: F811
    def metrics(shift: float) -> dict[str, NeighbourhoodMetric]:
        return {
            f"isolated_{k}": NeighbourhoodMetric(
                label=f"isolated cells {k}",
                group="isolated",
                place=None,
                reference_mean=5.0,
                reference_error=0.1,
                generated_mean=5.0,
                generated_error=0.1,
                difference=Estimate(value=shift if k == 3 else 0.0, error=0.1, floor=0.0, floor_error=0.0),
                auc=Estimate(value=0.55, error=0.01, floor=0.5),
            )
            for k in range(20)
        }

    levels = {}
    for shift in (0.0, 0.32, 0.6):  # 3.2 standard deviations of one in twenty are no more than a hint
        found = equal.replace(neighbourhoods=metrics(shift))
        verdict = find_verdict(found)
        levels[shift] = verdict.level
        table = neighbourhoods(found, whole=True)
        told = any(isinstance(c, Cell) and c.text.startswith("told apart") for row in table.rows for c in row)
        assert told == any("isolated cells 3" in text for text in verdict.differs)
    assert levels == {0.0: 0, 0.32: 0, 0.6: 1}


def drowned_numbers(table: Table) -> list[str]:
    """Cells ``value ± error`` with an error above the value, but for those of what chance gives."""
    found = []
    for row in table.rows:
        for head, cell in zip(table.head, row, strict=True):
            text = cell if isinstance(cell, str) else cell.text
            pair = re.match(r"[+−]?([\d.]+) ± ([\d.]+)", text)
            if pair and float(pair[2]) > float(pair[1]) and not head.lower().startswith("by chance"):
                found.append(text)
    return found


def test_no_table_shows_a_number_that_its_error_exceeds(equal: Evaluation) -> None:  # noqa: F811
    lost = Estimate(value=0.02, error=0.5, floor=0.0, floor_error=0.1)
    result = judge(0.6).replace(aucs=(0.6, 0.6), jsds=(0.1, -0.1), jsd=0.01, jsd_std=0.2, auc_std=0.01)
    full = everything(equal.replace(classifiers={"high": result}))
    diagnosis = full.classifiers["high"].diagnosis
    assert diagnosis is not None
    shares = [share.replace(drop=0.001, error=0.02) for share in diagnosis.features]
    full = full.replace(
        classifiers={"high": result.replace(diagnosis=diagnosis.replace(features=shares, groups=[]))},
        distances=dict.fromkeys(full.distances, lost),
        slices=[part.replace(metrics={"fpd": lost}) for part in full.slices],
        correlations={name: c.replace(distance=lost) for name, c in full.correlations.items()},
        responses=[curve.replace(linearity=lost) for curve in full.responses],
    )
    shown = [
        numbers(full),
        classifiers(full),
        distances(full),
        linearity(full),
        *importances(full),
        *(table for table, _ in slice_tables(full)),
    ]
    assert [drowned_numbers(table) for table in shown] == [[]] * len(shown)
    texts = [str(cell) for table in shown for row in table.rows for cell in row]
    assert sum("not significant" in text for text in texts) >= 10
    assert cell_text("log_posterior", Estimate(value=-472.0, error=811.0)) == "not significant (± 811)"


def test_key_numbers_hide_nothing_worse(equal: Evaluation) -> None:  # noqa: F811
    full = everything(equal.replace(classifiers={"high": judge(0.6)}))
    rows = number_rows(full)
    chosen = key_rows(rows)
    assert len(chosen) < len(rows) / 2
    assert max(r.sigmas for r in rows if r.sigmas == r.sigmas) in [r.sigmas for r in chosen]
