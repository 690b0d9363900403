"""Files of showers are joined where they were made alike, and only once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cli_data import run

from caloforge.data import Conditions, Showers, open_showers, write_showers
from caloforge.detector import BoxMesh
from caloforge.errors import DataError

MESH = BoxMesh.regular((2, 2, 2), (1.0, 1.0, 1.0))
REQUEST = {
    "checkpoint": "abc",
    "changed_settings": None,
    "seed": 1,
    "first": 0,
    "device": "cpu",
    "precision": "float32",
    "kernels": "plain",
    "code": "caloforge 1",
}
GEANT4 = {"seed": 1, "physics": "FTFP_BERT", "data": "official", "engine": 1, "geant4_pybind": "0.1"}


def written(path: Path, made: dict[str, Any], n: int = 10, first: int = 0) -> Path:
    """A file of showers of these numbers, each of an energy of its own."""
    energy = 1000.0 + np.arange(first, first + n)
    cells = np.random.default_rng(first).random((n, *MESH.shape))
    write_showers(Showers(cells, Conditions(energy, particle="e-"), MESH, made), path)
    return path


def generated(path: Path, n: int = 10, first: int = 0, **changed: Any) -> Path:
    request = REQUEST | {"n": n, "first": first} | changed
    return written(path, {"action": "generate", "request": request}, n, first)


def simulated(path: Path, n: int = 10, **changed: Any) -> Path:
    return written(path, {"action": "simulate", "settings": GEANT4 | {"n": n} | changed}, n)


def test_pieces_of_one_production_are_joined_without_a_word(tmp_path: Path) -> None:
    pieces = [generated(tmp_path / f"{i}.h5", first=10 * i) for i in range(3)]
    assert "different" not in run("merge", tmp_path / "all.h5", *pieces)
    joined = open_showers(tmp_path / "all.h5")
    assert len(joined) == 30
    run("split", tmp_path / "all.h5", "--parts", "0.5,0.5", "--names", "a,b")
    run("merge", tmp_path / "again.h5", tmp_path / "all_a.h5", tmp_path / "all_b.h5")
    with pytest.raises(DataError, match="different checkpoints"):
        run("merge", tmp_path / "c.h5", tmp_path / "again.h5", generated(tmp_path / "d.h5", checkpoint="d"))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"checkpoint": "d"}, r"different checkpoints .*a\.h5: abc; .*b\.h5: d"),
        ({"changed_settings": {"sampler.steps": 4}}, "different settings of the model"),
        ({"precision": "bfloat16"}, "different precisions"),
    ],
)
def test_showers_of_other_kinds_are_refused(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    files = generated(tmp_path / "a.h5"), generated(tmp_path / "b.h5", first=10, **changed)
    with pytest.raises(DataError, match=words):
        run("merge", tmp_path / "all.h5", *files)
    assert not (tmp_path / "all.h5").exists()


def test_geant4_is_not_joined_to_a_generator(tmp_path: Path) -> None:
    first, second = simulated(tmp_path / "a.h5"), generated(tmp_path / "b.h5")
    with pytest.raises(DataError, match=r"different generators \(.*a.h5: Geant4; .*b.h5: caloforge generate"):
        run("merge", tmp_path / "all.h5", first, second)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"kernels": "compiled"}, "different kernels (plain, compiled)"),
        ({"device": "cuda"}, "different devices (cpu, cuda)"),
        ({"code": "caloforge 2"}, "different versions (caloforge 1, caloforge 2)"),
        ({"seed": 2}, "different seeds (1, 2)"),
    ],
)
def test_what_does_no_harm_is_said_once(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    files = [
        generated(tmp_path / "a.h5"),
        *(generated(tmp_path / f"{i}.h5", first=10 * i, **changed) for i in (1, 2)),
    ]
    assert run("merge", tmp_path / "all.h5", *files).replace("\n", " ").count(words) == 1


def test_no_shower_is_there_twice(tmp_path: Path) -> None:
    first, second = generated(tmp_path / "a.h5"), generated(tmp_path / "b.h5", first=7)
    words = r"a\.h5 and .*b\.h5 hold the same showers: 3 of the same seed \(1\).*the first of number 7"
    with pytest.raises(DataError, match=words):
        run("merge", tmp_path / "all.h5", first, second)
    for file in (first, simulated(tmp_path / "c.h5")):
        with pytest.raises(DataError, match="10 of the same seed"):
            run("merge", tmp_path / "all.h5", file, file)
    run("merge", tmp_path / "all.h5", tmp_path / "c.h5", simulated(tmp_path / "d.h5", seed=2))
    higher = written(tmp_path / "e.h5", {"action": "generate", "request": REQUEST | {"n": 10}}, 10, first=500)
    said = run("merge", tmp_path / "other.h5", first, higher)
    assert "10 showers have the noise of others" in said.replace("\n", " ")
