"""A file as HDF5 reads it, with what HDF5 itself takes on trust looked at first.

HDF5 walks the heaps in which text of any length lies by the sizes that it finds there, and never ends where
one of them is zero, as in a bad sector. Here it reads through a Python object that looks at a heap before.
That object raises nothing, since h5py cannot always tell HDF5 of it.
"""

from __future__ import annotations

import fcntl
import io
import os
import struct
from pathlib import Path
from typing import Any

__all__ = ["GuardedFile"]

HEAP = b"GCOL\1\0\0\0"
"""What a heap begins with; its size follows, then its objects: number, references, size, content."""
SUPERBLOCK = b"\x89HDF\r\n\x1a\n\3"
"""What files begin with that say at byte 11 whether a program writes them."""
_OBJECT = struct.Struct("<HHIQ")
_ALIGNED = 8
_UNLOCKED = ("FALSE", "0")


class GuardedFile:
    """A file to read, for `h5py`; locked as HDF5 would, where the file system can.

    Raises:
        BlockingIOError: another program has it open for writing.
        OSError: it cannot be opened, or was not closed by who wrote it.
    """

    def __init__(self, path: Path) -> None:
        self._position, self._sound = 0, set[int]()
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._size = os.fstat(self._fd).st_size
        if os.environ.get("HDF5_USE_FILE_LOCKING", "").upper() not in _UNLOCKED:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                raise
            except OSError:
                pass  # a file system without locks
        start = self._read(0, 12)
        if start[:9] == SUPERBLOCK and start[11] & 1:
            raise OSError("the file is already open for write")

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)

    def _read(self, start: int, length: int) -> bytes:
        """What is there; zeros beyond the end of the file, as HDF5's own driver has it."""
        end, pieces, at = min(start + length, self._size), list[bytes](), start
        while at < end and (piece := os.pread(self._fd, end - at, at)):
            pieces.append(piece)
            at += len(piece)
        return b"".join([*pieces, bytes(start + length - at)])

    def _is_sound(self, start: int) -> bool:
        """Whether the objects of the heap that begins at ``start`` follow one another to its end."""
        size = int.from_bytes(self._read(start + len(HEAP), 8), "little")
        if size > self._size - start:
            return False
        heap, at = self._read(start, size), 16
        while at + _OBJECT.size <= size:
            number, _, _, length = _OBJECT.unpack_from(heap, at)
            step = length if number == 0 else _OBJECT.size + -(-length // _ALIGNED) * _ALIGNED
            if not 0 < step <= size - at:
                return False
            at += step
        return True

    def _read_sound(self, start: int, length: int) -> memoryview:
        """What is there, but for the marks of damaged heaps, also half ones: HDF5 then says so."""
        first = max(0, start - len(HEAP) + 1)
        content = bytearray(self._read(first, start - first + length + len(HEAP) - 1))
        at = content.find(HEAP)
        while at >= 0:
            if first + at in self._sound or self._is_sound(first + at):
                self._sound.add(first + at)
            else:
                content[at : at + len(HEAP)] = bytes(len(HEAP))
            at = content.find(HEAP, at + 1)
        return memoryview(content)[start - first : start - first + length]

    # what h5py's driver for file objects calls

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = (
            offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        )
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        view[:] = self._read_sound(self._position, len(view))
        self._position += len(view)
        return len(view)

    def flush(self) -> None: ...
