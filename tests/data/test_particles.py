"""Names and codes of particles are each other's inverse; usual ones have Geant4's names and need no table."""

import subprocess
import sys

import numpy as np
import pytest

from caloforge.data import PDG_CODES, Conditions, pdg_code, pdg_name
from caloforge.errors import ConditionError


@pytest.mark.parametrize("code", [*PDG_CODES.values(), 0, 99, 310, -2212, 3122, 15, 1000060120, -(2**31)])
def test_code_and_name_are_inverses(code: int) -> None:
    assert pdg_code(pdg_name(code)) == code
    assert pdg_code(pdg_name(np.int32(code))) == code


@pytest.mark.parametrize(
    ("name", "code"),
    [("e-", 11), ("proton", 2212), ("p", 2212), ("K+", 321), ("K(S)0", 310), ("tau-", 15), ("13", 13)],
)
def test_names_of_geant4_and_of_the_particle_data_group(name: str, code: int) -> None:
    assert pdg_code(name) == code
    assert Conditions([1.0], particle=name).particle.tolist() == [code]


def test_usual_names_are_those_of_the_particle_data_group_or_geant4s_own() -> None:
    from particle import Particle

    own = {"kaon+": "K+", "kaon-": "K-", "kaon0L": "K(L)0", "proton": "p", "neutron": "n"}
    for name, code in PDG_CODES.items():
        assert Particle.from_pdgid(code).name == own.get(name, name)


def test_codes_without_a_name_are_numbers() -> None:
    assert (pdg_name(99), pdg_name(0)) == ("99", "unknown")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConditionError, match=r"unknown particle 'electron'; known are e-.*Lambda"):
        pdg_code("electron")


def test_usual_particles_need_no_table() -> None:
    code = (
        "import sys; from caloforge.data import Conditions; "
        "Conditions([1.0] * 3, particle=['e-', 'gamma', 'pi+']).ranges(); print('particle' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
