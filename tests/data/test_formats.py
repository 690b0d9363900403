"""Every layout is told apart by its keys and arrives in MeV, in the order (z, φ, r) or (z, y, x)."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import h5py
import make_layouts
import numpy as np
import pytest

from caloforge.data import Showers, layout_of, named_mesh, open_showers, write_showers
from caloforge.data.formats import FORMATS
from caloforge.data.formats.calogan import calogan_mesh
from caloforge.detector import CylinderMesh, calochallenge_mesh, write_binning_xml
from caloforge.errors import DataError, MeshError


@pytest.mark.parametrize(
    ("data_set", "particle", "theta", "detector"),
    [
        ("1-photons", 22, 1.3477, "atlas"),
        ("1-pions", 211, 1.3477, "atlas"),
        ("2", 11, math.pi / 2, "par04-siw"),
        ("3", 11, math.pi / 2, "par04-siw"),
    ],
)
def test_calochallenge(data_set: str, particle: int, theta: float, detector: str, tmp_path: Path) -> None:
    path = tmp_path / "x.hdf5"
    stored = make_layouts.calochallenge(path, data_set, n=16 if data_set[0] == "1" else 7)
    showers = open_showers(path)
    assert layout_of(path) == "CaloChallenge"
    assert showers.mesh == calochallenge_mesh(data_set)
    assert np.array_equal(showers.energies.reshape(stored.shape), stored)
    assert set(showers.conditions.particle) == {particle}
    assert set(showers.conditions.detector) == {detector}
    np.testing.assert_allclose(showers.conditions.theta, theta, atol=1e-4)
    assert showers.provenance["assumed"]["data_set"] == data_set
    if data_set[0] == "1":
        assert np.unique(showers.conditions.energy).tolist() == [2.0**k for k in range(8, 23)]


def test_attributes_replace_what_is_assumed(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    make_layouts.calochallenge(path)
    with h5py.File(path, "a") as file:
        file.attrs["theta_deg"] = 60.0
        file.attrs["particle"] = "gamma"
        file.attrs["weights"] = np.arange(2)
        file["cpu"] = np.arange(7)
        file["label"] = [f"n{i}" for i in range(7)]
    showers = open_showers(path)
    assert showers.conditions.theta[0] == pytest.approx(math.pi / 3)
    assert showers.conditions.particle[0] == 22
    assert showers.provenance["assumed"] == {
        "detector": "par04-siw",
        "phi": 0.0,
        "unit": "MeV",
        "data_set": "2",
    }
    assert showers.extra["cpu"].tolist() == list(range(7))
    assert showers.extra["label"].tolist() == [f"n{i}" for i in range(7)]
    write_showers(showers[2:4], tmp_path / "again.h5")
    assert open_showers(tmp_path / "again.h5").extra["label"].tolist() == ["n2", "n3"]


ASSUMED = {
    "calochallenge": (None, "x.h5", {"particle", "detector", "theta", "phi", "unit", "data_set"}),
    "getting_high": (None, "x.h5", {"particle", "detector", "theta", "phi", "unit", "axes"}),
    "calogan": (None, "x.h5", {"theta", "phi", "unit", "axes"}),  # of an unknown particle
    "par04": (None, "SiW_angle_60.h5", {"particle", "detector", "theta", "phi", "unit"}),
    "lemurs": (None, "LEMURS_Par04SiW.h5", {"particle", "detector", "unit"}),
    "calochallenge, mesh given": (calochallenge_mesh("2"), "x.h5", {"theta", "phi", "unit"}),
}


@pytest.mark.parametrize("name", list(ASSUMED))
def test_what_is_assumed_is_told_in_one_line(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mesh, file, expected = ASSUMED[name]
    getattr(make_layouts, name.partition(",")[0])(tmp_path / file)
    with caplog.at_level("INFO", "caloforge"):
        showers = open_showers(tmp_path / file, mesh)
    assert set(showers.provenance["assumed"]) == expected
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path / file}: assumed")
    for key in expected:
        assert key.replace("_", " ") in line
    if "theta" in expected:
        assert f"theta {math.degrees(showers.conditions.theta[0]):.4g} deg" in line


def test_a_file_of_ours_says_everything_until_a_column_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.h5"
    make_layouts.calochallenge(tmp_path / "b.h5")
    showers = open_showers(tmp_path / "b.h5")
    showers.provenance = {"action": "test"}
    write_showers(showers, path)
    caplog.clear()  # a command that ran before shows the log
    with caplog.at_level("INFO", "caloforge"):
        assert open_showers(path).provenance["action"] == "test"
        assert not caplog.messages
        with h5py.File(path, "a") as file:
            del file["incident_theta"]
        assert open_showers(path).provenance["assumed"] == {"theta": math.pi / 2}
    assert "theta 90 deg" in caplog.text


def test_a_mesh_can_be_given(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    stored = make_layouts.calochallenge(path)
    mesh = CylinderMesh.regular(n_z=9, n_phi=16, n_r=45)
    showers = open_showers(path, mesh)
    assert showers.energies.shape == (7, 9, 16, 45)
    assert np.array_equal(showers.energies.ravel(), stored.ravel())
    assert set(showers.conditions.detector) == {
        ""
    }  # nothing is assumed of cells that are not the challenge's
    with pytest.raises(DataError, match="6480 voxels a shower, but 40500"):
        open_showers(path, calochallenge_mesh("3"))
    write_showers(showers, tmp_path / "own.h5")
    assert open_showers(tmp_path / "own.h5", mesh).mesh == mesh
    with pytest.raises(DataError, match="leave the mesh out"):
        open_showers(tmp_path / "own.h5", calochallenge_mesh("2"))


def test_getting_high(tmp_path: Path) -> None:
    path = tmp_path / "g.hdf5"
    stored = make_layouts.getting_high(path)
    mesh = named_mesh("ild-ecal")
    showers = open_showers(path)
    assert layout_of(path) == "Getting High"
    assert showers.mesh == mesh
    np.testing.assert_allclose(showers.energies, stored * 1000, rtol=1e-6)
    np.testing.assert_allclose(showers.conditions.energy, np.linspace(1e4, 1e5, 7), rtol=1e-6)
    assert set(showers.conditions.particle) == {22}


def test_calogan(tmp_path: Path) -> None:
    path = tmp_path / "eplus.hdf5"
    layers = make_layouts.calogan(path)
    showers = open_showers(path)
    assert layout_of(path) == "CaloGAN"
    assert showers.energies.shape == (7, 504)
    assert np.array_equal(showers.energies, np.concatenate([la.reshape(7, -1) for la in layers], axis=1))
    assert showers.conditions.energy[-1] == pytest.approx(1e5)
    assert set(showers.conditions.particle) == {-11}
    assert showers.extra["overflow"].shape == (7, 3)
    mesh = calogan_mesh()
    assert mesh == named_mesh("calogan")
    # (φ, η) = (2, 95) of layer 0 and (11, 0) of layer 2: 160 × 5 mm and 40 × 80 mm cells
    positions = [[239, 239, 45], [-239, 239, 90 + 347 + 42]]
    assert mesh.index(positions).tolist() == [2 * 96 + 95, 288 + 144 + 11 * 6]
    assert mesh.volumes()[[0, 300, 500]].tolist() == pytest.approx(
        [160 * 5 * 90, 40 * 40 * 347, 40 * 80 * 43]
    )
    assert np.array_equal(showers[[3, 1]].energies, showers.energies[[3, 1]])


@pytest.mark.parametrize(("material", "dr"), [("SiW", 2.325), ("SciPb", 4.0)])
def test_par04(material: str, dr: float, tmp_path: Path) -> None:
    path = tmp_path / f"{material}_angle_70.h5"
    stored = make_layouts.par04(path)
    showers = open_showers(path)
    assert layout_of(path) == "Par04"
    assert showers.conditions.energy.tolist() == [1e3, 1e3, 2e3, 2e3, 16e3, 16e3, 1024e3, 1024e3]
    assert showers.energies.shape == (8, 45, 50, 18)
    expected = np.concatenate([stored[name] for name in ("1", "2", "16", "1024")]).transpose(0, 3, 2, 1)
    assert np.array_equal(showers.energies, expected)
    assert np.array_equal(showers[[7, 0, 3]].energies, expected[[7, 0, 3]])
    assert showers.conditions.theta[0] == pytest.approx(math.radians(70))
    assert set(showers.conditions.detector) == {f"par04-{material.lower()}"}
    assert isinstance(showers.mesh, CylinderMesh)
    assert showers.mesh.r_edges[1] == pytest.approx(dr)


def test_lemurs(tmp_path: Path) -> None:
    path = tmp_path / "LEMURS_Par04_SiW_train.h5"
    stored = make_layouts.lemurs(path)
    showers = open_showers(path)
    assert layout_of(path) == "LEMURS"
    assert np.array_equal(showers.energies, stored.transpose(0, 3, 2, 1))
    assert showers.mesh == calochallenge_mesh("2")
    assert set(showers.conditions.detector) == {"par04-siw"}
    with h5py.File(path) as file:
        assert np.array_equal(showers.conditions.theta, file["incident_theta"][:])
        assert np.array_equal(showers.conditions.phi, file["incident_phi"][:])
    renamed = path.rename(tmp_path / "mine.h5")
    with pytest.raises(DataError, match="rename the file or give the mesh"):
        open_showers(renamed)
    assert set(open_showers(renamed, calochallenge_mesh("2")).conditions.detector) == {""}


@pytest.mark.parametrize(
    ("name", "detector"),
    [
        ("lemurs_Par04SciPb.h5", "par04-scipb"),
        ("ODD.h5", "odd-ecal"),
        ("FCCeeCLD.h5", "cld-ecal"),
        ("FCCee_ALLEGRO.h5", "allegro-ecal"),
    ],
)
def test_lemurs_in_the_other_detectors(name: str, detector: str, tmp_path: Path) -> None:
    make_layouts.lemurs(tmp_path / name, n=2)
    showers = open_showers(tmp_path / name)
    assert set(showers.conditions.detector) == {detector}
    assert showers.mesh == named_mesh(detector)
    assert showers.energies.shape == (2, 45, 16, 9)


LAYOUTS: dict[str, Callable[[Path], object]] = {
    "x.h5": make_layouts.calochallenge,
    "gamma.hdf5": make_layouts.calogan,
    "SiW_angle_90.h5": make_layouts.par04,
    "par04siw.h5": make_layouts.lemurs,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_slices_takes_and_goes_through_our_own(name: str, tmp_path: Path) -> None:
    LAYOUTS[name](tmp_path / name)
    showers = open_showers(tmp_path / name)
    everything = showers.energies
    n = len(showers)
    order = np.random.default_rng(0).permutation(n)
    assert np.array_equal(showers[order].energies, everything[order])
    assert np.array_equal(showers[[2, 2, 0]].energies, everything[[2, 2, 0]])
    assert np.array_equal(showers[1:6:2].energies, everything[1:6:2])
    assert showers[5:5].energies.shape == (0, *showers.mesh.shape)
    write_showers(showers, tmp_path / "ours.h5")
    again = open_showers(tmp_path / "ours.h5")
    assert layout_of(tmp_path / "ours.h5") == "caloforge"
    assert again.mesh == showers.mesh
    assert again.conditions == showers.conditions
    assert np.array_equal(again.energies, everything)
    assert again.provenance == showers.provenance | {"n_showers": n}
    assert again.extra.keys() == showers.extra.keys()


def _sum(showers: Showers) -> float:
    return float(showers.energies.sum(dtype=np.float64))


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_source_works_in_other_processes(method: str, tmp_path: Path) -> None:
    make_layouts.calochallenge(tmp_path / "x.h5")
    showers = open_showers(tmp_path / "x.h5")
    expected = _sum(showers)  # opens the file here, too
    if method == "spawn":
        assert _sum(pickle.loads(pickle.dumps(showers))) == expected
        return
    with ProcessPoolExecutor(1, mp_context=get_context(method)) as pool:
        assert pool.submit(_sum, showers).result(60) == expected


def test_reading_imports_neither_torch_nor_matplotlib(tmp_path: Path) -> None:
    make_layouts.lemurs(tmp_path / "par04siw.h5")
    code = (
        "import sys; from caloforge.data import open_showers\n"
        f"open_showers({str(tmp_path / 'par04siw.h5')!r})[1:3].energies\n"
        "heavy = ('torch', 'matplotlib', 'pooch', 'pydantic', 'rich', 'scipy')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_meshes_by_name(tmp_path: Path) -> None:
    write_binning_xml(calochallenge_mesh("1-pions"), tmp_path / "b.xml", particle="pion", pid=211)
    assert named_mesh(str(tmp_path / "b.xml")) == calochallenge_mesh("1-pions")
    assert named_mesh(f"{tmp_path / 'b.xml'}:pion") == named_mesh("1-pions")
    with pytest.raises(MeshError, match="no such binning XML"):
        named_mesh("missing.xml")
    with pytest.raises(MeshError, match="no mesh 'atlantis'"):
        named_mesh("atlantis")
    assert "CaloChallenge" in FORMATS.names()
