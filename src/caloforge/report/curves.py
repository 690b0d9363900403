"""Response and resolution against the incident energy and other conditions. Legend: ``B`` bins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.results import ResolutionFit, ResponseCurve
from caloforge.report.profiles import points, ratio_limits
from caloforge.report.style import (
    GENERATED,
    GENERATED_NAME,
    REFERENCE,
    REFERENCE_NAME,
    Drawing,
    figure_style,
    new_figure,
    save,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_responses", "resolution_of"]

Floats = NDArray[np.float64]


def resolution_of(fit: ResolutionFit, energy_gev: Floats) -> Floats:
    """a/√E ⊕ b/E ⊕ c at these energies; terms that could not be fitted count as zero."""
    a, b, c = (np.nan_to_num(term) for term in (fit.stochastic, fit.noise, fit.constant))
    return np.asarray(np.sqrt((a / np.sqrt(energy_gev)) ** 2 + (b / energy_gev) ** 2 + c**2))


def draw_responses(curves: Sequence[ResponseCurve], folder: Path) -> list[Drawing]:
    """Response with its ratio, and resolution with its ratio, one figure a condition."""
    return [_draw(curve, folder) for curve in curves if np.isfinite(curve.reference_response).any()]


def _draw(curve: ResponseCurve, folder: Path) -> Drawing:
    parts = (
        (r"mean of $\Sigma E\,/\,E_\mathrm{inc}$", "response"),
        (r"resolution $\sigma/\mu$ of $\Sigma E\,/\,E_\mathrm{inc}$", "resolution"),
    )
    energy = curve.condition == "energy"
    x = curve.positions / 1000 if energy else curve.positions
    with figure_style():
        figure = new_figure(10.7, 4.8)
        grid = figure.add_gridspec(1, 2, left=0.08, right=0.985, wspace=0.27, top=0.96, bottom=0.13)
        for k, (label, name) in enumerate(parts):
            pair = grid[k].subgridspec(2, 1, height_ratios=(3, 1), hspace=0.05)
            axes = figure.add_subplot(pair[0])
            below = figure.add_subplot(pair[1], sharex=axes)
            y = [getattr(curve, f"{sample}_{name}") for sample in ("reference", "generated")]
            e = [getattr(curve, f"{sample}_{name}_error") for sample in ("reference", "generated")]
            points(axes, x, y[0], e[0], REFERENCE, "o", REFERENCE_NAME)
            points(axes, x, y[1], e[1], GENERATED, "s", GENERATED_NAME)
            if name == "resolution" and energy:
                _draw_fits(axes, curve, x)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = y[1] / y[0]
                error = ratio * np.hypot(e[0] / y[0], e[1] / y[1])
            below.axhline(1, color=REFERENCE, linewidth=0.8)
            points(below, x, ratio, error, GENERATED, "s")
            ratio_limits(below, ratio, error)
            low, high = axes.get_ylim()
            bottom = max(low, 0.0) if name == "resolution" else low
            axes.set_ylim(bottom, high + 0.3 * (high - bottom))
            axes.set_ylabel(label)
            axes.tick_params(labelbottom=False)
            axes.legend(loc="upper right", ncols=1)
            below.set_ylabel("ratio", loc="center")
            _label_positions(axes, below, curve, x)
        what = curve.label.partition(" [")[0]
        return save(
            figure,
            folder,
            f"response_{curve.condition}",
            f"Response and resolution against {what}, with statistical errors; below, generated / Geant4.",
            f"Mean and relative spread of the total energy over the incident energy in bins of {what}, "
            "Geant4 and generated with their ratio.",
        )


def _draw_fits(axes: Axes, curve: ResponseCurve, x: Floats) -> None:
    """The fitted resolutions as lines over the range of the points."""
    seen = x[np.isfinite(curve.reference_resolution) & (x > 0)]
    if not len(seen):
        return
    line = np.geomspace(seen.min(), seen.max(), 100)
    for name, colour, style in (("reference", REFERENCE, "-"), ("generated", GENERATED, "--")):
        fit = curve.fits.get(name)
        if fit is not None and np.isfinite([fit.stochastic, fit.noise, fit.constant]).any():
            axes.plot(line, resolution_of(fit, line), style, color=colour, linewidth=1.0)


def _label_positions(axes: Axes, below: Axes, curve: ResponseCurve, x: Floats) -> None:
    """Names, or a logarithmic axis in GeV for energies, or the condition as it is."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    label = curve.label
    if curve.names:
        below.set_xticks(x, list(curve.names), rotation=20, ha="right")
        for part in (axes, below):
            part.tick_params(axis="x", which="minor", bottom=False, top=False)
        axes.set_xlim(-0.5, len(x) - 0.5)
    elif curve.condition == "energy":
        known = x[np.isfinite(x) & (x > 0)]
        if len(known) and known.max() > 5 * known.min():
            axes.set_xscale("log")
            below.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            below.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            below.xaxis.set_minor_formatter(NullFormatter())
        label = label.replace("[MeV]", "[GeV]")
    axes.tick_params(which="both", labelbottom=False)
    below.set_xlabel(label)
