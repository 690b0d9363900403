"""How a mesh is halved again and again, in which order its cells are split, and what each split may know.

A shower is a tree: its energy is shared by two halves of the layers, each of these by two halves, until
layers are reached; then each layer is halved along its last axis (r, or x) and along φ (or y) until voxels
are reached. Within a halving, cells are split in *passes*, one after the other; a split knows what those
before it have given. Layers are taken in dyadic order, so that all distances are bridged early: for 45
layers 16, then 0 and 32, then 8, 24, 40, and so on, the odd ones last. Each *stage* of layers takes two
passes, the black and the white cells of a chessboard.

Legend: ``P`` cells of a grid, its parents; ``C`` cells of the finer grid, its children; ``K`` things that a
split knows; ``S`` of one shower that are known, see `Sources`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.mesh import RegularMesh

__all__ = ["Halving", "Shape", "Source", "Sources", "halvings"]

Shape = tuple[int, int, int]
Integers = NDArray[np.int64]
Grid = Literal["parents", "children", "earlier"]
Form = Literal["seen", "logarithm", "lit", "asymmetry"]
NEAR = (-2, -1, 0, 1, 2)
"""Layers whose parents around a cell are known to its split."""
FAR = (-5, -3, 3, 5)
"""Layers of which only the parent in the same place is."""
CHILDREN = ((0, 1), (-1, 1), (1, 1), (-3, 0), (3, 0))
"""Layers whose children are known, in strides of the stage, and how far around the cell."""
LAYERS = (-3, -2, -1, 0, 1, 2, 3)
"""Layers whose energies are known."""


def halvings(mesh: RegularMesh) -> list[Halving]:
    """The halvings of a regular mesh, from a single cell to its voxels; those of layers first."""
    sizes = [_sizes(n)[1:] for n in mesh.shape]
    made, shape = [], (1, 1, 1)
    while any(sizes):
        axis = 0 if sizes[0] else 2 if sizes[2] else 1
        if mesh.kind == "box" and axis:  # x and y are alike: by turns
            axis = 1 if len(sizes[1]) > len(sizes[2]) else 2
        made.append(Halving(shape, axis, sizes[axis].pop(0), mesh.kind == "cylinder"))
        shape = made[-1].child_shape
    return made


def _sizes(n: int) -> list[int]:
    """Cells along an axis after each halving: 1 … n, e.g. 1, 2, 3, 6, 12, 23, 45."""
    sizes = [n]
    while sizes[-1] > 1:
        sizes.append((sizes[-1] + 1) // 2)
    return sizes[::-1]


@dataclass(frozen=True)
class Source:
    """Numbers of one kind among those that are known of a shower.

    Attributes:
        name: of the kind.
        begin, size: where they are.
        grid: whose energies, "parents" or "children"; "earlier" for children summed over the layers of
            earlier stages, as often as there are stages.
        form: of the energies: "seen", "logarithm", "lit" for the number of cells that have any, "asymmetry"
            for how unequal the children of each parent are.
        axes: of the grid over which energies, or cells with energy, are summed; of children within layers,
            of asymmetries of parents.
    """

    name: str
    begin: int
    size: int
    grid: Grid
    form: Form
    axes: tuple[int, ...]


@dataclass
class Sources:
    """What is known of a shower, as one row of S numbers: named parts, after a 0 that stands for nothing.

    The last number is written by splits that do not exist.

    Args:
        shapes: of the grids of parents and children.
        stages: of layers.
    """

    shapes: Mapping[str, Shape]
    stages: int
    size: int = 1
    parts: dict[str, Source] = field(default_factory=dict)

    def add(self, name: str, grid: Grid, form: Form = "seen", axes: tuple[int, ...] = ()) -> None:
        """Append a part; its other arguments are as in `Source`."""
        shape = self.shapes["parents" if grid == "parents" or form == "asymmetry" else "children"]
        size = prod(n for i, n in enumerate(shape) if i not in axes)
        size = size // shape[0] * self.stages if grid == "earlier" else size
        self.parts[name] = Source(name, self.size, size, grid, form, axes)
        self.size += size

    def at(self, name: str, index: Integers, known: NDArray[np.bool_]) -> Integers:
        """Where a part's numbers are, 0 where they are not known."""
        return np.where(known, self.parts[name].begin + index, 0)


