"""What a model for many detectors knows of each: its physics as smooth numbers, and where it is read out.

Nothing says which detector it is, so that one that nobody trained on is a place between the others.

Legend: ``n`` showers, ``D`` slots, ``F`` numbers of a detector, ``Z`` layers of its mesh, ``P`` pieces of
what is read out.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from caloforge.detector.detector import Detector, FlatLayer
from caloforge.detector.materials import ATOMIC
from caloforge.detector.mesh import Mesh
from caloforge.errors import DetectorError
from caloforge.models.base import ConditionTensors
from caloforge.models.conditions.detector import regular_edges, slots_of
from caloforge.models.conditions.incident import CONSTANT, IncidentContext

__all__ = ["PhysicsContext", "physics_of"]

log = logging.getLogger(__name__)

NAMES = (
    "radiation length",
    "Molière radius",
    "sampling fraction",
    "cell depth in radiation lengths",
    "cell radius in Molière radii",
    "threshold over what a minimum ionising particle leaves in a layer",
    "absorber of a layer in radiation lengths",
    "active material of a layer in radiation lengths",
    "mass of the active material of a layer",
    "density of the active material",
    "atomic number of the absorber",
    "atomic number of the active material",
    "depth in radiation lengths",
)
"""Logarithms of these are what is told of a detector."""
PIECES = 512
"""Sensitive layers of a detector within its mesh, at most, thick ones in pieces."""
PIECES_OF_CELL = 8
EDGE_MM = 1e-3
"""Deposits at a surface count as this far before it, see `caloforge.geant4`."""
HOMOGENEOUS_X0 = 1.0
"""Thicker layers count as this thick."""
REACH, FEWEST = 8.0, 30
"""Of what is smooth in the detectors' physics: length, in standard deviations, and detectors without which
nothing is said."""


class PhysicsContext(IncidentContext):
    """Standardised numbers: log E, cos θ, cos² θ, whether neutral, the detector's physics, whether known.

    Attributes:
        physics: of the detector in each slot, (D, F + 1); 0 where it is free or nothing is known of it.
        pieces: where what is read out ends, mm from the face, and how thick it is over its mean thickness in
            a layer of the mesh, (D, P, 2).
        edges: of the layers of its mesh, mm, (D, Z + 1).
        taken: whether a detector has the slot, (D,).
        trained: ``physics`` of the detectors that it was fitted to, (D, F + 1).
    """

    size = 4 + len(NAMES) + 1
    physics: Tensor
    pieces: Tensor
    edges: Tensor
    taken: Tensor
    trained: Tensor

    def __init__(self, slots: int, layers: int) -> None:
        super().__init__()
        self.register_buffer("physics", torch.zeros(slots, len(NAMES) + 1))
        self.register_buffer("trained", torch.zeros(slots, len(NAMES) + 1))
        self.register_buffer("pieces", torch.zeros(slots, PIECES, 2))
        self.register_buffer("edges", torch.zeros(slots, layers + 1))
        self.register_buffer("taken", torch.zeros(slots, dtype=torch.bool))

    @property
    def slots(self) -> int:
        """D."""
        return len(self.taken)

    def end_fit(self) -> None:
        super().end_fit()
        self.trained.copy_(self.physics)

    @torch.no_grad()
    def introduce(self, slot: int, name: str, mesh: Mesh, detector: Detector | None) -> None:
        """Keep what is known of the detector in a slot; ``detector`` is its description."""
        self.taken[slot] = True
        try:
            detector = detector or Detector.load(name)
            numbers, pieces = physics_of(detector, mesh), _pieces(detector, mesh)
        except DetectorError as error:
            log.warning(
                "the model is told nothing of the material of detector %r: %s (showers that caloforge "
                "simulates carry a description of their detector)",
                name,
                error,
            )
            return
        self.physics[slot] = torch.cat([numbers, torch.ones(1)])
        self.pieces[slot] = 0.0
        self.pieces[slot, : len(pieces)] = pieces
        self.edges[slot] = torch.tensor(regular_edges(mesh)[0])

    def _raw(self, c: ConditionTensors) -> Tensor:
        cosine = c.theta.cos()
        told = torch.stack([c.energy.log(), cosine, cosine.square(), self._is_neutral(c)], dim=-1)
        return torch.cat([told.to(self.mean.dtype), self.physics[slots_of(c.detector)]], dim=1)

    def content(self, conditions: ConditionTensors) -> Tensor:
        """How much of each layer of the mesh is read out along the particle's line, over the mean, (n, Z)."""
        slot = slots_of(conditions.detector)
        inward = conditions.theta.sin().clamp_min(0.1)[:, None]
        ends, thick = self.pieces[slot].unbind(dim=2)
        edges = self.edges[slot] * inward
        passed = (ends[:, None] - EDGE_MM <= edges[:, :, None]).to(thick.dtype)
        before = (passed * thick[:, None]).sum(dim=2)
        found = (before[:, 1:] - before[:, :-1]) / inward
        return torch.where(self.physics[slot, -1:] > 0, found, 1.0)

    def distance(self, slot: int) -> tuple[float, float]:
        """How far a detector's physics is from that of the nearest it was trained on, in standard deviations.

        And how far nine in ten of those are from their nearest; infinite where there are fewer than two.
        """
        known = (self.trained[self.trained[:, -1] > 0] / self.std[4:])[:, :-1]
        own = (self.physics[slot] / self.std[4:])[:-1]
        if len(known) < 2:
            return math.inf, math.inf
        apart = torch.cdist(known, known).fill_diagonal_(math.inf).min(dim=1).values
        return float((known - own).norm(dim=1).min()), float(apart.quantile(0.9))

    def smooth(self, slots: Sequence[int], known: Tensor, noise: float) -> tuple[Tensor, float] | None:
        """A smooth function of physics in some slots, of what it is known to be where (D,) is finite.

        The second number is its error: how far each of those is from what all others say of it (rms). By a
        Gaussian process, to which what is known has the variance ``noise``; None where few are known.
        """
        there = known.isfinite() & (self.physics[:, -1] > 0)
        if int(there.sum()) < FEWEST:
            return None
        places, values = self.physics[:, :-1].double(), known[there].double()
        places = places / places[there].std(dim=0).clamp_min(CONSTANT)
        others = places[there]

        def kernel(at: Tensor) -> Tensor:
            return (-0.5 * (torch.cdist(at, others) / REACH).square()).exp()

        inverse = torch.linalg.inv(kernel(others) + noise * torch.eye(len(others)).to(others))
        weights = inverse @ (values - values.mean())
        left_out = weights / inverse.diagonal()
        found = values.mean() + kernel(places[list(slots)]) @ weights
        return found, float(left_out.square().mean().sqrt())


