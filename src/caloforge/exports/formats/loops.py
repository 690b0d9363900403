"""The parts of a loop as programs, each for any number of showers and rows; see `RowLoop`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from caloforge.exports.graph import EXAMPLES, program_of
from caloforge.models.loops import RowLoop

__all__ = ["LOOP", "Parts", "parts_of"]

LOOP = "caloforge::row_loop"
"""Operation that a loop is in a program."""
ROWS = EXAMPLES + 1
"""Rows that the programs are made with."""


@dataclass(frozen=True)
class Parts:
    """Programs of the methods of a loop.

    Attributes:
        loop: whose.
        n_given, n_shared: inputs of showers, and those that are the same for all.
    """

    loop: RowLoop
    n_given: int
    n_shared: int
    begin: torch.export.ExportedProgram
    update: torch.export.ExportedProgram
    step: torch.export.ExportedProgram
    end: torch.export.ExportedProgram


class _Method(nn.Module):
    def __init__(self, loop: RowLoop, name: str) -> None:
        super().__init__()
        self.loop, self.name = loop, name

    def forward(self, *tensors: Tensor) -> Tensor:
        made: Tensor = getattr(self.loop, self.name)(*tensors)
        return made


def parts_of(loop: RowLoop, given: Sequence[Tensor], shared: Sequence[Tensor]) -> Parts:
    """All of them, of inputs of such types and shapes."""
    first = [torch.zeros(EXAMPLES, *x.shape[1:], dtype=x.dtype) for x in given]
    same = [torch.ones(x.shape, dtype=x.dtype) for x in shared]
    # one tensor for all would be taken for one input
    turn, place, shower = (torch.zeros(n, dtype=torch.int64) for n in (1, ROWS, ROWS))
    with torch.no_grad():  # what is derived from weights is derived here, and constant in the programs
        _, numbers, state = loop.begin(*first, *same)
        rows = numbers.new_zeros(ROWS, numbers.shape[2])
        loop.step(loop.update(state, turn, *same), turn, place, shower, rows, *same)
    alike: list[list[str]] = [[] for _ in same]
    some = {
        "begin": ([*first, *same], [*(["batch"] for _ in first), *alike]),
        "update": ([state, turn, *same], [["batch"], [], *alike]),
        "step": (
            [state, turn, place, shower, rows, *same],
            [["batch"], [], ["rows"], ["rows"], ["rows"], *alike],
        ),
        "end": ([state], [["batch"]]),
    }
    programs = {name: program_of(_Method(loop, name), *inputs) for name, inputs in some.items()}
    return Parts(loop, len(first), len(same), **programs)
