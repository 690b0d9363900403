"""Finished parts of a generation on disk, from which a stopped one goes on.

A part is a file ``part-<start>-<stop>.npz`` with one bit per cell, set where it has energy, and the energies
of those cells: small for showers, and quick to write.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.runtime.files import whole_file

__all__ = ["PartStore"]

REQUEST = "request.json"
NAME = re.compile(r"part-(\d+)-(\d+)\.npz")


class PartStore:
    """Parts of the showers 0 … n − 1 of one request, in a folder.

    Args:
        folder: where they are; made when the first is added.
        request: JSON-able description of all that decides the showers.
        n_voxels: V.
    """

    def __init__(self, folder: Path, request: dict[str, Any], n_voxels: int) -> None:
        self.folder, self.request, self.n_voxels = folder, request, n_voxels

    def open(self, *, resume: bool, overwrite: bool) -> int:
        """Get ready; returns how many showers are finished.

        Raises:
            DataError: there are parts and neither ``resume`` nor ``overwrite``, or of another request.
        """
        if self.folder.exists() and not resume:
            if not overwrite:
                raise DataError(
                    f"{self.folder} holds an unfinished generation; go on with resume=True (--resume) or "
                    "replace it with overwrite=True (--overwrite)"
                )
            self.remove()
        if not self.folder.exists():
            return 0
        try:
            saved = json.loads((self.folder / REQUEST).read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(f"{self.folder / REQUEST}: unreadable ({error}); remove the folder") from error
        for key, value in self.request.items():
            if saved.get(key) != value:
                raise DataError(
                    f"{self.folder}: cannot go on, because its {key} differs (it was {saved.get(key)}, now "
                    f"it is {value}); use the same, or start anew with overwrite=True (--overwrite)"
                )
        return self.finished()[-1][1] if self.finished() else 0

    def finished(self) -> list[tuple[int, int]]:
        """The parts (start, stop) that follow each other without a gap from shower 0."""
        found = (NAME.fullmatch(path.name) for path in self.folder.glob("part-*.npz"))
        chain: list[tuple[int, int]] = []
        for start, stop in sorted((int(m[1]), int(m[2])) for m in found if m):
            if start == (chain[-1][1] if chain else 0):
                chain.append((start, stop))
        return chain

    def add(self, start: int, energies: NDArray[np.float32]) -> None:
        """Save the energies (n, V), MeV, of showers start … start + n − 1; DataError where that fails."""
        name = f"part-{start:012d}-{start + len(energies):012d}.npz"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / REQUEST).exists():
                (self.folder / REQUEST).write_text(json.dumps(self.request, indent=2))
            filled = energies != 0
            with whole_file(self.folder / name) as file:
                np.savez(file, filled=np.packbits(filled, axis=1), values=energies[filled])
        except OSError as error:
            raise DataError(
                f"cannot write {self.folder / name}: {error}. The {start} showers before it are kept; "
                "make room and go on with resume=True (--resume)"
            ) from error

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Energies (n, V), MeV, of a part."""
        path = self.folder / f"part-{start:012d}-{stop:012d}.npz"
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as part:
                filled = np.unpackbits(part["filled"], axis=1, count=self.n_voxels).astype(bool)
                energies = np.zeros(filled.shape, dtype=np.float32)
                energies[filled] = part["values"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{path}: damaged ({error}); remove it and go on with resume=True (--resume)"
            ) from error
        return energies

    def remove(self) -> None:
        """Remove all parts."""
        shutil.rmtree(self.folder, ignore_errors=True)
