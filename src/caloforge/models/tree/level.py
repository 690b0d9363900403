"""A halving as a model: what is known of showers as tensors, the likelihood of a finer grid, and its sampling.

Legend: ``n`` showers, ``P`` parents that are split, ``C`` children, ``K`` things that a split knows, ``S`` of
one shower that are known, ``G`` numbers of the incident particle and the whole energy, ``L`` splits that are
computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.lit import lit_rows
from caloforge.models.tree.halvings import Halving
from caloforge.models.tree.network import SplitNetwork
from caloforge.models.tree.split import draw, log_likelihood, logistic

__all__ = ["HalvingModel"]

UNIT = 20.0
"""Energies are seen as 0.4·log(1 + E/20 t)."""


def seen(energies: Tensor, threshold: Tensor) -> Tensor:
    """Energies (*) as networks see them; 0 of 0."""
    return 0.4 * torch.log1p(energies / (UNIT * threshold))


def asymmetry(left: Tensor, right: Tensor) -> Tensor:
    """(L − R)/(L + R) of energies (*); 0 where there is none."""
    total = left + right
    return (left - right) / torch.where(total > 0, total, 1.0)


def counted(lit: Tensor) -> Tensor:
    """Numbers of cells (*) as networks see them."""
    return 0.3 * lit.sqrt()


class HalvingModel(nn.Module):
    """Shares the energies of a grid's cells among their halves.

    Args:
        halving: which.
        context: G.
        width, depth, components: of the network.
        chunk: splits that are computed at once on a CPU, always so many, without the compiled kernel.
    """

    table: Tensor
    left: Tensor
    right: Tensor
    cells: Tensor
    whole: Tensor
    whole_child: Tensor
    by_stage: Tensor
    sides: Tensor
    sides_in_layer: Tensor

    def __init__(
        self, halving: Halving, context: int, *, width: int, depth: int, components: int, chunk: int
    ) -> None:
        super().__init__()
        self.halving, self.chunk = halving, chunk
        self.n_layers = halving.shape[0]
        # what is known, the numbers of the shower, and where splits that do not exist write
        self.size = halving.sources.size + context + 1
        own = torch.arange(context) + halving.sources.size
        table = torch.from_numpy(halving.table)
        table = torch.cat([table, own.expand(len(table), -1)], dim=1)
        in_layer = halving.sides[:, : halving.n_parents // self.n_layers]
        buffers = {
            "table": table,
            "cells": torch.from_numpy(halving.cells),
            "left": torch.from_numpy(halving.left),
            "right": torch.from_numpy(halving.right),
            "whole": torch.from_numpy(halving.whole),
            "whole_child": torch.from_numpy(halving.whole_child),
            "by_stage": torch.from_numpy(halving.layer_stages.argsort(kind="stable")),
            "sides": torch.from_numpy(halving.sides),
            "sides_in_layer": torch.from_numpy(in_layer),
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)
        self.network = SplitNetwork(
            table.shape[1],
            torch.from_numpy(halving.places),
            halving.n_stages,
            width=width,
            depth=depth,
            components=components,
        )
        self.layer_ends = [0, *accumulate(np.bincount(halving.layer_stages).tolist())]
        self.pass_ends = [0, *accumulate(halving.pass_sizes)]
        stage_sizes = np.bincount(halving.pass_stages, weights=halving.pass_sizes, minlength=halving.n_stages)
        self.stage_ends = [0, *accumulate(int(n) for n in stage_sizes)]

    @property
    def n_splits(self) -> int:
        """P."""
        return len(self.cells)

    def _known(self, parents: Tensor, children: Tensor, context: Tensor, threshold: Tensor) -> Tensor:
        """All that is known of n showers, (n, S), of all their parents and children and of context (n, G)."""
        n, (n_z, n_b, n_c) = len(parents), self.halving.shape
        e = seen(parents, threshold)
        log = torch.where(parents > 0, 0.2 * (parents / threshold).clamp_min(1e-3).log(), 0.0)
        left, right = (children[:, side] for side in self.sides)
        parts = [parents.new_zeros(n, 1), e, log, seen(children, threshold), asymmetry(left, right)]
        if self.halving.axis:
            grid = parents.view(n, n_z, n_b, n_c)
            parts += [
                seen(parents.view(n, n_z, -1).sum(dim=2), threshold),
                self._counts(parents),
                self._counts(children),
                seen(grid.sum(dim=2), threshold).flatten(1),
                seen(grid.sum(dim=3), threshold).flatten(1),
                *self._summed(self._sums(children), threshold),
            ]
        return torch.cat([*parts, context, parents.new_zeros(n, 1)], dim=1)

    def _counts(self, cells: Tensor) -> Tensor:
        """Lit cells of each layer, (n, Z)."""
        return counted((cells.view(len(cells), self.n_layers, -1) > 0).float().sum(dim=2))

    def _sums(self, children: Tensor) -> Tensor:
        """Children summed over the layers of earlier stages, (n, stages, C/Z)."""
        by_layer = children.view(len(children), self.n_layers, -1)
        sums = [torch.zeros_like(by_layer[:, 0])]
        for begin, end in pairwise(self.layer_ends[:-1]):
            sums.append(sums[-1] + by_layer[:, self.by_stage[begin:end]].sum(dim=1))
        return torch.stack(sums, dim=1)

    def _summed(self, sums: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """What splits know of sums (n, stages, C/Z): their energies and asymmetries, each (n, …)."""
        left, right = (sums[..., side] for side in self.sides_in_layer)
        return seen(sums, threshold).flatten(1), asymmetry(left, right).flatten(1)

    def log_likelihood(
        self, parents: Tensor, children: Tensor, context: Tensor, threshold: Tensor, chosen: Tensor | None = None
    ) -> Tensor:
        """Sum of log p over the splits with energy of all n showers.

        Args:
            parents, children: energies of the grids, (n, …) and (n, C).
            context: (n, G).
            threshold: of cells.
            chosen: which splits (n, P) to take; all by default.
        """
        n = len(parents)
        known = self._known(parents, children, context, threshold)
        lit = parents[:, self.cells] > 0
        lit = (lit if chosen is None else lit & chosen).T.flatten()  # by place: stage by stage
        rows = lit_rows(lit)
        if isinstance(rows, slice):
            rows = torch.arange(len(lit), device=lit.device)
            sizes = [n * (end - begin) for begin, end in pairwise(self.stage_ends)]
            taken: Tensor | None = lit
        else:
            ends = np.searchsorted(rows.numpy(), [n * end for end in self.stage_ends])
            sizes, taken = np.diff(ends).tolist(), None
        place, shower = rows // n, rows % n
        raw = self.network(self._gathered(known, shower, place), place, sizes)
        padded = F.pad(children, (0, 1))
        left, right = (_at(padded, shower, side[place]) for side in (self.left, self.right))
        energy = _at(parents, shower, self.cells[place])
        log_p = log_likelihood(raw, energy, left, right, threshold)
        return (log_p if taken is None else torch.where(taken, log_p, 0.0)).sum()

    def _gathered(self, known: Tensor, shower: Tensor, place: Tensor) -> Tensor:
        """What the splits of showers (L,) at places (L,) know, (L, K)."""
        return torch.take(known, shower[:, None] * known.shape[1] + self.table[place])

    def sample(self, parents: Tensor, context: Tensor, noise: Tensor, threshold: Tensor) -> Tensor:
        """Children (n, C) of parents (n, …), context (n, G) and noise (n, P, 2)."""
        n, n_children = len(parents), self.halving.n_children
        children = parents.new_zeros(n, n_children + 1)  # the last belongs to splits that do not exist
        children[:, self.whole_child] = parents[:, self.whole]
        known = self._known(parents, children[:, :-1], context, threshold)
        energies = parents[:, self.cells]
        for i, (stage, (begin, end)) in enumerate(
            zip(self.halving.pass_stages, pairwise(self.pass_ends), strict=True)
        ):
            if i and stage != self.halving.pass_stages[i - 1]:
                self._update(known, children[:, :-1], stage, threshold)
            lit = energies[:, begin:end].T.flatten() > 0
            for shower, place in self._chunks(lit, n, begin):
                self._split(stage, shower, place, energies, noise, threshold, known, children)
        return children[:, :-1]

    def _chunks(self, lit: Tensor, n: int, begin: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Showers and places of the splits to compute: all, or those with energy in chunks of one size."""
        rows = lit_rows(lit)
        if isinstance(rows, slice):
            rows = torch.arange(len(lit), device=lit.device)
            yield rows % n, rows // n + begin
            return
        for chunk in torch.split(rows, self.chunk) if len(rows) else ():
            missing = self.chunk - len(chunk)
            yield F.pad(chunk % n, (0, missing)), F.pad(chunk // n + begin, (0, missing), value=self.n_splits)

    def _split(
        self,
        stage: int,
        shower: Tensor,
        place: Tensor,
        energies: Tensor,
        noise: Tensor,
        threshold: Tensor,
        known: Tensor,
        children: Tensor,
    ) -> None:
        """Compute splits of one pass and write their children down."""
        sizes = [len(place) if s == stage else 0 for s in range(self.halving.n_stages)]
        raw = self.network(self._gathered(known, shower, place), place, sizes)
        exists = place < self.n_splits
        at = place.clamp_max(self.n_splits - 1)
        energy = torch.where(exists, _at(energies, shower, at), 0.0)
        z = noise[shower, at]
        shares = draw(raw, energy, torch.special.ndtr(z[:, 0]), logistic(z[:, 1]), threshold)
        begins = self.halving.sources.begins
        for share, side in zip(shares, (self.left, self.right), strict=True):
            child = side[place]
            _put(children, shower, child, share)
            column = torch.where(exists, begins["children"] + child, self.size - 1)
            _put(known, shower, column, seen(share, threshold))
        column = torch.where(exists, begins["asymmetries"] + self.cells[at], self.size - 1)
        _put(known, shower, column, asymmetry(*shares))

    def _update(self, known: Tensor, children: Tensor, stage: int, threshold: Tensor) -> None:
        """Write down what the splits of a stage know of the stages before."""
        begins = self.halving.sources.begins
        known[:, begins["lit_children"] : begins["rows"]] = self._counts(children)
        by_layer = children.view(len(children), self.n_layers, -1)
        sums = by_layer[:, self.by_stage[: self.layer_ends[stage]]].sum(dim=1)
        for name, now in zip(("sums", "tilts"), self._summed(sums, threshold), strict=True):
            begin = begins[name] + stage * now.shape[1]
            known[:, begin : begin + now.shape[1]] = now


def _at(values: Tensor, shower: Tensor, column: Tensor) -> Tensor:
    return torch.take(values, shower * values.shape[1] + column)


def _put(values: Tensor, shower: Tensor, column: Tensor, new: Tensor) -> None:
    values.view(-1).index_put_((shower * values.shape[1] + column,), new)


