"""Diffusion and flow matching on showers: layer energies by a model of their own, then all cells at once.

The factorisation is that of CaloDREAM (Favaro, Ore, Palacios Schweitzer, Plehn, arXiv:2405.09629): a small
model for the energies of the layers, and a network that turns noise into cells, given those. Which network,
what it is asked, how its answers are integrated and in which coordinates are four separate settings.

Legend: ``n`` showers, mesh (Z, P, R), ``K`` condition numbers, ``L`` numbers of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from caloforge.data.described import described_detectors
from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh
from caloforge.errors import CheckpointError, RecipeError
from caloforge.models.base import Batch, ConditionTensors, GeneratorModel
from caloforge.models.conditions.detector import DetectorContext, slots_of
from caloforge.models.coordinates import Layers, SpectrumMap, least_energy, log_energy, renormalise_layers
from caloforge.models.coordinates.diffusion import COORDINATES, CoordinatesChoice, most_showers
from caloforge.models.diffusion.backbones import BACKBONES, BackboneChoice
from caloforge.models.diffusion.processes import PROCESSES, ProcessChoice
from caloforge.models.diffusion.samplers import SamplerChoice, noise_steps, sample
from caloforge.models.energies.base import LayerEnergyChoice, layer_energy_model
from caloforge.models.energies.layers_then_cells import fitted_batches

__all__ = ["DiffusionModel"]

CALIBRATION_SHOWERS = 1000
LAYER_NUMBERS = 3
LOG_SCALE = 4.0
"""Logarithms of layer energies over the threshold are divided by this, as context."""


class DiffusionModel(GeneratorModel):
    """Noise to cells by a learned ordinary differential equation, for one detector or several."""

    class Settings(GeneratorModel.Settings):
        """The exchangeable parts, each a table whose ``kind`` names it in a registry.

        Attributes:
            energies: the model of the layer energies, of `ENERGIES`; None (in a recipe "none") where the
                network makes them with the cells.
            backbone: the network, of `BACKBONES`.
            process: how data and noise are mixed and what the network estimates, of `PROCESSES`.
            sampler: how its estimates are integrated, of `SAMPLERS`; can be changed after training.
            coordinates: what it works on, of `COORDINATES`.
            slots: detectors that the model has room for.
            threshold_mev: cells below are empty; by default the least cell energy of each detector.
            spectrum: fit a map that restores the spectrum of cell energies after training.
            bf16: the network in bfloat16; "auto" where the device multiplies it natively.
        """

        energies: LayerEnergyChoice | None = Field({"kind": "inductive"}, validate_default=True)
        backbone: BackboneChoice = Field({"kind": "transformer"}, validate_default=True)
        process: ProcessChoice = Field({"kind": "flow"}, validate_default=True)
        sampler: SamplerChoice = Field({"kind": "midpoint"}, validate_default=True)
        coordinates: CoordinatesChoice = Field({"kind": "marginals"}, validate_default=True)
        slots: int = Field(4, ge=1)
        threshold_mev: float | None = Field(None, gt=0)
        spectrum: bool = True
        bf16: bool | Literal["auto"] = "auto"

        @field_validator("energies", mode="before")
        @classmethod
        def _no_energies(cls, value: object) -> object:
            return None if value == "none" else value  # TOML has no null

    mesh_kinds: ClassVar[tuple[str, ...]] = ("cylinder", "box")
    block_size: ClassVar[int] = 64
    joint: ClassVar[bool] = True
    example: ClassVar[Mapping[str, Any]] = {
        "energies": {"kind": "inductive", "hidden": 8, "depth": 1},
        "backbone": {"patch": (3, 2, 3), "width": 16, "depth": 2, "heads": 2},
        "sampler": {"steps": 4},
    }
    levels: ClassVar[int] = 1
    settings: Settings
    thresholds: Tensor

    def __init__(self, mesh: Mesh, settings: Settings | Mapping[str, object] | None = None) -> None:
        super().__init__(mesh, settings)
        s = self.settings
        n_z, n_p, n_r = mesh.shape
        self.shape = (n_z, n_p, n_r)
        self.layers = Layers.of(mesh)
        self.incident = DetectorContext(s.slots)
        self.energy_flow = (
            None if s.energies is None else layer_energy_model(s.energies, n_z, self.incident.size)
        )
        self.coordinates = COORDINATES[s.coordinates.kind](s.coordinates, s.slots, self.shape)
        if s.energies is None and (self.coordinates.needs_layer_energies or s.spectrum):
            raise RecipeError(
                'without settings.energies there are no layer energies: coordinates of kind "log" or "logit" '
                '(of = "incident") and spectrum = false are needed'
            )
        self.spectrum = SpectrumMap() if s.spectrum else None
        self.process = PROCESSES[s.process.kind](s.process)
        self.backbone = BACKBONES[s.backbone.kind](
            s.backbone,
            mesh,
            conditions=self.incident.size,
            layers=0 if s.energies is None else LAYER_NUMBERS,
            levels=self.levels,
        )
        if self.backbone.reads_shares and not self.coordinates.gives_shares:
            able = " or ".join(f'"{name}"' for name in COORDINATES.names() if COORDINATES[name].gives_shares)
            raise RecipeError(f"backbone.shares needs coordinates of kind {able}")
        self.register_buffer("thresholds", torch.full((s.slots,), s.threshold_mev or 1.0))

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {"cells": self.shape}
        if self.energy_flow is not None:
            shapes["layers"] = (self.energy_flow.noise_size,)
        if noise_steps(self.settings.sampler):
            shapes["steps"] = (noise_steps(self.settings.sampler), *self.shape)
        return shapes

    def parts(self) -> dict[str, list[nn.Parameter]]:
        parts = {"shape": list(self.backbone.parameters())}
        if self.energy_flow is not None:
            parts = {"energies": list(self.energy_flow.parameters()), **parts}
        return parts

    def fit(self, showers: Showers) -> None:
        meshes = self.meshes or dict.fromkeys(self.detectors, self.mesh)
        self.incident.set_detectors(self.detectors, meshes, described_detectors(showers))
        self._fit_slots(showers, self.detectors)

        def layer_energies(batch: Batch) -> tuple[Tensor, Tensor, float]:
            unit = self._unit(batch)
            return batch.energies.sum(dim=(2, 3)) / unit[:, None], batch.energy / unit, 1.0

        for _ in fitted_batches(
            showers, self.incident.incident, self.energy_flow, layer_energies, detectors=self.detectors
        ):
            pass

    def know(self, detectors: Sequence[str], meshes: Mapping[str, Mesh]) -> None:
        """As in the base class."""
        self.incident.require_slots(detectors)
        super().know(detectors, meshes)

    def adapt(self, showers: Showers) -> None:
        """Take new detectors in: their properties, thresholds and coordinates; the others' stay."""
        if len(self.detectors) > self.incident.slots:
            raise CheckpointError(
                f"the model has room for {self.incident.slots} detectors and knows "
                f"{', '.join(self.detectors[: self.incident.slots])}; train one with more settings.slots"
            )
        new = tuple(name for i, name in enumerate(self.detectors) if self.incident.is_free(i))
        self.incident.set_detectors(self.detectors, self.meshes, described_detectors(showers))
        self._fit_slots(showers, new)

    def _fit_slots(self, showers: Showers, detectors: tuple[str, ...]) -> None:
        """Set threshold and coordinates of these detectors from their showers."""
        for name in detectors:
            slot = self.detectors.index(name)
            chosen = showers.filter(detector=name).thinned(most_showers(self.mesh.n_voxels))
            energies = torch.from_numpy(chosen.energies.reshape(-1, *self.shape))
            least = least_energy([energies], f"showers of {name!r}")
            unit = self.settings.threshold_mev or least
            self.thresholds[slot] = unit
            incident = torch.from_numpy(chosen.conditions.energy).float()
            self.coordinates.fit(slot, energies / unit, incident / unit)

    def _unit(self, conditions: ConditionTensors) -> Tensor:
        """The threshold of each shower's detector, MeV, (n,): the unit of all energies in here."""
        return self.thresholds[slots_of(conditions.detector)]

    def context(self, conditions: ConditionTensors) -> Tensor:
        """What is known of n showers before they are made, (n, K)."""
        numbers: Tensor = self.incident(conditions)
        return numbers

    def prepare(self, conditions: ConditionTensors, layer_energies: Tensor | None) -> Any:
        """What all calls of the network for n showers share; layer energies are (n, Z), MeV."""
        context = self.context(conditions)
        if layer_energies is None:
            layers = context.new_zeros(context.shape[0], self.shape[0], 0)
        else:
            total = layer_energies.sum(dim=1, keepdim=True).clamp_min(1e-6)
            logs = log_energy(layer_energies, self._unit(conditions)[:, None], LOG_SCALE)
            share = layer_energies / total * (self.shape[0] / 4)
            layers = torch.stack([logs, share, (layer_energies > 0).to(share)], dim=-1)
        with self._precision(context.device):
            prepared = self.backbone.prepare(context, layers)
        if not self.backbone.reads_shares:
            return prepared, None
        assert layer_energies is not None
        energies = layer_energies / self._unit(conditions)[:, None]
        return prepared, self.coordinates.shares(energies, slots_of(conditions.detector))

    def network(self, prepared: Any) -> Callable[[Tensor, Tensor], Tensor]:
        """The network for those showers: (cells (n, Z, P, R), level (n, levels)) → (n, Z, P, R), float32."""
        context, shares_of = prepared

        def network(x: Tensor, level: Tensor) -> Tensor:
            shares = None if shares_of is None else shares_of(x)
            with self._precision(x.device):
                out: Tensor = self.backbone(x, level, context, shares)
            return out.float()

        return network

    def _precision(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.bf16)

    def to_coordinates(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """What the network works on, (n, Z, P, R); the place of empty cells is drawn."""
        energies = batch.energies / self._unit(batch)[:, None, None, None]
        uniform = torch.rand(energies.shape, generator=generator, device=energies.device)
        incident = batch.energy / self._unit(batch)
        coordinates: Tensor = self.coordinates(
            energies, incident, energies.sum(dim=(2, 3)), slots_of(batch.detector), uniform
        )
        return coordinates

    def from_coordinates(
        self, x: Tensor, conditions: ConditionTensors, layer_energies: Tensor | None
    ) -> Tensor:
        """Showers (n, Z, P, R), MeV, whose layers have exactly the energies given, (n, Z), MeV."""
        unit = self._unit(conditions)
        layers = None if layer_energies is None else layer_energies / unit[:, None]
        incident, slots = conditions.energy / unit, slots_of(conditions.detector)
        cells = self.coordinates.inverse(x, incident, layers, slots)
        if layers is not None:
            cells = renormalise_layers(cells, layers, self.layers, 1.0)
            if self.spectrum is not None:
                cells = renormalise_layers(self.spectrum(cells), layers, self.layers, 1.0)
        return cells * unit[:, None, None, None]

    def losses(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean negative log-likelihood of layer energies, or loss of the process on the cells."""
        layer_energies = batch.energies.sum(dim=(2, 3))
        if part == "energies":
            assert self.energy_flow is not None
            unit = self._unit(batch)
            loss = self.energy_flow.loss(
                layer_energies / unit[:, None], batch.energy / unit, self.context(batch), 1.0, generator
            )
            return {"loss": loss.mean()}
        x = self.to_coordinates(batch, generator)
        known = None if self.energy_flow is None else layer_energies
        network = self.network(self.prepare(batch, known))
        return {"loss": self.process.loss(network, x, generator, self.weights(batch)).mean()}

    def weights(self, batch: Batch) -> Tensor | None:
        """How much each cell counts in the loss, see `Coordinates.weights`."""
        layer_energies = batch.energies.sum(dim=(2, 3)) / self._unit(batch)[:, None]
        return self.coordinates.weights(layer_energies, slots_of(batch.detector))

    def sampled_layer_energies(
        self, noise: Mapping[str, Tensor], conditions: ConditionTensors
    ) -> Tensor | None:
        """Layer energies (n, Z), MeV: those given, or drawn; None where the model has none."""
        if self.energy_flow is None:
            return None
        if conditions.layer_energies is not None:
            return conditions.layer_energies
        unit = self._unit(conditions)
        drawn = self.energy_flow.sample(
            noise["layers"], conditions.energy / unit, self.context(conditions), 1.0
        )
        return drawn * unit[:, None]

    def decode(self, noise: Mapping[str, Tensor], conditions: ConditionTensors) -> Tensor:
        layer_energies = self.sampled_layer_energies(noise, conditions)
        network = self.network(self.prepare(conditions, layer_energies))
        return self.from_coordinates(self.solve(network, noise), conditions, layer_energies)

    def solve(self, network: Callable[[Tensor, Tensor], Tensor], noise: Mapping[str, Tensor]) -> Tensor:
        """Coordinates (n, Z, P, R) of n noises, by a `network` for these showers."""
        return sample(self.process, network, noise["cells"], self.settings.sampler, noise.get("steps"))

    def calibrate(self, showers: Showers, generator: torch.Generator) -> None:
        """Fit the spectrum map on showers generated at conditions of the training showers."""
        if self.spectrum is None:
            return

        def generate(batch: Batch) -> Tensor:
            return self.decode(self.noise(len(batch), generator), batch)

        self.spectrum.calibrate(self, showers.thinned(CALIBRATION_SHOWERS), generate, 1.0, self._unit)
