"""Showers, their conditions, and the files they live in."""

from caloforge.data.conditions import PDG_CODES, Conditions, pdg_code, pdg_name
from caloforge.data.formats import open_showers
from caloforge.data.showers import Showers
from caloforge.data.writer import ShowerWriter, write_showers

__all__ = [
    "PDG_CODES",
    "Conditions",
    "ShowerWriter",
    "Showers",
    "open_showers",
    "pdg_code",
    "pdg_name",
    "write_showers",
]
