"""`decode` as a graph: tensors in by name, showers out, for any number of showers.

Legend: ``n`` showers, ``shape`` the mesh's shape. Energies are MeV, angles rad, lengths mm.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.data.particles import pdg_code
from caloforge.errors import ExportError, MeshError
from caloforge.exports.operations import Exportable
from caloforge.models.base import ConditionTensors, GeneratorModel
from caloforge.models.loops import RowLoop, loops_recorded

__all__ = ["OLDEST_TORCH", "Graph", "Input", "Traced", "noise_input", "program_of", "traced"]

OLDEST_TORCH = (2, 6)

EXAMPLES = 3
"""Showers that a graph is made with; one would be taken for a number that never changes."""


@dataclass(frozen=True)
class Input:
    """An input of a graph.

    Attributes:
        name: of the input.
        shape: of one shower's.
        unit: "MeV", "rad", "mm", "PDG code", "place in detectors", "standard normal", …
        whole: whole numbers, int64; else float32.
    """

    name: str
    shape: tuple[int, ...] = ()
    unit: str = "standard normal"
    whole: bool = False

    def example(self, n: int) -> Tensor:
        """Zeros (n, \\*shape)."""
        return torch.zeros(n, *self.shape, dtype=torch.int64 if self.whole else torch.float32)


def noise_input(name: str) -> str:
    """Name of the input for the model's noise ``name``; dots are in no name of TorchScript."""
    return "noise_" + name.replace(".", "_")


class Graph(nn.Module):
    """A model whose inputs are tensors with names: conditions first, then noise.

    Of several particles or detectors that it was trained on, one is an input; a single one is part of the
    graph. Coarse showers are one where it cannot do without.

    Args:
        checkpoint: of the model.
        detector, particle: of which showers are made, where it knows several; None for inputs.
    """

    def __init__(
        self, checkpoint: Checkpoint, *, detector: str | None = None, particle: str | None = None
    ) -> None:
        super().__init__()
        self.model: GeneratorModel = checkpoint.model("cpu", "float32", "plain").requires_grad_(False)
        for buffer in self.model.buffers():
            buffer.data = (
                buffer.data.contiguous().clone()
            )  # files of programs take no parts of larger tensors
        valid = checkpoint.range_of(detector or "")
        particles = [particle] if particle else valid["particle"]
        detectors = [detector] if detector else list(checkpoint.detectors)
        self.particle = pdg_code(particles[0])
        self.detector = checkpoint.detectors.index(detectors[0]) if detectors else -1
        self.impact = valid.get("impact") is not None
        self.spans = {name: tuple(map(float, valid[name])) for name in ("energy", "theta", "phi")}
        known = [Input("energy", (), "MeV"), Input("theta", (), "rad"), Input("phi", (), "rad")]
        known += [Input("particle", (), "PDG code", whole=True)] if len(particles) > 1 else []
        known += [Input("detector", (), "place in detectors", whole=True)] if len(detectors) > 1 else []
        known += [Input("impact", (2,), "mm")] if self.impact else []
        shapes = self.model.noise_shapes()
        self.noise_names = {noise_input(name): name for name in shapes}
        noise = [Input(noise_input(name), tuple(shape)) for name, shape in shapes.items()]
        self.inputs: tuple[Input, ...] = (*known, *noise)
        coarse = self.model.given_mesh
        if coarse is not None and not self._makes_all():
            self.inputs = (*known, Input("given", tuple(coarse.shape), "MeV"), *noise)

    def _makes_all(self) -> bool:
        """True where coarse showers need not be given; derives what is derived from weights, too."""
        try:
            with torch.no_grad():
                self(*self.examples())
        except MeshError:
            return False
        return True

    def examples(self, seed: int = 0, n: int = EXAMPLES) -> list[Tensor]:
        """Possible inputs of n showers."""
        generator = torch.Generator().manual_seed(seed)
        made = {i.name: i.example(n) for i in self.inputs}
        for name in self.noise_names:
            made[name] = torch.randn(made[name].shape, generator=generator)
        more: dict[str, Any] = {"particle": self.particle, "given": 10.0, **self.usual(n)}
        for name in made.keys() & more.keys():
            made[name] += more[name]
        return list(made.values())

    def usual(self, n: int) -> dict[str, Tensor]:
        """Energies of all of the valid range, and the middles of the angles', (n,)."""
        low, high = self.spans["energy"]
        angles = {name: torch.full((n,), sum(self.spans[name]) / 2) for name in ("theta", "phi")}
        return {"energy": low * (high / low) ** torch.linspace(0, 1, n), **angles}

    def forward(self, *tensors: Tensor) -> Tensor:
        """Showers (n, \\*shape), MeV."""
        given = dict(zip((i.name for i in self.inputs), tensors, strict=True))
        return self.showers(given, {name: given[of] for of, name in self.noise_names.items()})

    def showers(self, known: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> Tensor:
        """Showers of what is known of the particle, by name of the input, and of the model's noise."""
        energy = known["energy"]
        whole = torch.zeros_like(energy, dtype=torch.int64)
        conditions = ConditionTensors(
            energy=energy,
            theta=known["theta"],
            phi=known["phi"],
            particle=known.get("particle", whole + self.particle),
            detector=known.get("detector", whole + self.detector),
            impact=known.get("impact"),
            given=known.get("given"),
        )
        return self.model.decode(noise, conditions)


@dataclass(frozen=True)
class Traced:
    """What torch records of a module of tensors.

    Attributes:
        program: its operations.
        loops: what makes those that are single operations of it, by name.
    """

    program: torch.export.ExportedProgram
    loops: Mapping[str, Callable[[], RowLoop]]


def traced(graph: nn.Module, examples: Sequence[Tensor], *, loops: bool = True) -> Traced:
    """The program of a module of tensors, for any number of showers.

    Args:
        graph: the module.
        examples: possible inputs.
        loops: what goes through a shower in many steps is a loop, else all its operations.

    Raises:
        ExportError: it depends on values in a way that no graph can hold, or torch is too old.
    """
    free = [["batch"] for _ in examples]
    if not loops:
        return Traced(program_of(graph, examples, free), {})
    with loops_recorded() as found:
        return Traced(program_of(graph, examples, free), found)


def program_of(
    graph: nn.Module, examples: Sequence[Tensor], free: Sequence[Sequence[str]]
) -> torch.export.ExportedProgram:
    """The program of a module of tensors, whose first axes are of any length where they have a name."""
    if tuple(map(int, torch.__version__.split(".")[:2])) < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise ExportError(f"exporting needs torch {oldest} or later, and {torch.__version__} is here")
    dims = {name: torch.export.Dim(name, min=1) for names in free for name in names}
    shapes = tuple({i: dims[name] for i, name in enumerate(names)} or None for names in free)
    try:
        with torch.no_grad(), Exportable(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says what it will do otherwise later
            made = torch.export.export(graph, tuple(examples), dynamic_shapes=(shapes,), strict=False)
            if any(_writes(node) for node in made.graph.nodes):
                made = made.run_decompositions({})  # to the same without writing into tensors
        return made
    except (RuntimeError, ValueError, TypeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ExportError(f"the model cannot be made a graph: {first}") from error


def _writes(node: torch.fx.Node) -> bool:
    """True for operations that change a tensor; that new constants are detached in place changes nothing."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable and schema.name != "aten::detach_"
