"""A halving as a loop over the stages of layers, in which a split with energy is a row; see `RowLoop`.

Legend: ``n`` showers, ``P`` parents that are split, ``C`` children, ``K`` things that a split knows, ``S`` of
one shower that are known, ``L`` splits that are computed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caloforge.models.loops import RowLoop, recorded_loop, recording_loops
from caloforge.models.tree.forms import seen
from caloforge.models.tree.level import HalvingModel
from caloforge.models.tree.split import NEVER, can_share, log_width, logistic, scale_of

__all__ = ["StageLoop", "prepared", "sampled"]

ALWAYS = 1e30
"""Logit that is larger than any."""


def prepared(noise: Tensor) -> Tensor:
    """Noise (n, P, 2) as `sampled` wants it: uniform and logistic numbers, if splits are rows of loops."""
    if not recording_loops():
        return noise
    return torch.stack([torch.special.ndtr(noise[..., 0]), logistic(noise[..., 1])], dim=2)


def sampled(
    level: HalvingModel, parents: Tensor, context: Tensor, noise: Tensor, threshold: Tensor, bf16: bool
) -> Tensor:
    """Children (n, C) as of `HalvingModel.sample`, of `prepared` noise; a loop in graphs that hold such."""
    if recording_loops():
        made = level.halving.n_children
        return recorded_loop(lambda: StageLoop(level), made, [parents, context, noise], [threshold])
    return level.sample(parents, context, noise, threshold, bf16)


class StageLoop(RowLoop):
    """Samples one halving.

    Its state are what is known, the energies of the children, and what is known anew of the stages before.

    Args:
        level: the halving.
    """

    table: Tensor
    written: Tensor
    earlier: Tensor
    sides: Tensor

    def __init__(self, level: HalvingModel) -> None:
        halving = level.halving
        super().__init__(torch.tensor(level.pass_ends[1:]).view(halving.n_stages, -1), halving.n_children)
        self.level = level
        where, size = torch.arange(level.size), level.size + halving.n_children
        self.updated = level.passes.updated
        for part in self.updated:
            n = part.size // halving.n_stages if part.grid == "earlier" else part.size
            for begin in range(part.begin, part.begin + part.size, n):
                where[begin : begin + n] = torch.arange(size, size + n)
            size += n
        self.state_size = size
        parts, cells = halving.sources.parts, level.cells
        columns = [
            side[:-1] + first
            for first in (parts["children"].begin, level.size)
            for side in (level.left, level.right)
        ]
        columns.append(cells + parts["asymmetries"].begin)
        self.register_buffer("table", where[level.table[:-1]], persistent=False)
        self.register_buffer("written", torch.stack(columns, dim=1), persistent=False)
        earlier = torch.from_numpy(halving.layer_stages) < torch.arange(halving.n_stages)[:, None]
        self.register_buffer("earlier", earlier.float(), persistent=False)
        self.register_buffer("sides", torch.tensor([[1.0], [-1.0]]), persistent=False)

    def begin(self, *given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parents, context, noise, threshold = given
        level = self.level
        zero = parents.new_zeros(parents.shape[0], 1)
        children = level.passes.so_far([zero, parents[:, level.whole]], "begin")
        grids = {"parents": parents, "children": children}
        known = [
            zero.expand(-1, part.size) if part in self.updated else level._part(part, grids, threshold)
            for part in level.halving.sources.parts.values()
        ]
        new = zero.expand(-1, self.state_size - level.size - self.size)
        state = torch.cat([zero, *known, context, zero, children, new], dim=1)
        energy = parents[:, level.cells].T
        uniform, standard = noise.transpose(0, 1).unbind(dim=2)
        shared = can_share(energy, threshold)
        # of those that cannot be shared, what keeps `_drawn` from sharing them
        aims = [torch.where(shared, uniform, -1.0), torch.where(shared, ALWAYS, NEVER)]
        numbers = [energy, uniform, standard, log_width(energy, threshold), *aims]
        return energy > 0, torch.stack(numbers, dim=2), state

    def update(self, state: Tensor, turn: Tensor, *shared: Tensor) -> Tensor:
        if not self.updated:
            return state
        level, first = self.level, self.level.size
        children = state[:, first : first + self.size]
        by_layer = children.reshape(-1, level.n_layers, self.size // level.n_layers)
        sums = self.earlier.index_select(0, turn) @ by_layer
        grids = {"children": children, "earlier": sums[:, 0]}
        now = [level._part(part, grids, shared[0]) for part in self.updated]
        return torch.cat([state[:, : first + self.size], *now], dim=1)

    def step(
        self, state: Tensor, turn: Tensor, place: Tensor, shower: Tensor, rows: Tensor, *shared: Tensor
    ) -> Tensor:
        network, (threshold,) = self.level.network, shared
        flat, first = state.flatten(), (shower * self.state_size)[:, None]
        known = flat[self.table.index_select(0, place) + first]
        h = known @ network.entered().transpose(1, 2).index_select(0, turn)[0]
        raw = network._rest(h + network.placed().index_select(0, place))
        shares, unequal = self._drawn(raw, rows, threshold)
        made = torch.cat([seen(shares, threshold), shares, unequal], dim=1)
        flat = flat.index_put((self.written.index_select(0, place) + first,), made)
        return flat.reshape(-1, self.state_size)

    def _drawn(self, raw: Tensor, rows: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """Shares (L, 2) and their asymmetry (L, 1): `draw` and `asymmetry` in few operations.

        Here all energies are positive; run-times are slow at choosing numbers, and at many small operations.
        """
        m = self.level.network.components
        energy, uniform, standard, width, aim, most = torch.split(rows, 1, dim=1)
        alone, together, weights, places, scales = torch.split(raw, [2, 1, m, m, m], dim=1)
        choices = torch.cat([alone, together.minimum(most)], dim=1).softmax(dim=1)
        left, right, shared = torch.split(choices, 1, dim=1)
        one = left + right
        both = aim >= one
        passed = weights.softmax(dim=1).cumsum(dim=1)[:, :-1] < (uniform - one) / shared
        component = passed.sum(dim=1, keepdim=True)
        y = places.gather(1, component) + scale_of(scales.gather(1, component)) * standard
        ratio = (0.5 * y).tanh() * width
        less = (energy * (-ratio.abs()).sigmoid()).maximum(threshold) * both
        more = energy - less
        on_left = torch.where(both, ratio, left - uniform) > 0
        shares = torch.where(on_left, torch.cat([more, less], dim=1), torch.cat([less, more], dim=1))
        return shares, shares @ self.sides / energy

    def end(self, state: Tensor) -> Tensor:
        return state[:, self.level.size : self.level.size + self.size]
