"""What the page says of neighbourhoods, of what judges rely on, and of where their AUC goes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from report_results import diagnosis
from report_samples import MESHES, judged

from caloforge.data import Showers
from caloforge.evaluation.results import EquivalentShowers, Estimate, Evaluation, FeatureShare, LearningCurve
from caloforge.report import in_words, judges, summary
from caloforge.report.figures.neighbourhoods import draw_neighbourhoods
from caloforge.report.tables import Cell, Table
from caloforge.report.words.rows import number_rows
from caloforge.report.words.text import feature_words, group_title

CURVE = LearningCurve(
    showers=(200, 400, 800),
    aucs=np.array([0.71, 0.75, 0.78]),
    errors=np.array([0.02, 0.02, 0.02]),
    at=100_000,
    expected=Estimate(value=0.861, error=0.024, floor=0.5),
)


@pytest.fixture(scope="module")
def evaluation(make: Callable[..., Showers]) -> Evaluation:
    mesh = MESHES["cylinder"]
    plain = judged(make(mesh, 120), make(mesh, 100, 1))
    shares = diagnosis([], np.random.default_rng(0)).replace(
        features=[
            FeatureShare(name="pairs_phi_ring_0", drop=0.2, error=0.01, alone=0.81),
            FeatureShare(name="e_ring_2", drop=0.1, error=0.01),
        ],
        groups=[FeatureShare(name="all neighbours", drop=0.4, error=0.01)],
    )
    (name, result), *_ = plain.classifiers.items()
    result = result.replace(curve=CURVE, diagnosis=shares, auc=0.78, aucs=(0.78,))
    return plain.replace(classifiers={name: result}, verdict=None)


def texts(table: Table) -> list[list[str]]:
    return [[cell.text if isinstance(cell, Cell) else cell for cell in row] for row in table.rows]


def test_every_neighbourhood_is_in_one_of_the_tables(evaluation: Evaluation) -> None:
    whole, placed = (judges.neighbourhoods(evaluation, whole=w) for w in (True, False))
    assert len(whole.rows) + len(placed.rows) == len(evaluation.neighbourhoods) > 30
    labels = [row[0] for row in texts(whole)]
    assert labels[0] == "lit cells without a lit neighbour"
    assert "lit pairs in φ beyond independent cells" in labels
    metric = evaluation.neighbourhoods["isolated"]
    assert texts(whole)[0][4] == f"{metric.auc.value:.3f} ± {metric.auc.error:.3f}"


def test_what_a_judge_relies_on_is_ranked(evaluation: Evaluation) -> None:
    (table,) = judges.importances(evaluation)
    rows = texts(table)
    assert [row[0] for row in rows] == [
        "neighbours (all)",
        "lit pairs in φ beyond independent cells, ring 0",
        "energy in ring 2",
    ]
    assert rows[1][2:] == ["0.200 ± 0.010", "0.810"]
    assert "AUC 0.780" in table.caption


def test_an_extrapolation_is_told_as_one(evaluation: Evaluation) -> None:
    (row,) = texts(judges.curves(evaluation))
    assert row[1].startswith("200: 0.710")
    assert row[3] == "0.861 ± 0.024"
    told = [r for r in number_rows(evaluation) if "extrapolated" in r.name]
    assert [r.value for r in told] == ["0.861 ± 0.024"]
    assert "Not measured" in told[0].meaning
    verdict = in_words(evaluation).verdict
    assert verdict is not None
    assert any("with 100\u202f000 showers 0.861 ± 0.024 expected" in text for text in verdict.differs)
    assert judges.curves(evaluation.replace(classifiers={})).rows == []
    assert summary(evaluation) is not None


def test_what_a_generator_is_worth(evaluation: Evaluation) -> None:
    known = {
        "longitudinal": EquivalentShowers(showers=math.nan, at_least=812.3, bins=4),
        "e_ratio": EquivalentShowers(showers=431.2, at_least=210.0, bins=1),
        "holes": EquivalentShowers(showers=math.nan, at_least=90.0, bins=1),
        "e_ratio_at_energy": EquivalentShowers(showers=0.5, at_least=0.3, bins=1),
    }
    rows = texts(judges.equivalent(evaluation.replace(equivalent=known)))
    assert rows == [
        ["longitudinal profile", "no bias seen", "> 812"],
        ["e_ratio_at_energy", "less than 1", ""],
        ["total energy / incident energy", "431", "> 210"],
    ]
    assert judges.equivalent(evaluation).rows


def test_one_figure_shows_the_places_of_all_samples(evaluation: Evaluation, tmp_path: Path) -> None:
    (drawing,) = draw_neighbourhoods({"a": evaluation, "b": evaluation}, tmp_path)
    assert (tmp_path / "neighbourhoods.png").stat().st_size > 10_000
    assert "a, b" in drawing.alt
    assert draw_neighbourhoods({"a": evaluation.replace(neighbourhoods={})}, tmp_path) == []
    assert draw_neighbourhoods({}, tmp_path) == []


def test_names_in_words() -> None:
    assert group_title("pairs_phi_ring") == "Pairs of lit neighbours in φ by ring"
    assert group_title("correlation_z") == "Correlation of cells in z"
    assert group_title("isolated_layer") == "Isolated lit cells by layer"
    assert feature_words("lit_ring_3") == "lit cells in ring 3"
    assert feature_words("cell_quantile_95") == "cell energies, 95 % quantile"
