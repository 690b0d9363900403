"""What a file format is, and the formats by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

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
    """How showers are laid out in a file, of HDF5 unless `magic` says otherwise; a subclass is a new format.

    Attributes:
        name: of the format, in `FORMATS`, in messages and in the provenance of showers.
        order: formats are asked in this order whether a file is theirs; caloforge's own have 10 to 60.
        magic: what the files begin with where they are not of HDF5; `open` then opens them.
    """

    name: ClassVar[str]
    order: ClassVar[int] = 100
    magic: ClassVar[bytes] = b""

    def open(self, path: Path) -> AbstractContextManager[Any]:
        """A file that is not of HDF5, opened; DataError where it cannot be read."""
        raise NotImplementedError

    @abstractmethod
    def matches(self, file: Any) -> bool:
        """Whether a file is of this format, by the names of its data sets."""

    @abstractmethod
    def read(self, path: Path, file: Any, mesh: Mesh | None, ignore: tuple[str, ...]) -> Showers:
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

    def variant(self, file: Any) -> str:
        """What a file of this format is called."""
        return self.name


FORMATS: Registry[type[FileFormat]] = Registry("file format", "caloforge.data.formats", error=DataError)
"""Formats of shower files by name."""
