"""What h5py's driver for file objects asks of one: a place to go on at."""

from __future__ import annotations

import io

__all__ = ["FileObject"]


class FileObject:
    """The position in a file of ``_size`` bytes, as h5py's driver moves it."""

    def __init__(self, size: int = 0) -> None:
        self._position, self._size = 0, size

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = (
            offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        )
        return self._position

    def tell(self) -> int:
        return self._position
