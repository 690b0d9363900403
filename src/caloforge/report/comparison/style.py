"""How models look in the figures of a comparison: the same colour, marker and line in every one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from caloforge.report.style import REFERENCE, REFERENCE_FILL, REFERENCE_NAME

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "ModelStyle", "legend", "legend_height", "model_styles"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#7f3c8d")
"""Told apart with any colour vision (M. Okabe, K. Ito, 2008; yellow, too pale on white, is left out)."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1)), (0, (5, 1, 1.2, 1)))


@dataclass(frozen=True)
class ModelStyle:
    """How a model looks in every figure; markers and lines differ too, for print without colour."""

    name: str
    colour: str
    marker: str
    line: Any


def model_styles(names: Sequence[str]) -> list[ModelStyle]:
    """Styles of the models in their order; beyond eight colours repeat with other lines and markers."""
    n = len(COLOURS)
    return [
        ModelStyle(name, COLOURS[i % n], MARKERS[(i + i // n) % n], LINES[(i + i // n) % len(LINES)])
        for i, name in enumerate(names)
    ]


def legend(figure: Figure, styles: Sequence[ModelStyle], left: float, *, lines: bool = True) -> None:
    """One legend for all panels above them."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(facecolor=REFERENCE_FILL, edgecolor=REFERENCE, label=REFERENCE_NAME)]
    handles += [
        Line2D(
            [],
            [],
            color=s.colour,
            linestyle=s.line if lines else "none",
            marker="" if lines else s.marker,
            label=s.name,
        )
        for s in styles
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(left, 0.998),
        ncols=min(5, len(handles)),
        borderaxespad=0.2,
        columnspacing=1.4,
        handlelength=2.2,
    )


def legend_height(styles: Sequence[ModelStyle]) -> float:
    """Inches that `legend` takes."""
    return 0.12 + 0.22 * math.ceil((len(styles) + 1) / 5)
