"""Particles by name and by the code of the Particle Data Group (PDG), which files hold.

Names are Geant4's for the particles in `PDG_CODES`, with which calorimeters are usually studied, and the
PDG's for all others, ``"K(S)0"`` or ``"Lambda"``. Those come from the package ``particle``, which has no
names of Geant4. Importing it and reading its table takes about half a second, more than opening a file of
showers, so that this waits until such a particle is met.
"""

from __future__ import annotations

from functools import cache
from typing import SupportsInt

from caloforge.errors import ConditionError

__all__ = ["PDG_CODES", "UNKNOWN", "pdg_code", "pdg_name"]

PDG_CODES = {
    "e-": 11,
    "e+": -11,
    "mu-": 13,
    "mu+": -13,
    "gamma": 22,
    "pi+": 211,
    "pi-": -211,
    "pi0": 111,
    "kaon+": 321,
    "kaon-": -321,
    "kaon0L": 130,
    "proton": 2212,
    "neutron": 2112,
}
"""Codes by Geant4's names."""
UNKNOWN = "unknown"
"""Name of code 0, which stands for a particle that nothing is known of."""

_NAMES = {code: name for name, code in PDG_CODES.items()} | {0: UNKNOWN}


@cache
def pdg_code(particle: str | SupportsInt) -> int:
    """Code of a particle by Geant4's or the PDG's name; a number, or a text that is one, is passed through.

    Raises:
        ConditionError: there is no such particle.
    """
    if not isinstance(particle, str):
        return int(particle)
    if particle in PDG_CODES:
        return PDG_CODES[particle]
    if particle == UNKNOWN:
        return 0
    if particle.removeprefix("-").isdecimal():
        return int(particle)
    from particle import Particle

    found = Particle.findall(name=particle)
    if not found:
        raise ConditionError(
            f"unknown particle {particle!r}; known are {', '.join(PDG_CODES)}, and all others by the name "
            'that the Particle Data Group gives them ("K(S)0", "Lambda") or by its code'
        )
    return int(found[0].pdgid)


@cache
def pdg_name(code: SupportsInt) -> str:
    """Name of a code, see the module; the number as text where there is no such particle."""
    code = int(code)
    if code in _NAMES:
        return _NAMES[code]
    from particle import InvalidParticle, Particle, ParticleNotFound

    try:
        return str(Particle.from_pdgid(code).name)
    except (InvalidParticle, ParticleNotFound):
        return str(code)
