"""A sheet of panels: what every figure is drawn on, and how it gets onto disk."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from caloforge.errors import DataError
from caloforge.report.figures.style import SampleStyle, figure_style, legend, legend_height

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpec

__all__ = ["SMALL", "Drawing", "Sheet", "numbered_pages", "panel_sheet", "sheet"]

PNG_DPI = 110
SMALL = 2.75
"""Width of a figure of which three stand side by side on the first screen, inches."""

Item = TypeVar("Item")


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
        image = (self.folder / f"{self.name}.png").read_bytes()
        return "data:image/png;base64," + base64.b64encode(image).decode("ascii")


@dataclass
class Sheet:
    """An empty figure, inches, and the grid on which its panels lie, row by row."""

    figure: Figure
    width: float
    height: float
    n: int = 1
    columns: int = 1
    grid: GridSpec | None = None

    def panel(self, k: int, share: Axes | None = None) -> Axes:
        """Axes at place ``k`` of the grid; with the same limits as ``share``."""
        assert self.grid is not None
        return self.figure.add_subplot(self.grid[divmod(k, self.columns)], sharex=share, sharey=share)

    def ratio_panel(self, k: int, above: float = 3.0, gap: float = 0.05) -> tuple[Axes, Axes]:
        """Axes at place ``k``, ``above`` times as high as those for a ratio beneath them."""
        assert self.grid is not None
        pair = self.grid[divmod(k, self.columns)].subgridspec(2, 1, height_ratios=(above, 1), hspace=gap)
        axes = self.figure.add_subplot(pair[0])
        return axes, self.figure.add_subplot(pair[1], sharex=axes)

    def label(self, k: int, axes: Axes, x: str, y: str, below: Axes | None = None) -> None:
        """Name the axes at place ``k`` at the edges of the sheet only: ``y`` left, ``x`` lowest."""
        if k % self.columns == 0:
            axes.set_ylabel(y)
            if below is not None:
                below.set_ylabel("ratio", loc="center")
        if x and k + self.columns >= self.n:
            (below or axes).set_xlabel(x)

    def axes(
        self, left: float, bottom: float, width: float, height: float, share_y: Axes | None = None
    ) -> Axes:
        """Axes anywhere on the sheet, inches; with the limits of ``share_y`` along y."""
        return self.figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height),
            sharey=share_y,
        )

    def colour_bar(
        self, axes: Axes, norm: Normalize, colours: str, label: str, *, extend: str = "neither"
    ) -> None:
        """A horizontal scale of colours in axes of its own."""
        from matplotlib.cm import ScalarMappable

        bar = self.figure.colorbar(
            ScalarMappable(norm, colours), cax=axes, orientation="horizontal", extend=extend
        )
        bar.set_label(label, loc="center")
        bar.ax.tick_params(direction="out", top=False, which="both")

    def save(self, folder: Path, name: str, caption: str, alt: str, *, svg: bool = False) -> Drawing:
        """Write PDF and PNG, and an SVG for slides where wanted; within `sheet`, whose style it needs.

        `SMALL` figures, which phones enlarge, have twice as many dots to an inch.

        Raises:
            DataError: the name, which may be that of a feature in somebody's file, is not a file's.
        """
        import matplotlib

        if Path(name).name != name or not name.isprintable():
            raise DataError(f"{name!r} cannot be the name of a figure: a feature or classifier is called so")
        folder.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # missing glyphs in a feature's label are no error
            about = {"Creator": "caloforge"}
            self.figure.savefig(folder / f"{name}.pdf", metadata=about | {"CreationDate": None})
            _save_png(self.figure, folder / f"{name}.png", PNG_DPI * (2 if self.width <= SMALL else 1))
            if svg:
                with matplotlib.rc_context({"svg.hashsalt": name}):  # the same figure is the same file
                    self.figure.savefig(folder / f"{name}.svg", metadata=about | {"Date": None})
        return Drawing(folder, name, caption, alt, round(self.width * PNG_DPI), round(self.height * PNG_DPI))


@contextmanager
def sheet(width: float, height: float, *, small: bool = False) -> Iterator[Sheet]:
    """An empty sheet, inches, in the style of the figures; it belongs to no window and needs no closing."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with figure_style(small):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        yield Sheet(figure, width, height)


@contextmanager
def panel_sheet(
    n: int,
    columns: int,
    *,
    panel: tuple[float, float],
    margins: tuple[float, float, float, float],
    gaps: tuple[float, float] = (0.0, 0.0),
    small: bool = False,
    models: Sequence[SampleStyle] = (),
    lines: bool = True,
) -> Iterator[Sheet]:
    """A sheet with a grid for ``n`` panels.

    Args:
        n: how many panels.
        columns: panels in a row.
        panel: inches of a column, margins and gaps between columns included, and of a row.
        margins: left, right, top and bottom, inches; those above and below are added to the rows.
        gaps: between columns and between rows, in panels.
        small: the style for pages of many panels.
        models: samples named in one legend above all panels, with room of its own.
        lines: whether the legend shows their lines or their markers.
    """
    rows = -(-n // columns)
    left, right, top, bottom = margins
    top += legend_height(models, panel[0] * columns) if models else 0.0
    with sheet(panel[0] * columns, panel[1] * rows + top + bottom, small=small) as page:
        page.n, page.columns = n, columns
        page.grid = page.figure.add_gridspec(
            rows,
            columns,
            left=left / page.width,
            right=1 - right / page.width,
            wspace=gaps[0],
            hspace=gaps[1],
            top=1 - top / page.height,
            bottom=bottom / page.height,
        )
        if models:
            legend(page.figure, models, (left - 0.15) / page.width, lines=lines)
        yield page


def numbered_pages(name: str, items: Sequence[Item], size: int) -> Iterator[tuple[str, Sequence[Item]]]:
    """Items page by page, each page with its name; numbered where there are several."""
    for page, start in enumerate(range(0, len(items), size), start=1):
        yield f"{name}_{page}" if len(items) > size else name, items[start : start + size]


def _save_png(figure: Figure, path: Path, dpi: int) -> None:
    """The figure as a PNG of 256 colours: a third of the size of full colour, and no different to look at."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure.set_dpi(dpi)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    few = image.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette = few.getpalette() or []
    corner = int(np.asarray(few)[0, 0])
    palette[3 * corner : 3 * corner + 3] = [255, 255, 255]  # the background came out a shade darker
    few.putpalette(palette)
    few.save(path)