def physics_of(detector: Detector, mesh: Mesh) -> Tensor:
    """Logarithms (F,) of `NAMES`, of order one.

    Raises DetectorError where the composition of a material is not known.
    """
    x0, moliere = detector.radiation_length_mm, detector.moliere_radius_mm
    dz, dr = (float(np.diff(edges).mean()) for edges in regular_edges(mesh))
    read = [layer for layer in detector.layers if layer.sensitive]
    dead = [layer for layer in detector.layers if not layer.sensitive]
    n = len(read)
    active_mm = min(sum(layer.stop - layer.start for layer in read) / n, HOMOGENEOUS_X0 * x0)
    mass = sum(detector.composition(x.material)[0] * (x.stop - x.start) for x in read)
    density = mass / sum(x.stop - x.start for x in read)
    mip = detector.minimum_ionisation_mev_mm * dz
    numbers = [
        x0 / 5,
        moliere / 10,
        detector.estimated_sampling_fraction / 0.05,
        dz / x0 / 0.8,
        dr / moliere / 0.43,
        (max(detector.threshold_mev, 1e-6) / mip / 1e-3) ** 0.5,
        0.03 + detector.in_radiation_lengths(dead) / n,
        (0.003 + min(detector.in_radiation_lengths(read) / n, HOMOGENEOUS_X0)) * 10,
        active_mm * density / 3,
        density,
        _atomic_number(detector, dead or read) / 50,
        _atomic_number(detector, read) / 15,
        detector.depth_mm / x0 / 25,
    ]
    return torch.tensor(numbers).log()


def _atomic_number(detector: Detector, layers: Sequence[FlatLayer]) -> float:
    """Mean, by mass."""
    total = weighted = 0.0
    for layer in layers:
        density, fractions = detector.composition(layer.material)
        mass = density * (layer.stop - layer.start)
        total += mass
        weighted += mass * sum(share * ATOMIC[name][0] for name, share in fractions.items())
    return weighted / total


def _pieces(detector: Detector, mesh: Mesh) -> Tensor:
    """Ends and relative thicknesses of what is read out, (P, 2)."""
    edges, _ = regular_edges(mesh)
    dz = (edges[-1] - edges[0]) / (len(edges) - 1)
    found = list(_cut(detector, edges[-1], dz / PIECES_OF_CELL))
    if len(found) > PIECES:
        raise DetectorError(f"{detector.name} has more than {PIECES} sensitive layers within its mesh")
    mean = sum(x.stop - x.start for x in detector.layers if x.sensitive) / detector.depth_mm * dz
    return torch.tensor(found).reshape(-1, 2) / torch.tensor([1.0, mean])


def _cut(detector: Detector, depth: float, most: float) -> Iterator[tuple[float, float]]:
    for layer in detector.layers:
        if layer.sensitive and layer.start < depth:
            n = max(1, math.floor((layer.stop - layer.start) / most))
            step = (layer.stop - layer.start) / n
            yield from ((layer.start + (i + 1) * step, step) for i in range(n))
