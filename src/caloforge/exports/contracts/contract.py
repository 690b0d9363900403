"""Contracts: how a program of other people gives a network its inputs and reads its output.

A contract is a TOML file in this folder. What a model says that it needs and a contract does not carry, an
angle, a particle, other cells, is refused where it is exported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationError

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.detector.mesh import CylinderMesh, Mesh, RegularMesh
from caloforge.errors import ExportError
from caloforge.registry import suggestion
from caloforge.runtime.files import read_toml
from caloforge.settings import Settings, explain

__all__ = ["Contract", "Part", "Reads"]

FOLDER = Path(__file__).parent
MARGIN_RAD = 1e-3
"""A model whose angles differ by less was trained at one."""
AXES = {"cylinder": ("z", "phi", "r"), "box": ("z", "y", "x")}


class Part(Settings):
    """Numbers of an input, in their order.

    Attributes:
        what: they are; "eta" is |η|, "direction" a unit vector.
        count: how many; of noise None for as many as the model wants, or as there are cells or layers.
        unit: one of them, in MeV or rad.
    """

    what: Literal["noise", "energy", "theta", "phi", "eta", "direction", "ignored"]
    count: int | Literal["cells", "layers"] | None = None
    unit: float = Field(1.0, gt=0)

    def numbers(self, mesh: Mesh, noise: int) -> int:
        """How many numbers they are, for a model on a mesh that wants so much noise."""
        if self.count == "cells":
            return mesh.n_voxels
        if self.count == "layers":
            return mesh.n_layers
        return self.count or (noise if self.what == "noise" else 1)


class Reads(Settings):
    """An input tensor: its name, its parts, and the shape of one shower's where it is not a row."""

    name: str
    parts: tuple[Part, ...]
    shape: tuple[int, ...] | None = None


class Contract(Settings):
    """One of them.

    Attributes:
        program: who reads the file.
        formats: that it can read, "onnx" or "torchscript".
        mesh: kind of mesh, empty for any; ``shape``, where only one is possible.
        equal_cells: layers and rings are alike.
        axes: order of the cells in its output.
        phi_from_zero: the first bin of φ begins at 0, not at −π.
        energies: of cells: "MeV", "GeV", or as a "fraction" of the incident energy.
        noise: "inputs", or drawn in the "graph".
        uniform: noise is uniform in (−1, 1) instead of standard normal.
        inputs: in their order.
        lines: what a user writes in a macro or steering file.
    """

    program: str
    formats: tuple[Literal["onnx", "torchscript"], ...]
    mesh: str = ""
    shape: tuple[int, int, int] | None = None
    equal_cells: bool = False
    axes: tuple[str, str, str]
    phi_from_zero: bool = False
    energies: Literal["MeV", "GeV", "fraction"]
    noise: Literal["inputs", "graph"]
    uniform: bool = False
    inputs: tuple[Reads, ...]
    lines: str

    @classmethod
    def names(cls) -> list[str]:
        """Names of all."""
        return sorted(path.stem for path in FOLDER.glob("*.toml"))

    @classmethod
    def load(cls, name: str) -> Self:
        """The contract of that name; ExportError where there is none."""
        if name not in cls.names():
            known = ", ".join(cls.names())
            raise ExportError(
                f"there is no contract {name!r}{suggestion(name, cls.names())}; known are {known}"
            )
        try:
            return cls.model_validate(read_toml(FOLDER / f"{name}.toml", error=ExportError))
        except ValidationError as error:
            raise ExportError(explain(error, name)) from None

    def carries(self, what: str) -> bool:
        """True where this is told by its inputs."""
        told = {part.what for reads in self.inputs for part in reads.parts}
        more = {"eta": {"theta"}, "direction": {"theta", "phi"}}
        return what in told.union(*(more.get(t, set()) for t in told))

    def require(
        self, checkpoint: Checkpoint, to: str, detector: str | None = None, particle: str | None = None
    ) -> None:
        """ExportError where the contract does not carry what the model has to be told, or not its cells."""
        name, mesh = checkpoint.name, checkpoint.mesh_of(detector or checkpoint.valid_range["detector"][0])
        if to not in self.formats:
            raise ExportError(f"{self.program} reads {' or '.join(self.formats)}, not {to}; use --to")
        if self.mesh and mesh.kind != self.mesh:
            raise ExportError(
                f"{self.program} reads showers on a {self.mesh} mesh; those of {name} are on a {mesh}"
            )
        if not isinstance(mesh, RegularMesh):
            raise ExportError(f"{self.program} reads the same cells in all layers; {name} has a {mesh}")
        if self.shape is not None and tuple(mesh.shape) != self.shape:
            size = " × ".join(map(str, self.shape))
            raise ExportError(f"{self.program} reads {size} cells; {name} makes showers on a {mesh}")
        if self.equal_cells and isinstance(mesh, CylinderMesh) and not _equal(mesh):
            raise ExportError(
                f"{self.program} knows one thickness of layers and one width of rings, from 0 on, and "
                f"those of {name} differ"
            )
        if self.phi_from_zero and mesh.shape[1] % 2:
            raise ExportError(
                f"{self.program} begins bins of φ at 0, caloforge at −π; of {mesh.shape[1]} bins, an odd "
                "number, none are the same"
            )
        valid = checkpoint.range_of(detector or "")
        for angle in ("theta", "phi"):
            low, high = valid[angle]
            if high - low > MARGIN_RAD and not self.carries(angle):
                raise ExportError(
                    f"{name} has to be told {angle}, of which {self.program} says nothing; take a contract "
                    "that carries it, or a model that was trained at one angle"
                )
        if valid.get("impact") is not None:
            raise ExportError(f"{name} has to be told the impact point, of which {self.program} says nothing")
        for kind, chosen, known in (
            ("detector", detector, list(checkpoint.detectors)),
            ("particle", particle, valid["particle"]),
        ):
            if chosen is None and len(known) > 1:
                raise ExportError(
                    f"{name} knows the {kind}s {', '.join(known)}, and {self.program} does not say which; "
                    f"choose one: --{kind}"
                )

    def macro(self, mesh: Mesh, noise: int, file: str) -> str:
        """The lines for a file of showers on a mesh."""
        sizes: dict[str, Any] = {"n_cells": mesh.n_voxels, "n_z": mesh.n_layers, "dr": 0, "dz": 0}
        sizes |= {"n_phi": 0, "n_r": 0}
        if isinstance(mesh, CylinderMesh):
            sizes |= {"n_phi": mesh.n_phi, "n_r": len(mesh.r_edges) - 1}
            sizes |= {"dr": round(mesh.r_edges[1], 6), "dz": round(mesh.z_edges[1], 6)}
        return self.lines.strip().format(file=file, n_noise=noise, **sizes)


def _equal(mesh: CylinderMesh) -> bool:
    return all(
        edges[0] == 0 and np.allclose(np.diff(edges), edges[1], rtol=1e-6)
        for edges in (mesh.z_edges, mesh.r_edges)
    )
