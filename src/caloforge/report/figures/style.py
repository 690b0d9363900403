"""One look for all figures: the style of mplhep at note size, without LaTeX or pyplot's global state."""

from __future__ import annotations

import importlib
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from caloforge.errors import MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "GENERATED",
    "GENERATED_NAME",
    "GENERATED_STYLE",
    "REFERENCE",
    "REFERENCE_FILL",
    "REFERENCE_NAME",
    "SampleStyle",
    "figure_style",
    "legend",
    "legend_height",
    "model_styles",
    "require_drawing_packages",
]

REFERENCE, REFERENCE_FILL, GENERATED = "#4a4f57", "#d5d8dd", "#c8102e"
REFERENCE_NAME, GENERATED_NAME = "Geant4", "generated"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#7f3c8d")
"""Told apart with any colour vision (M. Okabe, K. Ito, 2008; yellow, too pale on white, is left out)."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1)), (0, (5, 1, 1.2, 1)))

_SESSION = (
    "backend",
    "date.epoch",
    "docstring",
    "interactive",
    "savefig.directory",
    "tk.",
    "toolbar",
    "webagg",
)
"""Beginnings of settings of a session, not of a drawing."""


@dataclass(frozen=True)
class SampleStyle:
    """How a sample looks in all figures; markers and lines differ too, for print without colour."""

    name: str
    colour: str
    marker: str
    line: Any


GENERATED_STYLE = SampleStyle(GENERATED_NAME, GENERATED, "s", "-")


def model_styles(names: Sequence[str]) -> list[SampleStyle]:
    """Styles of the models in their order; beyond eight colours repeat with other lines and markers."""
    n = len(COLOURS)
    return [
        SampleStyle(name, COLOURS[i % n], MARKERS[(i + i // n) % n], LINES[(i + i // n) % len(LINES)])
        for i, name in enumerate(names)
    ]


def require_drawing_packages() -> None:
    """Raise MissingDependencyError where a package that draws is not installed."""
    for package in ("jinja2", "matplotlib", "mplhep", "plotly"):
        try:
            if package == "matplotlib":
                _import_matplotlib()
            importlib.import_module(package)
        except ImportError as error:
            raise MissingDependencyError(package, "report") from error


def _import_matplotlib() -> None:
    """Import it also where ``$MPLBACKEND`` names a backend that is not there, as notebooks set it."""
    if "matplotlib" in sys.modules:
        return
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with suppress(ValueError):  # figures are drawn without one
            matplotlib.rcParams["backend"] = backend


@cache
def _parameters(small: bool) -> Any:
    """All settings of matplotlib that a figure depends on, whatever a user's matplotlibrc says."""
    import matplotlib
    import mplhep

    size = 8.5 if small else 11.0
    own = {
        "font.size": size,
        "axes.labelsize": size,
        "axes.titlesize": size,
        "axes.linewidth": 0.8,
        "xtick.labelsize": 0.88 * size,
        "ytick.labelsize": 0.88 * size,
        "legend.fontsize": 0.86 * size,
        "xtick.major.size": 3 if small else 5,
        "ytick.major.size": 3 if small else 5,
        "xtick.minor.size": 1.5 if small else 2.5,
        "ytick.minor.size": 1.5 if small else 2.5,
        "xtick.major.pad": 3,
        "ytick.major.pad": 3,
        "lines.linewidth": 1.2,
        "patch.linewidth": 1.0,
        "text.usetex": False,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "axes.formatter.limits": (-3, 4),
        "axes.formatter.use_mathtext": True,
        "axes.titlelocation": "left",
        "font.sans-serif": ["TeX Gyre Heros", "DejaVu Sans"],
        "pdf.fonttype": 42,
        "pdf.compression": 3,
    }
    if small:  # minor ticks are half of the drawing time of a page with many panels
        own |= {f"{axis}tick.minor.visible": False for axis in "xy"}
        own |= {"xtick.top": False, "ytick.right": False}
    default = {k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith(_SESSION)}
    return default | dict(mplhep.style.CMS) | own


@contextmanager
def figure_style(small: bool = False) -> Iterator[None]:
    """Within it, figures look like mplhep's; ``small`` is for pages of many panels."""
    import matplotlib

    with matplotlib.rc_context(_parameters(small)):
        yield


def legend(figure: Figure, styles: Sequence[SampleStyle], left: float, *, lines: bool = True) -> None:
    """One legend for all panels above them: Geant4 and the models, as lines or as markers."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(facecolor=REFERENCE_FILL, edgecolor=REFERENCE, label=REFERENCE_NAME)]
    for style in styles:
        look = {"linestyle": style.line} if lines else {"linestyle": "none", "marker": style.marker}
        handles.append(Line2D([], [], color=style.colour, label=style.name, **look))
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(left, 0.998),
        ncols=_legend_columns(styles, float(figure.get_figwidth())),
        borderaxespad=0.2,
        columnspacing=1.4,
        handlelength=2.2,
    )


def legend_height(styles: Sequence[SampleStyle], width: float) -> float:
    """Inches that `legend` takes on a figure of this width."""
    return 0.12 + 0.22 * math.ceil((len(styles) + 1) / _legend_columns(styles, width))


def _legend_columns(styles: Sequence[SampleStyle], width: float) -> int:
    return min(5, len(styles) + 1, max(1, int(width / 1.35)))
