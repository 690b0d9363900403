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
    """Programs of the methods of a loop; of ``update`` where it has one and several rounds."""

    loop: RowLoop
    begin: torch.export.ExportedProgram
    told: torch.export.ExportedProgram
    update: torch.export.ExportedProgram | None
    step: torch.export.ExportedProgram
    end: torch.export.ExportedProgram


class _Method(nn.Module):
    def __init__(self, loop: RowLoop, name: str) -> None:
        super().__init__()
        self.loop, self.name = loop, name

    def forward(self, *tensors: Tensor) -> Tensor:
        made: Tensor = getattr(self.loop, self.name)(*tensors)
        return made


def parts_of(loop: RowLoop, given: Sequence[Tensor]) -> Parts:
    """All of them, of inputs of such types and shapes."""
    first = [torch.zeros(EXAMPLES, *x.shape[1:], dtype=x.dtype) for x in given]
    # one tensor for all would be taken for one input
    turn, place, shower = (torch.zeros(n, dtype=torch.int64) for n in (1, ROWS, ROWS))
    with torch.no_grad():  # what is derived from weights is derived here, and constant in the programs
        _, numbers, state = loop.begin(*first)
        numbers = numbers.new_zeros(ROWS, numbers.shape[2])
        rows = [x.clone() for x in loop.told(place, shower, numbers)]
        loop.step(state, turn, *rows)

    def program(name: str, inputs: list[Tensor], *free: str) -> torch.export.ExportedProgram:
        return program_of(_Method(loop, name), inputs, [[axis] if axis else [] for axis in free])

    of_rows, updates = ["rows"] * len(rows), loop.rounds > 1 and type(loop).update is not RowLoop.update
    return Parts(
        loop,
        program("begin", first, *["batch"] * len(first)),
        program("told", [place, shower, numbers], *["rows"] * 3),
        program("update", [state, turn], "batch", "") if updates else None,
        program("step", [state, turn, *rows], "batch", "", *of_rows),
        program("end", [state], "batch"),
    )
