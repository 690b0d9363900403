"""What every generator is: a deterministic map from (noise, conditions) to showers, and losses to train it.

Legend: ``n`` showers of a batch, ``shape`` the mesh's shape, (Z, P, R), (Z, Y, X) or (V,). Energies are MeV,
angles rad, lengths mm.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from caloforge.errors import RecipeError
from caloforge.models.batch import Batch, ConditionTensors
from caloforge.models.trainable import Trainable, load_trainable_class

if TYPE_CHECKING:
    from caloforge.data.conditions import Conditions
    from caloforge.detector.mesh import Mesh

__all__ = ["Batch", "ConditionTensors", "GeneratorModel", "NoiseModel", "load_model_class"]

MOST_GPU = 1024
"""Showers of a block on other devices than a CPU, at most."""
CELLS_GPU = MOST_GPU * 6480
"""Cells of such a block, at most; what takes memory grows with them."""


class NoiseModel(Trainable):
    """A model that makes something of noise: showers, or events of a pixel detector."""

    @abstractmethod
    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each named part of the noise of one; all numbers are standard normal."""

    def noise(self, n: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Noise of n from a torch generator, (n, \\*shape) each; for training and tests.

        Generation draws its noise from `caloforge.generation` instead, keyed by the number of the shower.
        """
        device = torch.device("cpu") if generator is None else generator.device
        return {
            name: torch.randn(n, *shape, generator=generator, device=device)
            for name, shape in self.noise_shapes().items()
        }

    def describe(self) -> dict[str, Any]:
        """The same, with its noise."""
        return super().describe() | {
            "noise": {name: list(shape) for name, shape in self.noise_shapes().items()}
        }


class GeneratorModel(NoiseModel):
    """A model that makes showers, network and preprocessing of one family; a subclass is a new family."""

    block_size: ClassVar[int] = 64
    """Showers that `decode` is given at once on a CPU, always exactly so many (docs/how-to/generation.md)."""

    def require_possible(self, conditions: Conditions) -> None:
        """ConditionError for conditions of which no shower can be made, in the trained range or out of it."""

    @abstractmethod
    def decode(self, noise: Mapping[str, Tensor], conditions: ConditionTensors) -> Tensor:
        """Showers (n, \\*shape), MeV, float32, of n noises and n conditions; deterministic.

        Each shower must depend on its own noise and conditions alone, through operations whose shapes are
        the same for every batch of n: use ``torch.where`` rather than boolean indexing.
        """

    @property
    def given_mesh(self) -> Mesh | None:
        """Mesh of the showers that `decode` reads as ``conditions.given``; None where it reads none."""
        return None

    @property
    def block_size_gpu(self) -> int:
        """Showers that `decode` is given at once on other devices: a power of 2, fewer on larger meshes."""
        most = min(max(CELLS_GPU // self.mesh.n_voxels, 1), MOST_GPU)
        return 1 << (most.bit_length() - 1)


def load_model_class(name: str) -> type[GeneratorModel]:
    """The class of generators called ``name``, see `load_trainable_class`.

    Raises:
        RecipeError: the name is malformed, there is no such module or class, or it makes no showers.
    """
    found = load_trainable_class(name)
    if not issubclass(found, GeneratorModel):
        raise RecipeError(f"model {name!r} makes no showers, {found.__name__} only helps to train others")
    return found
