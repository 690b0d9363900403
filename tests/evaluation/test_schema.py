"""The documented layout of metrics.json is the one that is written."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from caloforge.data import Showers
from caloforge.detector import CylinderMesh
from caloforge.evaluation import SCHEMA, evaluate, metrics_schema
from caloforge.evaluation.results import from_plain, to_plain

jsonschema = pytest.importorskip("jsonschema")
DOCUMENTED = Path(__file__).parents[2] / "docs" / "metrics.schema.json"


@dataclasses.dataclass(frozen=True)
class Inner:
    value: float
    pair: tuple[int, str]


@dataclasses.dataclass(frozen=True, eq=False)
class Outer:
    grid: NDArray[np.float64]
    inner: dict[str, Inner]
    maybe: Inner | None
    several: list[Inner]
    numbers: tuple[float, ...] = ()


def test_dataclasses_survive_json() -> None:
    inner = Inner(math.nan, (3, "c"))
    outer = Outer(np.array([[1.0, np.inf], [3, 4]]), {"a": Inner(1.5, (1, "b"))}, None, [inner], (1.0, 2.0))
    plain = json.loads(json.dumps(to_plain(outer), allow_nan=False))
    back = from_plain(Outer, plain)
    assert to_plain(back) == plain
    assert back.inner == outer.inner
    assert math.isnan(back.several[0].value)
    assert math.isnan(back.grid[0, 1])
    assert back.numbers == (1.0, 2.0)
    with pytest.raises(KeyError, match="Outer lacks 'several'"):
        from_plain(Outer, {key: value for key, value in plain.items() if key != "several"})


def test_the_documented_schema_is_current() -> None:
    # to renew it: print(json.dumps(metrics_schema(), indent=1, ensure_ascii=False))
    assert json.loads(DOCUMENTED.read_text()) == metrics_schema()


def test_metrics_fit_the_schema_and_damaged_ones_do_not(make: Callable[..., Showers]) -> None:
    mesh = CylinderMesh.regular(n_z=4, n_phi=8, n_r=3)
    plain = evaluate(make(mesh, n=40), make(mesh, n=30, seed=1), classifiers="none", progress=False).to_dict()
    check = jsonschema.Draft202012Validator(metrics_schema())
    check.validate(json.loads(json.dumps(plain)))
    assert plain["schema"] == SCHEMA
    assert not check.is_valid(plain | {"histograms": {}})
    assert not check.is_valid(plain | {"schema": SCHEMA - 1})
    assert not check.is_valid({key: value for key, value in plain.items() if key != "counts"})
