"""Features of parts of a sample, put together: the whole sample, or an error that names what is wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from caloforge.cli.app import app
from caloforge.data import Conditions, Showers, write_showers
from caloforge.detector import CylinderMesh, Mesh
from caloforge.errors import ConditionError, DataError, MeshError
from caloforge.evaluation import ClassifierSettings, Evaluation, evaluate
from caloforge.evaluation.feature_shards import (
    merge_features,
    open_samples,
    save_features,
    save_reference_features,
)
from caloforge.evaluation.reading_file import Stored

Make = Callable[..., Showers]
MESH = CylinderMesh.regular(n_z=4, n_phi=8, n_r=3)
TINY = ClassifierSettings(
    hidden=16, layers=1, epochs=2, batch_size=20, repeats=1, standardise=True, threads=1
)
PARTS = ((0, 40), (40, 45), (45, 90))


def quiet(reference: Any, generated: Any, **options: Any) -> Evaluation:
    return evaluate(reference, generated, **({"classifiers": TINY, "progress": False} | options))


def made(mesh: Mesh, make: Make, **told: Any) -> tuple[Showers, Showers]:
    """A reference with CPU times, and showers to judge, of which two are without energy."""
    truth, other = make(mesh, n=80, **told), make(mesh, n=90, seed=1)
    seconds = {"geant4_cpu_seconds": np.linspace(1, 2, 80)}
    cells = other.energies.copy()
    cells[3:5] = 0
    return Showers(truth.energies, truth.conditions, mesh, extra=seconds), Showers(
        cells, other.conditions, mesh
    )


def of_shard(showers: Showers, number: int, of: int, rows: slice, seed: int = 7) -> Showers:
    """A part as a command would have made it."""
    request = {"seed": seed, "n": rows.stop - rows.start, "first": rows.start, "conditions": str(rows)}
    made_by = {
        "action": "generate",
        "request": request,
        "settings": {"seed": seed, "shard": f"{number}/{of}"},
        "performance": {"ms_per_shower": float(number)},
    }
    part = showers[rows]
    return Showers(part.energies, part.conditions, part.mesh, made_by)


@pytest.fixture
def saved(make: Make, tmp_path: Path) -> tuple[Path, list[Path], Showers, Showers]:
    """Features of a reference, and of three shards."""
    truth, whole = made(MESH, make)
    save_reference_features(truth, tmp_path / "truth.h5", progress=False)
    paths = []
    for number, rows in enumerate(PARTS, 1):
        paths.append(tmp_path / f"{number}.h5")
        part = of_shard(whole, number, len(PARTS), slice(*rows))
        save_features(part, tmp_path / "truth.h5", paths[-1], progress=False)
    return tmp_path / "truth.h5", paths, truth, whole


def assert_alike(one: Any, other: Any, where: str = "") -> None:
    """Equal but for rounding of sums."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name in one:
            assert_alike(one[name], other[name], f"{where}.{name}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_alike(*pair, f"{where}[{i}]")
    elif isinstance(one, float) and isinstance(other, float):
        assert math.isclose(one, other, rel_tol=1e-7, abs_tol=1e-10), (where, one, other)
    else:
        assert one == other, where


def plain(evaluation: Evaluation) -> dict[str, Any]:
    told = evaluation.to_dict()
    for name in ("provenance", "timing"):
        told.pop(name)
    for result in told["classifiers"].values():
        result.pop("seconds")
    return told


def test_parts_are_the_whole_on_every_mesh(mesh: Mesh, make: Make, tmp_path: Path) -> None:
    truth, whole = made(mesh, make)
    save_reference_features(truth, tmp_path / "truth.h5", progress=False)
    paths = [tmp_path / f"{i}.h5" for i in range(3)]
    for rows, path in zip(PARTS, paths, strict=True):
        save_features(whole[slice(*rows)], tmp_path / "truth.h5", path, progress=False)
    known = merge_features([Stored(tmp_path / "truth.h5")], truth)
    how = {"classifiers": "none", "distances": False}
    expected = quiet(truth, whole, **how)
    found = quiet(known, merge_features(list(map(Stored, paths)), whole), **how)
    assert_alike(plain(expected), plain(found))
    assert found.timing.geant4_ms == pytest.approx(expected.timing.geant4_ms)


def test_without_cells_what_needs_none_is_the_same(saved: tuple[Path, list[Path], Showers, Showers]) -> None:
    path, parts, truth, whole = saved
    known, candidate = open_samples(path, None, [*reversed(parts)])
    found, expected = quiet(known, candidate), quiet(truth, whole, which=("high",))
    assert found.timing.generator_ms == pytest.approx((40 * 1 + 5 * 2 + 45 * 3) / 90)
    assert set(found.classifiers) == {"high"}
    assert set(expected.distances) - set(found.distances) == {"precision", "recall", "density", "coverage"}
    for name, estimate in found.distances.items():
        assert estimate.value == pytest.approx(expected.distances[name].value, rel=1e-6, abs=1e-9)
    assert found.classifiers["high"].auc == expected.classifiers["high"].auc
    assert_alike(
        {name: separation.value for name, separation in expected.separation.items()},
        {name: separation.value for name, separation in found.separation.items()},
    )
    with pytest.raises(DataError, match="low: this needs the cells"):
        quiet(known, candidate, which=("low", "high"))
    with pytest.raises(DataError, match="a check for memorisation: this needs the cells"):
        quiet(known, candidate, training=truth)
    with pytest.raises(ConditionError, match="threshold of features"):
        quiet(known, candidate, threshold_mev=3.0)
    with pytest.raises(DataError, match="give those as the reference"):
        quiet(truth, candidate)
    with pytest.raises(DataError, match="hold no cells"):
        candidate.showers.read(0, 1)


def test_what_is_missing_doubled_or_foreign_is_refused(
    saved: tuple[Path, list[Path], Showers, Showers], make: Make, tmp_path: Path
) -> None:
    path, (one, two, three), _, whole = saved

    def refused(parts: list[Path], says: str, error: type[Exception] = DataError) -> None:
        with pytest.raises(error, match=says):
            open_samples(path, None, parts)

    refused([one, three], r"of shards 2/3 are missing")
    twice, other, strange = (tmp_path / f"{name}.h5" for name in ("twice", "other", "strange"))
    save_features(of_shard(whole, 2, 3, slice(40, 45)), path, twice, progress=False)
    refused([one, two, twice, three], r"2\.h5 and .*twice\.h5 are both shard 2/3")
    save_features(of_shard(whole, 2, 3, slice(40, 45), seed=8), path, other, progress=False)
    refused([one, other, three], r"other\.h5 is of another production")
    save_features(of_shard(whole, 2, 4, slice(40, 45)), path, other, overwrite=True, progress=False)
    refused([one, other, three], r"shards of different numbers: \[3, 4\]")
    save_reference_features(whole, tmp_path / "b.h5", progress=False)
    save_features(of_shard(whole, 2, 3, slice(40, 45)), tmp_path / "b.h5", strange, progress=False)
    refused([one, strange, three], "made with different references")
    wide = CylinderMesh.regular(n_z=4, n_phi=8, n_r=3, dr=7.0)
    moved = make(wide, n=80)
    save_reference_features(moved, tmp_path / "c.h5", progress=False)
    save_features(moved[:20], tmp_path / "c.h5", strange, overwrite=True, progress=False)
    refused([one, strange, three], "strange.h5, beside", MeshError)
    copies = [tmp_path / "copy1.h5", tmp_path / "copy2.h5"]
    for copy in copies:  # of somebody whose files say nothing
        save_features(whole[:40], path, copy, progress=False)
    refused(copies, "are both the same showers")
    write_showers(whole, tmp_path / "whole.h5")
    write_showers(whole[::-1], tmp_path / "turned.h5")
    with pytest.raises(DataError, match="are not those of the 90 showers given"):
        open_samples(path, tmp_path / "turned.h5", [one, two, three])
    with pytest.raises(DataError, match="name those of the reference"):
        save_features(whole, one, tmp_path / "d.h5")
    with pytest.raises(DataError, match="holds showers; make its features first"):
        save_features(whole, tmp_path / "whole.h5", tmp_path / "d.h5")
    refused([path], "no features of generated showers")


def test_damaged_features_are_refused(saved: tuple[Path, list[Path], Showers, Showers]) -> None:
    path, (one, two, three), *_ = saved
    with h5py.File(two, "a") as file:
        del file["cell_counts"]
    known, *parts = map(Stored, (path, one, two, three))
    assert len(merge_features([known]).showers) == 80
    with pytest.raises(DataError, match="no data set 'cell_counts'"):
        merge_features(parts)
    with h5py.File(three, "a") as file:
        file.attrs["caloforge_features"] = 99
    with pytest.raises(DataError, match="features of version 99"):
        Stored(three)
    content = one.read_bytes()
    one.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError):
        open_samples(path, None, [one.parent])


