"""A file that HDF5 can live with when the disk is full.

HDF5 does not survive a failed write: the error turns up in h5py's clean-up, where it is printed and ignored,
later writes go on, and the process ends in a segmentation fault. Here HDF5 writes to a Python object that
never fails: what the disk does not take is kept in memory, and whoever writes asks for the error afterwards.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from caloforge.errors import DataError

__all__ = ["PatientFile"]


class PatientFile:
    """A new file for `h5py.File`, whose first failed write is kept in ``error`` and not raised.

    Raises:
        DataError: the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.error: OSError | None = None
        self._position = self._size = 0
        self._unwritten: list[tuple[int, bytes]] = []
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        except OSError as error:
            raise DataError(f"cannot write {path}: {error.strerror}") from error

    def sync(self) -> None:
        """Wait until the disk has everything; raises OSError where it does not take it."""
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)
        self._unwritten.clear()

    # what h5py's driver for file objects calls

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = (
            offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        )
        return self._position

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        start, done = self._position, 0
        try:
            while done < len(view) and self.error is None:
                done += os.pwrite(self._fd, view[done:], start + done)
        except OSError as error:
            self.error = error
        if done < len(view):
            self._unwritten.append((start + done, bytes(view[done:])))
        self._position = start + len(view)
        self._size = max(self._size, self._position)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        start, length = self._position, max(0, min(len(view), self._size - self._position))
        view[:length] = os.pread(self._fd, length, start).ljust(length, b"\0")
        for offset, data in self._unwritten:
            low, high = max(start, offset), min(start + length, offset + len(data))
            if low < high:
                view[low - start : high - start] = data[low - offset : high - offset]
        self._position += length
        return length

    def read(self, size: int = -1) -> bytes:
        """``size`` bytes, or all that remain."""
        buffer = bytearray(max(0, self._size - self._position) if size < 0 else size)
        return bytes(buffer[: self.readinto(buffer)])

    def truncate(self, size: int | None = None) -> int:
        self._size = self._position if size is None else size
        try:
            if self.error is None:
                os.ftruncate(self._fd, self._size)
        except OSError as error:
            self.error = error
        return self._size

    def flush(self) -> None: ...
