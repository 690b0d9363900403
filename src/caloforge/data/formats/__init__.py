"""File formats, told apart by the names of their data sets.

A new format is a `FileFormat` in a new module here, or elsewhere: see docs/extending.md.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py

from caloforge.data.formats.base import FORMATS, FileFormat
from caloforge.data.formats.hdf5 import HDF5_ERRORS, open_file
from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh
from caloforge.errors import CaloforgeError, DataError

__all__ = ["FORMATS", "FileFormat", "layout_of", "open_showers"]

log = logging.getLogger(__name__)


def open_showers(
    path: Showers | str | os.PathLike[str], mesh: Mesh | None = None, *, ignore: Iterable[str] = ()
) -> Showers:
    """Open a file of showers lazily, whatever its layout.

    What a file does not say and its format does is assumed, logged at level INFO and kept in the provenance,
    under "assumed".

    Args:
        path: the file; showers are returned as they are.
        mesh: the cells, where the file does not tell them.
        ignore: names of further data sets to leave out, such as some without a row for each shower.

    Raises:
        DataError: the file is missing, truncated, of an unknown layout or inconsistent.
    """
    if isinstance(path, Showers):
        return path
    path = Path(path)
    with open_file(path) as file:
        layout = _format_of(path, file)
        try:
            showers = layout.read(path, file, mesh, tuple(ignore))
        except CaloforgeError:
            raise
        except HDF5_ERRORS as error:
            raise DataError(f"{path}: the file is damaged ({error}); get it again") from error
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
    path = Path(path)
    with open_file(path) as file:
        return _format_of(path, file).variant(file)


def _format_of(path: Path, file: h5py.File) -> FileFormat:
    formats = [part() for part in sorted(FORMATS, key=lambda part: part.order)]
    try:
        for found in formats:
            if found.matches(file):
                return found
        names = ", ".join(sorted(file)) or "none at all"
    except HDF5_ERRORS as error:
        raise DataError(f"{path}: the file is damaged ({error}); get it again") from error
    raise DataError(
        f"{path}: unknown layout with data sets {names}. Known layouts: "
        f"{', '.join(known.name for known in formats)}; docs/data.md says what they look like."
    )
