"""Batches of showers and of their conditions, as tensors on one device.

Legend: ``n`` showers of a batch, ``shape`` the mesh's shape, (Z, P, R), (Z, Y, X) or (V,). Energies are MeV,
angles rad, lengths mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from caloforge.data.conditions import Conditions

__all__ = ["Batch", "ConditionTensors"]


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

    def named(self) -> dict[str, Tensor]:
        """The columns that are known, by name."""
        return {name: column for name, column in vars(self).items() if column is not None}

    @property
    def index_device(self) -> torch.device:
        """Where an index of showers has to be: with them."""
        return self.energy.device

    @property
    def impact_point(self) -> Tensor:
        """The impact point, or the origin where none is known, (n, 2)."""
        return self.energy.new_zeros(self.energy.shape[0], 2) if self.impact is None else self.impact

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
