"""A model as a contract wants it: inputs taken apart, showers in its order of cells and its unit.

Legend: ``n`` showers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from caloforge.detector.mesh import CylinderMesh
from caloforge.exports.contracts.contract import AXES, Contract, Part
from caloforge.exports.contracts.keyed import keyed_normals
from caloforge.exports.graph import EXAMPLES, Graph, Input
from caloforge.generation.noise import noise_stream

__all__ = ["Carried"]

KEYED = 0x9E3779B97F4A7C15
"""Key of the noise that is made of fewer numbers than it has."""
UNITS = {"energy": "MeV", "noise": "standard normal", "ignored": "not read", "direction": "unit vector"}


class Carried(nn.Module):
    """A graph behind a contract.

    Where the contract brings fewer random numbers than the model wants, they become the counter of the
    counter-based generator of all of caloforge's noise: a shower is a function of them.

    Args:
        graph: the model.
        contract: whose.

    Attributes:
        inputs: the contract's.
        output: name, shape and unit of what it reads.
    """

    def __init__(self, graph: Graph, contract: Contract) -> None:
        super().__init__()
        self.source, self.contract = graph, contract
        mesh = graph.model.mesh
        self.shapes = {name: tuple(shape) for name, shape in graph.model.noise_shapes().items()}
        self.noise_size = sum(math.prod(shape) for shape in self.shapes.values())
        self.parts: list[list[tuple[Part, int]]] = [
            [(part, part.numbers(mesh, self.noise_size)) for part in reads.parts] for reads in contract.inputs
        ]
        self.inputs = tuple(
            Input(
                reads.name,
                reads.shape or (sum(n for _, n in parts),),
                ", ".join(f"{n} of {_unit(part, contract)}" for part, n in parts),
            )
            for reads, parts in zip(contract.inputs, self.parts, strict=True)
        )
        own = AXES[mesh.kind]
        self.order = (
            [own.index(axis) + 1 for axis in contract.axes] if set(contract.axes) == set(own) else None
        )
        shape = [mesh.shape[i - 1] for i in self.order] if self.order else list(mesh.shape)
        self.turn = mesh.shape[1] // 2 if contract.phi_from_zero and isinstance(mesh, CylinderMesh) else 0
        self.output = {"name": "energies", "shape": shape, "unit": contract.energies}

    def examples(self, seed: int = 0, n: int = EXAMPLES) -> list[Tensor]:
        """Possible inputs of n showers."""
        generator, made = torch.Generator().manual_seed(seed), []
        for i, parts in zip(self.inputs, self.parts, strict=True):
            columns = [self._example(part, count, n, generator) for part, count in parts]
            made.append(torch.cat(columns, dim=1).reshape(n, *i.shape))
        return made

    def _example(self, part: Part, count: int, n: int, generator: torch.Generator) -> Tensor:
        usual = self.source.usual(n)
        values = {name: x[:, None] / part.unit for name, x in usual.items()}
        across, phi = usual["theta"].sin(), usual["phi"]
        values["direction"] = torch.stack(
            [across * phi.cos(), across * phi.sin(), usual["theta"].cos()], dim=1
        )
        values["eta"] = -(usual["theta"] / 2).tan().log().abs()[:, None] / part.unit
        if part.what != "noise":
            return values.get(part.what, torch.zeros(n, count))
        if self.contract.uniform:
            return 1.98 * torch.rand(n, count, generator=generator) - 0.99
        return torch.randn(n, count, generator=generator)

    def forward(self, *tensors: Tensor) -> Tensor:
        """What the contract reads, (n, numbers of an output)."""
        known, numbers = self.taken(tensors)
        energies = self.source.showers(known, self._noise(numbers, known["energy"]))
        if self.turn:
            energies = torch.cat([energies[:, :, self.turn :], energies[:, :, : self.turn]], dim=2)
        if self.contract.energies == "GeV":
            energies = energies / 1000
        elif self.contract.energies == "fraction":
            energies = energies / known["energy"][:, None, None, None]
        return (energies if self.order is None else energies.permute(0, *self.order)).flatten(1)

    def taken(self, tensors: tuple[Tensor, ...]) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Conditions by name, and random numbers, of the contract's inputs."""
        known: dict[str, Tensor] = {}
        numbers: list[Tensor] = []
        for tensor, parts in zip(tensors, self.parts, strict=True):
            columns = torch.split(tensor.flatten(1), [n for _, n in parts], dim=1)
            for (part, _), column in zip(parts, columns, strict=True):
                if part.what == "noise":
                    numbers.append(column)
                elif part.what == "direction":
                    x, y, z = column.unbind(dim=1)
                    known |= {"theta": z.clamp(-1, 1).acos(), "phi": _azimuth(x, y)}
                elif part.what == "eta":
                    known["theta"] = 2 * (-part.unit * column[:, 0]).exp().atan()
                elif part.what != "ignored":
                    known[part.what] = part.unit * column[:, 0]
        zero = torch.zeros_like(known["energy"])
        return {"theta": zero + math.pi / 2, "phi": zero, **known}, numbers

    def _noise(self, numbers: list[Tensor], energy: Tensor) -> dict[str, Tensor]:
        n = energy.shape[0]
        if self.contract.noise == "graph":
            return {name: torch.randn(n, *shape) for name, shape in self.shapes.items()}
        given = torch.cat(numbers, dim=1)
        if given.shape[1] < self.noise_size:
            return self._keyed(given)
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        flat = torch.split(given[:, : self.noise_size], sizes, dim=1)
        return {
            name: z.reshape(n, *shape) for z, (name, shape) in zip(flat, self.shapes.items(), strict=True)
        }

    def _keyed(self, given: Tensor) -> dict[str, Tensor]:
        """As much noise as is wanted, of a few random numbers (n, k)."""
        # to the bit on all run-times: nothing here is rounded
        whole = (given * 2.0**20).floor().clamp(-(2.0**24), 2.0**24).to(torch.int64) + 2**24
        counter = torch.zeros_like(whole[:, 0])
        for i, column in enumerate(whole.unbind(dim=1)):  # sums of ONNX Runtime are rounded as float64
            counter = counter + column * (pow(0x5851F42D4C957F2D, i + 1, 1 << 31) | 1)
        streams = {noise_stream(name): math.prod(shape) for name, shape in self.shapes.items()}
        drawn = keyed_normals(KEYED, counter, streams)
        return {
            name: drawn[noise_stream(name)].reshape(given.shape[0], *shape)
            for name, shape in self.shapes.items()
        }


def _azimuth(x: Tensor, y: Tensor) -> Tensor:
    """φ in (−π, π] by functions that all run-times have."""
    half = y / (x.square() + y.square()).sqrt().add(x).clamp_min(1e-12)
    return torch.where((y == 0) & (x < 0), math.pi, 2 * half.atan())


def _unit(part: Part, contract: Contract) -> str:
    if part.what == "noise" and contract.uniform:
        return "uniform in (-1, 1)"
    if part.what in UNITS and part.unit == 1:
        return UNITS[part.what]
    return f"{part.what} in {part.unit:g} {'MeV' if part.what == 'energy' else 'rad'}"