class Halving:
    """One halving of a grid along an axis: parents in the order of passes, their children and what they know.

    Args:
        shape: of the parents' grid, (z, φ, r) or (z, y, x).
        axis: that is halved.
        size: children along this axis; where it is odd, the last parent has one child only.
        periodic: the second axis is φ.

    Attributes:
        child_shape: of the children's grid.
        cells: parents that are split, (P,), by pass.
        whole: parents with one child, (W,), and ``whole_child``, (W,).
        left, right: children of ``cells``, (P + 1,); C for one more parent that does not exist.
        sides: children of all parents, (2, parents); both are the same where there is one.
        n_stages, n_passes: stages of layers, and passes.
        place_stages: stage of each of ``cells``, and 0, (P + 1,).
        pass_sizes: cells of each pass; ``pass_stages`` its stage.
        layer_stages: stage of each layer, (Z,).
        sources: of what is known.
        table: where what each split knows is found, (P + 1, K).
        places: what is fixed of each split, (P + 1, F).
    """

    def __init__(self, shape: Shape, axis: int, size: int, periodic: bool) -> None:
        self.shape, self.axis, self.periodic = shape, axis, periodic
        self.child_shape: Shape = tuple(size if i == axis else n for i, n in enumerate(shape))  # type: ignore[assignment]
        self.n_parents, self.n_children = int(np.prod(shape)), int(np.prod(self.child_shape))
        coordinates = np.indices(shape).reshape(3, -1)
        z, b, c = coordinates
        if axis == 0:
            self.n_stages, self.layer_stages = 1, np.zeros(shape[0], dtype=np.int64)
            strides, passes = np.ones(1, dtype=np.int64), z % 2
        else:
            self.layer_stages, strides = _stages(shape[0])
            self.n_stages = len(strides)
            passes = self.layer_stages[z] * 2 + (b + c) % 2
        first = [2 * x if i == axis else x for i, x in enumerate(coordinates)]
        second = [x + (i == axis) for i, x in enumerate(first)]
        self._split = split = second[axis] < size
        left = self._child(first)
        right = np.where(split, self._child(second), self.n_children)
        self.whole, self.whole_child = np.flatnonzero(~split), left[~split]
        order = np.argsort(passes, kind="stable")
        order = order[split[order]]
        self.cells, self._passes, self._strides = order, passes, strides
        numbers, counts = np.unique(passes[order], return_counts=True)
        self.pass_sizes: list[int] = counts.tolist()
        self.pass_stages: list[int] = (numbers // 2 if axis else numbers * 0).tolist()
        self.n_passes = len(counts)
        self.place_stages = np.append(np.repeat(self.pass_stages, counts), 0)
        self.left, self.right = (
            np.append(left[order], self.n_children),
            np.append(right[order], self.n_children),
        )
        self.sides = np.stack([left, np.where(split, right, left)])
        self.sources = self._sources()
        columns = [column[order] for column in self._known(*coordinates) if column[order].any()]
        self.table = np.pad(np.stack(columns, axis=1), ((0, 1), (0, 0)))
        self.places = np.pad(self._fixed(*coordinates)[order], ((0, 1), (0, 0))).astype(np.float32)

    @property
    def _across(self) -> int:
        """The other axis of a layer."""
        return 3 - self.axis

    def sides_of(self, part: Source) -> Integers:
        """Children whose energies asymmetries are of, those of a layer for sums: (2, numbers, summed)."""
        if part.grid == "children":
            return self.sides[..., None]
        sides = self.sides[:, : self.n_parents // self.shape[0]].reshape(2, *self.shape[1:])
        kept = [i for i in (1, 2) if i not in part.axes]
        size = prod(self.shape[i] for i in kept)
        return sides.transpose(0, *kept, *part.axes).reshape(2, size, -1)

    def _child(self, coordinates: list[Integers]) -> Integers:
        _, n_b, n_c = self.child_shape
        return (coordinates[0] * n_b + coordinates[1]) * n_c + coordinates[2]

    def _sources(self) -> Sources:
        sources = Sources({"parents": self.shape, "children": self.child_shape}, self.n_stages)
        sources.add("parents", "parents")
        sources.add("logarithms", "parents", "logarithm")
        sources.add("children", "children")
        sources.add("asymmetries", "children", "asymmetry")
        if self.axis:
            sources.add("layers", "parents", axes=(1, 2))
            sources.add("lit_parents", "parents", "lit", axes=(1, 2))
            sources.add("lit_children", "children", "lit", axes=(1, 2))
            sources.add("rows", "parents", axes=(1,))
            sources.add("sectors", "parents", axes=(2,))
            sources.add("sums", "earlier")
            sources.add("tilts", "earlier", "asymmetry")
            if self.shape[self._across] > 1:
                sources.add("leans", "earlier", "asymmetry", axes=(self._across,))
        return sources

    def _known(self, z: Integers, b: Integers, c: Integers) -> Iterator[Integers]:
        """Columns of the table, for all parents."""
        s, always = self.sources, np.ones(self.n_parents, dtype=bool)
        own = np.arange(self.n_parents)
        yield s.at("logarithms", own, always)
        if self.axis == 0:
            for parent in range(self.n_parents):
                yield s.at("parents", np.full(self.n_parents, parent), always)
            for parent in range(self.n_parents):
                yield from self._known_children(np.full(self.n_parents, parent), always)
                yield self._known_asymmetry(np.full(self.n_parents, parent), always)
            return
        around = list(self._around(1))
        for dz in NEAR:
            for db, dc in around:
                yield s.at("parents", *self._at(z + dz, b + db, c + dc))
        for dz in FAR:
            yield s.at("parents", *self._at(z + dz, b, c))
        stride = self._strides[self.layer_stages[z]]
        for steps, reach in CHILDREN:
            for db, dc in self._around(reach):
                other = self._at(z + steps * stride, b + db, c + dc)
                yield from self._known_children(*other)
                if not (steps and db):
                    yield self._known_asymmetry(*other)
        yield from self._known_layers(z, b, stride)
        yield from self._known_sums(z, b, c)

    def _known_children(self, parent: Integers, there: NDArray[np.bool_]) -> Iterator[Integers]:
        """Both children of other parents where they are split in an earlier pass."""
        earlier = there & (self._passes[parent] < self._passes)
        left, right = self.sides
        yield self.sources.at("children", left[parent], earlier)
        yield self.sources.at("children", right[parent], earlier & self._split[parent])

    def _known_asymmetry(self, parent: Integers, there: NDArray[np.bool_]) -> Integers:
        """How unequal they are, likewise."""
        earlier = there & (self._passes[parent] < self._passes)
        return self.sources.at("asymmetries", parent, earlier & self._split[parent])

    def _known_layers(self, z: Integers, b: Integers, stride: Integers) -> Iterator[Integers]:
        s, (n_z, n_b, n_c) = self.sources, self.shape
        for dz in LAYERS:
            yield s.at("layers", z + dz, (z + dz >= 0) & (z + dz < n_z))
        for dz in (-1, 0, 1, 2):
            yield s.at("lit_parents", z + dz, (z + dz >= 0) & (z + dz < n_z))
        for steps in (-2, -1, 1, 2):
            other = z + steps * stride
            there = (other >= 0) & (other < n_z)
            earlier = self.layer_stages[np.where(there, other, 0)] < self.layer_stages[z]
            yield s.at("lit_children", other, there & earlier)
        for row in range(n_c):
            yield s.at("rows", z * n_c + row, z >= 0)
        for step in range(n_b):
            yield s.at("sectors", z * n_b + ((b + step) % n_b if self.periodic else step), z >= 0)

    def _known_sums(self, z: Integers, b: Integers, c: Integers) -> Iterator[Integers]:
        """Children there and beside, summed over the layers of earlier stages, and their asymmetry.

        The asymmetry of all of the other axis, too: every ring leans to where the shower does.
        """
        _, n_b, n_c = self.child_shape
        block = self.layer_stages[z] * n_b * n_c
        for side in range(2):
            child_b = 2 * b + side if self.axis == 1 else b
            for step in (-1, 0, 1):
                child_c = 2 * (c + step) + side if self.axis == 2 else c + step
                there = (child_b < n_b) & (child_c >= 0) & (child_c < n_c)
                yield self.sources.at("sums", block + child_b * n_c + child_c, there)
        _, n_b, n_c = self.shape
        for step in (-1, 0, 1):
            there = (c + step >= 0) & (c + step < n_c)
            yield self.sources.at("tilts", (self.layer_stages[z] * n_b + b) * n_c + c + step, there)
        if self.shape[self._across] > 1:
            lean = self.layer_stages[z] * self.shape[self.axis] + (b if self.axis == 1 else c)
            yield self.sources.at("leans", lean, z >= 0)

    def _around(self, reach: int) -> Iterator[tuple[int, int]]:
        """Steps to a cell and those around it within its layer, each cell once."""
        _, n_b, n_c = self.shape
        for dc, db in product(range(-reach, reach + 1), repeat=2):
            if abs(db) < n_b and abs(dc) < n_c and not (db == 1 and n_b == 2 and self.periodic):
                yield db, dc

    def _at(self, z: Integers, b: Integers, c: Integers) -> tuple[Integers, NDArray[np.bool_]]:
        """Numbers of parents, and which of them exist."""
        n_z, n_b, n_c = self.shape
        if self.periodic:
            b = b % n_b
        there = (z >= 0) & (z < n_z) & (b >= 0) & (b < n_b) & (c >= 0) & (c < n_c)
        return np.where(there, (z * n_b + b) * n_c + c, 0), there

    def _fixed(self, z: Integers, b: Integers, c: Integers) -> NDArray[np.float64]:
        """Pass, layer, and place within it: what a network is told of a cell whatever the shower."""
        n_z, n_b, n_c = self.shape
        depth = (z + 0.5) / n_z
        shapes = [depth, depth**2, np.sin(2 * np.pi * depth), np.cos(2 * np.pi * depth), np.exp(-9 * depth)]
        hot = [np.eye(2 * self.n_stages)[self._passes], np.eye(n_z)[z], np.eye(n_c)[c]]
        if self.periodic:
            turn = 2 * np.pi * (b + 0.5) / n_b
            across = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        else:
            across = np.eye(n_b)[b]
        return np.concatenate([np.stack(shapes, axis=1), *hot, across], axis=1)


def _stages(n_z: int) -> tuple[Integers, Integers]:
    """Stage of each layer in dyadic order, and the distance to the layers before for each stage."""
    z, top = np.arange(n_z), 2
    while 2 * top < n_z:
        top *= 2
    wanted = [(top, top // 2, top // 2), (top, 0, top // 2)]
    step = top // 2
    while step > 1:
        wanted.append((step, step // 2, step // 2))
        step //= 2
    there = [(z % period == rest, stride) for period, rest, stride in wanted]
    there = [(chosen, stride) for chosen, stride in there if chosen.any()]
    stages = np.zeros(n_z, dtype=np.int64)
    for i, (chosen, _) in enumerate(there):
        stages[chosen] = i
    return stages, np.array([stride for _, stride in there])
