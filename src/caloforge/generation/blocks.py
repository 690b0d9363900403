"""Blocks of showers: noise and conditions through the model, always so many at once.

A matrix product may round differently for another number of rows. So that a shower is the same to the last
bit whatever is generated with it, the model always gets exactly B showers at once, numbers kB … kB + B − 1,
and a shower always has the same place among them; places that were not asked for are computed and dropped.
Legend: ``B`` showers of a block, ``N`` showers of the request, ``V`` voxels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.data.conditions import Conditions
from caloforge.errors import CheckpointError
from caloforge.generation.noise import draw_noise
from caloforge.generation.request import GenerationRequest
from caloforge.models.base import ConditionTensors, GeneratorModel

__all__ = ["Block", "BlockDecoder", "decode_block"]

Energies = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Block:
    """What the model is given at once, as it is sent to another process.

    Attributes:
        first: number of the shower in the first place.
        conditions: of the B places.
        given: coarse showers for them, MeV, (B, \\*shape), or None.
        wanted: places of the showers that were asked for.
    """

    first: int
    conditions: Conditions
    given: Energies | None
    wanted: slice


def decode_block(model: GeneratorModel, seed: int, block: Block) -> Energies:
    """Energies (n, V), MeV, of the n showers of a block that were asked for.

    Raises:
        CheckpointError: the model gave another shape.
    """
    size, device = len(block.conditions), model.device
    numbers = torch.arange(size, dtype=torch.int64) + block.first
    conditions = ConditionTensors.of(block.conditions, model.detectors, device)
    if block.given is not None:
        conditions.given = torch.from_numpy(block.given).to(device)
    made = model.decode(draw_noise(model.noise_shapes(), seed, numbers, device), conditions)
    if made.shape != (size, *model.mesh.shape):
        raise CheckpointError(
            f"{type(model).__name__} gave showers of shape {tuple(made.shape)}; "
            f"({size}, *{model.mesh.shape}) was expected"
        )
    part = made[block.wanted].to("cpu", torch.float32).numpy()
    return np.ascontiguousarray(part).reshape(len(part), -1)


class BlockDecoder:
    """Makes the showers of a request, a block in each call of the model, and knows what they cost.

    Attributes:
        request: the request; position i is its shower first + i, with the conditions i modulo their number.
        n_made: showers made.
        seconds: elapsed time for them: noise, model and the copy to the CPU.
        processor_seconds: processor time of this process, summed over the threads.
    """

    def __init__(self, request: GenerationRequest) -> None:
        self.request = request
        self.n_made, self.seconds, self.processor_seconds = 0, 0.0, 0.0

    def spans(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Positions (low, high) of the showers start … stop − 1 that are in each block."""
        low, size = start, self.request.block_size
        while low < stop:
            high = min(low + size - self._places_before(low), stop)
            yield low, high
            low = high

    def decode(self, low: int, high: int) -> Energies:
        """Energies (high − low, V), MeV, of the showers at positions low … high − 1, which one block holds.

        Raises:
            CheckpointError: the model gave another shape.
        """
        began, processor_began = time.perf_counter(), time.process_time()
        energies = decode_block(self.request.model, self.request.seed, self.block(low, high))
        self.seconds += time.perf_counter() - began
        self.processor_seconds += time.process_time() - processor_began
        self.n_made += high - low
        return energies

    def count(self, n: int, seconds: float) -> None:
        """Add n showers that other processes made, ``seconds`` after the ones before."""
        self.n_made, self.seconds = self.n_made + n, self.seconds + seconds

    def block(self, low: int, high: int) -> Block:
        """The block of the showers at positions low … high − 1, which one block holds."""
        request, before = self.request, self._places_before(low)
        size = request.block_size if request.fixed_blocks else high - low
        # places that were not asked for get the conditions of the nearest shower that was
        positions = np.clip(np.arange(size) - before, 0, high - low - 1) + low
        given = None if request.given is None else request.given.take(positions)
        conditions = request.conditions[positions % len(request)]
        return Block(request.first + low - before, conditions, given, slice(before, before + high - low))

    def check(self, energies: Energies, low: int) -> None:
        """CheckpointError naming the first shower from position ``low`` on whose energies are not legal."""
        if energies.min() >= 0 and np.isfinite(energies.max()):
            return
        shower, voxel = np.argwhere(~(np.isfinite(energies) & (energies >= 0)))[0]
        position = low + int(shower)
        incident = self.request.conditions[[position % len(self.request)]]
        raise CheckpointError(
            f"the model gave {energies[shower, voxel]} MeV in voxel {voxel} of shower "
            f"{self.request.first + position} (seed {self.request.seed}, {incident.energy[0]:.6g} MeV, "
            f"θ = {incident.theta[0]:.4g}, φ = {incident.phi[0]:.4g}); the checkpoint is not usable there"
        )

    def _places_before(self, position: int) -> int:
        """Places of the block of the shower at ``position`` that lie before it."""
        return (self.request.first + position) % self.request.block_size if self.request.fixed_blocks else 0
