"""Detectors drawn at random: valid, reproducible, and different from each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caloforge.cli import app
from caloforge.detector import Detector
from caloforge.detector.randomised import random_detector, write_random_detectors
from caloforge.errors import DetectorError


def test_files_are_the_detectors_of_the_series(tmp_path: Path) -> None:
    paths = write_random_detectors(tmp_path, 20, seed=3)
    made = [Detector.load(path) for path in paths]
    assert made == [random_detector(3, i) for i in range(20)]
    assert [path.stem for path in paths] == [detector.name for detector in made]
    assert len({detector.stack for detector in made}) == 20
    assert write_random_detectors(tmp_path, 20, seed=3) == paths
    paths[4].write_text(paths[5].read_text())
    with pytest.raises(DetectorError, match=r"random-3-4\.toml is another detector"):
        write_random_detectors(tmp_path, 20, seed=3)


def test_they_are_calorimeters_whose_meshes_follow_their_showers() -> None:
    for number in range(40):
        detector = random_detector(1, number)
        mesh, x0 = detector.mesh, detector.radiation_length_mm
        assert mesh.shape == (45, 16, 9)
        assert 20 < detector.depth_mm / x0 < 40
        assert 0.4 < detector.mesh_settings.dz_mm / x0 < 1.6
        assert 0.3 < detector.mesh_settings.dr_mm / detector.moliere_radius_mm < 0.6
        assert 0 < detector.sampling_fraction <= 1


@pytest.mark.parametrize("name", ["par04-siw", "par04-scipb", "odd-ecal", "allegro-ecal", "par04-pbwo4"])
def test_a_sampling_fraction_is_estimated_from_energy_losses(name: str) -> None:
    detector = Detector.load(name)
    assert detector.estimated_sampling_fraction == pytest.approx(detector.sampling_fraction, rel=0.2)


def test_a_minimum_ionising_particle_loses_what_tables_say() -> None:
    siw = Detector.load("par04-siw")
    assert siw.minimum_ionisation_mev_mm * siw.depth_mm / (90 * 0.3) == pytest.approx(0.388, rel=0.1)
    thickness = siw.in_radiation_lengths([layer for layer in siw.layers if layer.sensitive])
    assert thickness == pytest.approx(90 * 0.3 / 93.7, rel=0.03)
    assert np.isclose(siw.in_radiation_lengths(siw.layers), siw.depth_mm / siw.radiation_length_mm)


def test_the_command_writes_them(tmp_path: Path) -> None:
    app(["detectors", "--random", "2", "-o", str(tmp_path), "--seed", "5"], standalone_mode=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["random-5-0.toml", "random-5-1.toml"]
