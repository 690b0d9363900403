"""What every generator is: a deterministic map from (noise, conditions) to showers, and losses to train it.

Legend: ``n`` showers of a batch, ``shape`` the mesh's shape, (Z, P, R), (Z, Y, X) or (V,). Energies are MeV,
angles rad, lengths mm.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import Tensor, nn

from caloforge.errors import CaloforgeError, MeshError, RecipeError
from caloforge.models.names import current_name
from caloforge.models.networks.fused import can_fuse
from caloforge.models.networks.kernels import choose_kernels, kernel_names
from caloforge.registry import load_object
from caloforge.runtime.devices import pick_device
from caloforge.runtime.execution import Execution, require_choices
from caloforge.runtime.precision import in_bf16
from caloforge.settings import Settings

if TYPE_CHECKING:
    from caloforge.data.conditions import Conditions
    from caloforge.data.showers import Showers
    from caloforge.detector.mesh import Mesh

__all__ = ["Batch", "ConditionTensors", "GeneratorModel", "load_model_class"]

MOST_GPU = 1024
"""Showers of a block on other devices than a CPU, at most."""
CELLS_GPU = MOST_GPU * 6480
"""Cells of such a block, at most; what takes memory grows with them."""


@dataclass
class ConditionTensors:
    """Incident conditions of n showers as tensors on one device.

    Attributes:
        energy: kinetic energy, MeV, (n,) float32.
        theta: polar angle, rad, (n,) float32.
        phi: azimuth, rad, (n,) float32.
        particle: PDG codes, (n,) int64; 0 where unknown.
        detector: position of the detector's name in the model's ``detectors``, (n,) int64; −1 if none.
        impact: impact point on the detector's face, mm, (n, 2) float32, or None.
        given: energies that an earlier generator of a chain made on its own mesh, MeV, (n, \\*shape) float32,
            or None.
        layer_energies: energies of the layers that the showers shall have, MeV, (n, Z) float32, or None where
            the model chooses them.
    """

    energy: Tensor
    theta: Tensor
    phi: Tensor
    particle: Tensor
    detector: Tensor
    impact: Tensor | None = None
    given: Tensor | None = None
    layer_energies: Tensor | None = None

    @classmethod
    def of(
        cls, conditions: Conditions, detectors: Sequence[str] = (), device: torch.device | str = "cpu"
    ) -> ConditionTensors:
        """Tensors of ``conditions``; ``detectors`` are the names that the detector index counts."""
        return ConditionTensors(**_columns(conditions, detectors)).to(device)

    def __len__(self) -> int:
        return len(self.energy)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """The same on another device."""
        return self._map(lambda column: column.to(device, non_blocking=non_blocking))

    def __getitem__(self, index: slice | Tensor) -> Self:
        """The showers at a slice, an index tensor or a boolean mask."""
        return self._map(lambda column: column[index])

    def _map(self, change: Any) -> Self:
        columns: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        changed: dict[str, Any] = {k: None if v is None else change(v) for k, v in columns.items()}
        return type(self)(**changed)


@dataclass(kw_only=True)
class Batch(ConditionTensors):
    """Showers to train on: conditions and energies (n, \\*shape), MeV, float32."""

    energies: Tensor

    @classmethod
    def with_energies(
        cls,
        energies: Tensor | NDArray[np.float32],
        conditions: Conditions,
        detectors: Sequence[str] = (),
        device: torch.device | str = "cpu",
        given: NDArray[np.float32] | None = None,
    ) -> Batch:
        """A batch of energies (n, \\*shape), their n conditions and what is ``given`` of them."""
        tensor = torch.as_tensor(energies, dtype=torch.float32)
        if len(tensor) != len(conditions):
            raise ValueError(f"{len(tensor)} showers but conditions for {len(conditions)}")
        columns = _columns(conditions, detectors)
        if given is not None:
            columns["given"] = torch.as_tensor(given, dtype=torch.float32)
        return Batch(energies=tensor, **columns).to(device)


def _columns(conditions: Conditions, detectors: Sequence[str]) -> dict[str, Any]:
    index = np.full(len(conditions), -1, dtype=np.int64)
    for i, name in enumerate(detectors):
        index[conditions.detector == name] = i
    columns: dict[str, Any] = {
        name: torch.from_numpy(getattr(conditions, name).astype(np.float32))
        for name in ("energy", "theta", "phi")
    }
    columns["particle"] = torch.from_numpy(conditions.particle.astype(np.int64))
    columns["detector"] = torch.from_numpy(index)
    columns["impact"] = (
        None if conditions.impact is None else torch.from_numpy(conditions.impact.astype(np.float32))
    )
    return columns


class GeneratorModel(nn.Module, ABC):
    """Network and preprocessing of one family; a subclass is a new family.

    The mesh and the settings alone determine the shapes of all parameters and buffers, so that a checkpoint
    can be read without the training data. `fit` then sets the buffers that hold preprocessing statistics.

    Args:
        mesh: cells of the showers.
        settings: `Settings` of the subclass, or a mapping from which they are validated.

    Attributes:
        detectors: names that ``ConditionTensors.detector`` counts; set by training, kept in the checkpoint.
        meshes: cells of each of the detectors, likewise; all alike but for the size of the cells.
        execution: where and in which precision it computes, decided by `execute_on`; until then on a CPU, as
            its settings say.
        progress: fraction of the training that is done, in [0, 1], for losses with a schedule of their own.
    """

    class Settings(Settings):
        """Settings of the network; unknown keys are errors."""

    mesh_kinds: ClassVar[tuple[str, ...]] = ()
    """Kinds of mesh that this family can do; empty means all."""
    block_size: ClassVar[int] = 64
    """Showers that `decode` is given at once on a CPU, always exactly so many (see docs/generation.md)."""
    example: ClassVar[Mapping[str, Any]] = {}
    """Settings of a small model for 6 × 4 × 3 cells, with which the laws of all models are tested."""
    joint: ClassVar[bool] = False
    """True where one model may be trained on detectors whose cells differ in size."""

    settings: BaseModel
    detectors: tuple[str, ...]
    meshes: dict[str, Mesh]
    execution: Execution
    progress: float

    def __init__(self, mesh: Mesh, settings: BaseModel | Mapping[str, Any] | None = None) -> None:
        super().__init__()
        if self.mesh_kinds and mesh.kind not in self.mesh_kinds:
            raise MeshError(
                f"{type(self).__name__} works on meshes of kind {', '.join(self.mesh_kinds)}; got a {mesh}"
            )
        self.mesh = mesh
        self.settings = self.Settings.model_validate({} if settings is None else settings)
        self.detectors = ()
        self.meshes = {}
        self.progress = 0.0
        own = in_bf16(self._bf16_setting, "auto", torch.device("cpu"))
        self.execution = Execution(torch.device("cpu"), "bfloat16" if own else "float32", "auto")

    @property
    def _bf16_setting(self) -> bool | Literal["auto"]:
        """What the settings say of bfloat16; no model has it whose settings do not know it."""
        setting: bool | Literal["auto"] = getattr(self.settings, "bf16", False)
        return setting

    @property
    def bf16(self) -> bool:
        """True where its own networks compute in bfloat16."""
        return self.execution.precision == "bfloat16"

    @property
    def kernel_names(self) -> tuple[str, ...]:
        """Kernels that its networks have."""
        return kernel_names(self)

    def execute_on(
        self, device: str | torch.device = "auto", precision: str = "auto", kernels: str = "auto"
    ) -> Self:
        """Move it to a device and decide how it computes there; `decode` and `losses` do not ask again.

        Kernels are compiled now where they are not yet, and only those that its networks have.

        Args:
            device: "auto", "cpu", "cuda", "cuda:1" or "mps".
            precision: of the networks, "float32" or "bfloat16"; "auto" is what the settings say (``bf16``),
                where "auto" in turn is bfloat16 on a device that multiplies it natively.
            kernels: "compiled", "fused" by torch's compiler, or "plain" torch; "auto" is compiled on a CPU
                where all can be had, otherwise plain.

        Raises:
            CaloforgeError: there is no such device, the model has no networks in bfloat16, or kernels are
                asked for that cannot be had.
        """
        require_choices(precision, kernels)
        device = pick_device(device)
        models = [model for model in self.modules() if isinstance(model, GeneratorModel)]
        able = [model for model in models if "bf16" in type(model.settings).model_fields]
        if precision == "bfloat16" and not able:
            raise CaloforgeError(f"a {type(self).__name__} computes in float32; leave the precision out")
        bf16 = {model: in_bf16(model._bf16_setting, precision, device) for model in able}
        chosen = choose_kernels(self, device, kernels, any(bf16.values()))
        for model in models:
            names = {"bfloat16" if bf16[m] else "float32" for m in able if m in set(model.modules())}
            model.execution = Execution(
                device=device,
                precision="mixed" if len(names) > 1 else "bfloat16" if "bfloat16" in names else "float32",
                kernels=chosen if kernel_names(model) or (chosen == "fused" and can_fuse(model)) else "none",
            )
        return self.to(device)

    def know(self, detectors: Sequence[str], meshes: Mapping[str, Mesh]) -> None:
        """Take the names and cells of the detectors that trained weights are for.

        Raises:
            RecipeError: there is no room for so many.
        """
        self.detectors, self.meshes = tuple(detectors), dict(meshes)

    def fit(self, showers: Showers) -> None:
        """Set the preprocessing statistics, which are buffers, from the training split, read in slices."""

    def adapt(self, showers: Showers) -> None:
        """What `fit` is where trained weights are adapted to new showers, of new detectors or known ones.

        ``detectors`` and ``meshes`` hold the new ones already, behind those it was trained on. What it keeps
        of detectors that do not occur in ``showers`` must stay as it is.

        Raises:
            CheckpointError: there is no room for another detector.
            RecipeError: this family cannot be adapted.
        """
        raise RecipeError(f"a {type(self).__name__} cannot be adapted; train it on all showers instead")

    def use_teacher(self, teacher: GeneratorModel) -> None:
        """Take a trained model to learn from, frozen and in eval mode; called before `fit`.

        A student keeps it out of its state dict (in a tuple, say) and copies what it shares with it.

        Raises:
            RecipeError: this family learns from showers alone, or cannot learn from such a teacher.
        """
        raise RecipeError(f"{type(self).__name__} learns from showers alone; train it without a teacher")

    def calibrate(self, showers: Showers, generator: torch.Generator) -> None:
        """Set buffers that need the trained network; called once, with the best weights, without gradients.

        Args:
            showers: the training split.
            generator: for all random numbers, on the model's device.
        """

    def require_possible(self, conditions: Conditions) -> None:
        """ConditionError for conditions of which no shower can be made, in the trained range or out of it."""

    @abstractmethod
    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each named part of one shower's noise; all numbers are standard normal."""

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Named groups of parameters that are trained one after the other in each step.

        Each has its own optimiser, schedule, clipping, validation loss, early stopping and best snapshot. No
        parameter may be in two groups; those in none are not trained. A chain of independent networks has a
        part for each, an adversarial model the parts "critic" and "generator". A model that is complete after
        `fit`, or before, has none.
        """
        return {"model": [p for p in self.parameters() if p.requires_grad]}

    @abstractmethod
    def losses(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Loss of one part on a batch.

        All random numbers must come from ``generator``, which lives on the batch's device, or be dropout;
        tensors of them begin with the n showers, or n times k of them shower by shower (see
        `caloforge.runtime.share`; where only lit examples pass a network, `caloforge.models.lit` draws for
        all), so that several processes can draw as one. Validation calls
        this in eval mode without gradients (a gradient penalty has to enable them for itself) and always
        with the same random numbers.

        Returns:
            "loss", the mean over the batch of a loss per example, and any further scalars to log. Where the
            mean is not over showers but, say, over lit layers, "weight" is their number, a scalar that other
            batches and the shares of other processes are weighed with.
        """

    def after_step(self, part: str) -> None:
        """Called without gradients after each optimiser step of ``part``, e.g. for target networks."""

    @abstractmethod
    def decode(self, noise: Mapping[str, Tensor], conditions: ConditionTensors) -> Tensor:
        """Showers (n, \\*shape), MeV, float32, of n noises and n conditions; deterministic.

        Each shower must depend on its own noise and conditions alone, through operations whose shapes are
        the same for every batch of n: use ``torch.where`` rather than boolean indexing.
        """

    def forward(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """The same as `losses`."""
        return self.losses(batch, part, generator)

    def noise(self, n: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Noise of n showers from a torch generator, (n, \\*shape) each; for training and tests.

        Generation draws its noise from `caloforge.generation` instead, keyed by the number of the shower.
        """
        device = torch.device("cpu") if generator is None else generator.device
        return {
            name: torch.randn(n, *shape, generator=generator, device=device)
            for name, shape in self.noise_shapes().items()
        }

    @property
    def given_mesh(self) -> Mesh | None:
        """Mesh of the showers that `decode` reads as ``conditions.given``; None where it reads none."""
        return None

    @property
    def block_size_gpu(self) -> int:
        """Showers that `decode` is given at once on other devices: a power of 2, fewer on larger meshes."""
        most = min(max(CELLS_GPU // self.mesh.n_voxels, 1), MOST_GPU)
        return 1 << (most.bit_length() - 1)

    @property
    def device(self) -> torch.device:
        """Where the parameters and buffers are."""
        for tensor in (*self.parameters(), *self.buffers()):
            return tensor.device
        return torch.device("cpu")

    @property
    def n_parameters(self) -> int:
        """Number of parameters in all."""
        return sum(p.numel() for p in self.parameters())

    def describe(self) -> dict[str, Any]:
        """A JSON-able summary: class, mesh, settings, parameters by part, noise."""
        return {
            "model": type(self).__name__,
            "mesh": str(self.mesh),
            "settings": self.settings.model_dump(mode="json"),
            "n_parameters": self.n_parameters,
            "parts": {name: sum(p.numel() for p in group) for name, group in self.parts().items()},
            "noise": {name: list(shape) for name, shape in self.noise_shapes().items()},
        }


def load_model_class(name: str) -> type[GeneratorModel]:
    """The model class called ``name``, "module:Class".

    The module is looked for in ``caloforge.models`` first and then as an absolute name, so that
    "flow.inductive:InductiveLayerFlow" is ours and "yourpackage.module:Class" yours.

    Raises:
        RecipeError: the name is malformed, or there is no such module or class.
    """
    if ":" not in name:
        raise RecipeError(
            f'model {name!r} is not of the form "module:Class", e.g. "flow.inductive:InductiveLayerFlow"'
        )
    model_class = load_object(current_name(name), "model", package="caloforge.models")
    if not (isinstance(model_class, type) and issubclass(model_class, GeneratorModel)):
        raise RecipeError(f"model {name!r} is not a GeneratorModel, but {model_class!r}")
    return model_class
