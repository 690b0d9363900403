"""ShowerTree for many detectors: energies in units of the threshold, and the detector as its physics.

Splits are told what a detector does to showers by a few smooth numbers, and how much of each layer is read
out, but not which detector it is. So one that nobody trained on is only a place between those that are
known. What is kept of each is what its description says, its threshold, and how much of the energy it sees.

Legend: ``n`` showers, ``D`` slots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from caloforge.data.described import described_detectors
from caloforge.data.showers import Showers
from caloforge.detector.detector import Detector
from caloforge.detector.mesh import Mesh
from caloforge.errors import CheckpointError, RecipeError
from caloforge.models.base import ConditionTensors
from caloforge.models.conditions.detector import slots_of
from caloforge.models.conditions.physics import PhysicsContext, physics_of
from caloforge.models.coordinates import energy_range
from caloforge.models.tree.content import LayerContent
from caloforge.models.tree.halvings import Halving
from caloforge.models.tree.model import C, ShowerTree

__all__ = ["JointShowerTree"]

ROUNDED = 0.006
"""A sampling fraction this near to the estimate of its materials is that, rounded."""
SURPRISING = 4.0
"""Standard errors of a response that is worth a word."""
NOISE_OF_MEANS, NOISE_OF_WIDTHS = 1e-3, 1e-2
"""Of responses and resolutions of some sixty showers, over what they vary by from detector to detector."""
CONSTANT_MEV = 1e5
"""E_0: where a resolution's constant term is as large as that of sampling."""
MEDIAN, TINY, USUAL_MEV = 0.455, 1e-3, 10.0
"""Of squares of standard normal numbers; least of a resolution, MeV, and of a response; a resolution of which
nothing is known."""


