"""File formats, told apart by the names of their data sets.

Each module has a ``NAME``, ``matches(file)`` and ``read(path, file, mesh, ignore)``. A new format is a new
module and its place in ``_FORMATS``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import h5py

from caloforge.data.formats import calochallenge, calogan, getting_high, lemurs, par04
from caloforge.data.formats.hdf5 import HDF5_ERRORS, open_file
from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh
from caloforge.errors import CaloforgeError, DataError

__all__ = ["layout_of", "open_showers"]


class _Format(Protocol):
    NAME: str

    def matches(self, file: h5py.File) -> bool: ...
    def read(self, path: Path, file: h5py.File, mesh: Mesh | None, ignore: tuple[str, ...]) -> Showers: ...


_FORMATS: tuple[_Format, ...] = (calochallenge, lemurs, getting_high, calogan, par04)


def open_showers(
    path: Showers | str | os.PathLike[str], mesh: Mesh | None = None, *, ignore: Iterable[str] = ()
) -> Showers:
    """Open a file of showers lazily, whatever its layout.

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
        layout = _find(path, file)
        try:
            return layout.read(path, file, mesh, tuple(ignore))
        except CaloforgeError:
            raise
        except HDF5_ERRORS as error:
            raise DataError(f"{path}: the file is damaged ({error}); get it again") from error


def layout_of(path: str | os.PathLike[str]) -> str:
    """Name of a file's layout, such as ``"CaloChallenge"``; DataError where it is none that is known."""
    path = Path(path)
    with open_file(path) as file:
        name = _find(path, file).NAME
        return "caloforge" if name == calochallenge.NAME and "caloforge_format" in file.attrs else name


def _find(path: Path, file: h5py.File) -> _Format:
    try:
        for layout in _FORMATS:
            if layout.matches(file):
                return layout
        names = ", ".join(sorted(file)) or "none at all"
    except HDF5_ERRORS as error:
        raise DataError(f"{path}: the file is damaged ({error}); get it again") from error
    raise DataError(
        f"{path}: unknown layout with data sets {names}. Known layouts: "
        f"{', '.join(layout.NAME for layout in _FORMATS)}; docs/data.md says what they look like."
    )
