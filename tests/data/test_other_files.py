"""ROOT files, point clouds, tables of features: written, read back, and read by packages they are for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_models import MESH, toy_showers
from typer.testing import CliRunner

from caloforge.cli.app import app
from caloforge.data import Conditions, Showers, layout_of, open_showers, write_showers
from caloforge.data.exports import EXPORTS
from caloforge.detector import BoxMesh
from caloforge.errors import CaloforgeError, DataError
from caloforge.evaluation import compute_features
from caloforge.evaluation.feature_file import read_features

ROOT = ("ttree", "ttree-hits", "rntuple", "rntuple-hits")


def sample(n: int = 60) -> Showers:
    toy = toy_showers(n)
    energies = np.array(toy.energies)
    energies[7] = 0  # a shower without hits
    detector = np.where(np.arange(n) % 3 == 0, "toy", "Käse")
    conditions = Conditions(
        toy.conditions.energy,
        np.linspace(0, 3, n),
        np.linspace(-1, 1, n),
        np.where(np.arange(n) % 2, 11, 22),
        detector,
        np.random.default_rng(2).normal(size=(n, 2)),
    )
    return Showers(energies, conditions, MESH, {"action": "toy"}, {"seconds": np.arange(n, dtype=np.float32)})


def write(showers: Showers, path: Path, layout: str, **options: Any) -> None:
    EXPORTS[layout](showers, path, provenance={"action": "test"}, **options)


@pytest.mark.parametrize("layout", ROOT)
def test_root_there_and_back(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uproot = pytest.importorskip("uproot")
    monkeypatch.setattr("caloforge.data.exports.root.BATCH_BYTES", 4 * MESH.n_voxels * 7)
    showers, path = sample(), tmp_path / "a.root"
    write(showers, path, layout)
    back = open_showers(path)
    assert back.conditions == showers.conditions
    assert back.mesh == MESH
    assert back.provenance == {"action": "test"}
    np.testing.assert_array_equal(back.energies, showers.energies)
    np.testing.assert_array_equal(back.extra["seconds"], showers.extra["seconds"])
    np.testing.assert_array_equal(back[[50, 3, 3, 7]].energies, showers.energies[[50, 3, 3, 7]])
    assert layout_of(path) == f"ROOT {'TTree' if 'ttree' in layout else 'RNTuple'} of " + (
        "hits" if "hits" in layout else "voxels"
    )
    with uproot.open(path) as file:
        rows = file["showers"].arrays(["incident_energy", "energy" if "hits" in layout else "energies"])
        np.testing.assert_array_equal(rows["incident_energy"], showers.conditions.energy)
        np.testing.assert_array_equal(file["showers"]["event"].array(), np.arange(60))
        np.testing.assert_allclose(file["cells"]["x"].array(), MESH.centres()["x"], rtol=1e-6)
        summed = [float(np.sum(np.asarray(row))) for row in rows[rows.fields[1]]]
    np.testing.assert_allclose(summed, showers.energies.sum((1, 2, 3)), rtol=1e-5)
    with pytest.raises(DataError, match="exists"):
        write(showers, path, layout)
    write(showers[:2], path, layout, overwrite=True)
    assert len(open_showers(path)) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["a.root"]


def test_hits_of_others_by_their_places(tmp_path: Path) -> None:
    uproot, ak = pytest.importorskip("uproot"), pytest.importorskip("awkward")
    mesh = BoxMesh.regular((2, 3, 4), (10.0, 10.0, 10.0), frame="detector")
    cells = [[0, 5, 5], [], [23]]
    centres = mesh.centres()
    columns = {
        axis: ak.Array([[float(centres[axis][cell]) for cell in row] for row in cells]) for axis in "xyz"
    }
    columns["energy"] = ak.Array([[1.0, 2.0, 4.0], [], [8.0]])
    with uproot.recreate(tmp_path / "other.root") as file:
        file["events"] = {"incident_energy": np.array([100.0, 200.0, 300.0]), **columns}
    with pytest.raises(DataError, match="give the mesh"):
        open_showers(tmp_path / "other.root")
    showers = open_showers(tmp_path / "other.root", mesh=mesh)
    expected = np.zeros((3, 24))
    expected[0, 0], expected[0, 5], expected[2, 23] = 1, 6, 8
    np.testing.assert_array_equal(showers.energies.reshape(3, 24), expected)
    assert showers.provenance["assumed"]["theta"] == np.pi / 2


def test_damaged_and_unfit_root_files(tmp_path: Path) -> None:
    pytest.importorskip("uproot")
    path = tmp_path / "a.root"
    write(sample(), path, "ttree")
    whole = path.read_bytes()
    for cut in (5, 300, len(whole) // 2):
        path.write_bytes(whole[:cut])
        with pytest.raises(CaloforgeError, match=r"a\.root"):
            open_showers(path).energies.sum()
    text = Showers(sample().energies, sample().conditions, MESH, None, {"words": np.array(["a"] * 60)})
    with pytest.raises(DataError, match=r"'words'.*--ignore words"):
        write(text, tmp_path / "b.root", "rntuple")
    assert not (tmp_path / "b.root").exists()


def test_point_clouds_there_and_back(tmp_path: Path) -> None:
    showers, path = sample(), tmp_path / "a.h5"
    write(showers, path, "showerdata")
    back = open_showers(path)
    assert layout_of(path) == "showerdata"
    np.testing.assert_allclose(back.energies, showers.energies, rtol=1e-6)
    np.testing.assert_array_equal(back.energies > 0, showers.energies > 0)
    for name in ("energy", "theta", "phi"):
        column, own = (getattr(x.conditions, name) for x in (back, showers))
        np.testing.assert_allclose(column[1:], own[1:], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(back.conditions.particle, showers.conditions.particle)
    np.testing.assert_allclose(back[[50, 3]].energies, showers.energies[[50, 3]], rtol=1e-6)


@pytest.mark.filterwarnings("default")
def test_the_package_showerdata_reads_and_writes_the_same(tmp_path: Path) -> None:
    showerdata = pytest.importorskip("showerdata")
    showers = sample()
    write(showers, tmp_path / "ours.h5", "showerdata")
    theirs = showerdata.load(tmp_path / "ours.h5")
    assert theirs.points.shape == (60, int((showers.energies > 0).sum((1, 2, 3)).max()), 4)
    np.testing.assert_allclose(
        theirs.points[..., 3].sum(1) * 1000, showers.energies.sum((1, 2, 3)), rtol=1e-5
    )
    np.testing.assert_allclose(theirs.energies[:, 0] * 1000, showers.conditions.energy, rtol=1e-6)
    showerdata.save(theirs, tmp_path / "theirs.h5")
    with pytest.raises(DataError, match="give the mesh"):
        open_showers(tmp_path / "theirs.h5")
    back = open_showers(tmp_path / "theirs.h5", mesh=MESH)
    np.testing.assert_allclose(back.energies, showers.energies, rtol=1e-6)


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_tables_of_features(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr("caloforge.evaluation.feature_file.ROWS", 25)
    showers = sample()
    write_showers(showers, tmp_path / "a.h5")
    target = str(tmp_path / f"a.{suffix}")
    done = CliRunner().invoke(
        app, ["data", "convert", str(tmp_path / "a.h5"), target, "--layout", "features"]
    )
    assert done.exit_code == 0, done.output
    assert "MiB →" in done.output
    columns = read_features(target)
    for name, expected in compute_features(showers).columns().items():
        np.testing.assert_allclose(columns[name], expected, rtol=1e-12, err_msg=name)
    assert columns["incident_detector"].tolist() == showers.conditions.detector.tolist()


def test_convert_says_sizes_and_knows_layouts(tmp_path: Path) -> None:
    pytest.importorskip("uproot")
    write_showers(sample(), tmp_path / "a.h5")
    words = ["data", "convert", str(tmp_path / "a.h5"), str(tmp_path / "a.root"), "--layout"]
    done = CliRunner().invoke(app, [*words, "rntuple-hits"])
    assert done.exit_code == 0, done.output
    assert " MiB → " in done.output
    back = ["data", "convert", str(tmp_path / "a.root"), str(tmp_path / "b.h5")]
    assert CliRunner().invoke(app, back).exit_code == 0
    np.testing.assert_array_equal(open_showers(tmp_path / "b.h5").energies, sample().energies)
    done = CliRunner().invoke(app, [*words, "nonsense", "--overwrite"])
    assert "layout must be one of" in str(done.exception)
