"""Blocks of showers: noise and conditions through the model, always so many at once.

A matrix product may round differently for another number of rows. So that a shower is the same to the last
bit whatever is generated with it, the model always gets exactly B showers at once, numbers kB … kB + B − 1,
and a shower always has the same place among them; places that were not asked for are computed and dropped.
Legend: ``B`` showers of a block, ``N`` showers of the request, ``V`` voxels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.data.sources import illegal_energy
from caloforge.errors import CheckpointError
from caloforge.generation.noise import draw_noise
from caloforge.generation.request import GenerationRequest
from caloforge.models.base import ConditionTensors, GeneratorModel
from caloforge.runtime.recorded import Recorded, record_cuda

__all__ = ["Block", "BlockDecoder", "make_showers", "wanted_energies"]

Energies = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Block:
    """What the model is given at once, as it is sent to another process.

    Attributes:
        inputs: numbers and conditions of the B places by name, on the CPU.
        wanted: places of the showers that were asked for.
    """

    inputs: dict[str, Tensor]
    wanted: slice


def make_showers(model: GeneratorModel, seed: int, inputs: Mapping[str, Tensor]) -> Tensor:
    """Showers (B, \\*shape), MeV, of the numbers of B showers and their conditions, on the model's device."""
    conditions = ConditionTensors(**{name: x for name, x in inputs.items() if name != "number"})
    noise = draw_noise(model.noise_shapes(), seed, inputs["number"], model.device)
    return model.decode(noise, conditions)


def wanted_energies(model: GeneratorModel, made: Tensor, block: Block) -> Energies:
    """Energies (n, V), MeV, of the showers of a block that were asked for.

    Raises:
        CheckpointError: the model gave another shape.
    """
    size = len(block.inputs["number"])
    if made.shape != (size, *model.mesh.shape):
        raise CheckpointError(
            f"{type(model).__name__} gave showers of shape {tuple(made.shape)}; "
            f"({size}, *{model.mesh.shape}) was expected"
        )
    part = made[block.wanted].to("cpu", torch.float32).numpy()
    return np.ascontiguousarray(part).reshape(len(part), -1)


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
        processor_seconds: processor time of this process, summed over the threads.
        make: showers (B, *shape) of the numbers of B showers and their conditions, by name.
    """

    def __init__(self, request: GenerationRequest, *, record: bool = True) -> None:
        self.request = request
        self.n_made, self.seconds, self.processor_seconds = 0, 0.0, 0.0
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
        began, processor_began = time.perf_counter(), time.process_time()
        energies = self.energies(self.block(low, high))
        self.seconds += time.perf_counter() - began
        self.processor_seconds += time.process_time() - processor_began
        self.n_made += high - low
        return energies

    def energies(self, block: Block) -> Energies:
        """Energies (n, V), MeV, of a block; not counted."""
        return wanted_energies(self.request.model, self.make(block.inputs), block)

    def count(self, n: int, seconds: float) -> None:
        """Add n showers that were made elsewhere, ``seconds`` after the ones before."""
        self.n_made, self.seconds = self.n_made + n, self.seconds + seconds

    def block(self, low: int, high: int) -> Block:
        """The block of the showers at positions low … high − 1, which one block holds."""
        before = self._places_before(low)
        return Block(self.inputs(low, high), slice(before, before + high - low))

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
        return {"number": torch.arange(size) + (request.first + low - before), **conditions.named()}

    def _make(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Showers of what `make` is given, on the device of the request."""
        return make_showers(self.request.model, self.request.seed, inputs)

    def check(self, energies: Energies, low: int) -> None:
        """CheckpointError naming the first shower from position ``low`` on whose energies are not legal."""
        if (found := illegal_energy(energies)) is None:
            return
        shower, voxel = found
        position = low + shower
        incident = self.request.conditions[[position % len(self.request)]]
        raise CheckpointError(
            f"the model gave {energies[shower, voxel]} MeV in voxel {voxel} of shower "
            f"{self.request.first + position} (seed {self.request.seed}, {incident.energy[0]:.6g} MeV, "
            f"θ = {incident.theta[0]:.4g}, φ = {incident.phi[0]:.4g}); the checkpoint is not usable there"
        )

    def _places_before(self, position: int) -> int:
        """Places of the block of the shower at ``position`` that lie before it."""
        return (self.request.first + position) % self.request.block_size if self.request.fixed_blocks else 0
