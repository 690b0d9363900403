"""Blocks of showers: noise and conditions through the model, always so many at once.

A matrix product may round differently for another number of rows. So that a shower is the same to the last
bit whatever is generated with it, the model always gets exactly B showers at once, numbers kB … kB + B − 1,
and a shower always has the same place among them; places that were not asked for are computed and dropped.
Legend: ``B`` showers of a block, ``N`` showers of the request, ``V`` voxels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.errors import CheckpointError
from caloforge.generation.noise import draw_noise
from caloforge.generation.recorded import Recorded, record_cuda
from caloforge.generation.request import GenerationRequest
from caloforge.models.base import ConditionTensors

__all__ = ["BlockDecoder"]

Energies = NDArray[np.float32]


class BlockDecoder:
    """Makes the showers of a request, a block in each call of the model, and knows what they cost.

    On a CUDA device noise and model are one graph, see `Recorded`.

    Args:
        request: which showers.
        record: False to never make a graph.

    Attributes:
        request: the request; position i is its shower first + i, with the conditions i modulo their number.
        n_made: showers made.
        seconds: elapsed time for them: noise, model and the copy to the CPU.
        processor_seconds: processor time, summed over the threads.
        make: showers (B, *shape) of the numbers of B showers and their conditions, by name.
    """

    def __init__(self, request: GenerationRequest, *, record: bool = True) -> None:
        self.request = request
        self.n_made, self.seconds, self.processor_seconds = 0, 0.0, 0.0
        self._noise_shapes = request.model.noise_shapes()
        recorder = record_cuda if record and request.device.type == "cuda" else None
        self.make = Recorded(self._make, request.device, recorder)

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
        request = self.request
        began, processor_began = time.perf_counter(), time.process_time()
        before, inputs = self._places_before(low), self.inputs(low, high)
        made, size = self.make(inputs), len(inputs["number"])
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

    def inputs(self, low: int, high: int) -> dict[str, Tensor]:
        """Numbers and conditions of a block of showers, by name, on the CPU: what `make` takes."""
        request, before = self.request, self._places_before(low)
        size = request.block_size if request.fixed_blocks else high - low
        # places that were not asked for get the conditions of the nearest shower that was
        positions = np.clip(np.arange(size) - before, 0, high - low - 1) + low
        incident = request.conditions[positions % len(request)]
        conditions = ConditionTensors.of(incident, request.model.detectors)
        if request.given is not None:
            conditions.given = torch.from_numpy(request.given.take(positions))
        known = {name: column for name, column in vars(conditions).items() if column is not None}
        return {"number": torch.arange(size) + (request.first + low - before), **known}

    def _make(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Showers of what `make` is given, on the device of the request."""
        request = self.request
        conditions = ConditionTensors(**{name: x for name, x in inputs.items() if name != "number"})
        noise = draw_noise(self._noise_shapes, request.seed, inputs["number"], request.device)
        return request.model.decode(noise, conditions)

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
