"""Long computations of a few rows at a time, which exported graphs hold part by part.

A tree of splits goes through the rows of showers, its splits with energy, part by part: each part is told
what those before have given. torch does not trace the ten thousand operations of all parts in a minute; the
methods of a `RowLoop` are traced once for all parts, and only rows that count are computed.

Legend: ``n`` showers, ``P`` rows of a shower, ``L`` rows that are computed, ``S`` numbers of a state.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor, nn

__all__ = ["RowLoop", "loops_recorded", "recorded_loop", "recording_loops"]

_recorded: ContextVar[dict[str, Callable[[], RowLoop]] | None] = ContextVar("recorded", default=None)
"""Makes the loops of the graph that is made now, by name; None where none is."""


class RowLoop(nn.Module):
    """Rounds of parts of rows; its methods are traced one by one, and must not depend on values.

    Args:
        ends: rows of a shower, in their order, at which each part ends, (rounds, parts).
        size: numbers of what it gives of a shower.

    Attributes:
        repeated: graphs hold one round, which is repeated; by default all, with the weights of each, which
            is faster, but browsers take long to read many operations.
    """

    repeated: ClassVar[bool] = False
    ends: Tensor

    def __init__(self, ends: Tensor, size: int) -> None:
        super().__init__()
        self.register_buffer("ends", ends, persistent=False)
        self.rounds, self.parts = ends.shape
        self.size = size

    @abstractmethod
    def begin(self, *given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which rows are to be computed (P, n), numbers of all (P, n, k), and the state (n, S)."""

    @abstractmethod
    def told(self, place: Tensor, shower: Tensor, numbers: Tensor) -> tuple[Tensor, ...]:
        """What `step` is told of rows (L,) of showers (L,) whose numbers are (L, k): (L, …) each."""

    def update(self, state: Tensor, turn: Tensor) -> Tensor:
        """The state at the beginning of a round, whose number is (1,); the first must not need it."""
        return state

    @abstractmethod
    def step(self, state: Tensor, turn: Tensor, *rows: Tensor) -> Tensor:
        """The state after some rows, of what they are `told`."""

    @abstractmethod
    def end(self, state: Tensor) -> Tensor:
        """What it gives, (n, size)."""

    def forward(self, *given: Tensor) -> Tensor:
        """All of it."""
        chosen, numbers, state = self.begin(*given)
        place, shower = chosen.nonzero().unbind(dim=1)
        told = self.told(place, shower, numbers[place, shower])
        passed = torch.cat([place.new_zeros(1), chosen.sum(dim=1).cumsum(dim=0)])
        ends = passed[self.ends].flatten().tolist()
        begin = 0
        for i in range(self.rounds):
            turn = torch.tensor([i])
            state = self.update(state, turn) if i else state
            for end in ends[i * self.parts : (i + 1) * self.parts]:
                state = self.step(state, turn, *(x[begin:end] for x in told))
                begin = end
        return self.end(state)


@contextmanager
def loops_recorded() -> Iterator[Mapping[str, Callable[[], RowLoop]]]:
    """Within, loops become single operations of what torch traces; what makes them is collected by name."""
    loops: dict[str, Callable[[], RowLoop]] = {}
    token = _recorded.set(loops)
    try:
        yield loops
    finally:
        _recorded.reset(token)


def recording_loops() -> bool:
    """True within `loops_recorded`."""
    return _recorded.get() is not None


def recorded_loop(make: Callable[[], RowLoop], size: int, *given: Tensor) -> Tensor:
    """The (n, size) of a loop as one operation.

    It is made later: while torch traces, weights have no numbers.
    """
    loops = _recorded.get()
    assert loops is not None
    name = f"loop_{len(loops)}"
    loops[name] = make
    return _operation()(list(given), size, name)


@cache
def _operation() -> Callable[..., Tensor]:
    """A loop as an operation of torch, which is traced and never computed."""

    def never(given: list[Tensor], size: int, name: str) -> Tensor:
        raise RuntimeError("loops are in graphs that are exported alone")

    def like(given: list[Tensor], size: int, name: str) -> Tensor:
        return given[0].new_empty(given[0].shape[0], size)

    made = torch.library.custom_op("caloforge::row_loop", never, mutates_args=())
    made.register_fake(like)
    return made
