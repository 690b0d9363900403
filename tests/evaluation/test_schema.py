"""The documented layout of metrics.json is the one that is written."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import Field, ValidationError

from caloforge.data import Showers
from caloforge.detector import CylinderMesh
from caloforge.evaluation import Evaluation
from caloforge.evaluation.results.base import Details, Floats, Number, Result
from caloforge.report import evaluate

jsonschema = pytest.importorskip("jsonschema")
DOCUMENTED = Path(__file__).parents[2] / "docs" / "reference" / "metrics.schema.json"


class Inner(Result):
    value: Number
    pair: tuple[int, str]


class Outer(Result):
    grid: Floats
    inner: dict[str, Inner]
    maybe: Inner | None
    several: list[Inner]
    numbers: tuple[Number, ...] = ()
    details: Details = Field(default_factory=dict)


def test_results_survive_json() -> None:
    inner = Inner(value=math.nan, pair=(3, "c"))
    outer = Outer(
        grid=np.array([[1.0, np.inf], [3, 4]]),
        inner={"a": Inner(value=1.5, pair=(1, "b"))},
        maybe=None,
        several=[inner],
        numbers=(1.0, 2.0),
        details={"count": np.int64(3), "row": np.arange(2), "where": Path("here"), "not finite": math.inf},
    )
    plain = json.loads(json.dumps(outer.to_dict(), allow_nan=False))
    assert plain["details"] == {"count": 3, "row": [0, 1], "where": "here", "not finite": None}
    back = Outer.from_dict(plain)
    assert back.to_dict() == plain
    assert back.inner == outer.inner
    assert math.isnan(back.several[0].value)
    assert math.isnan(back.grid[0, 1])
    assert back.numbers == (1.0, 2.0)
    assert outer.replace(maybe=inner).maybe is inner
    with pytest.raises(ValidationError, match="several"):
        Outer.from_dict({key: value for key, value in plain.items() if key != "several"})


def test_the_documented_schema_is_current() -> None:
    # to renew it: print(json.dumps(Evaluation.json_schema(), indent=1, ensure_ascii=False))
    assert json.loads(DOCUMENTED.read_text()) == Evaluation.json_schema()


def test_metrics_fit_the_schema_and_damaged_ones_do_not(make: Callable[..., Showers]) -> None:
    mesh = CylinderMesh.regular(n_z=4, n_phi=8, n_r=3)
    plain = evaluate(make(mesh, n=40), make(mesh, n=30, seed=1), classifiers="none", progress=False).to_dict()
    check = jsonschema.Draft202012Validator(Evaluation.json_schema())
    check.validate(json.loads(json.dumps(plain)))
    assert plain["schema"] == Evaluation.layout
    assert not check.is_valid(plain | {"histograms": {}})
    assert not check.is_valid(plain | {"schema": Evaluation.layout - 1})
    assert not check.is_valid({key: value for key, value in plain.items() if key != "counts"})
