"""The kernel of halvings on a GPU, in Triton: one launch for a pass of splits, one for what the next know.

What `HalvingModel.sample` does in plain torch is done here in the same order: up to rounding the showers are
the same. It is launched where `caloforge.runtime.compiled.launches` says so.

Legend: ``n`` showers, ``P`` splits of a halving, ``m`` of a pass, ``K`` things that a split knows, ``S`` of
one shower that are known, ``W`` width, ``U`` numbers that a network gives, ``M`` components.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.models.networks.tensor_cache import TensorCache
from caloforge.models.tree.halvings import Halving, Source
from caloforge.models.tree.kernel import FORMS
from caloforge.models.tree.network import SplitNetwork
from caloforge.models.tree.split import LEAST_SCALE, NEVER, ROOM, logistic

try:
    import triton
    import triton.language as tl
except ImportError:  # nothing is launched then
    triton = None

__all__ = ["DeviceKernel"]

ROWS = (16, 64)
"""Splits of a block of threads: where there are few, and where there are many."""
MANY = 8192
NUMBERS, CELLS = 16, 64
"""Numbers of a block, and how many of the cells that make them up are read at once."""
SIZES = [
    *("rows", "begin", "m", "stage", "n_places", "n_known", "n_grid", "size", "n_parents"),
    *("children_at", "asymmetries_at", "first", "count"),
]
"""Arguments for whose values no kernels of their own are compiled."""


def jit(**options: Any) -> Callable[[Any], Any]:
    """What Triton makes of a function, where it is there."""
    return (lambda function: function) if triton is None else triton.jit(**options)


@jit()
def _product(a, b, BF16: tl.constexpr):
    if BF16:
        return tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16))
    return tl.dot(a, b, input_precision="ieee")


@jit(do_not_specialize=SIZES)
def _split_pass(
    grids, known, noise, table, cells, left, right,
    placed, enter, blocks, block_bias, head, head_bias, threshold,
    rows, begin, m, stage, n_places, n_known, n_grid, size, n_parents, children_at, asymmetries_at,
    W: tl.constexpr, WP: tl.constexpr, U: tl.constexpr, UP: tl.constexpr, M: tl.constexpr,
    DEPTH: tl.constexpr, R: tl.constexpr, BK: tl.constexpr, BF16: tl.constexpr, LEAST: tl.constexpr,
    ROOM_: tl.constexpr,
    NEVER_: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * R + tl.arange(0, R)
    live = row < rows
    shower, place = (row // m).to(tl.int64), begin + row % m
    cell = tl.load(cells + place, mask=live, other=0)
    energy = tl.load(grids + shower * n_grid + cell, mask=live, other=0.0)
    if tl.max(energy, axis=0) > 0:
        t = tl.load(threshold)
        unit, out = tl.arange(0, WP), tl.arange(0, UP)
        is_unit = unit < W
        h = tl.load(
            placed + place[:, None] * W + unit[None, :], mask=live[:, None] & is_unit[None, :], other=0.0
        )
        first = 0
        while first < n_known:
            k = first + tl.arange(0, BK)
            there = k < n_known
            at = tl.load(
                table + place[:, None] * n_known + k[None, :], mask=live[:, None] & there[None, :], other=0
            )
            x = tl.load(known + shower[:, None] * size + at, mask=live[:, None] & there[None, :], other=0.0)
            w = tl.load(
                enter + (stage * W + unit[None, :]) * n_known + k[:, None],
                mask=there[:, None] & is_unit[None, :],
                other=0.0,
            )
            h += _product(x, w, BF16)
            first += BK
        for block in tl.static_range(DEPTH):
            s = h * tl.sigmoid(h)
            w = tl.load(
                blocks + (block * W + unit[None, :]) * W + unit[:, None],
                mask=is_unit[:, None] & is_unit[None, :],
                other=0.0,
            )
            h += _product(s, w, BF16)
            h += tl.load(block_bias + block * W + unit, mask=is_unit, other=0.0)[None, :]
        s = h * tl.sigmoid(h)
        w = tl.load(
            head + out[None, :] * W + unit[:, None], mask=is_unit[:, None] & (out < U)[None, :], other=0.0
        )
        raw = _product(s, w, BF16)
        raw += tl.load(head_bias + out, mask=out < U, other=0.0)[None, :]

        column = out[None, :]
        can_share = energy >= 2 * (1 + ROOM_) * t
        c0 = tl.sum(tl.where(column == 0, raw, 0.0), axis=1)
        c1 = tl.sum(tl.where(column == 1, raw, 0.0), axis=1)
        c2 = tl.where(can_share, tl.sum(tl.where(column == 2, raw, 0.0), axis=1), NEVER_)
        top = tl.maximum(tl.maximum(c0, c1), c2)
        e0, e1, e2 = tl.exp(c0 - top), tl.exp(c1 - top), tl.exp(c2 - top)
        total = e0 + e1 + e2
        on_left_alone, one, share = e0 / total, (e0 + e1) / total, e2 / total
        at_noise = noise + 2 * (shower * n_places + place)
        uniform = tl.load(at_noise, mask=live, other=0.0)
        standard = tl.load(at_noise + 1, mask=live, other=0.0)
        both = (uniform >= one) & can_share
        chosen = (uniform - one) / tl.where(both, share, 1.0)
        is_weight = (column >= 3) & (column < 3 + M)
        most = tl.max(tl.where(is_weight, raw, -1e30), axis=1)
        weight = tl.where(is_weight, tl.exp(raw - most[:, None]), 0.0)
        passed = tl.cumsum(weight, axis=1) / tl.sum(weight, axis=1)[:, None] < chosen[:, None]
        component = tl.sum((passed & is_weight & (column < 2 + M)).to(tl.int32), axis=1)[:, None]
        middle = tl.sum(tl.where(column == 3 + M + component, raw, 0.0), axis=1)
        wide = tl.sum(tl.where(column == 3 + 2 * M + component, raw, 0.0), axis=1)
        wide = tl.where(wide > 20, wide, tl.log(1 + tl.exp(tl.minimum(wide, 20.0))))
        y = middle + (0.5 * wide + LEAST) * standard
        ratio = (2 * tl.sigmoid(y) - 1) * tl.log(tl.maximum(energy - t, (1 + ROOM_) * t) / t)
        less = tl.maximum(energy * tl.sigmoid(-tl.abs(ratio)), t)
        larger, smaller = tl.where(both, energy - less, energy), tl.where(both, less, 0.0)
        on_left = tl.where(both, ratio > 0, uniform < on_left_alone)
        a, b = tl.where(on_left, larger, smaller), tl.where(on_left, smaller, larger)

        has = live & (energy > 0)
        child_a, child_b = (
            tl.load(left + place, mask=live, other=0),
            tl.load(right + place, mask=live, other=0),
        )
        tl.store(grids + shower * n_grid + n_parents + child_a, a, mask=has)
        tl.store(grids + shower * n_grid + n_parents + child_b, b, mask=has)
        row_of = known + shower * size
        tl.store(row_of + children_at + child_a, 0.4 * tl.log(1 + a / (20 * t)), mask=has)
        tl.store(row_of + children_at + child_b, 0.4 * tl.log(1 + b / (20 * t)), mask=has)
        tl.store(row_of + asymmetries_at + cell, (a - b) / tl.where(a + b > 0, a + b, 1.0), mask=has)


@jit()
def _sum(grids, shower, n_grid, cells, begin, length, inside, CELLS_: tl.constexpr, N: tl.constexpr):
    energy, lit = tl.zeros((N,), tl.float32), tl.zeros((N,), tl.float32)
    most, first = tl.max(length, axis=0), 0
    while first < most:
        item = first + tl.arange(0, CELLS_)
        mask = inside[:, None] & (item[None, :] < length[:, None])
        cell = tl.load(cells + begin[:, None] + item[None, :], mask=mask, other=0)
        e = tl.load(grids + shower * n_grid + cell, mask=mask, other=0.0)
        energy += tl.sum(e, axis=1)
        lit += tl.sum((e > 0).to(tl.float32), axis=1)
        first += CELLS_
    return energy, lit


@jit(do_not_specialize=SIZES)
def _make_known(
    grids, known, which, forms, begins, lengths, other_begins, other_lengths, cells, threshold,
    first, count, n_grid, size,
    N: tl.constexpr, CELLS_: tl.constexpr,
):  # fmt: skip
    shower = tl.program_id(0).to(tl.int64)
    number = tl.program_id(1) * N + tl.arange(0, N)
    inside = number < count
    j = tl.load(which + first + number, mask=inside, other=0)
    form = tl.load(forms + j, mask=inside, other=0)
    begin, length = tl.load(begins + j, mask=inside, other=0), tl.load(lengths + j, mask=inside, other=0)
    energy, lit = _sum(grids, shower, n_grid, cells, begin, length, inside, CELLS_, N)
    begin, length = (
        tl.load(other_begins + j, mask=inside, other=0),
        tl.load(other_lengths + j, mask=inside, other=0),
    )
    other, _ = _sum(grids, shower, n_grid, cells, begin, length, inside, CELLS_, N)
    t = tl.load(threshold)
    seen = 0.4 * tl.log(1 + energy / (20 * t))
    logarithm = tl.where(energy > 0, 0.2 * tl.log(tl.maximum(energy / t, 1e-3)), 0.0)
    whole = energy + other
    value = tl.where(form == 0, seen, tl.where(form == 1, logarithm, 0.3 * tl.sqrt(lit)))
    value = tl.where(form == 3, (energy - other) / tl.where(whole > 0, whole, 1.0), value)
    tl.store(known + shower * size + j, value, mask=inside)


class _Numbers:
    """Which cells of both grids (parents, then children) each known number is made of."""

    def __init__(self, halving: Halving, device: torch.device) -> None:
        lists: list[list[NDArray[np.int64]]] = [[np.zeros(0, np.int64)], [np.zeros(0, np.int64)]]
        forms = [0]
        self.stages: list[list[int]] = [[] for _ in range(halving.n_stages)]
        for part in halving.sources.parts.values():
            first, second = _cells_of(part, halving)
            lists[0] += first
            lists[1] += second
            forms += [FORMS.index(part.form)] * part.size
            numbers = range(part.begin, part.begin + part.size)
            for stage, own in enumerate(self.stages):
                if part.grid == "earlier":
                    each = part.size // halving.n_stages
                    own += numbers[stage * each : (stage + 1) * each]
                elif part.grid == "children" and part.axes:
                    own += numbers
        # at the beginning all, then what the splits of each stage know of those before
        which = [list(range(1, halving.sources.size)), *self.stages]
        self.counts = [len(own) for own in which]
        self.firsts = np.cumsum([0, *self.counts]).tolist()
        lengths = [np.array([len(own) for own in some]) for some in lists]
        begins = [np.cumsum(each) - each for each in lengths]
        begins[1] += lengths[0].sum()
        arrays: dict[str, Any] = {
            "which": np.concatenate([np.array(own, np.int64) for own in which]),
            "forms": np.array(forms),
            "begins": begins[0],
            "lengths": lengths[0],
            "other_begins": begins[1],
            "other_lengths": lengths[1],
            "cells": np.concatenate([np.concatenate(some) for some in lists]),
        }
        self.given = [torch.from_numpy(x.astype(np.int32)).to(device) for x in arrays.values()]


def _cells_of(part: Source, halving: Halving) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """Cells of each number of a part, and those that it is compared with."""
    offset, none = (0 if part.grid == "parents" else halving.n_parents), np.zeros(0, np.int64)
    layer = halving.n_children // halving.shape[0]
    blocks = [np.arange(halving.shape[0])]
    if part.grid == "earlier":
        blocks = [np.flatnonzero(halving.layer_stages < stage) for stage in range(halving.n_stages)]
    if part.form == "asymmetry":
        sides = halving.sides_of(part)
        if part.grid == "children":
            both = [[offset + own for own in side] for side in sides]
        else:
            both = [
                [offset + (z[:, None] * layer + own[None, :]).ravel() for z in blocks for own in side]
                for side in sides
            ]
        first, second = both
        for i, (a, b) in enumerate(zip(first, second, strict=True)):
            if np.array_equal(a, b):  # of a parent with one child, which is not unequal to itself
                first[i], second[i] = a[:0], b[:0]
        return first, second
    shape = halving.shape if part.grid == "parents" else halving.child_shape
    if part.grid == "earlier":
        cells = [offset + z * layer + own for z in blocks for own in range(layer)]
    else:
        numbers = np.arange(int(np.prod(shape))).reshape(shape)
        kept = [i for i in range(3) if i not in part.axes]
        size = int(np.prod([shape[i] for i in kept]))
        cells = list(offset + numbers.transpose(*kept, *part.axes).reshape(size, -1))
    return cells, [none] * len(cells)


class _Places:
    """A halving as the kernels read it, whatever the weights."""

    def __init__(self, halving: Halving, table: Tensor) -> None:
        device = self.device = table.device
        self.numbers = _Numbers(halving, device)
        integers = (halving.cells, halving.left, halving.right)
        self.table = table.int().contiguous()
        self.places = [torch.from_numpy(x.astype(np.int32)).to(device) for x in integers]
        self.whole, self.whole_child = (
            torch.from_numpy(x).to(device) for x in (halving.whole, halving.n_parents + halving.whole_child)
        )


class _Packed:
    """Its network as the kernels read it."""

    def __init__(self, network: SplitNetwork) -> None:
        width = network.enter.shape[1]
        blocks = [(block.weight, block.bias) for block in network.blocks]
        self.weights = [
            network.placed().contiguous(),
            network.entered().contiguous(),
            torch.stack([w for w, _ in blocks]) if blocks else network.enter.new_zeros(1),
            torch.stack([b for _, b in blocks]) if blocks else network.enter.new_zeros(1),
            network.head.weight.contiguous(),
            network.head.bias.contiguous(),
        ]
        outputs = network.head.weight.shape[0]
        self.constants = {
            "W": width,
            "WP": max(triton.next_power_of_2(width), 16),
            "U": outputs,
            "UP": max(triton.next_power_of_2(outputs), 16),
            "M": network.components,
            "DEPTH": len(blocks),
            "LEAST": LEAST_SCALE,
            "ROOM_": ROOM,
            "NEVER_": NEVER,
        }


class DeviceKernel:
    """Samples one halving on a GPU; its packed weights are kept, see `TensorCache`."""

    def __init__(self) -> None:
        self._places: _Places | None = None
        self._packed: TensorCache[_Packed] = TensorCache()

    def run(
        self,
        halving: Halving,
        network: SplitNetwork,
        table: Tensor,
        size: int,
        given: tuple[Tensor, Tensor, Tensor, Tensor],
        bf16: bool,
    ) -> Tensor:
        """Children (n, C); the arguments are those of `HalvingKernel.run`."""
        parents, context, noise, threshold = given
        if self._places is None or self._places.device != table.device:
            self._places = _Places(halving, table)
        packed, places = self._packed("packed", network.weights(), lambda: _Packed(network)), self._places
        n, sources, n_parents = len(parents), halving.sources, halving.n_parents
        grids = parents.new_zeros(n, n_parents + halving.n_children)
        grids[:, :n_parents] = parents
        grids[:, places.whole_child] = parents[:, places.whole]
        known = parents.new_zeros(n, size)
        known[:, sources.size : size - 1] = context
        uniform = torch.stack([torch.special.ndtr(noise[..., 0]), logistic(noise[..., 1])], dim=2)

        def know(stage: int) -> None:
            """Write down what is known at the beginning (0), or by the splits of a stage (1 …)."""
            count, first = places.numbers.counts[stage], places.numbers.firsts[stage]
            if count:
                _make_known[(n, triton.cdiv(count, NUMBERS))](
                    grids, known, *places.numbers.given, threshold, first, count, grids.shape[1], size,
                    N=NUMBERS, CELLS_=CELLS,
                )  # fmt: skip

        know(0)
        begin, before = 0, 0
        for m, stage in zip(halving.pass_sizes, halving.pass_stages, strict=True):
            if stage != before:
                know(1 + stage)
                before = stage
            block = ROWS[n * m > MANY]
            _split_pass[(triton.cdiv(n * m, block),)](
                grids, known, uniform, places.table, *places.places, *packed.weights, threshold,
                n * m, begin, m, stage, len(halving.cells), places.table.shape[1], grids.shape[1], size,
                n_parents, sources.parts["children"].begin, sources.parts["asymmetries"].begin,
                R=block, BK=32, BF16=bf16, **packed.constants,
            )  # fmt: skip
            begin += m
        return grids[:, n_parents:]
