"""Response and resolution against the incident energy and other conditions. Legend: ``B`` bins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caloforge.evaluation.results import ResolutionFit, ResponseCurve
from caloforge.report.figures.marks import Floats, both_points, points, ratio_limits
from caloforge.report.figures.sheet import Drawing, panel_sheet
from caloforge.report.figures.style import GENERATED, REFERENCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_responses", "fitted_resolution"]


def fitted_resolution(fit: ResolutionFit, energy_gev: Floats) -> Floats:
    """a/√E ⊕ b/E ⊕ c at these energies; terms that could not be fitted count as zero."""
    a, b, c = (np.nan_to_num(term) for term in (fit.stochastic, fit.noise, fit.constant))
    return np.asarray(np.sqrt((a / np.sqrt(energy_gev)) ** 2 + (b / energy_gev) ** 2 + c**2))


def draw_responses(curves: Sequence[ResponseCurve], folder: Path) -> list[Drawing]:
    """Response with its ratio, and resolution with its ratio, one figure a condition."""
    return [_draw(curve, folder) for curve in curves if np.isfinite(curve.reference_response).any()]


def _draw(curve: ResponseCurve, folder: Path) -> Drawing:
    with panel_sheet(2, 2, panel=(5.35, 4.0), margins=(0.85, 0.16, 0.2, 0.62), gaps=(0.27, 0.0)) as page:
        axes, below = page.ratio_panel(0)
        _draw_quantity(axes, below, curve, "response", r"mean of $\Sigma E\,/\,E_\mathrm{inc}$")
        axes, below = page.ratio_panel(1)
        _draw_quantity(
            axes, below, curve, "resolution", r"resolution $\sigma/\mu$ of $\Sigma E\,/\,E_\mathrm{inc}$"
        )
        what = curve.label.partition(" [")[0]
        return page.save(
            folder,
            f"response_{curve.condition}",
            f"Response and resolution against {what}.",
            f"Mean and relative spread of the total energy over the incident energy in bins of {what}, "
            "Geant4 and generated with their ratio.",
        )


def _draw_quantity(axes: Axes, below: Axes, curve: ResponseCurve, name: str, label: str) -> None:
    """``response`` or ``resolution`` of both samples, and their ratio."""
    energy = curve.condition == "energy"
    x = curve.positions / 1000 if energy else curve.positions
    y, generated = (getattr(curve, f"{sample}_{name}") for sample in ("reference", "generated"))
    e, e_generated = (getattr(curve, f"{sample}_{name}_error") for sample in ("reference", "generated"))
    both_points(axes, (x, y, e), (x, generated, e_generated))
    if name == "resolution" and energy:
        _draw_fits(axes, curve, x)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = generated / y
        error = ratio * np.hypot(e / y, e_generated / generated)
    below.axhline(1, color=REFERENCE, linewidth=0.8)
    points(below, x, ratio, error, GENERATED, "s")
    ratio_limits(below, [(ratio, error)])
    low, high = axes.get_ylim()
    bottom = max(low, 0.0) if name == "resolution" else low
    axes.set_ylim(bottom, high + 0.3 * (high - bottom))
    axes.set_ylabel(label)
    axes.tick_params(labelbottom=False)
    axes.legend(loc="upper right", ncols=1)
    below.set_ylabel("ratio", loc="center")
    _label_positions(axes, below, curve, x)


def _draw_fits(axes: Axes, curve: ResponseCurve, x: Floats) -> None:
    """The fitted resolutions as lines over the range of the points."""
    seen = x[np.isfinite(curve.reference_resolution) & (x > 0)]
    if not len(seen):
        return
    line = np.geomspace(seen.min(), seen.max(), 100)
    for name, colour, style in (("reference", REFERENCE, "-"), ("generated", GENERATED, "--")):
        fit = curve.fits.get(name)
        if fit is not None and np.isfinite([fit.stochastic, fit.noise, fit.constant]).any():
            axes.plot(line, fitted_resolution(fit, line), style, color=colour, linewidth=1.0)


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
