"""A halving as a loop over the stages of layers, in which a split with energy is a row; see `RowLoop`.

Run-times of exported graphs take a microsecond for each operation on a few rows: it is written in few.
Energies are in units of `UNIT` thresholds.

Legend: ``n`` showers, ``P`` parents that are split, ``C`` children, ``K`` things that a split knows, ``S`` of
one shower that are known, ``L`` splits that are computed, ``M`` components.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from caloforge.models.loops import RowLoop, recorded_loop, recording_loops
from caloforge.models.tree.forms import UNIT, grown
from caloforge.models.tree.level import HalvingModel
from caloforge.models.tree.split import LEAST_SCALE, can_share, log_width, logistic

__all__ = ["StageLoop", "prepared", "sampled"]

THRESHOLD = torch.tensor(1 / UNIT)
ALONE = 1e4
"""Logit of a share that is all, of which exp is infinite in float32."""
NEVER = -1e4
"""Logit of what cannot be."""


def prepared(noise: Tensor) -> Tensor:
    """Noise (n, P, 2) as `sampled` wants it: uniform and logistic numbers, if splits are rows of loops."""
    if not recording_loops():
        return noise
    return torch.stack([torch.special.ndtr(-noise[..., 0]), logistic(noise[..., 1])], dim=2)


def sampled(
    level: HalvingModel, parents: Tensor, context: Tensor, noise: Tensor, threshold: Tensor, bf16: bool
) -> Tensor:
    """Children (n, C) as of `HalvingModel.sample`, of `prepared` noise; a loop in graphs that hold such."""
    if not recording_loops():
        return level.sample(parents, context, noise, threshold, bf16)
    unit = UNIT * threshold
    made = recorded_loop(lambda: StageLoop(level), level.halving.n_children, parents / unit, context, noise)
    made = made * unit
    return made.maximum(threshold * made.sign())


class StageLoop(RowLoop):
    """Samples one halving.

    Its state are what is known, the energies of the children, and what is known anew of the stages before.

    Args:
        level: the halving.
    """

    repeated: ClassVar[bool] = True
    layout: Tensor
    table: Tensor
    written: Tensor
    earlier: Tensor
    sides: Tensor
    signs: Tensor
    reads: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, level: HalvingModel) -> None:
        halving = level.halving
        super().__init__(torch.tensor(level.pass_ends[1:]).view(halving.n_stages, -1), halving.n_children)
        self.level = level
        parts, whole = halving.sources.parts, level.whole
        where, size = torch.arange(level.size), level.size + self.size
        self.anew = sorted(level.passes.updated, key=lambda part: part.form == "asymmetry")
        for part in self.anew:
            n = part.size // halving.n_stages if part.grid == "earlier" else part.size
            for begin in range(part.begin, part.begin + part.size, n):
                where[begin : begin + n] = torch.arange(size, size + n)
            size += n
        self.state_size = size
        # what is known first is chosen from: 0, energies of parents, how they are seen, what else is known of
        # them, and the numbers of the shower
        of_parents = [part for part in parts.values() if part.grid == "parents"]
        self.of_form = {
            form: [part for part in of_parents if part.form == form] for form in ("seen", "logarithm", "lit")
        }
        layout, at = torch.zeros(size, dtype=torch.int64), 1 + halving.n_parents
        for part in (part for form in self.of_form.values() for part in form):
            layout[part.begin : part.begin + part.size] = torch.arange(at, at + part.size)
            at += part.size
        told = level.size - 1 - halving.sources.size
        layout[halving.sources.size : level.size - 1] = torch.arange(at, at + told)
        layout[parts["children"].begin + level.whole_child] = 1 + halving.n_parents + whole
        layout[level.size + level.whole_child] = 1 + whole
        columns = [
            side[:-1] + first
            for first in (parts["children"].begin, level.size)
            for side in (level.left, level.right)
        ]
        columns.append(level.cells + parts["asymmetries"].begin)
        earlier = torch.from_numpy(halving.layer_stages) < torch.arange(halving.n_stages)[:, None]
        weight, bias = self._head()
        m = level.network.components + 2
        buffers = {
            "layout": layout,
            "table": where[level.table[:-1]],
            "written": torch.stack(columns, dim=1)[..., None],
            "earlier": earlier.float(),
            "sides": torch.tensor([[1.0], [-1.0]]),
            "signs": torch.tensor([[-1.0, 1.0]]),
            "reads": torch.arange(2, 5)[None] * m,
            "weight": weight,
            "bias": bias,
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)

    def _head(self) -> tuple[Tensor, Tensor]:
        """Weights of the network's head such that it gives five rows of M + 2 numbers of what can be.

        These are components, the last first, and left and right alone, which are components, too. The first
        two rows are logits, of which a split's choice and its component are drawn; then half of their places,
        scales, and what is added to the logit of the larger share.
        """
        head, m = self.level.network.head, self.level.network.components
        never, back = torch.full((m - 1,), NEVER), torch.arange(m - 1, -1, -1)
        rows = [
            [torch.tensor([2]), never, torch.tensor([1, 0])],
            [3 + back, torch.full((2,), NEVER)],
            [3 + m + back, torch.zeros(2)],
            [3 + 2 * m + back, torch.zeros(2)],
            [torch.zeros(m), torch.tensor([-ALONE, ALONE])],
        ]
        weight, bias = [], []
        for piece in (piece for row in rows for piece in row):
            fixed = piece.is_floating_point()
            weight.append(torch.zeros(len(piece), head.in_features) if fixed else head.weight.detach()[piece])
            bias.append(piece if fixed else head.bias.detach()[piece])
        made = torch.cat(weight), torch.cat(bias)
        for numbers in made:
            numbers[2 * (m + 2) : 3 * (m + 2)] *= 0.5
        return made[0].T.contiguous(), made[1]

    def begin(self, *given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parents, context, noise = given
        shown = parents.reshape(-1, *self.level.halving.shape)
        seen = grown(torch.cat([_summed(shown, part.axes) for part in self.of_form["seen"]], dim=1))
        known = [parents[:, :1] * 0, parents, seen]
        for part in self.of_form["logarithm"]:
            known.append(0.2 * (_summed(shown, part.axes) * UNIT).clamp_min(1.0).log())
        for part in self.of_form["lit"]:
            known.append(0.3 * _summed(shown.sign(), part.axes).sqrt())
        state = torch.cat([*known, context], dim=1).index_select(1, self.layout)
        energy = parents.index_select(1, self.level.cells).T
        return energy > 0, torch.cat([energy[..., None], noise.transpose(0, 1)], dim=2), state

    def told(self, place: Tensor, shower: Tensor, numbers: Tensor) -> tuple[Tensor, ...]:
        energy, uniform, standard = torch.split(numbers, 1, dim=1)
        first = (shower * self.state_size)[:, None]
        width, m = log_width(energy, THRESHOLD), self.level.network.components + 2
        alone = torch.where(can_share(energy, THRESHOLD), 0.0, NEVER)
        bias = self.bias + F.pad(alone, (0, 5 * m - 1))
        written = self.written.index_select(0, place) + first[..., None]
        return place, first, written, energy, uniform, 0.25 * standard, width, bias

    def update(self, state: Tensor, turn: Tensor) -> Tensor:
        level, first = self.level, self.level.size
        by_layer = state[:, first : first + self.size].reshape(
            -1, level.n_layers, self.size // level.n_layers
        )
        sums = (self.earlier.index_select(0, turn) @ by_layer).flatten(1)
        now, unequal = [], []
        for part in self.anew:
            if part.form == "asymmetry":
                sides = getattr(level, f"{part.name}_of")
                both = sums.index_select(1, sides.flatten()).reshape(-1, *sides.shape)
                unequal.append(both[..., 0] if sides.shape[2] == 1 else both.sum(dim=3))
            elif part.form == "lit":
                now.append(0.3 * by_layer.sign().sum(dim=2).sqrt())
            else:
                now.append(grown(sums))
        left, right = torch.split(torch.cat(unequal, dim=2), 1, dim=1)
        now.append(((left - right) / (left + right).clamp_min(0.5 / UNIT)).flatten(1))
        return torch.cat([state[:, : first + self.size], *now], dim=1)

    def step(self, state: Tensor, turn: Tensor, *rows: Tensor) -> Tensor:
        place, first, written, energy, uniform, standard, width, bias = rows
        network, flat, m = self.level.network, state.flatten(), self.level.network.components + 2
        known = flat[self.table.index_select(0, place) + first]
        enter = network.entered().transpose(1, 2).index_select(0, turn)[0]
        h = network.hidden(torch.addmm(network.placed().index_select(0, place), known, enter))
        raw = torch.addmm(bias, h, self.weight)
        # what is more likely than a number, of choices and of components, of all that comes before
        logits = raw[:, : 2 * m].reshape(-1, 2, m)
        likely = logits.softmax(dim=2).cumsum(dim=2).prod(dim=1)
        component = likely.minimum(uniform).argmax(dim=1, keepdim=True)
        half, scale, more = torch.split(raw.gather(1, component + self.reads), 1, dim=1)
        half = half + (F.softplus(scale) + 2 * LEAST_SCALE) * standard
        inverse = 1 + ((half.tanh() * width + more) * self.signs).exp()
        shares = energy / inverse
        made = torch.cat([grown(shares), shares, shares @ self.sides / energy], dim=1)
        return flat.index_put((written.squeeze(2),), made).reshape(-1, self.state_size)

    def end(self, state: Tensor) -> Tensor:
        return state[:, self.level.size : self.level.size + self.size]


def _summed(energies: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Energies (n, z, b, c), or their sums over axes, (n, numbers)."""
    return (energies.sum(dim=[axis + 1 for axis in axes]) if axes else energies).flatten(1)
