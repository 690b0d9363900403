"""Showers, their conditions, and the files they live in; events of pixel detectors are in `pixels`."""

from typing import TYPE_CHECKING

from caloforge.data.beam import Beam
from caloforge.data.conditions import Conditions, merged_ranges
from caloforge.data.formats import layout_of, open_showers, opening
from caloforge.data.named_mesh import named_mesh
from caloforge.data.operations import coarsened, describe
from caloforge.data.particles import PDG_CODES, pdg_code, pdg_name
from caloforge.data.showers import Showers
from caloforge.data.writer import ShowerWriter, write_showers
from caloforge.lazy import lazily

if TYPE_CHECKING:
    from caloforge.data.pixels import PixelEvents, open_events, overlay

__getattr__, __dir__ = lazily(  # what needs detector files, and with them pydantic
    __name__, {"PixelEvents": "pixels", "open_events": "pixels", "overlay": "pixels"}
)

__all__ = [
    "PDG_CODES",
    "Beam",
    "Conditions",
    "PixelEvents",
    "ShowerWriter",
    "Showers",
    "coarsened",
    "describe",
    "layout_of",
    "merged_ranges",
    "named_mesh",
    "open_events",
    "open_showers",
    "opening",
    "overlay",
    "pdg_code",
    "pdg_name",
    "write_showers",
]
