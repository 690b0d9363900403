"""The reduced electromagnetic data against published values."""

import os
import pwd
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import trapezoid

from caloforge.geant4 import em_data
from caloforge.geant4.em_data import INTEGRAL_MB, INTEGRAL_T, INTEGRAL_Z
from caloforge.geant4.environment import find_data

AVOGADRO_BARN = 0.602214076  # mol⁻¹ · barn in cm²


@pytest.mark.parametrize("row", range(4))
def test_bremsstrahlung_integral_is_the_published_one(row):
    kappa = np.linspace(0, 1, 4001)  # a finer grid than that of the files
    chi = em_data.bremsstrahlung(int(INTEGRAL_Z[row]), INTEGRAL_T, kappa)
    assert trapezoid(chi, kappa, axis=1) == pytest.approx(INTEGRAL_MB[row], rel=5e-3)
    assert (chi > 0).all()


def test_correction_of_tsai_vanishes_at_high_energy():
    """Tsai's formula itself is good to a few per cent above 20 MeV, for every element."""
    for z in (6, 29, 74, 82):
        assert em_data._correction(z, np.array([20.0, 100.0, 500.0])) == pytest.approx(1.0, abs=0.07)


def test_photo_electric_cross_sections():
    energy, sigma = em_data.photo_electric(74)
    per_gram = np.interp([0.1, 1.0], energy, sigma) * AVOGADRO_BARN / 183.84
    assert per_gram == pytest.approx([4.2, 0.0127], rel=0.03)
    energy, sigma = em_data.photo_electric(82)
    assert np.interp(1.0, energy, sigma) == pytest.approx(6.2, rel=0.02)


def test_k_edge_of_tungsten_is_a_step():
    energy, sigma = em_data.photo_electric(74)
    below, above = np.interp([0.06945, 0.06960], energy, sigma)
    assert above / below > 4


def test_sauter_joins_smoothly():
    energy, sigma = em_data.photo_electric(82)
    slope = np.diff(np.log(sigma)) / np.diff(np.log(energy))
    near = np.searchsorted(energy, em_data.XRAYLIB_MAX)
    assert abs(slope[near] - slope[near - 2]) < 0.15


def test_every_file_is_written_in_geant4s_layout():
    root = em_data.reduced_em_data()
    for z in range(1, em_data.Z_MAX + 1):
        numbers = np.array((root / "brem_SB" / f"br{z}").read_text().split(), dtype=float)
        n_x, n_y = int(numbers[1]), int(numbers[2])
        assert len(numbers) == 3 + n_x + n_y + n_x * n_y
        assert np.isfinite(numbers).all()
        for path in (root / f"epics2017/phot/pe-cs-{z}.dat", root / f"epics2017/rayl/re-cs-{z}.dat"):
            words = np.array(path.read_text().split(), dtype=float)
            energy = words[4::2]
            assert words[2] == words[3] == len(energy)
            assert (np.diff(energy) > 0).all()
            assert (words[5::2] > 0).all()


def test_rayleigh_is_stored_in_square_millimetres():
    words = (em_data.reduced_em_data() / "epics2017/rayl/re-cs-74.dat").read_text().split()
    energy, value = np.array(words[4::2], dtype=float), np.array(words[5::2], dtype=float)
    barn = np.interp(0.1, energy, value / energy**2) / 1e-22
    assert 50 < barn < 150  # 0.2-0.4 cm²/g


def test_many_writers_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(em_data, "Z_MAX", 14)
    found = []
    for damaged in (False, True):
        if damaged:
            cut(found[0] / "epics2017/phot/pe-cs-14.dat")
        threads = [threading.Thread(target=lambda: found.append(em_data.reduced_em_data())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert em_data._is_whole(found[0])
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [path.name for path in (tmp_path / "caloforge" / "geant4").iterdir()] == [found[0].name]


@pytest.mark.parametrize("cache", ["of nobody", "not to be written", "open to others"])
def test_without_a_cache_of_ones_own_temporary_files_do(
    cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No home and no entry among the users, as in containers; a cache that another user made for itself."""

    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(em_data, "Z_MAX", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    if cache == "of nobody":
        monkeypatch.setattr(pwd, "getpwuid", nobody)
        for name in ("HOME", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "/proc/self" if cache == "not to be written" else str(tmp_path))
    if cache == "open to others":
        (tmp_path / "caloforge" / "geant4").mkdir(parents=True)
        (tmp_path / "caloforge" / "geant4").chmod(0o777)
    folder = Path(find_data({}).environment["G4LEDATA"])
    assert folder.parent == tmp_path / f"temporary/caloforge-geant4-{os.geteuid()}"
    assert (folder / "brem_SB" / "br1").stat().st_size > 0


def cut(path):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("epics2017/phot/pe-cs-9.dat", cut),
        ("epics2017/rayl/re-cs-14.dat", lambda path: path.unlink()),
        ("empty", lambda path: path.rmdir()),
        (em_data.MANIFEST, lambda path: path.write_bytes(b"")),
    ],
)
def test_damaged_data_are_made_again(name, damage, caplog, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(em_data, "Z_MAX", 14)
    root = em_data.reduced_em_data()
    before = em_data._digests(root)
    assert not caplog.messages
    damage(root / name)
    assert em_data.reduced_em_data() == root
    assert em_data._digests(root) == before
    assert (root / "empty").is_dir()
    assert "is damaged" in caplog.text
    assert [path.name for path in root.parent.iterdir()] == [root.name]


def test_data_that_are_whole_are_left_alone():
    root = em_data.reduced_em_data()
    made = (root / em_data.MANIFEST).stat().st_mtime_ns
    assert em_data.reduced_em_data() == root
    assert (root / em_data.MANIFEST).stat().st_mtime_ns == made
