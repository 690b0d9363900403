"""Do both samples have the same threshold?"""

from __future__ import annotations

from collections.abc import Iterator

from caloforge.evaluation.results import Evaluation
from caloforge.report.words.finding import Finding
from caloforge.report.words.text import number

__all__ = ["threshold_findings"]

SURE = 25
"""Cells that one sample should have below the smallest of the other to speak of a threshold: more than
counting asks for, since cells of one shower are correlated."""


def threshold_findings(evaluation: Evaluation) -> Iterator[Finding]:
    """Cells of one sample where the other has none, compared with how many it should have there."""
    cells = evaluation.cells
    if cells is None or not cells.reference_hits or not cells.generated_hits:
        return
    ratio = cells.generated_hits / cells.reference_hits
    smallest = cells.reference_smallest, cells.generated_smallest
    low, high = (f"{number(1000 * e, 4)} keV" for e in sorted(smallest))
    if cells.reference_below * min(ratio, 1.0) > SURE:
        text = (
            f"No generated cell below {high}, {number(cells.reference_below)} of Geant4’s, down to {low}: "
            "the threshold is higher."
        )
    elif cells.generated_below * min(1 / ratio, 1.0) > SURE:
        text = (
            f"{number(cells.generated_below)} generated cells below {high}, none of Geant4’s, down to {low}: "
            "the threshold is lower, or was not applied."
        )
    else:
        yield Finding(f"Cells begin at the same energy, {low}.", False)
        return
    yield Finding(text, True)
