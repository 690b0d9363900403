"""What is trained from a recipe: parts, a loss for each, statistics, and where it computes.

Legend: ``n`` showers of a batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from caloforge.errors import CaloforgeError, MeshError, RecipeError
from caloforge.models.batch import Batch
from caloforge.models.names import current_name
from caloforge.models.networks.fused import can_fuse
from caloforge.models.networks.kernels import choose_kernels, kernel_names
from caloforge.registry import load_object
from caloforge.runtime.devices import pick_device
from caloforge.runtime.execution import Execution, require_choices
from caloforge.runtime.precision import in_bf16
from caloforge.settings import Settings

if TYPE_CHECKING:
    from caloforge.detector.detector import Detector
    from caloforge.detector.mesh import Mesh

__all__ = ["Trainable", "load_trainable_class"]


class Trainable(nn.Module, ABC):
    """Network and preprocessing that are trained from a recipe.

    A family is trained on `Showers`, in batches that are `Batch`, or on `PixelEvents`, in `PixelBatch`.

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
        augmentation: draws random symmetry operations for the showers of a batch, which training has already
            had for the real ones; for losses that move generated ones alike. None where there are none.
        progress: fraction of the training that is done, in [0, 1], for losses with a schedule of their own;
            a tensor (), which a recorded step reads.
    """

    class Settings(Settings):
        """Settings of the network; unknown keys are errors."""

    mesh_kinds: ClassVar[tuple[str, ...]] = ()
    """Kinds of mesh that this family can do; empty means all."""
    sees_batch: ClassVar[bool] = False
    """True where a shower's loss depends on the others of its batch: one process has to see them all."""
    example: ClassVar[Mapping[str, Any]] = {}
    """Settings of a small model for 6 × 4 × 3 cells, with which the laws of all models are tested."""
    joint: ClassVar[bool] = False
    """True where one model may be trained on detectors whose cells differ in size."""
    introduces: ClassVar[bool] = False
    """True where it makes showers in detectors of which it has only a description, see `introduce`."""

    settings: BaseModel
    detectors: tuple[str, ...]
    meshes: dict[str, Mesh]
    execution: Execution
    augmentation: Callable[[Batch, torch.Generator], Callable[[Tensor], Tensor]] | None
    progress: Tensor

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
        self.augmentation = None
        self.register_buffer("progress", torch.zeros(()), persistent=False)
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
        """Move it to a device and decide how it computes there; `losses` and `decode` do not ask again.

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
        models = [model for model in self.modules() if isinstance(model, Trainable)]
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

    def fit(self, showers: Any) -> None:
        """Set the preprocessing statistics, which are buffers, from the training split, read in slices."""

    def adapt(self, showers: Any) -> None:
        """What `fit` is where trained weights are adapted to new showers, of new detectors or known ones.

        ``detectors`` and ``meshes`` hold the new ones already, behind those it was trained on. What it keeps
        of detectors that do not occur in ``showers`` must stay as it is.

        Raises:
            CheckpointError: there is no room for another detector.
            RecipeError: this family cannot be adapted.
        """
        raise RecipeError(f"a {type(self).__name__} cannot be adapted; train it on all showers instead")

    def introduce(self, detector: Detector) -> str:
        """Take a detector in of which there is only a description, behind those that are known.

        Returns what is to be said of how sure its showers are.

        Raises:
            CheckpointError: there is no room for another detector.
            DetectorError: its description does not suffice.
            RecipeError: this family makes showers only in detectors that it was trained on.
        """
        raise RecipeError(f"a {type(self).__name__} makes showers only in detectors that it was trained on")

    def use_teacher(self, teacher: Trainable) -> None:
        """Take a trained model to learn from, frozen and in eval mode; called before `fit`.

        A student keeps it out of its state dict (in a tuple, say) and copies what it shares with it.

        Raises:
            RecipeError: this family learns from showers alone, or cannot learn from such a teacher.
        """
        raise RecipeError(f"{type(self).__name__} learns from showers alone; train it without a teacher")

    def calibrate(self, showers: Any, generator: torch.Generator) -> None:
        """Set buffers that need the trained network; called once, with the best weights, without gradients.

        Args:
            showers: the training split.
            generator: for all random numbers, on the model's device.
        """

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Named groups of parameters that are trained one after the other in each step.

        Each has its own optimiser, schedule, clipping, validation loss, early stopping and best snapshot. No
        parameter may be in two groups; those in none are not trained. A chain of independent networks has a
        part for each, an adversarial model the parts "critic" and "generator". A model that is complete after
        `fit`, or before, has none.
        """
        return {"model": [p for p in self.parameters() if p.requires_grad]}

    @abstractmethod
    def losses(self, batch: Any, part: str, generator: torch.Generator) -> dict[str, Tensor]:
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

    def forward(self, batch: Any, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """The same as `losses`."""
        return self.losses(batch, part, generator)

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
        """A JSON-able summary: class, mesh, settings, parameters by part."""
        return {
            "model": type(self).__name__,
            "mesh": str(self.mesh),
            "settings": self.settings.model_dump(mode="json"),
            "n_parameters": self.n_parameters,
            "parts": {name: sum(p.numel() for p in group) for name, group in self.parts().items()},
        }


def load_trainable_class(name: str) -> type[Trainable]:
    """The class called ``name``, "module:Class".

    The module is looked for in ``caloforge.models`` first and then as an absolute name, so that
    "flow.inductive:InductiveLayerFlow" is ours and "yourpackage.module:Class" yours.

    Raises:
        RecipeError: the name is malformed, or there is no such module or class.
    """
    if ":" not in name:
        raise RecipeError(
            f'model {name!r} is not of the form "module:Class", e.g. "flow.inductive:InductiveLayerFlow"'
        )
    found = load_object(current_name(name), "model", package="caloforge.models")
    if not (isinstance(found, type) and issubclass(found, Trainable)):
        raise RecipeError(f"model {name!r} is not a GeneratorModel, but {found!r}")
    return found
