"""What writes showers in files that are not of our own layout, by the names of ``data convert --layout``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from caloforge.data.showers import Showers
from caloforge.errors import DataError
from caloforge.registry import Registry

__all__ = ["EXPORTS", "Export"]


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
