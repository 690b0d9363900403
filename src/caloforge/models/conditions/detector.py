"""What networks for several detectors know: the incident particle, the detector's slot and properties.

A detector is both a position in a one-hot vector, which holds what only data can tell, and a few physical
numbers, which let a network interpolate between detectors. The one-hot vector has spare slots, so that a
detector can be added later without a change of shapes (Raikwar, Zaborowska, McKeown et al., CaloDiT-2,
arXiv:2509.07700, keep one such slot).

Legend: ``n`` showers, ``D`` slots, ``K`` numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.detector.detector import Detector
from caloforge.detector.mesh import BoxMesh, CylinderMesh, Mesh
from caloforge.errors import DetectorError, RecipeError
from caloforge.models.base import ConditionTensors
from caloforge.models.conditions.incident import IncidentContext

__all__ = ["DetectorContext", "regular_edges", "slots_of"]

log = logging.getLogger(__name__)

PROPERTIES = 7
UNIT_MM = 5.0
"""Length that stands at 0 among the logarithms of lengths; about a cell of silicon-tungsten."""


class DetectorContext(nn.Module):
    """``size`` numbers of order one: 7 of the incident particle, D of the slot, 8 of the detector.

    Attributes:
        properties: of the detector in each slot, (D, 8), see `detector_properties`; 0 where it is free.
    """

    properties: Tensor

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.slots = slots
        self.size = IncidentContext.size + slots + PROPERTIES + 1
        self.incident = IncidentContext()
        self.register_buffer("properties", torch.zeros(slots, PROPERTIES + 1))

    def require_slots(self, detectors: Sequence[str]) -> None:
        """RecipeError where there are more detectors than slots."""
        if len(detectors) > self.slots:
            raise RecipeError(
                f"{len(detectors)} detectors ({', '.join(detectors)}) but settings.slots is {self.slots}; "
                "set it higher before training"
            )

    def is_free(self, slot: int) -> bool:
        """True where no detector has this slot."""
        return not bool(self.properties[slot].any())

    @torch.no_grad()
    def set_detectors(
        self, detectors: Sequence[str], meshes: Mapping[str, Mesh], described: Mapping[str, Detector]
    ) -> None:
        """Keep the properties of the detectors whose slots are free, the first in slot 0; others stay.

        ``meshes`` are their cells, ``described`` the descriptions that their showers carry.
        """
        self.require_slots(detectors)
        for slot, name in enumerate(detectors):
            if self.is_free(slot):
                self.properties[slot] = detector_properties(name, meshes[name], described.get(name))

    def forward(self, conditions: ConditionTensors) -> Tensor:
        """The numbers of n showers, (n, K)."""
        incident = self.incident(conditions)
        slot = slots_of(conditions.detector)
        hot = (slot[:, None] == torch.arange(self.slots, device=slot.device)).to(incident)
        return torch.cat([incident, hot, self.properties[slot]], dim=1)


def slots_of(detector: Tensor) -> Tensor:
    """Slots (n,) of the detector numbers (n,) of conditions; an unknown one counts as the first.

    (`caloforge.generation` refuses showers in an unknown detector where a model knows several.)
    """
    return detector.clamp_min(0)


def detector_properties(name: str, mesh: Mesh, described: Detector | None = None) -> Tensor:
    """Eight numbers: logarithms of X0, R_M, sampling fraction, Δz, Δr, Δz/X0 and Δr/R_M; whether known.

    Lengths in units of 5 mm. They are those of the description, or of the detector that comes with caloforge
    under this name. Where there is neither they are 0, but for its cells, and that is logged as a warning.
    """
    dz, dr = (float(np.diff(edges).mean()) / UNIT_MM for edges in regular_edges(mesh))
    try:
        detector = described or Detector.load(name)
        x0, moliere = detector.radiation_length_mm / UNIT_MM, detector.moliere_radius_mm / UNIT_MM
    except DetectorError as error:
        log.warning(
            "the model is told nothing of the material of detector %r, only its cells: %s (showers that "
            "caloforge simulates carry a description of their detector)",
            name,
            error,
        )
        return torch.tensor([1.0, 1.0, 1.0, dz, dr, 1.0, 1.0, 1.0]).log()
    fraction = detector.sampling_fraction / 0.05
    numbers = torch.tensor([x0, moliere, fraction, dz, dr, dz / x0, dr / moliere])
    return torch.cat([numbers.log(), torch.ones(1)])


def regular_edges(mesh: Mesh) -> tuple[Sequence[float], Sequence[float]]:
    """Edges along z and across, mm; all of a regular mesh."""
    assert isinstance(mesh, CylinderMesh | BoxMesh)
    return mesh.z_edges, mesh.r_edges if isinstance(mesh, CylinderMesh) else mesh.x_edges
