"""Geant4 as it runs here, held against Geant4's own reference and against first principles."""

import math

import numpy as np
import pytest

from caloforge.detector.detector import Detector
from caloforge.geant4.validate import TESTEM3_REFERENCE, Mean, energy_balance, probe, run_testem3


def test_geant4s_reference_testem3():
    found = run_testem3(80, seed=3)
    for name in ("lead", "argon"):
        value, error = TESTEM3_REFERENCE[name]
        assert abs(found[name].value - value) < 3 * math.hypot(found[name].error, error), (name, found[name])
    for name in ("gamma", "e-", "e+", "charged steps", "neutral steps"):
        value, _ = TESTEM3_REFERENCE[name]
        statistical = 2 * found[name].error / value
        assert abs(found[name].value / value - 1) < 0.03 + statistical, (name, found[name])


@pytest.mark.parametrize("particle", ["e-", "e+", "gamma"])
def test_energy_is_conserved(particle):
    ratio = energy_balance("par04-siw", 3, particle=particle, energy="1GeV")
    assert ratio == pytest.approx(1.0, abs=1e-9)


def test_energy_is_conserved_in_a_box_with_leakage():
    ratio = energy_balance("lhcb-ecal", 4, energy="1GeV", theta="20deg", impact="290mm,290mm")
    assert ratio == pytest.approx(1.0, abs=1e-9)


@pytest.fixture(scope="module")
def showers():
    """Raw deposits of 60 electrons of 2 GeV in par04-siw, at various φ and θ."""
    return probe("deposits", "par04-siw", range(60), energy="2GeV", theta="80-100deg", phi="0-360deg")


def test_visible_energy_and_mesh_energy_of_par04(showers):
    visible = Mean.of([sum(d[0] for d in row["deposits"]) / 2000 for row in showers])
    assert abs(visible.value - 0.0322) < 0.0008 + 3 * visible.error
    in_mesh = Mean.of([sum(row["voxels"]) / 0.033 / 2000 for row in showers])
    assert abs(in_mesh.value - 0.97) < 0.01 + 3 * in_mesh.error


def test_scoring_against_a_plain_loop(showers):
    """Trigonometry deposit by deposit, as in Geant4's example, without any of caloforge's code."""
    n_z, n_phi, n_r, dz, dr = 45, 16, 9, 3.4, 4.65
    for row in showers[:6]:
        ex, ey, ez = row["entrance"]
        ux, uy, uz = row["direction"]
        theta, phi = math.acos(uz), math.atan2(uy, ux)
        voxels = [0.0] * (n_z * n_phi * n_r)
        for energy, x, y, z in row["deposits"]:
            a, b, c = x - ex, y - ey, z - ez
            a, b = math.cos(phi) * a + math.sin(phi) * b, -math.sin(phi) * a + math.cos(phi) * b
            a, c = math.cos(theta) * a - math.sin(theta) * c, math.sin(theta) * a + math.cos(theta) * c
            i_z = math.floor((c - 1e-3) / dz)
            i_r = math.floor(math.hypot(a, b) / dr)
            i_phi = math.floor((math.pi + math.atan2(b, a)) / (2 * math.pi / n_phi)) % n_phi
            if 0 <= i_z < n_z and i_r < n_r:
                voxels[(i_z * n_phi + i_phi) * n_r + i_r] += energy
        assert sum(row["voxels"]) == pytest.approx(sum(voxels), rel=1e-12)
        assert row["voxels"] == pytest.approx(voxels, rel=1e-9, abs=1e-12)


def test_entrance_is_on_the_face_and_deposits_are_in_silicon(showers):
    for row in showers[:10]:
        assert math.hypot(*row["entrance"][:2]) == pytest.approx(800.0, abs=1e-6)
        depth = np.hypot(*np.array(row["deposits"])[:, 1:3].T) - 800.0
        inside = depth % 1.7
        assert ((inside > 1.4 - 1e-6) | (inside < 1e-6)).all()


def test_no_direction_is_preferred(showers):
    """φ-symmetry: the energy left and right, above and below the axis agree, and so do halves in φ."""
    voxels = np.array([row["voxels"] for row in showers]).reshape(-1, 45, 16, 9)
    by_phi = voxels.sum(axis=(1, 3))
    for shift in (0, 4):
        half = np.roll(by_phi, shift, axis=1)[:, :8].sum(axis=1) / by_phi.sum(axis=1)
        mean = Mean.of(half)
        assert abs(mean.value - 0.5) < 4 * mean.error
    direction = np.array([row["direction"][0] for row in showers]) > 0
    total = by_phi.sum(axis=1)
    a, b = Mean.of(total[direction]), Mean.of(total[~direction])
    assert abs(a.value - b.value) < 4 * math.hypot(a.error, b.error)


def test_events_are_independent_of_order_and_scoring_changes_nothing():
    forward = probe("visible", "par04-siw", range(6), energy="1GeV")
    backward = probe("visible", "par04-siw", range(5, -1, -1), energy="1GeV")
    unscored = probe("visible", "par04-siw", range(6), energy="1GeV", more={"scoring": False})
    assert forward == backward[::-1]  # bit for bit
    assert [row["next"] for row in forward] == [row["next"] for row in unscored]


def test_scored_energy_is_that_of_every_step():
    """The filters of the recorder lose nothing that matters."""
    for name in ("par04-siw", "par04-pbwo4"):
        detector = Detector.load(name)
        sensitive = {layer.material for layer in detector.layers if layer.sensitive}
        all_steps = probe("tallies", detector, range(3), energy="1GeV")
        recorded = probe("visible", detector, range(3), energy="1GeV")
        for row, other in zip(all_steps, recorded, strict=True):
            total = sum(energy for material, energy in row["deposits"].items() if material in sensitive)
            assert other["visible"] == pytest.approx(total, rel=2e-6)
