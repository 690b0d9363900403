"""The table of all families: what is kept is not made again, and every family has its row."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import caloforge
from caloforge.data import write_showers

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def families(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if not BENCHMARKS.is_dir():
        pytest.skip("no benchmarks here")
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    return import_module("families")


@pytest.mark.slow
def test_a_run_goes_on_where_it_stopped(families: ModuleType, tmp_path: Path) -> None:
    made = caloforge.generate("gflash:par04-siw", energy="1-50GeV", n=120, seed=1, progress=False)
    train, test = tmp_path / "train.h5", tmp_path / "test.h5"
    write_showers(made[:60], train)
    write_showers(made[60:], test)
    # of a run that was stopped when gflash was timed
    write_showers(made[:60], tmp_path / "gflash.h5")
    rows = [{"batch_size": n, "processor_ms": 1.5, "peak_memory_mib": 300.0} for n in families.BATCHES]
    (tmp_path / "gflash.json").write_text(json.dumps({"rows": rows, "geant4": {"ms": 150.0}}))
    given = argparse.Namespace(
        train=train, test=test, out=tmp_path, models=None, minutes=None, geant4=0, judges="boosted"
    )
    kept = families.Kept(tmp_path)
    row = families.measured("gflash", given, made[60:], kept)
    assert (tmp_path / "gflash.boosted.json").exists()
    assert row["ms"][100] == 1.5
    assert row["training"]["showers"] == 0  # it needs none
    again = families.measured("gflash", given, made[:0], kept)  # of no showers: nothing is made again
    assert again == row | {"showers": 0}
    truth = kept("Geant4.neighbours", families.neighbours, made[60:])
    *heads, line = families.table({"gflash": row}, truth).splitlines()
    assert {head.count("|") for head in heads} == {line.count("|")}
    assert "| 100 |" in line  # × Geant4


def test_the_picture_is_as_wide_as_a_phone_and_names_every_family(
    families: ModuleType, tmp_path: Path
) -> None:
    rows = json.loads((BENCHMARKS.parent / "docs/results/families.json").read_text())["rows"]
    families.draw(rows, tmp_path / "families.svg")
    picture = (tmp_path / "families.svg").read_text()
    assert 'width="360pt"' in picture  # of letters of 10 pt
    assert all(f">{name}</text>" in picture for name, row in rows.items() if "ms" in row)


def test_names_are_moved_apart_and_stay_in_order(families: ModuleType) -> None:
    places = families.spread([0.1, 0.11, 0.12, 0.5, 0.89, 0.95], 0.05)
    assert all(b - a >= 0.05 - 1e-12 for a, b in itertools.pairwise(places))
    assert places[-1] <= 0.9 + 1e-12
    assert places[0] == pytest.approx(0.1)
    assert places[3] == pytest.approx(0.5)
