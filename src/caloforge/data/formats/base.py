"""What a file format is, and the formats by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import h5py

from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh
from caloforge.errors import DataError
from caloforge.registry import Registry

__all__ = ["FORMATS", "FORMAT_VERSION", "PIXEL_FORMAT", "FileFormat"]

FORMAT_VERSION = 1
"""Of our own layout; files of a later one are refused."""
PIXEL_FORMAT = "caloforge_pixel_format"
"""Attribute of files of pixel events, which are no showers: see `caloforge.data.pixels`."""


class FileFormat(ABC):
    """How showers are laid out in an HDF5 file; a subclass is a new format.

    Attributes:
        name: of the format, in `FORMATS`, in messages and in the provenance of showers.
        order: formats are asked in this order whether a file is theirs; caloforge's own have 10 to 50.
    """

    name: ClassVar[str]
    order: ClassVar[int] = 100

    @abstractmethod
    def matches(self, file: h5py.File) -> bool:
        """Whether a file is of this format, by the names of its data sets."""

    @abstractmethod
    def read(self, path: Path, file: h5py.File, mesh: Mesh | None, ignore: tuple[str, ...]) -> Showers:
        """The showers of a file, energies in MeV and in the order of the mesh, read when they are needed.

        What the file itself does not say (particle, detector, angles in rad, units, axes, mesh) must stand in
        the provenance under "assumed", by name; `open_showers` tells it.

        Args:
            path, file: the file, and the same opened; it is closed after this.
            mesh: the cells, where the user gives them.
            ignore: data sets that the user leaves out.

        Raises:
            DataError: the file is inconsistent.
        """

    def variant(self, file: h5py.File) -> str:
        """What a file of this format is called."""
        return self.name


FORMATS: Registry[type[FileFormat]] = Registry("file format", "caloforge.data.formats", error=DataError)
"""Formats of shower files by name."""
