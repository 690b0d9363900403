"""A chain of generators: layer energies, then a coarse shower, then a fine one.

The order of SuperCalo (Pang, Raine, Shih, arXiv:2308.11700). Both steps are open slots: any generator model
on the coarse mesh makes the coarse shower, any on the fine mesh that reads ``conditions.given`` refines it.

Legend: ``n`` showers, ``Z`` fine layers, ``fz`` of them in a coarse one. Energies are MeV.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import torch
from pydantic import AfterValidator, Field, ValidationError, field_validator
from torch import Tensor, nn

from caloforge.data.operations import coarsened
from caloforge.data.showers import Showers
from caloforge.detector.grouping import Grouping
from caloforge.detector.mesh import Mesh, RegularMesh
from caloforge.errors import MeshError, RecipeError
from caloforge.models.base import Batch, ConditionTensors, GeneratorModel, load_model_class
from caloforge.models.coordinates import Layers, block_sums, renormalise_layers
from caloforge.models.energies.base import LayerEnergyChoice
from caloforge.models.energies.layers_then_cells import LayersThenCells
from caloforge.models.names import current_name
from caloforge.settings import Settings

__all__ = ["CoarseToFine", "Slot", "coarse_showers"]


class Slot(Settings):
    """A generator model in a chain: its class, "module:Class", and its settings."""

    model: Annotated[str, AfterValidator(current_name)]
    settings: dict[str, Any] = Field(default_factory=dict)


class CoarseToFine(LayersThenCells):
    """Layer energies → coarse showers → fine showers, with exact sums from step to step.

    Where ``conditions.given`` holds coarse showers, as in upsampling, only the last step is made.
    """

    class Settings(GeneratorModel.Settings):
        """The grouping and who makes which step.

        Attributes:
            grouping: fine cells of a coarse one along each axis.
            energies: of the flow for the fine layer energies.
            coarse: model on the coarse mesh; its layer energies are given.
            fine: model on the fine mesh that refines ``conditions.given``; it gets ``grouping`` as a setting.
            leave_out: parts that are not trained, because the chain does not need them: those of a coarse
                model that make its layer energies, for example "coarse.layers".
        """

        grouping: tuple[int, int, int] = (5, 2, 1)
        energies: LayerEnergyChoice = Field({"kind": "autoregressive"}, validate_default=True)
        coarse: Slot = Slot(model="supercalo.coarse:SuperCaloCoarse")
        fine: Slot = Slot(model="supercalo.fine:SuperCaloFine")
        leave_out: tuple[str, ...] = ()

        @field_validator("coarse", "fine")
        @classmethod
        def _known(cls, slot: Slot) -> Slot:
            try:
                settings = load_model_class(slot.model).Settings
                if "grouping" not in settings.model_fields:
                    settings.model_validate(slot.settings)
            except (RecipeError, ValidationError) as error:
                raise ValueError(str(error)) from error
            return slot

    mesh_kinds: ClassVar[tuple[str, ...]] = ("cylinder", "box")
    block_size: ClassVar[int] = 256
    example: ClassVar[Mapping[str, Any]] = {"grouping": (2, 2, 1)}
    settings: Settings

    def __init__(self, mesh: Mesh, settings: Settings | Mapping[str, object] | None = None) -> None:
        super().__init__(mesh, settings)
        s = self.settings
        assert isinstance(mesh, RegularMesh)
        self.grouping = Grouping.by_factors(mesh, s.grouping)
        self._add_layer_energies(s.energies)
        self.coarse = load_model_class(s.coarse.model)(self.grouping.coarse, s.coarse.settings)
        self.fine = load_model_class(s.fine.model)(mesh, {"grouping": s.grouping, **s.fine.settings})
        self.coarse_layers = Layers.of(self.grouping.coarse)
        strange = set(s.leave_out) - set(self._all_parts())
        if strange:
            raise RecipeError(
                f"leave_out names {', '.join(sorted(strange))}; the parts are {', '.join(self._all_parts())}"
            )

    @property
    def given_mesh(self) -> Mesh:
        """Mesh of the showers that can be given instead of being made."""
        return self.grouping.coarse

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {"energies": (self.energy_flow.noise_size,)}
        for name, model in (("coarse", self.coarse), ("fine", self.fine)):
            shapes |= {f"{name}.{key}": shape for key, shape in model.noise_shapes().items()}
        return shapes

    def _all_parts(self) -> dict[str, list[nn.Parameter]]:
        parts = {"energies": list(self.energy_flow.parameters())}
        for name, model in (("coarse", self.coarse), ("fine", self.fine)):
            parts |= {f"{name}.{key}": group for key, group in model.parts().items()}
        return parts

    def parts(self) -> dict[str, list[nn.Parameter]]:
        return {
            name: group for name, group in self._all_parts().items() if name not in self.settings.leave_out
        }

    def fit(self, showers: Showers) -> None:
        super().fit(showers)
        self.coarse.fit(coarsened(showers, self.settings.grouping))
        self.fine.fit(showers)

    def calibrate(self, showers: Showers, generator: torch.Generator) -> None:
        self.coarse.calibrate(coarsened(showers, self.settings.grouping), generator)
        self.fine.calibrate(showers, generator)

    def after_step(self, part: str) -> None:
        slot, _, name = part.partition(".")
        if name:
            self._slot(slot).after_step(name)

    def _slot(self, name: str) -> GeneratorModel:
        return self.coarse if name == "coarse" else self.fine

    def losses(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Loss of the layer energies, or of a part of the model in one of the slots."""
        slot, _, name = part.partition(".")
        if not name:
            return self.layer_energy_losses(batch, generator)
        model, coarse = self._slot(slot), block_sums(batch.energies, self.settings.grouping)
        model.progress = self.progress
        seen = replace(batch, energies=coarse) if slot == "coarse" else replace(batch, given=coarse)
        return model.losses(seen, name, generator)

    def decode(self, noise: Mapping[str, Tensor], conditions: ConditionTensors) -> Tensor:
        if conditions.given is not None:
            return self.fine.decode(_noise_of("fine", noise), conditions)
        layers = self.layer_energies(noise["energies"], self.incident(conditions), conditions)
        sums = layers.reshape(layers.shape[0], self.grouping.coarse.n_layers, -1).sum(dim=2)
        coarse = self.coarse.decode(_noise_of("coarse", noise), replace(conditions, layer_energies=sums))
        coarse = renormalise_layers(coarse, sums, self.coarse_layers, self.threshold)
        return self.fine.decode(
            _noise_of("fine", noise), replace(conditions, given=coarse, layer_energies=layers)
        )


def _noise_of(slot: str, noise: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The noise of one slot, without its prefix."""
    return {key.partition(".")[2]: z for key, z in noise.items() if key.startswith(f"{slot}.")}


def coarse_showers(model: GeneratorModel, showers: Showers) -> Showers:
    """The showers on the mesh of those that the model refines, summed where they are finer.

    Raises:
        MeshError: the model refines none, or the meshes do not nest.
    """
    mesh = model.given_mesh
    if mesh is None:
        raise MeshError(f"a {type(model).__name__} does not refine showers")
    if showers.mesh == mesh:
        return showers
    grouping = Grouping(showers.mesh, mesh)  # type: ignore[arg-type]  # checked there
    if not grouping.nested:
        raise MeshError(f"{grouping}: give showers that were scored in the coarse mesh")
    return coarsened(showers, grouping.factors)