class JointShowerTree(ShowerTree):
    """One tree for detectors whose meshes have as many cells.

    Attributes:
        thresholds: of each detector, MeV, (D,).
        response: mean of ΣE/E_inc of its training showers, (D,); what is expected where there are none.
        e_over_mip: what is read out of these over what energy losses of minimum ionising particles say, (D,);
            0 where that is not known.
        resolution: A of the variance A (1/E + 1/E_0) of log(ΣE/E_inc), MeV, (D,): a smooth function of the
            detectors' physics that makes all energies alike to the network.
    """

    class Settings(ShowerTree.Settings):
        """Those of `ShowerTree`, and

        Attributes:
            slots: detectors that there is room for.
        """

        slots: int = Field(8, ge=1, le=4096)

    mesh_kinds: ClassVar[tuple[str, ...]] = ("cylinder",)
    joint: ClassVar[bool] = True
    introduces: ClassVar[bool] = True
    example: ClassVar[Mapping[str, Any]] = {
        **ShowerTree.example,
        "layer_width": 16,
        "layer_depth": 2,
        "slots": 4,
    }
    settings: Settings
    incident: PhysicsContext
    thresholds: Tensor
    response: Tensor
    e_over_mip: Tensor
    resolution: Tensor

    def __init__(self, mesh: Mesh, settings: Settings | Mapping[str, object] | None = None) -> None:
        super().__init__(mesh, settings)
        self.register_buffer("thresholds", torch.ones(self.settings.slots))
        self.register_buffer("response", torch.ones(self.settings.slots))
        self.register_buffer("e_over_mip", torch.zeros(self.settings.slots))
        self.register_buffer("resolution", torch.zeros(self.settings.slots))

    def _incident_context(self) -> PhysicsContext:
        return PhysicsContext(self.settings.slots, self.mesh.n_layers)

    def _told_of_places(self, halving: Halving) -> LayerContent:
        return LayerContent(halving, self.mesh.n_layers)

    def _points(self, conditions: ConditionTensors) -> Tensor:
        return self.incident.content(conditions)

    def know(self, detectors: Sequence[str], meshes: Mapping[str, Mesh]) -> None:
        """As in the base class."""
        self._require_slots(len(detectors), RecipeError)
        super().know(detectors, meshes)

    def fit(self, showers: Showers) -> None:
        self._require_slots(len(self.detectors), RecipeError)
        self._introduce_all(showers)
        super().fit(showers)

    def adapt(self, showers: Showers) -> None:
        """Take new detectors in: description, threshold, response; what splits know stays as it is."""
        self._require_slots(len(self.detectors), CheckpointError)
        self._introduce_all(showers)

    def introduce(self, detector: Detector) -> str:
        """As in the base class.

        Its response is what its sampling fraction says, or, where that is only the estimate of its materials,
        what those of the training say of such a detector.
        """
        slot, mesh = len(self.detectors), detector.mesh
        self._require_slots(slot + 1, CheckpointError)
        physics_of(detector, mesh)  # an error where that cannot be known
        self.know((*self.detectors, detector.name), self.meshes | {detector.name: mesh})
        self.incident.introduce(slot, detector.name, mesh, detector)
        self.thresholds[slot] = self.settings.threshold_mev or _threshold(detector)
        known = self.resolution.log()
        smooth = self.incident.smooth([slot], known, NOISE_OF_WIDTHS)
        mean = known[known.isfinite()].mean().nan_to_num(math.log(USUAL_MEV))
        self.resolution[slot] = (mean if smooth is None else smooth[0]).exp()
        far, usual = self.incident.distance(slot)
        where = "among" if far <= usual else "at the edge of" if far <= 2 * usual else "far from"
        return (
            f"its physics is {where} that of the detectors of the training: {far:.2g} standard deviations "
            f"from the nearest, where nine in ten of those have a neighbour within {usual:.2g}"
            + self._expect(slot, detector)
        )

    def _expect(self, slot: int, detector: Detector) -> str:
        """Say what to expect of a new detector's response, and take it where nothing better is known."""
        expected = self.incident.smooth([slot], self.e_over_mip.log(), NOISE_OF_MEANS)
        if expected is None:
            return ""
        said = detector.sampling_fraction / detector.estimated_sampling_fraction
        ratio, error = float(expected[0].exp()) / said, expected[1]
        if abs(said - 1) < ROUNDED:
            self.response[slot] = ratio
            return (
                "; its sampling fraction is an estimate, so that a mean ΣE/E of "
                f"{ratio:.3g}, known to {error:.0%}, is taken from those detectors"
            )
        if abs(math.log(ratio)) < SURPRISING * error:
            return ""
        return (
            f"; its sampling fraction is believed, but those detectors let expect {ratio:.2g} times that, "
            f"give or take {error:.0%}: measure it"
        )

    def _require_slots(self, n: int, error: type[CheckpointError | RecipeError]) -> None:
        if n > self.settings.slots:
            raise error(
                f"{n} detectors, but the model has room for {self.settings.slots}; train one with more "
                "settings.slots"
            )

    @torch.no_grad()
    def _introduce_all(self, showers: Showers) -> None:
        described, new = described_detectors(showers), list[int]()
        meshes = self.meshes or dict.fromkeys(self.detectors, self.mesh)
        for slot, name in enumerate(self.detectors):
            if self.incident.taken[slot]:
                continue
            own = showers.filter(detector=name)
            detector = described.get(name)
            self.incident.introduce(slot, name, meshes[name], detector)
            least = energy_range(own)[0]
            told = least if detector is None else min(_threshold(detector), least)
            self.thresholds[slot] = self.settings.threshold_mev or told
            energy = own.conditions.energy
            seen = np.concatenate(
                [cells.sum(axis=(1, 2, 3), dtype=np.float64) for cells, _ in own.batches(100)]
            )
            self.response[slot] = response = seen.sum() / energy.sum()
            off = np.log(np.maximum(seen / energy, TINY) / response) ** 2 / (1 / energy + 1 / CONSTANT_MEV)
            self.resolution[slot] = max(float(np.median(off)) / MEDIAN, TINY)
            if detector is not None and self.incident.physics[slot, -1]:
                estimate = detector.estimated_sampling_fraction
                self.e_over_mip[slot] = response * detector.sampling_fraction / estimate
                new.append(slot)
        smooth = self.incident.smooth(new, self.resolution.log(), NOISE_OF_WIDTHS)
        if smooth is not None:
            self.resolution[new] = smooth[0].exp().float()

    def _spread(self, conditions: ConditionTensors) -> Tensor:
        slot = slots_of(conditions.detector)
        energy = conditions.energy * self.thresholds[slot] / self.response[slot]
        return (self.resolution[slot] * (1 / energy + 1 / CONSTANT_MEV)).sqrt()

    def _fit_thresholds(self, showers: Showers) -> None:
        self.threshold.fill_(1.0)  # energies are in units of the threshold

    def _in_units(self, conditions: C) -> C:
        slot = slots_of(conditions.detector)
        unit = self.thresholds[slot]
        changed: dict[str, Any] = {"energy": conditions.energy * self.response[slot] / unit}
        for name in ("energies", "layer_energies"):
            found = getattr(conditions, name, None)
            if found is not None:
                changed[name] = found / unit.reshape(-1, *[1] * (found.dim() - 1))
        return replace(conditions, **changed)

    def decode(self, noise: Mapping[str, Tensor], conditions: ConditionTensors) -> Tensor:
        made = super().decode(noise, conditions)
        return made * self.thresholds[slots_of(conditions.detector)][:, None, None, None]


def _threshold(detector: Detector) -> float:
    """Of cells, MeV, as they stand in files."""
    return max(detector.threshold_mev, 1e-6) / detector.sampling_fraction
