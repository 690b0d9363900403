"""How good showers were in the course of a training whose weights were chosen by a figure of merit."""

from __future__ import annotations

from pathlib import Path

from caloforge.report.figures.sheet import Drawing, panel_sheet
from caloforge.report.figures.style import require_drawing_packages
from caloforge.runtime.structured import parse_json

__all__ = ["draw_selection"]


def draw_selection(folder: Path) -> Drawing | None:
    """The figure of merit against steps, of the log of the training in ``folder``; None where it has none.

    It becomes ``selection.pdf``, ``.png`` and ``.svg`` there. What could not be judged is left out.

    Raises:
        MissingDependencyError: a package that draws is not installed.
    """
    rows = [parse_json(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    told = [row["selection"] for row in rows if row.get("selection", {}).get("curve")]
    curve = [(step, value) for row in told for step, value, _ in row["curve"] if value is not None]
    if not curve:
        return None
    require_drawing_packages()
    by, best = told[-1]["by"], told[-1]["best_step"]
    steps, values = zip(*curve, strict=True)
    with panel_sheet(1, 1, panel=(5.2, 3.4), margins=(0.78, 0.2, 0.2, 0.6)) as page:
        axes = page.panel(0)
        axes.plot(steps, values, "o-", markersize=3)
        if best in steps:
            axes.plot(best, values[steps.index(best)], "*", markersize=12, label=f"kept: step {best}")
            axes.legend()
        axes.set_yscale("log")
        axes.set_xlabel("steps")
        axes.set_ylabel(by)
        caption = f"{by} of showers at the conditions of held-out ones, by the averaged weights."
        return page.save(folder, "selection", caption, f"{by} against steps; step {best} is kept.", svg=True)
