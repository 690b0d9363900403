"""Pixel detectors as files: the published geometry, another detector, clear errors."""

import numpy as np
import pytest
from small_pixels import small_detector

from caloforge.detector import Detector, PixelDetector, PixelMesh, mesh_from_dict
from caloforge.detector.description import kind_of
from caloforge.errors import DetectorError, MeshError


@pytest.fixture(scope="module")
def pxd():
    return PixelDetector.load("belle2-pxd")


def test_sensors_are_in_the_order_of_their_numbers(pxd):
    names = [sensor.name for sensor in pxd.sensors]
    assert pxd.shape == (40, 250, 768)
    assert names[:3] == ["1.1.1", "1.1.2", "1.2.1"]
    assert names[16] == "2.1.1"
    assert names[-1] == "2.12.2"
    assert names != sorted(names)  # as text, 2.10.1 comes before 2.2.1


@pytest.mark.parametrize(
    ("sensor", "ends", "radius"),
    [
        ("1.1.1", (14.43, 59.23), 13.985),
        ("1.1.2", (-31.23, 13.57), 13.985),
        ("2.5.1", (19.41, 80.85), 22.015),
        ("2.5.2", (-42.85, 18.59), 22.015),
    ],
)
def test_active_areas_are_where_they_are_published(pxd, sensor, ends, radius):
    frame = next(s for s in pxd.sensors if s.name == sensor)
    v = pxd.layers[frame.layer].edges_v
    np.testing.assert_allclose(frame.centre[2] + v[[0, -1]], ends, atol=1e-6)
    np.testing.assert_allclose(frame.axes[2] @ frame.centre, radius, atol=1e-6)
    np.testing.assert_allclose(frame.axes @ frame.axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(frame.axes), 1.0)


def test_the_finer_cells_lie_at_the_middle_of_the_ladder(pxd):
    forward, backward = pxd.sensors[:2]
    sizes = np.diff(pxd.layers[0].edges_v)
    assert (sizes[:512] > sizes[-1]).all()  # of a sensor that is not flipped, along z
    assert backward.centre[2] < forward.centre[2]
    assert forward.flip_v
    assert not backward.flip_v


def test_another_detector_is_another_file(tmp_path):
    detector = small_detector()
    assert detector.shape == (8, 10, 12)
    assert PixelDetector.from_dict(detector.to_dict()) == detector


def test_kinds_are_told_apart(tmp_path):
    assert kind_of("belle2-pxd") == "pixel"
    assert kind_of("par04-siw") == ""
    (tmp_path / "mine.toml").write_text('kind = "pixel"\n')
    assert kind_of(tmp_path / "mine.toml") == "pixel"
    with pytest.raises(DetectorError, match="belle2-pxd is no calorimeter"):
        Detector.load("belle2-pxd")
    with pytest.raises(DetectorError, match="par04-siw is no pixel detector"):
        PixelDetector.load("par04-siw")
    assert "belle2-pxd" not in Detector.names()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["layers"][0]["pitches_u"][0].update(cells=251), "as many cells"),
        (lambda d: d["layers"][0]["pitches_u"][0].update(um=70.0), "the module has 15.4"),
        (lambda d: d["layers"][0].update(active_w_mm=0.3), "outside its module"),
        (lambda d: d["layers"][0].update(material="Unobtainium"), "Unobtainium"),
        (lambda d: d["tubes"][1].update(inner_radius_mm=9.0), "from the inside out"),
        (lambda d: d["readout"].update(threshold_adu=256), "at most 255"),
        (lambda d: d["readout"].update(window_us=[10.0, -10.0]), "lowest, highest"),
        (lambda d: d["sources"][1].update(energy_mev=[0.0, 10.0]), "greater than 0"),
        (lambda d: d["sources"][1].update(z_mm=[-70.0, 250.0]), "single_beam starts outside the world"),
        (lambda d: d["layers"][0].update(radius_mm=12.1), "layer 1 do not lie between the beam pipe"),
        (lambda d: d.update(world_half_length_mm=100.0), "layer 2 do not lie between"),
        (lambda d: d["layers"][1]["sensors"][0].update(active_z_mm=80.0), "outside its module"),
        (lambda d: d["sources"][0].update(mean=-1.0), "greater than or equal to 0"),
        (lambda d: d["sources"][0].update(kind="cosmics"), "two-photon"),
        (lambda d: d["sources"][1].update(name="two_photon"), "must differ"),
        (lambda d: d.update(pixels=1), "pixels"),
    ],
)
def test_what_is_wrong_is_said(pxd, change, message):
    description = pxd.to_dict()
    change(description)
    with pytest.raises(DetectorError, match=message):
        PixelDetector.from_dict(description)


def test_cells_as_a_mesh():
    mesh = PixelMesh(small_detector())
    assert mesh.shape == (8, 10, 12)
    assert mesh.layer_sizes.tolist() == [480, 480]
    centres = mesh.centres()
    points = np.stack([centres[axis] for axis in "xyz"], axis=1)
    assert mesh.index(points).tolist() == list(range(960))
    assert mesh.index([[0.0, 0.0, 0.0]]).tolist() == [-1]
    assert mesh.volumes().sum() == pytest.approx(8 * 0.5 * (8 * 0.06 + 4 * 0.055) * 0.075)
    sensor = mesh.detector.sensors[0]
    assert sensor.flip_v
    z = centres["z"][:12]
    assert (np.diff(z) < 0).all()  # counted from the upper end
    again = mesh_from_dict(mesh.to_dict())
    assert again == mesh
    assert again.fingerprint == mesh.fingerprint
    assert mesh != PixelMesh(small_detector(name="other"))
    with pytest.raises(MeshError, match="malformed pixel mesh description: detector: readout"):
        mesh_from_dict({"kind": "pixel", "detector": small_detector().to_dict() | {"readout": {}}})
