"""Makes showers of one order, or of several at once, with one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.data.sources import illegal_energy
from caloforge.errors import CheckpointError
from caloforge.fast.orders import MOST_SHOWERS, Offer, Order
from caloforge.generation.noise import draw_noise
from caloforge.models.base import ConditionTensors, GeneratorModel

__all__ = ["Piece", "ShowerMaker"]

MOST_AT_ONCE_GPU = 256

Energies = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Piece:
    """The showers ``start`` … ``stop`` − 1 of an order."""

    order: Order
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class ShowerMaker:
    """One model and what it can make.

    Args:
        checkpoint: of a model that makes showers from noise and conditions alone.
        device, precision, kernels: see `Trainable.execute_on`.

    Attributes:
        model: the model.
        block: showers that it makes at once, at most.

    Raises:
        CheckpointError: the model does not know in which detector its showers are.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: str = "auto", precision: str = "auto", kernels: str = "auto"
    ) -> None:
        self.checkpoint = checkpoint
        self.model: GeneratorModel = checkpoint.model(device, precision, kernels)
        if not self.model.detectors:
            raise CheckpointError(f"{checkpoint.name} does not say in which detector its showers are")
        on_cpu = self.model.execution.device.type == "cpu"
        self.block = self.model.block_size if on_cpu else min(self.model.block_size_gpu, MOST_AT_ONCE_GPU)

    def offer(self, most: int = MOST_SHOWERS) -> Offer:
        """What it can make, ``most`` showers at a time."""
        checkpoint, execution = self.checkpoint, self.model.execution
        return Offer(
            name=checkpoint.name,
            fingerprint=checkpoint.fingerprint,
            execution={
                "device": execution.device.type,
                "precision": execution.precision,
                "kernels": execution.kernels,
                "torch": str(torch.__version__),
            },
            ranges={name: dict(checkpoint.range_of(name)) for name in checkpoint.detectors},
            meshes={name: checkpoint.mesh_of(name).to_dict() for name in checkpoint.detectors},
            most=most,
        )

    @torch.inference_mode()
    def make(self, pieces: Sequence[Piece]) -> list[Energies | CheckpointError]:
        """Energies (n, V), MeV, of each piece, at most `block` showers in all; illegal ones are an error."""
        model = self.model
        device, shapes = model.execution.device, model.noise_shapes()
        parts = [(draw_noise(shapes, p.order.seed, self._numbers(p), device), self._told(p)) for p in pieces]
        noise = {name: torch.cat([drawn[name] for drawn, _ in parts]) for name in shapes}
        told = {name: torch.cat([columns[name] for _, columns in parts]).to(device) for name in parts[0][1]}
        made = model.decode(noise, ConditionTensors(**told))
        flat = made.to("cpu", torch.float32).numpy().reshape(len(made), -1)
        ends = np.cumsum([len(piece) for piece in pieces])
        return [
            _legal(energies, piece) for energies, piece in zip(np.split(flat, ends[:-1]), pieces, strict=True)
        ]

    @staticmethod
    def _numbers(piece: Piece) -> NDArray[np.int64]:
        return piece.order.numbers[piece.start : piece.stop]

    def _told(self, piece: Piece) -> dict[str, Tensor]:
        conditions = piece.order.conditions[piece.start : piece.stop]
        return ConditionTensors.of(conditions, self.model.detectors).named()


def _legal(energies: Energies, piece: Piece) -> Energies | CheckpointError:
    if (found := illegal_energy(energies)) is None:
        return energies
    bad = found[0] + piece.start
    c = piece.order.conditions
    return CheckpointError(
        f"the model gave energies that are negative or no numbers for shower {piece.order.numbers[bad]} "
        f"({c.energy[bad]:.6g} MeV, θ = {c.theta[bad]:.4g}, φ = {c.phi[bad]:.4g}); it is not usable there"
    )
