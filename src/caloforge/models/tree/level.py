"""A halving as a model: what is known of showers as tensors, likelihood and sampling of a finer grid.

Legend: ``n`` showers, ``P`` parents that are split, ``C`` children, ``K`` things that a split knows, ``S`` of
one shower that are known, ``G`` numbers of the incident particle and the whole energy, ``L`` splits that are
computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from caloforge.models.coordinates import RunningMoments
from caloforge.models.lit import all_rows, lit_rows
from caloforge.models.networks.kernels import HasKernel
from caloforge.models.tree.forms import FORMS, asymmetry, seen
from caloforge.models.tree.halvings import Halving, Source
from caloforge.models.tree.kernel import HalvingKernel, tree_library
from caloforge.models.tree.line import PlaceNumbers
from caloforge.models.tree.network import SplitNetwork
from caloforge.models.tree.passes import Passes
from caloforge.models.tree.split import draw, log_likelihood, logistic

__all__ = ["HalvingModel"]

CONSTANT = 1e-4
"""Standard deviation of what counts as always the same."""


class HalvingModel(HasKernel):
    """Shares the energies of a grid's cells among their halves.

    Args:
        halving: which.
        context: G.
        places: what splits are told of their place in a shower, where they are.
        width, depth, components: of the network.
        chunk: splits that are computed at once on a CPU, always so many, without the compiled kernel.

    Attributes:
        n_splits: P.
        lit: those of a shower that have energy, in the mean.
    """

    kernel = "tree"
    on_gpu = True
    table: Tensor
    left: Tensor
    right: Tensor
    cells: Tensor
    whole: Tensor
    whole_child: Tensor
    by_stage: Tensor
    lit: Tensor

    def __init__(
        self,
        halving: Halving,
        context: int,
        *,
        width: int,
        depth: int,
        components: int,
        chunk: int,
        places: PlaceNumbers | None = None,
    ) -> None:
        super().__init__()
        self.halving, self.place_numbers, self.chunk = halving, places, chunk
        self.n_splits = len(halving.cells)
        self.n_layers = halving.shape[0]
        first = halving.sources.size
        table = torch.from_numpy(halving.table)
        table = torch.cat([table, (first + torch.arange(context)).expand(len(table), -1)], dim=1)
        if places is not None:
            table = torch.cat([table, first + context + places.index], dim=1)
        # what is known, the numbers of the shower, and where splits that do not exist write
        self.size = first + context + (0 if places is None else places.size) + 1
        buffers = {
            "table": table,
            "cells": torch.from_numpy(halving.cells),
            "left": torch.from_numpy(halving.left),
            "right": torch.from_numpy(halving.right),
            "whole": torch.from_numpy(halving.whole),
            "whole_child": torch.from_numpy(halving.whole_child),
            "by_stage": torch.from_numpy(halving.layer_stages.argsort(kind="stable")),
        }
        for part in halving.sources.parts.values():
            if part.form == "asymmetry":
                buffers[f"{part.name}_of"] = torch.from_numpy(halving.sides_of(part))
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)
        self.network = SplitNetwork(
            table.shape[1],
            torch.from_numpy(halving.places),
            torch.from_numpy(halving.place_stages),
            width=width,
            depth=depth,
            components=components,
        )
        self.passes = Passes(halving, table.numpy(), self.size)
        self.register_buffer("lit", torch.tensor(float(self.n_splits)))
        self._kernel = HalvingKernel()
        self.layer_ends = [0, *accumulate(np.bincount(halving.layer_stages).tolist())]
        self.pass_ends = [0, *accumulate(halving.pass_sizes)]
        stage_sizes = np.bincount(halving.pass_stages, weights=halving.pass_sizes, minlength=halving.n_stages)
        self.stage_ends = [0, *accumulate(int(n) for n in stage_sizes)]

    def told(self, context: Tensor, points: Tensor | None) -> Tensor:
        """The numbers of showers, (n, G'): context (n, G) and what ``points`` (n, Z, …) of layers say."""
        told = self.place_numbers
        return context if told is None else torch.cat([context, told(points)], dim=1)

    def _known(self, parents: Tensor, children: Tensor, context: Tensor, threshold: Tensor) -> Tensor:
        """All that is known of n showers, (n, S), of all their parents and children and of `told` (n, G')."""
        grids = {"parents": parents, "children": children}
        if self.halving.axis:
            grids["earlier"] = self._earlier(children)
        zero, parts = parents.new_zeros(parents.shape[0], 1), self.halving.sources.parts.values()
        return torch.cat(
            [zero, *(self._part(part, grids, threshold) for part in parts), context, zero], dim=1
        )

    def _part(self, part: Source, grids: Mapping[str, Tensor], threshold: Tensor) -> Tensor:
        """Known numbers of one kind, (n, size)."""
        energies = grids[part.grid]
        if part.form == "asymmetry":
            left, right = (energies[..., side].sum(dim=-1) for side in getattr(self, f"{part.name}_of"))
            return asymmetry(left, right).flatten(1)
        numbers = (energies > 0).float() if part.form == "lit" else energies
        if part.axes:
            shape = self.halving.shape if part.grid == "parents" else self.halving.child_shape
            numbers = numbers.view(-1, *shape).sum(dim=[axis + 1 for axis in part.axes])
        return FORMS[part.form](numbers, threshold).flatten(1)

    def _earlier(self, children: Tensor) -> Tensor:
        """Children summed over the layers of earlier stages, (n, stages, C/Z)."""
        by_layer = children.view(children.shape[0], self.n_layers, -1)
        sums = [torch.zeros_like(by_layer[:, 0])]
        for begin, end in pairwise(self.layer_ends[:-1]):
            sums.append(sums[-1] + by_layer[:, self.by_stage[begin:end]].sum(dim=1))
        return torch.stack(sums, dim=1)

    def log_likelihood(
        self,
        parents: Tensor,
        children: Tensor,
        context: Tensor,
        threshold: Tensor,
        chosen: Tensor | None = None,
        bf16: bool = False,
    ) -> Tensor:
        """Sum of log p over the splits with energy of all n showers.

        Args:
            parents, children: energies of the grids, (n, …) and (n, C).
            context: of `told`, (n, G').
            threshold: of cells.
            chosen: which splits (n, P) to take; all by default.
            bf16: the network in bfloat16.
        """
        known = self._known(parents, children, context, threshold)
        shower, place, sizes, taken = self._taken(parents, chosen)
        raw = self.network(self._gathered(known, shower, place), place, sizes, bf16)
        padded = F.pad(children, (0, 1))
        left, right = (_at(padded, shower, side[place]) for side in (self.left, self.right))
        energy = _at(parents, shower, self.cells[place])
        log_p = log_likelihood(raw, energy, left, right, threshold)
        return (log_p if taken is None else torch.where(taken, log_p, 0.0)).sum()

    def _taken(
        self, parents: Tensor, chosen: Tensor | None = None
    ) -> tuple[Tensor, Tensor, list[int], Tensor | None]:
        """Showers and places (L,) of splits with energy, how many of each stage, and which to count."""
        n = len(parents)
        lit = parents[:, self.cells] > 0
        lit = (lit if chosen is None else lit & chosen).T.flatten()  # by place
        rows, taken = lit_rows(lit), None
        if isinstance(rows, slice):
            rows, taken = torch.arange(lit.shape[0], device=lit.device), lit
            sizes = [n * (end - begin) for begin, end in pairwise(self.stage_ends)]
        else:
            sizes = np.diff(np.searchsorted(rows.numpy(), [n * end for end in self.stage_ends])).tolist()
        return rows % n, rows // n, sizes, taken

    def begin_fit(self) -> None:
        """Start to collect means and standard deviations of what is known."""
        self._moments = [RunningMoments((self.table.shape[1],)) for _ in range(self.halving.n_stages)]
        self._showers = 0

    def fit_batch(self, parents: Tensor, children: Tensor, context: Tensor, threshold: Tensor) -> None:
        """Take the splits of a batch in, see `log_likelihood`."""
        shower, place, sizes, _ = self._taken(parents)
        known = self._gathered(self._known(parents, children, context, threshold), shower, place)
        for moments, numbers in zip(self._moments, torch.split(known, sizes), strict=True):
            moments.add(numbers)
        self._showers += len(parents)

    def end_fit(self) -> None:
        """Keep them; what never changes is not rescaled."""
        for moments, mean, std in zip(self._moments, self.network.mean, self.network.std, strict=True):
            mean.copy_(moments.mean)
            found = moments.std()
            std.copy_(torch.where(found > CONSTANT, found, 1.0))
        self.lit.fill_(max(sum(moments.count for moments in self._moments) / self._showers, 1.0))
        del self._moments

    def _gathered(self, known: Tensor, shower: Tensor, place: Tensor) -> Tensor:
        """What the splits of showers (L,) at places (L,) know, (L, K)."""
        return torch.take(known, shower[:, None] * known.shape[1] + self.table[place])

    def load_kernel(self, bf16: bool) -> bool:
        return tree_library(bf16) is not None

    def sample(
        self, parents: Tensor, context: Tensor, noise: Tensor, threshold: Tensor, bf16: bool = False
    ) -> Tensor:
        """Children (n, C) of parents (n, …), context of `told` and noise (n, P, 2).

        With ``bf16`` the network is computed in bfloat16.
        """
        if self.compiled:
            given = parents, context, noise, threshold
            computed = self._kernel.run(self.halving, self.network, self.table, self.size, given, bf16)
            if computed is not None:
                return computed
        if all_rows(parents.device):
            return self._sample_all(parents, context, noise, threshold, bf16)
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
                self._split(stage, shower, place, energies, noise, threshold, known, children, bf16)
        return children[:, :-1]

    def _sample_all(
        self, parents: Tensor, context: Tensor, noise: Tensor, threshold: Tensor, bf16: bool
    ) -> Tensor:
        """Children (n, C), all splits computed, see `Passes`."""
        passes, sizes = self.passes, self.passes.sizes
        made = [parents.new_zeros(parents.shape[0], 1), parents[:, self.whole]]
        known = self._known(parents, passes.so_far(made, "begin"), context, threshold)
        energies = torch.split(parents[:, self.cells], sizes, dim=1)
        uniform = torch.split(torch.special.ndtr(noise[..., 0]), sizes, dim=1)
        standard = torch.split(logistic(noise[..., 1]), sizes, dim=1)
        placed = torch.split(self.network.placed()[:-1], sizes)
        for i, stage in enumerate(passes.stages):
            if i and passes.begins_stage(i):
                earlier = passes.so_far(made, f"before_{i}")
                known = torch.cat([known, *self._updates(earlier, stage, threshold)], dim=1)
            raw = self.network.at_stage(passes.known(known, i), placed[i], stage, bf16)
            shares = draw(raw, energies[i], uniform[i], standard[i], threshold)
            both = torch.cat(shares, dim=1)
            made.append(both)
            known = torch.cat([known, seen(both, threshold), asymmetry(*shares)], dim=1)
        return passes.so_far(made, "end")

    def _chunks(self, lit: Tensor, n: int, begin: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Showers and places of the splits with energy, in chunks of one size."""
        rows = torch.from_numpy(np.flatnonzero(lit.numpy()))
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
        bf16: bool,
    ) -> None:
        """Compute splits of one pass and write their children down."""
        sizes = [len(place) if s == stage else 0 for s in range(self.halving.n_stages)]
        raw = self.network(self._gathered(known, shower, place), place, sizes, bf16)
        exists = place < self.n_splits
        at = place.clamp_max(self.n_splits - 1)
        energy = torch.where(exists, _at(energies, shower, at), 0.0)
        z = noise[shower, at]
        shares = draw(raw, energy, torch.special.ndtr(z[:, 0]), logistic(z[:, 1]), threshold)
        parts = self.halving.sources.parts
        for share, side in zip(shares, (self.left, self.right), strict=True):
            child = side[place]
            _put(children, shower, child, share)
            column = torch.where(exists, parts["children"].begin + child, self.size - 1)
            _put(known, shower, column, seen(share, threshold))
        column = torch.where(exists, parts["asymmetries"].begin + self.cells[at], self.size - 1)
        _put(known, shower, column, asymmetry(*shares))

    def _update(self, known: Tensor, children: Tensor, stage: int, threshold: Tensor) -> None:
        """Write down what the splits of a stage know of the stages before."""
        now = self._updates(children, stage, threshold)
        for part, numbers in zip(self.passes.updated, now, strict=True):
            begin = part.begin + (stage * numbers.shape[1] if part.grid == "earlier" else 0)
            known[:, begin : begin + numbers.shape[1]] = numbers

    def _updates(self, children: Tensor, stage: int, threshold: Tensor) -> list[Tensor]:
        """Numbers of what is updated before a stage, of all children (n, C) so far."""
        by_layer = children.view(children.shape[0], self.n_layers, -1)
        sums = by_layer[:, self.by_stage[: self.layer_ends[stage]]].sum(dim=1)
        grids = {"children": children, "earlier": sums}
        return [self._part(part, grids, threshold) for part in self.passes.updated]


def _at(values: Tensor, shower: Tensor, column: Tensor) -> Tensor:
    return torch.take(values, shower * values.shape[1] + column)


def _put(values: Tensor, shower: Tensor, column: Tensor, new: Tensor) -> None:
    values.view(-1).index_put_((shower * values.shape[1] + column,), new)