def test_commands(make: Make, tmp_path: Path) -> None:
    """What a cluster does: features where the showers are, and one judgement of all of them."""
    truth, whole = made(MESH, make)
    write_showers(truth, tmp_path / "truth.h5")
    write_showers(whole, tmp_path / "whole.h5")
    (tmp_path / "f").mkdir()

    def command(*words: object, fails: bool = False) -> str:
        done = CliRunner().invoke(app, ["evaluate", *map(str, words)])
        assert (done.exit_code != 0) == fails, done.output
        return done.output + str(done.exception)

    command(tmp_path / "truth.h5", "--features-out", tmp_path / "f" / "truth.h5")
    for number, rows in enumerate(PARTS, 1):
        write_showers(of_shard(whole, number, 3, slice(*rows)), tmp_path / "part.h5", overwrite=True)
        out = tmp_path / "f" / f"{number}.h5"
        assert "showers →" in command(
            tmp_path / "f" / "truth.h5", tmp_path / "part.h5", "--features-out", out
        )
    how = ("--classifiers", "none", "--no-report", "--no-distances", "-o")
    command(tmp_path / "truth.h5", tmp_path / "whole.h5", *how, tmp_path / "a")
    parts = ("--features-from", tmp_path / "f")
    command(tmp_path / "truth.h5", tmp_path / "whole.h5", *parts, *how, tmp_path / "b")
    shorter = ("--classifiers", "none", "--no-distances", "-o")
    command(tmp_path / "f" / "truth.h5", *parts, *shorter, tmp_path / "c")
    a, b, c = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in "abc")
    for told in (a, b, c):
        told.pop("provenance"), told.pop("timing")
    assert_alike(a, b)
    assert_alike(a["features"], c["features"])
    assert not (tmp_path / "c" / "report.html").exists()
    (tmp_path / "f" / "2.h5").unlink()
    assert "2/3 are missing" in command(tmp_path / "f" / "truth.h5", *parts, "-o", tmp_path / "d", fails=True)
    assert not (tmp_path / "d").exists()
    command(tmp_path / "truth.h5", "--features-out", tmp_path / "x.h5", "-o", tmp_path / "d", fails=True)
    command(tmp_path / "truth.h5", tmp_path / "whole.h5", fails=True)


def test_energies_that_were_rounded_are_those_of_the_reference(make: Make, tmp_path: Path) -> None:
    energy = np.repeat([1000.0, 5000.0], 30)
    truth, other = (
        Showers(s.energies, Conditions(e, particle="e-"), MESH)
        for s, e in ((make(MESH), energy), (make(MESH, seed=1), energy * (1 + 1e-7)))
    )
    save_reference_features(truth, tmp_path / "truth.h5", progress=False)
    save_features(other, tmp_path / "truth.h5", tmp_path / "a.h5", progress=False)
    how = {"classifiers": "none", "distances": False}
    found = quiet(*open_samples(tmp_path / "truth.h5", None, [tmp_path / "a.h5"]), **how)
    assert_alike(plain(quiet(truth, other, **how))["conditions"], plain(found)["conditions"])
    assert "e_ratio_at_1000mev" in found.separation
