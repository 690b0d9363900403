"""Seeds and numbers of showers that are none are refused by all that take them, before any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toy_models

from caloforge.bench import bench
from caloforge.errors import CaloforgeError, ConditionError
from caloforge.evaluation import evaluate, train_classifier
from caloforge.evaluation.amplification import amplification
from caloforge.evaluation.classifiers import classifier_settings, train_multiclass
from caloforge.evaluation.features import compute_features
from caloforge.evaluation.upsampling import upsampling_curve
from caloforge.geant4 import simulate
from caloforge.generation import generate
from caloforge.quickstart import quickstart
from caloforge.report import compare
from caloforge.training import adapt, train

SHOWERS = toy_models.toy_showers(60)
Call = Callable[..., Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("numbers") / "model"
    train(toy_models.RECIPE, SHOWERS, out=out, progress=False, overrides={"training.epochs": 1})
    return out


def calls(model: Path, out: Path) -> dict[str, Call]:
    sample, quick = (SHOWERS, compute_features(SHOWERS)), classifier_settings("quick")
    return {
        "simulate": lambda **how: simulate("par04-siw", out=out, **{"n": 1, **how}),
        "train": lambda **how: train(toy_models.RECIPE, SHOWERS, out=out, **how),
        "adapt": lambda **how: adapt(model, SHOWERS, out=out, **how),
        "generate": lambda **how: generate(model, energy=2e3, out=out, **how),
        "bench": lambda **how: bench(model, geant4=0, out=out, **how),
        "evaluate": lambda **how: evaluate(SHOWERS, SHOWERS, **how),
        "compare": lambda **how: compare(SHOWERS, [SHOWERS], out=out, **how),
        "amplification": lambda **how: amplification(SHOWERS, SHOWERS, SHOWERS, **how),
        "upsampling": lambda **how: upsampling_curve(SHOWERS, {1: SHOWERS}, **how),
        "classifier": lambda **how: train_classifier("low", sample, sample, quick, **how),
        "multiclass": lambda **how: train_multiclass({"a": sample, "b": sample}, quick, **how),
        "quickstart": lambda **how: quickstart(out, **how),
        "split": lambda **how: SHOWERS.split(0.5, **how),
    }


@pytest.mark.parametrize("seed", [1.5, 2.0, 2**64, -1])
def test_seeds(seed: Any, model: Path, tmp_path: Path) -> None:
    for name, call in calls(model, tmp_path / "out").items():
        with pytest.raises(ConditionError, match=r"a seed must be a whole number from 0 to 2\^64 - 1"):
            call(seed=seed)
        assert list(tmp_path.iterdir()) == [], name


@pytest.mark.parametrize("n", [2.5, 0, -3])
def test_numbers_of_showers(n: Any, model: Path, tmp_path: Path) -> None:
    for name in ("simulate", "generate", "adapt"):
        with pytest.raises(CaloforgeError, match=r"n must be (at least \d and a whole number|from 2 to)"):
            calls(model, tmp_path / "out")[name](n=n)
    assert list(tmp_path.iterdir()) == []


def test_more_than_there_are(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConditionError, match="61 showers were asked for, but there are conditions for 60"):
        generate(model, like=SHOWERS, n=61)
    with pytest.raises(CaloforgeError, match="n must be from 2 to the 60 showers"):
        adapt(model, SHOWERS, n=61, out=tmp_path / "out")


def test_a_pair_of_energies_is_refused_wherever_it_may_mean_two_things(model: Path, tmp_path: Path) -> None:
    for name in ("simulate", "bench"):
        with pytest.raises(ConditionError, match="may mean a range or two energies"):
            calls(model, tmp_path / "out")[name](energy=(1000, 2000))
    with pytest.raises(ConditionError, match="may mean a range or two energies"):
        generate(model, energy=(2000, 3000))
    assert generate(model, energy=[2000, 3000], progress=False).conditions.energy.tolist() == [2e3, 3e3]
