"""Blocks of showers: noise and conditions through the model, always so many at once.

A matrix product may round differently for another number of rows. So that a shower is the same to the last
bit whatever is generated with it, the model always gets exactly B showers at once, numbers kB … kB + B − 1,
and a shower always has the same place among them; places that were not asked for are computed and dropped.
Legend: ``B`` showers of a block, ``N`` showers of the request, ``V`` voxels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.errors import CheckpointError
from caloforge.generation.noise import draw_noise
from caloforge.generation.request import GenerationRequest
from caloforge.models.base import ConditionTensors

__all__ = ["BlockDecoder"]

Energies = NDArray[np.float32]


class BlockDecoder:
    """Makes the showers of a request, a block in each call of the model, and knows what they cost.

    Attributes:
        request: the request; position i is its shower first + i, with the conditions i modulo their number.
        n_made: showers made.
        seconds: elapsed time for them: noise, model and the copy to the CPU.
        processor_seconds: processor time, summed over the threads.
    """

    def __init__(self, request: GenerationRequest) -> None:
        self.request = request
        self.n_made, self.seconds, self.processor_seconds = 0, 0.0, 0.0
        self._noise_shapes = request.model.noise_shapes()

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
        request, device = self.request, self.request.device
        began, processor_began = time.perf_counter(), time.process_time()
        before = self._places_before(low)
        size = request.block_size if request.fixed_blocks else high - low
        numbers = torch.arange(size, dtype=torch.int64) + (request.first + low - before)
        # places that were not asked for get the conditions of the nearest shower that was
        positions = np.clip(np.arange(size) - before, 0, high - low - 1) + low
        incident = request.conditions[positions % len(request)]
        conditions = ConditionTensors.of(incident, request.model.detectors, device)
        if request.given is not None:
            conditions.given = torch.from_numpy(request.given.take(positions)).to(device)
        noise = draw_noise(self._noise_shapes, request.seed, numbers, device)
        made = request.model.decode(noise, conditions)
        if made.shape != (size, *request.mesh.shape):
            raise CheckpointError(
                f"{request.checkpoint.model_name} gave showers of shape {tuple(made.shape)}; "
                f"({size}, *{request.mesh.shape}) was expected"
            )
        part = made[before : before + high - low].to("cpu", torch.float32).numpy()
        energies = np.ascontiguousarray(part).reshape(high - low, request.mesh.n_voxels)
        self.seconds += time.perf_counter() - began
        self.processor_seconds += time.process_time() - processor_began
        self.n_made += high - low
        return energies

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
