"""The figures beside a page: all of a report, or those of the report before."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from caloforge.errors import DataError
from caloforge.report.figures.sheet import Drawing
from caloforge.runtime.files import read_json, write_json
from caloforge.runtime.locks import folder_lock

__all__ = ["earlier_figures", "figure_files", "figures_of"]

FIGURES = "figures"
UNFINISHED = "figures.partial"
"""Where figures are drawn; what a killed run left there goes when the next one begins."""
MANIFEST = "manifest.json"
"""In `FIGURES`: the files that a report wrote there, so that the next one knows what is its own."""


@contextmanager
def figures_of(page: Path) -> Iterator[tuple[Path, list[str]]]:
    """An empty folder to draw a page's figures in, for one report at a time, and the list of files to fill.

    Those listed at the end get into ``figures`` beside the page, in the place of those of the report before;
    where anything fails until then, that one stays as it was.

    Raises:
        DataError: something cannot be written.
    """
    unfinished, written = page.parent / UNFINISHED, list[str]()
    try:
        with folder_lock(page.parent):
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            try:
                yield unfinished, written
                _replace(page.parent / FIGURES, unfinished, written)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise DataError(f"cannot write the report into {page.parent}: {error}") from error


def figure_files(drawings: Iterable[Drawing]) -> list[str]:
    """Names of the files of figures."""
    return [f"{drawing.name}.{kind}" for drawing in drawings for kind in ("pdf", "png")]


def earlier_figures(figures: Path) -> list[str]:
    """Files that the report before this one wrote, by its list; none where there is no list."""
    try:
        names = read_json(figures / MANIFEST)["files"]
    except (ValueError, KeyError, TypeError):
        return []
    return [name for name in names if isinstance(name, str) and Path(name).name == name]


def _replace(figures: Path, drawn: Path, names: Sequence[str]) -> None:
    """Move figures to where they belong, remove those that the page no longer has, and list the others."""
    figures.mkdir(exist_ok=True)
    old = earlier_figures(figures)
    for name in names:
        (drawn / name).replace(figures / name)
    for name in set(old) - set(names):
        if name.endswith((".pdf", ".png")):
            (figures / name).unlink(missing_ok=True)
    write_json(figures / MANIFEST, {"made_by": "caloforge report", "files": sorted(names)})
