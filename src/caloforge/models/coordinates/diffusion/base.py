"""Cells as the numbers of order one that a diffusion model works on, and back.

Legend: ``n`` showers, mesh (Z, P, R), ``D`` detectors. Energies are in units of the cell threshold.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, SerializeAsAny
from torch import Tensor, nn

from caloforge.registry import Registry
from caloforge.settings import KindSettings

__all__ = ["COORDINATES", "Coordinates", "CoordinatesChoice", "most_showers"]

MOST_BYTES = 512 << 20
"""Showers that statistics are taken from may take this much memory."""


class Coordinates(nn.Module, ABC):
    """An invertible map of cells; statistics are kept for each detector slot.

    Args:
        settings: `Settings` of the subclass.
        slots: D.
        shape: (Z, P, R), that of all detectors' meshes.

    Attributes:
        gives_shares: True where `shares` says what noisy coordinates stand for.
        needs_layer_energies: True where `inverse` needs the energies of layers.
    """

    Settings: ClassVar[type[KindSettings]]
    gives_shares: ClassVar[bool] = False
    needs_layer_energies: bool = False

    @abstractmethod
    def __init__(self, settings: Any, slots: int, shape: tuple[int, int, int]) -> None:
        super().__init__()

    @abstractmethod
    def fit(self, slot: int, energies: Tensor, incident: Tensor) -> None:
        """Set the statistics of a detector from showers (n, Z, P, R) of incident energies (n,)."""

    @abstractmethod
    def forward(
        self, energies: Tensor, incident: Tensor, layer_energies: Tensor, slots: Tensor, uniform: Tensor
    ) -> Tensor:
        """Coordinates (n, Z, P, R) of cells (n, Z, P, R); ``uniform`` (n, Z, P, R) places empty ones."""

    @abstractmethod
    def inverse(self, x: Tensor, incident: Tensor, layer_energies: Tensor | None, slots: Tensor) -> Tensor:
        """Cells (n, Z, P, R) of coordinates, none between 0 and 1; layers do not yet close."""

    def weights(self, layer_energies: Tensor, slots: Tensor) -> Tensor | None:
        """How much each cell counts in the loss, (n, Z, 1 or P, R); None where all count alike."""
        return None

    def shares(self, layer_energies: Tensor, slots: Tensor) -> Callable[[Tensor], Tensor]:
        """Shares of the energies of layers (n, Z), as a function of coordinates (n, Z, P, R), noisy or not.

        Only where `gives_shares` is true.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no shares")


COORDINATES: Registry[type[Coordinates]] = Registry(
    "coordinates", "caloforge.models.coordinates.diffusion", default="marginals"
)
"""Coordinates of diffusion models by the ``kind`` of their settings."""

CoordinatesChoice = Annotated[SerializeAsAny[KindSettings], BeforeValidator(COORDINATES.settings)]
"""Type of a settings field that says which coordinates, and their settings."""


def most_showers(n_voxels: int) -> int:
    """Showers that statistics are taken from at most."""
    return max(MOST_BYTES // (4 * n_voxels), 1)
