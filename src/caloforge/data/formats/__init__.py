"""File formats, told apart by the names of their data sets.

A new format is a `FileFormat` in a new module here, or elsewhere: see docs/how-to/extending.md.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from caloforge.data.formats.base import FORMATS, PIXEL_FORMAT, FileFormat
from caloforge.data.formats.hdf5 import HDF5_ERRORS, damaged, open_file
from caloforge.data.formats.opening import opening
from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh
from caloforge.errors import CaloforgeError, ConditionError, DataError

__all__ = ["FORMATS", "FileFormat", "layout_of", "open_showers", "opening"]

log = logging.getLogger(__name__)
MAGIC_BYTES = 16


def open_showers(
    path: Showers | str | os.PathLike[str],
    mesh: Mesh | None = None,
    *,
    ignore: Iterable[str] = (),
    allow_external: bool = False,
) -> Showers:
    """Open a file of showers lazily, whatever its layout.

    What a file does not say and its format does is assumed, logged at level INFO and kept in the provenance,
    under "assumed". `opening` gives the other arguments to whatever opens files within it.

    Args:
        path: the file; showers are returned as they are.
        mesh: the cells, where the file does not tell them.
        ignore: names of further data sets to leave out, such as some without a row for each shower.
        allow_external: also read data sets whose values are in other files, which the file names: virtual
            ones, those with external storage, external links.

    Raises:
        DataError: the file is missing, truncated, of an unknown layout or inconsistent.
    """
    if isinstance(path, Showers):
        return path
    path = Path(path)
    with opening(mesh=mesh, ignore=ignore, allow_external=allow_external) as how, _format_of(path) as found:
        layout, file = found
        try:
            showers = layout.read(path, file, how.mesh, how.ignore)
        except ConditionError as error:
            raise DataError(f"{path}: {error}") from error
    assumed = showers.provenance.get("assumed")
    if isinstance(assumed, Mapping):
        log.info("%s: assumed, as the file did not say it: %s", path, _in_words(assumed))
    return showers


def _in_words(assumed: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} "
        + (f"{math.degrees(value):.4g} deg" if isinstance(value, float) else str(value))
        for name, value in assumed.items()
    )


def layout_of(path: str | os.PathLike[str]) -> str:
    """Name of a file's layout, such as ``"CaloChallenge"``; DataError where it is none that is known."""
    with _format_of(Path(path)) as (layout, file):
        return layout.variant(file)


def _begin(path: Path) -> bytes:
    """The first bytes of a file; none where it cannot be read, which is told when it is opened."""
    with suppress(OSError, ValueError):
        if path.is_file():
            with path.open("rb") as file:
                return file.read(MAGIC_BYTES)
    return b""


@contextmanager
def _format_of(path: Path) -> Iterator[tuple[FileFormat, Any]]:
    """The format of a file, and the same opened; what h5py raises within this is a DataError."""
    formats = [part() for part in sorted(FORMATS, key=lambda part: part.order)]
    begin = _begin(path)
    for layout in formats:
        if layout.magic and begin.startswith(layout.magic):
            with layout.open(path) as file:
                yield layout, file
            return
    formats = [layout for layout in formats if not layout.magic]
    with open_file(path) as file:
        try:
            found = next((layout for layout in formats if layout.matches(file)), None)
            if PIXEL_FORMAT in file.attrs:
                raise DataError(f"{path}: it holds events of a pixel detector, and showers are needed")
            if found is None:
                raise DataError(
                    f"{path}: unknown layout with data sets {', '.join(sorted(file)) or 'none at all'}. "
                    f"Known layouts: {', '.join(layout.name for layout in formats)}; docs/how-to/data.md "
                    "says what they look like."
                )
            yield found, file
        except CaloforgeError:
            raise
        except HDF5_ERRORS as error:
            if not damaged(error):
                raise
            raise DataError(f"{path}: the file is damaged ({error}); get it again") from error
