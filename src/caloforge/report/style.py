"""One look for all figures: the style of mplhep at note size, without LaTeX or pyplot's global state."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from caloforge.errors import MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "GENERATED",
    "GENERATED_NAME",
    "REFERENCE",
    "REFERENCE_FILL",
    "REFERENCE_NAME",
    "Drawing",
    "figure_style",
    "new_figure",
    "require_drawing_packages",
    "save",
]

REFERENCE, REFERENCE_FILL, GENERATED = "#4a4f57", "#d5d8dd", "#c8102e"
REFERENCE_NAME, GENERATED_NAME = "Geant4", "generated"
PNG_DPI = 110


@dataclass(frozen=True)
class Drawing:
    """A figure on disk: ``figures/<name>.pdf`` and ``.png``, a caption and a text for screen readers."""

    folder: Path
    name: str
    caption: str
    alt: str
    width: int
    height: int

    def data_uri(self) -> str:
        """The PNG as a ``data:`` address that can stand inside a page."""
        return "data:image/png;base64," + base64.b64encode(
            (self.folder / f"{self.name}.png").read_bytes()
        ).decode("ascii")


def require_drawing_packages() -> None:
    """Raise MissingDependencyError where a package that draws is not installed."""
    for package in ("matplotlib", "mplhep", "plotly"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingDependencyError(package, "report") from error


def _parameters(small: bool) -> Any:
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
    return dict(mplhep.style.CMS) | own


@contextmanager
def figure_style(small: bool = False) -> Iterator[None]:
    """Within it, figures look like mplhep's; ``small`` is for pages of many panels."""
    import matplotlib

    with matplotlib.rc_context(_parameters(small)):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, inches, drawn by Agg; it belongs to no window and needs no closing."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, folder: Path, name: str, caption: str, alt: str) -> Drawing:
    """Write a figure as PDF and PNG; must be called within the same `figure_style` as it was drawn in."""
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # missing glyphs in a feature's label are no error
        figure.savefig(folder / f"{name}.pdf", metadata={"Creator": "caloforge", "CreationDate": None})
        _save_png(figure, folder / f"{name}.png")
    width, height = figure.get_size_inches() * PNG_DPI
    return Drawing(folder, name, caption, alt, round(width), round(height))


def _save_png(figure: Figure, path: Path) -> None:
    """The figure as a PNG of 256 colours: a third of the size of full colour, and no different to look at."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure.set_dpi(PNG_DPI)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    few = image.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette = few.getpalette() or []
    corner = int(np.asarray(few)[0, 0])
    palette[3 * corner : 3 * corner + 3] = [255, 255, 255]  # the background came out a shade darker
    few.putpalette(palette)
    few.save(path)
