"""Which of Geant4's data are there, and the environment that Geant4 must find before it is imported.

The binding asks on stdin, or downloads, where data sets are missing, unless ``GEANT4_DATA_DIR`` is set; the
environment made here always sets it. It is given to worker processes only, this process is left alone.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from caloforge.errors import MissingDependencyError, SimulationError
from caloforge.geant4.em_data import FORMAT_VERSION, kept_em_data, reduced_em_data
from caloforge.runtime.private_folder import home_folder

__all__ = ["DATA_SETS", "EM_PARTICLES", "Geant4Data", "data_there", "find_data", "require_particle"]

EM_PARTICLES = ("e-", "e+", "gamma")

# Environment variable: folder of the version that Geant4 11.4 patch 01 expects (geant4-pybind 0.1.3).
DATA_SETS = {
    "G4LEDATA": "G4EMLOW8.8",
    "G4ENSDFSTATEDATA": "G4ENSDFSTATE3.0",
    "G4LEVELGAMMADATA": "PhotonEvaporation6.1.2",
    "G4PARTICLEXSDATA": "G4PARTICLEXS4.2",
    "G4SAIDXSDATA": "G4SAIDDATA2.0",
    "G4ABLADATA": "G4ABLA3.3",
    "G4INCLDATA": "G4INCL1.3",
    "G4PIIDATA": "G4PII1.3",
    "G4RADIOACTIVEDATA": "RadioactiveDecay6.1.2",
    "G4NEUTRONHPDATA": "G4NDL4.7.1",
    "G4REALSURFACEDATA": "RealSurface2.2",
    "G4CHANNELINGDATA": "G4CHANNELING2.0",
}
VERSION = re.compile(r"\d+(\.\d+)*$")
# What FTFP_BERT reads; the others are for neutron HP, decays of nuclei, optical surfaces and crystals.
NEEDED = ("G4LEDATA", "G4ENSDFSTATEDATA", "G4LEVELGAMMADATA", "G4PARTICLEXSDATA", "G4SAIDXSDATA")

HOW_TO_GET_DATA = (
    "Official data sets: either set GEANT4_DATA_DIR to a folder that holds "
    + ", ".join(DATA_SETS[name] for name in NEEDED)
    + " (for example on cvmfs: /cvmfs/geant4.cern.ch/share/data), or let geant4-pybind download them "
    "(about 2 GB into ~/.geant4_pybind) with: python -c 'import geant4_pybind' and answer Y"
)


@dataclass(frozen=True)
class Geant4Data:
    """The data Geant4 will run on.

    Attributes:
        official: True for the official data sets, which allow FTFP_BERT and hadrons.
        environment: variables that must be set before ``import geant4_pybind``.
        description: one line for provenance.
    """

    official: bool
    description: str
    environment: dict[str, str] = field(repr=False)

    @property
    def physics(self) -> str:
        """Name of the physics list that `worker` builds on these data."""
        return "FTFP_BERT" if self.official else "G4EmStandardPhysics"


def _official(environ: Mapping[str, str]) -> dict[str, str] | None:
    """Variables of the official data sets, or None.

    Raises:
        SimulationError: the user named a folder that lacks some, or data sets of other versions than the
            Geant4 of the binding reads.
    """
    given = {name: environ[name] for name in DATA_SETS if _is_folder(environ.get(name, ""))}
    others = [f"{name}={given[name]} ({DATA_SETS[name]})" for name in NEEDED if _is_other(name, given)]
    if others:
        raise SimulationError(
            "these variables lead to data sets of other versions than those, in brackets, that "
            f"geant4-pybind reads: {', '.join(others)}. Unset them, or use the reduced electromagnetic data "
            f"(reduced_data=True, --reduced-data). {HOW_TO_GET_DATA}"
        )
    named = environ.get("GEANT4_DATA_DIR")
    root = Path(named) if named else (home_folder() or Path("/")) / ".geant4_pybind"
    places = {name: str(root / folder) for name, folder in DATA_SETS.items()}
    found = {name: path for name, path in places.items() if _is_folder(path)} | given
    missing = [name for name in NEEDED if name not in found]
    if not missing:
        return {"GEANT4_DATA_DIR": str(root), **found}
    if named:
        raise SimulationError(
            f"GEANT4_DATA_DIR={named} lacks {', '.join(DATA_SETS[name] for name in missing)}. "
            f"Unset it to use the reduced electromagnetic data. {HOW_TO_GET_DATA}"
        )
    return None


def _is_folder(path: str) -> bool:
    try:
        return bool(path) and Path(path).is_dir()
    except OSError:  # in the home of somebody else
        return False


def _is_other(name: str, given: Mapping[str, str]) -> bool:
    """True where the folder that a variable names ends with another version than that of the data set."""
    found, wanted = (VERSION.search(path) for path in (given.get(name, "").rstrip("/"), DATA_SETS[name]))
    return found is not None and wanted is not None and found[0] != wanted[0]


def find_data(environ: Mapping[str, str] | None = None, *, reduced: bool = False) -> Geant4Data:
    """The official data sets if the user has them, else caloforge's reduced data (written now if needed).

    Args:
        environ: variables to look at, ``os.environ`` by default.
        reduced: take the reduced data in any case.

    Raises:
        MissingDependencyError: geant4-pybind or xraylib is not installed.
        SimulationError: ``GEANT4_DATA_DIR`` is set to a folder that lacks a data set, or ``G4LEDATA`` or the
            like to one of another version.
    """
    if importlib.util.find_spec("geant4_pybind") is None:
        raise MissingDependencyError("geant4-pybind", "geant4")
    return (None if reduced else _official_data(environ)) or _reduced_data(reduced_em_data())


def data_there(environ: Mapping[str, str] | None = None) -> Geant4Data | None:
    """What `find_data` would give without writing anything; None where the reduced data are not there yet.

    Raises:
        SimulationError: as there.
    """
    official, root = _official_data(environ), kept_em_data()
    return official or (None if root is None else _reduced_data(root))


def _official_data(environ: Mapping[str, str] | None) -> Geant4Data | None:
    official = _official(os.environ if environ is None else environ)
    if official is None:
        return None
    return Geant4Data(True, f"official Geant4 data sets, {Path(official['G4LEDATA']).name}", official)


def _reduced_data(root: Path) -> Geant4Data:
    variables = {"GEANT4_DATA_DIR": str(root)} | {name: str(root / "empty") for name in DATA_SETS}
    variables |= {"G4LEDATA": str(root), "G4ENSDFSTATEDATA": str(root / "ensdfstate")}
    return Geant4Data(False, f"caloforge's reduced electromagnetic data, version {FORMAT_VERSION}", variables)


def require_particle(data: Geant4Data, particle: str) -> None:
    """Raise SimulationError where ``particle`` needs data that are not there."""
    if not data.official and particle not in EM_PARTICLES:
        raise SimulationError(
            f"{particle} needs Geant4's official data sets, which were not found; "
            f"the reduced data allow {', '.join(EM_PARTICLES)}. {HOW_TO_GET_DATA}"
        )
