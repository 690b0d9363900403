"""What writes showers in files that are not of our own layout, by the names of ``data convert --layout``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from caloforge.data.showers import Showers
from caloforge.errors import DataError
from caloforge.registry import Registry
from caloforge.runtime.files import output_file, whole_file
from caloforge.runtime.locks import file_lock

__all__ = ["EXPORTS", "Export", "exported_file"]


class Export(Protocol):
    """Writes showers, in slices, into a file that appears when it is whole."""

    def __call__(
        self,
        showers: Showers,
        path: Path,
        *,
        provenance: Mapping[str, Any],
        overwrite: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Raises DataError where the file exists or cannot be written, or has no place for a column."""
        ...


EXPORTS: Registry[Export] = Registry("export", "caloforge.data.exports", error=DataError)
"""By the name of the layout."""


@contextmanager
def exported_file(path: Path, overwrite: bool) -> Iterator[BinaryIO]:
    """A file that appears when it is whole; DataError where it exists or cannot be written."""
    path = output_file(path)
    try:
        with file_lock(path):
            if path.exists() and not overwrite:
                raise DataError(f"{path} exists; choose another name or allow overwriting (--overwrite)")
            with whole_file(path) as file:
                yield file
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}; is the disk full?") from error
