"""Quantities, beams, and which data Geant4 runs on."""

import subprocess
import sys

import numpy as np
import pytest

from caloforge.data.beam import Beam
from caloforge.data.quantities import parse_energies, parse_range, whole_number
from caloforge.detector.detector import Detector
from caloforge.errors import ConditionError, SimulationError
from caloforge.geant4 import find_data, make_beam, simulate
from caloforge.geant4.environment import DATA_SETS, NEEDED

SIW = Detector.load("par04-siw")


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("10GeV", "energy", (1e4, 1e4)),
        ("1-50GeV", "energy", (1e3, 5e4)),
        ("500MeV-2GeV", "energy", (500.0, 2e3)),
        ("1e3 MeV", "energy", (1e3, 1e3)),
        ("90deg", "angle", (np.pi / 2, np.pi / 2)),
        ("1.2-1.6rad", "angle", (1.2, 1.6)),
        ("-20..20mm", "length", (-20.0, 20.0)),
        (5, "energy", (5.0, 5.0)),
        ((1, 2), "angle", (1.0, 2.0)),
    ],
)
def test_quantities(text, kind, expected):
    assert parse_range(text, kind) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["10", "GeV", "10mm", "5-1GeV", "1-GeV", "nanGeV", ""])
def test_malformed_energies(text):
    with pytest.raises(ConditionError):
        parse_range(text, "energy")


def test_a_number_without_unit_says_so():
    with pytest.raises(ConditionError, match="no unit; write it like 10GeV"):
        parse_range("10", "energy")


def test_a_pair_of_energies_is_ambiguous():
    with pytest.raises(ConditionError, match=r'write "1000-2000MeV" for a range, or \[1000, 2000\] for two'):
        parse_energies((1000, 2000))
    assert parse_energies([1000, 2000]) == [(1e3, 1e3), (2e3, 2e3)]
    assert parse_energies(("1GeV", "2GeV")) == [(1e3, 1e3), (2e3, 2e3)]
    assert parse_range((1000, 2000), "angle") == (1000, 2000)
    assert parse_range(np.array([1.0, 2.0]), "angle") == parse_range([1, 2], "angle") == (1.0, 2.0)
    for number in (1000, np.int64(1000), np.float32(1000), np.float64(1000)):
        assert parse_energies(number) == [(1e3, 1e3)]
        assert parse_range(number, "length") == (1e3, 1e3)
    assert parse_energies(np.array([1000, 2000])) == [(1e3, 1e3), (2e3, 2e3)]
    assert whole_number("n", np.uint8(3)) == 3
    with pytest.raises(ConditionError, match="n must be at least 1 and a whole number, got 'x'"):
        whole_number("n", "x")
    with pytest.raises(ConditionError, match="expected a number"):
        parse_range(object(), "angle")  # type: ignore[arg-type]


def test_energy_lists_are_taken_in_turn():
    assert parse_energies("1GeV,10GeV") == [(1e3, 1e3), (1e4, 1e4)]
    conditions = make_beam(SIW, energy="1GeV,10GeV").conditions("d", 0, np.arange(4))
    assert conditions.energy.tolist() == [1e3, 1e4, 1e3, 1e4]


def test_a_shower_depends_on_its_number_only():
    beam = make_beam(SIW, energy="1-50GeV", theta="60-120deg", phi="0-360deg")
    whole = beam.conditions("d", 7, np.arange(100))
    part = beam.conditions("d", 7, np.array([99, 3]))
    assert part.energy.tolist() == whole.energy[[99, 3]].tolist()
    assert part.phi.tolist() == whole.phi[[99, 3]].tolist()
    assert Beam.from_dict(beam.to_dict()) == beam


def test_log_uniform_and_uniform():
    numbers = np.arange(4000)
    log = make_beam(SIW, energy="1-100GeV").conditions("d", 0, numbers).energy
    flat = make_beam(SIW, energy="1-100GeV", spectrum="uniform").conditions("d", 0, numbers).energy
    assert np.median(log) == pytest.approx(1e4, rel=0.1)
    assert np.median(flat) == pytest.approx(50.5e3, rel=0.05)


@pytest.mark.parametrize("beam", [{"energy": "10MeV"}, {"particle": "mu-"}, {"theta": "10deg"}])
def test_outside_the_valid_range(beam):
    with pytest.raises(ConditionError, match="allow_outside"):
        make_beam(SIW, **beam)
    make_beam(SIW, allow_outside=True, **beam)


def test_a_cylinder_has_no_impact_point():
    with pytest.raises(ConditionError, match="impact"):
        make_beam(SIW, impact="0mm,0mm")


def test_hadrons_without_data_say_how_to_get_them(tmp_path):
    with pytest.raises(SimulationError, match=r"pi\+ needs Geant4's official data sets.*GEANT4_DATA_DIR"):
        simulate(SIW, out=tmp_path / "x.h5", n=1, particle="pi+", energy="10GeV")
    assert not list(tmp_path.iterdir())


def test_official_data_are_found(tmp_path):
    with pytest.raises(SimulationError, match=r"lacks G4EMLOW"):
        find_data({"GEANT4_DATA_DIR": str(tmp_path)})
    for name in NEEDED:
        (tmp_path / DATA_SETS[name]).mkdir()
    data = find_data({"GEANT4_DATA_DIR": str(tmp_path)})
    assert data.official
    assert data.physics == "FTFP_BERT"
    assert data.environment["G4LEDATA"] == str(tmp_path / DATA_SETS["G4LEDATA"])
    assert not find_data({"GEANT4_DATA_DIR": str(tmp_path)}, reduced=True).official


def test_data_of_another_version_are_not_taken_for_the_official_ones(tmp_path):
    """As of an older Geant4 whose variables are set."""
    for name in NEEDED:
        (tmp_path / DATA_SETS[name]).mkdir()
    (tmp_path / "old" / "G4EMLOW8.5").mkdir(parents=True)
    (tmp_path / "named" / "G4EMLOW").mkdir(parents=True)
    root = {"GEANT4_DATA_DIR": str(tmp_path)}
    old = {"G4LEDATA": f"{tmp_path}/old/G4EMLOW8.5/"}
    for variables in (old, root | old):
        with pytest.raises(SimulationError, match=r"G4LEDATA=.*G4EMLOW8\.5/ \(G4EMLOW8\.8\).*Unset them"):
            find_data(variables)
    assert not find_data(old, reduced=True).official
    unneeded = {"G4NEUTRONHPDATA": str(tmp_path / "old" / "G4EMLOW8.5")}
    assert find_data(root | unneeded).description == "official Geant4 data sets, G4EMLOW8.8"
    unknown = {"G4LEDATA": str(tmp_path / "named" / "G4EMLOW")}  # says nothing of its version
    assert find_data(root | unknown).description == "official Geant4 data sets, G4EMLOW"


def test_importing_caloforge_does_not_import_geant4():
    code = (
        "import sys, caloforge, caloforge.geant4, caloforge.geant4.validate; "
        "sys.exit('geant4_pybind' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
