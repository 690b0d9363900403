"""Files of finished chunks: written whole or not at all, read back when all are there."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.runtime.files import whole_file

__all__ = ["read_chunk", "write_chunk"]

Floats = NDArray[np.float32]


def write_chunk(path: Path, energies: Floats, seconds: Floats) -> None:
    """Store showers (n, V) and their CPU seconds (n,) under ``path``, which appears only when complete."""
    with whole_file(path, f"{os.getpid()}.") as file:
        np.savez_compressed(file, energies=energies, seconds=seconds)


def read_chunk(path: Path) -> tuple[Floats, Floats]:
    """Showers (n, V), MeV, and CPU seconds (n,) of `write_chunk`; DataError where the file is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return stored["energies"], stored["seconds"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged ({error}); delete it and resume, which makes it again") from error
