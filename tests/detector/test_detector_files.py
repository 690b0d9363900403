"""Detector files: those that come with caloforge, and what is wrong with a malformed one."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from caloforge.data.formats.calogan import calogan_mesh
from caloforge.detector.detector import Detector
from caloforge.errors import DetectorError

MINIMAL = """
name = "mine"
description = "d"
simplifications = "none"
shape = "box"
width_mm = 100.0
height_mm = 100.0
sampling_fraction = 0.1
threshold_mev = 0.0
particles = ["e-"]
energy_range_mev = [1.0, 10.0]
theta_range_rad = [0.0, 0.0]
[[stack]]
repeat = 3
layers = [
  { material = "G4_Pb", thickness_mm = 2.0 },
  { material = "G4_Si", thickness_mm = 1.0, sensitive = true },
]
[mesh]
kind = "box"
z = "layers"
n_y = 2
dy_mm = 5.0
n_x = 2
dx_mm = 5.0
"""


@pytest.fixture
def load(tmp_path):
    def from_text(text):
        path = tmp_path / "mine.toml"
        path.write_text(text, "utf-8")
        return Detector.load(path)

    return from_text


@pytest.mark.parametrize("name", Detector.names())
def test_shipped_detectors(name):
    detector = Detector.load(name)
    assert detector.name == name
    assert Detector.from_dict(detector.to_dict()) == detector
    assert 20 < detector.depth_mm / detector.radiation_length_mm < 40
    assert detector.mesh.n_voxels == detector.mesh.volumes().size


def test_the_eight_detectors_are_there():
    expected = {
        "par04-siw",
        "par04-scipb",
        "par04-pbwo4",
        "lhcb-ecal",
        "ild-ecal",
        "odd-ecal",
        "cld-ecal",
        "allegro-ecal",
    }
    assert expected <= set(Detector.names())


def test_calogan_ecal_has_the_published_cells():
    mesh, published = Detector.load("calogan-ecal").mesh, calogan_mesh()
    assert mesh.n_voxels == 504
    for ours, theirs in zip(mesh.layers, published.layers, strict=True):
        assert ours.shape == theirs.shape
        for name in ("y_edges", "x_edges"):
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=1e-9)
    depths = [[layer.z_edges for layer in m.layers] for m in (mesh, published)]
    np.testing.assert_allclose(depths[0], depths[1], atol=1.0)
    argon = {z for layer in Detector.load("calogan-ecal").layers if layer.sensitive for z in layer[1:3]}
    assert not argon & {z for depth in depths[0] for z in depth} - {0.0}


def test_par04_siw_is_the_published_one():
    detector = Detector.load("par04-siw")
    assert detector.sampling_fraction == 0.033
    assert len(detector.layers) == 180
    assert detector.depth_mm == pytest.approx(153.0)
    assert detector.mesh.shape == (45, 16, 9)
    assert detector.threshold_mev / detector.sampling_fraction == pytest.approx(0.01515, rel=1e-3)


def test_radiation_length_and_moliere_radius(load):
    """Values of the Review of Particle Physics: tungsten 3.504 and 9.3 mm, lead 5.612 and 16.0 mm."""
    for material, x0, moliere in (("G4_W", 3.504, 9.3), ("G4_Pb", 5.612, 16.0), ("G4_PbWO4", 8.9, 20.0)):
        text = MINIMAL.replace('"G4_Pb", thickness_mm = 2.0', f'"{material}", thickness_mm = 2.0')
        text = text.replace('"G4_Si"', f'"{material}"')
        detector = load(text)
        assert detector.radiation_length_mm == pytest.approx(x0, rel=0.03)
        assert detector.moliere_radius_mm == pytest.approx(moliere, rel=0.06)


@pytest.mark.parametrize("name", ["ild-ecal", "mine"])
def test_mesh_layers_are_the_sensitive_layers(name, load):
    detector = load(MINIMAL) if name == "mine" else Detector.load(name)
    sensitive = [layer for layer in detector.layers if layer.sensitive]
    assert detector.mesh.shape[0] == len(sensitive)
    for number, layer in enumerate(sensitive):
        for z in (layer.start, (layer.start + layer.stop) / 2, layer.stop):  # surfaces included
            scored = detector.mesh.score(np.array([[0.1, 0.1, z]]), np.array([1.0])).reshape(
                detector.mesh.shape
            )
            assert scored[number].sum() == 1.0


def test_layers_follow_one_another():
    for first, second in itertools.pairwise(Detector.load("ild-ecal").layers):
        assert first.stop == second.start


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('shape = "box"', 'shape = "ball"', "shape"),
        ("width_mm = 100.0", "", "width_mm"),
        ("width_mm = 100.0", "width_mm = 100.0\ninner_radius_mm = 3.0", "inner_radius_mm"),
        ("sampling_fraction = 0.1", "sampling_fraction = 2.0", "sampling_fraction"),
        ("sampling_fraction = 0.1", "sampling_fraction = 0.1\nspeling = 1", "speling"),
        ("[1.0, 10.0]", "[10.0, 1.0]", "energy_range_mev"),
        ("[0.0, 0.0]", "[0.0, 3.0]", "theta_range_rad"),
        ("thickness_mm = 2.0", "thickness_mm = -2.0", "stack.0.layers.0.thickness_mm"),
        ("thickness_mm = 2.0", "thickness_mm = 0", "stack.0.layers.0.thickness_mm"),
        ("thickness_mm = 2.0", "thickness_mm = nan", "stack.0.layers.0.thickness_mm"),
        ("repeat = 3", "repeat = 1000000000", "stack.0.repeat"),
        ("n_y = 2", "n_y = 1000000000", "mesh.n_y"),
        ("n_y = 2\ndy_mm = 5.0\nn_x = 2", "n_y = 900000\ndy_mm = 5.0\nn_x = 900000", "cells is too large"),
        ('name = "mine"', 'name = "../mine"', "name"),
        ('name = "mine"', 'name = "mi\\nne"', "name"),
        (", sensitive = true", "", "no layer is sensitive"),
        ('"G4_Pb"', '"Unobtainium"', "Unobtainium"),
        ("n_y = 2", "", "n_y"),
        ('name = "mine"', "name = ", "not valid TOML"),
    ],
)
def test_malformed_files_name_the_key(load, old, new, message):
    assert old in MINIMAL
    with pytest.raises(DetectorError, match=message) as caught:
        load(MINIMAL.replace(old, new))
    assert "mine.toml" in str(caught.value)


def test_what_is_no_detector_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    (tmp_path / "binary").write_bytes(b"\x00\xff\xfe")
    for name, words in (
        ("", "a folder"),
        ("pipe", "a pipe"),
        ("empty", "name: Field required"),
        ("binary", "not UTF-8"),
        ("a" * 300, "name too long"),
    ):
        with pytest.raises(DetectorError, match=words):
            Detector.load(tmp_path / name)
    with pytest.raises(DetectorError, match="there is no detector or file"):
        Detector.load("https://example.org/detector.toml")


def test_texts_of_other_programs(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert Detector.load(path).name == "mine"
    path.write_bytes("# Molière\n".encode("latin-1") + MINIMAL.encode())
    with pytest.raises(DetectorError, match=r"mine\.toml: line 1 is not UTF-8 \(byte 0xe8\)"):
        Detector.load(path)


def test_unknown_detector_lists_the_known():
    with pytest.raises(DetectorError, match="par04-siw"):
        Detector.load("no-such-detector")


def test_own_materials(load):
    own = '[[materials]]\nname = "Steel"\ndensity_g_cm3 = 7.9\n'
    own += "mass_fractions = { Fe = 0.7, Cr = 0.2, Ni = 0.1 }\n"
    text = MINIMAL.replace('"G4_Pb"', '"Steel"').replace("[mesh]", own + "[mesh]")
    assert 15 < load(text).radiation_length_mm < 30
    with pytest.raises(DetectorError, match="add up to 1"):
        load(text.replace("Fe = 0.7", "Fe = 0.5"))


def test_loading_needs_neither_geant4_nor_torch():
    code = (
        "import sys; from caloforge.detector.detector import Detector; Detector.load('ild-ecal').mesh; "
        "sys.exit(bool({'torch', 'h5py', 'geant4_pybind', 'xraylib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
