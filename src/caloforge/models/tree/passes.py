"""The passes of a halving as a fixed sequence of operations on whole tensors, without writing into any.

What is known grows: each pass appends what it gives, and the next is told where to look. That is how a
halving is sampled where all splits are computed: on a GPU, and in graphs that are exported.

Legend: ``P`` parents that are split, ``C`` children, ``K`` things that a split knows, ``S`` of one shower
that are known before the first pass, ``L`` splits of a pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.models.tree.halvings import Halving, Source

__all__ = ["Passes"]

Integers = NDArray[np.int64]


class Passes(nn.Module):
    """Where everything is.

    Energies of children are made in the order 0, those that are whole parents, then for each pass those on
    the left and those on the right.

    Args:
        halving: whose.
        table: where what each split knows is found among the S numbers, (P + 1, K).
        size: S.

    Attributes:
        sizes: L of each pass.
        stages: of each pass.
        updated: parts of what is known that are appended anew before a stage but the first.
    """

    def __init__(self, halving: Halving, table: Integers, size: int) -> None:
        super().__init__()
        self.sizes, self.stages = list(halving.pass_sizes), list(halving.pass_stages)
        parts = halving.sources.parts
        self.updated = [
            part
            for part in parts.values()
            if part.grid == "earlier" or (part.grid == "children" and part.axes)
        ]
        self._n_stages = halving.n_stages
        where, made = np.arange(size), np.zeros(halving.n_children + 1, dtype=np.int64)
        made[halving.whole_child] = 1 + np.arange(len(halving.whole))
        self._keep("begin", made[:-1])
        n_made = 1 + len(halving.whole)
        for i, (begin, end) in enumerate(pairwise(accumulate(self.sizes, initial=0))):
            if i and self.begins_stage(i):
                self._keep(f"before_{i}", made[:-1])
                for part, columns in self._columns(self.stages[i]):
                    where[part.begin + columns] = size + np.arange(len(columns))
                    size += len(columns)
            self._keep(f"known_{i}", where[table[begin:end]].ravel())
            n, chosen = end - begin, halving.cells[begin:end]
            sides = np.concatenate([halving.left[begin:end], halving.right[begin:end]])
            where[parts["children"].begin + sides] = size + np.arange(2 * n)
            where[parts["asymmetries"].begin + chosen] = size + 2 * n + np.arange(n)
            made[sides] = n_made + np.arange(2 * n)
            size, n_made = size + 3 * n, n_made + 2 * n
        self._keep("end", made[:-1])

    def _keep(self, name: str, index: Integers) -> None:
        self.register_buffer(name, torch.from_numpy(index.copy()), persistent=False)

    def _columns(self, stage: int) -> Iterator[tuple[Source, Integers]]:
        """Parts that are appended before a stage, and which of their numbers."""
        for part in self.updated:
            n = part.size // self._n_stages if part.grid == "earlier" else part.size
            yield part, np.arange(n) + (stage * n if part.grid == "earlier" else 0)

    def begins_stage(self, i: int) -> bool:
        """True where pass ``i`` is the first of its stage."""
        return not i or self.stages[i] != self.stages[i - 1]

    def so_far(self, made: list[Tensor], at: str) -> Tensor:
        """Children (n, C) of what was made so far, "begin", "before_…" or "end"; 0 where it was not."""
        whole: Tensor = torch.cat(made, dim=1).index_select(1, self.get_buffer(at))
        return whole

    def known(self, known: Tensor, i: int) -> Tensor:
        """What the splits of pass ``i`` know, (n, L, K)."""
        return torch.unflatten(known.index_select(1, self.get_buffer(f"known_{i}")), 1, (self.sizes[i], -1))
