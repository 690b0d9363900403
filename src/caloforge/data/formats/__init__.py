"""File formats: each module has ``matches(file)`` and ``read(path, file, mesh)``; told apart by their keys."""

from __future__ import annotations

import os
from pathlib import Path

from caloforge.data.formats import calochallenge
from caloforge.data.formats.hdf5 import open_file
from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh
from caloforge.errors import DataError

__all__ = ["open_showers"]

_FORMATS = (calochallenge,)


def open_showers(path: str | os.PathLike[str], mesh: Mesh | None = None) -> Showers:
    """Open a file of showers lazily, whatever its layout.

    Args:
        path: the file.
        mesh: the cells, where the file does not tell them.

    Raises:
        DataError: the file is missing, truncated, of an unknown layout or inconsistent.
    """
    path = Path(path)
    with open_file(path) as file:
        for layout in _FORMATS:
            if layout.matches(file):
                return layout.read(path, file, mesh)
        raise DataError(f"{path}: unknown layout with data sets {', '.join(sorted(file))}")
