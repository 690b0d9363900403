"""Reading slices of an HDF5 data set, with errors that name the file, the data set and the index."""

from __future__ import annotations

import copy
import os
import stat
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from caloforge.data.formats.opening import Opening, how_to_open
from caloforge.data.formats.stored import require_own_values, require_stored
from caloforge.data.formats.unpacking import for_all, is_packed, unpacked_rows, unpacking_threads
from caloforge.data.guarded_file import GuardedFile
from caloforge.data.sources import Energies, as_energies, check_energies
from caloforge.errors import DataError

__all__ = [
    "HDF5_ERRORS",
    "HDF5Source",
    "StackedSource",
    "StoredRows",
    "access_through",
    "damaged",
    "file_attributes",
    "keep_open",
    "open_file",
    "read_column",
    "read_condition",
    "require_shape",
]

Convert = Callable[[NDArray[Any]], NDArray[Any]]
HDF5_ERRORS = (OSError, RuntimeError, KeyError, MemoryError, ValueError, TypeError, SystemError)
"""What h5py raises where a file is damaged, and programs where they are wrong: see `damaged`."""
CACHE_BYTES = 128 << 20
CACHE_SLOTS = 10007
FEW_CHUNKS = 4
"""Not worth a thread of their own."""
MOST_OPEN = 32
"""Files that are kept open: systems allow 256 or 1024 at a time, and showers may come from thousands."""


def damaged(error: Exception) -> bool:
    """Whether h5py raised the error, which means a damaged file, rather than the program that reads it."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and "h5py" in Path(frame.tb_frame.f_code.co_filename).parts


def open_file(path: Path, how: Opening | None = None) -> h5py.File:
    """Open an HDF5 file for reading, whose values are all its own unless others are allowed.

    Raises DataError where it is missing, truncated, not HDF5, or open for writing.
    """
    how = how or how_to_open()
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a null byte
        missing = isinstance(error, FileNotFoundError)
        raise DataError(f"{path}: {'no such file' if missing else error}") from error
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "pipe or a device, and HDF5 needs a file"
        raise DataError(f"{path}: this is a {kind}")
    try:
        file = h5py.File(path, "r", locking="best-effort") if how.allow_external else _guarded(path)
    except OSError as error:
        raise DataError(f"{path}: {_why_closed(error)}") from error
    try:
        require_own_values(file, how.ignore, allow_external=how.allow_external)
    except HDF5_ERRORS as error:
        file.close()
        if not damaged(error):
            raise
        raise DataError(f"{path}: the file is damaged ({error}); get it again") from error
    return file


def access_through(file: object) -> h5py.h5p.PropFAID:
    """How HDF5 opens a file that it reads and writes through a Python object."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, file)
    return access


def _guarded(path: Path) -> h5py.File:
    access = access_through(GuardedFile(path))
    return h5py.File(h5py.h5f.open(os.fsencode(path), h5py.h5f.ACC_RDONLY, fapl=access))


def _why_closed(error: OSError) -> str:
    if isinstance(error, BlockingIOError):
        return "the file is open for writing by another program; wait until it is done, or end it"
    if isinstance(error, PermissionError):
        return "you are not allowed to read this file"
    if "already open for write" in str(error):
        return (
            "the file is open for writing by another program, or one ended without closing it; wait until "
            "it is done, or release what it left with `h5clear -s FILE`"
        )
    return f"not a readable HDF5 file ({error}); it may be truncated, get it again"


def stored_in(file: h5py.File, name: str) -> h5py.Dataset:
    """A data set all of whose values can be read; DataError where it is missing or has none."""
    if name not in file:
        raise DataError(f"{file.filename}: no data set {name!r}; it has {', '.join(sorted(file))}")
    stored = file[name]
    if not isinstance(stored, h5py.Dataset) or stored.shape is None:
        raise DataError(f"{file.filename}, data set {name!r}: it has no values")
    require_stored(stored, allow_external=how_to_open().allow_external)
    return stored


def read_column(file: h5py.File, name: str, index: slice = slice(None)) -> NDArray[Any]:
    """A whole (small) data set, text as str; DataError where it is missing, unreadable or ragged."""
    stored = stored_in(file, name)
    where, kind = f"{file.filename}, data set {name!r}", stored.dtype
    text = h5py.check_string_dtype(kind)
    if text is None and kind.hasobject:
        what = "rows of different lengths" if h5py.check_vlen_dtype(kind) else f"data of type {kind}"
        raise DataError(
            f"{where}: it holds {what}, which no column can; to leave it out pass ignore=[{name!r}] "
            f"(--ignore {name})"
        )
    try:
        values = np.asarray(stored[index])
    except HDF5_ERRORS as error:
        if not damaged(error):
            raise
        raise DataError(f"{where}: it is unreadable ({error}); get the file again") from error
    return values if text is None else _decoded(values, where)


def _decoded(values: NDArray[Any], where: str) -> NDArray[np.str_]:
    """Bytes, of any shape, as text."""
    texts = []
    for row, value in enumerate(values.ravel().tolist()):
        try:
            texts.append(value.decode() if isinstance(value, bytes) else str(value))
        except UnicodeDecodeError as error:
            raise DataError(
                f"{where}: text {row} is not UTF-8 ({error}); the file is damaged or of another encoding"
            ) from error
    return np.array(texts, dtype=np.str_).reshape(values.shape)


def read_condition(
    file: h5py.File, name: str, n: int, *, unit: str, scale: float = 1.0, positive: bool = False
) -> NDArray[np.float64]:
    """Condition ``name`` of n showers, stored (n,) or (n, 1), times ``scale``: (n,) float64.

    Raises DataError where it has another length, is not finite or, if ``positive``, is not above 0.
    """
    where = f"{file.filename}, data set {name!r}"
    shape = getattr(file.get(name), "shape", None)
    if name in file and shape not in ((n,), (n, 1)):
        raise DataError(
            f"{where}: shape {shape}, but there are {n} showers; it must be ({n},) or ({n}, 1). "
            "The file is incomplete or its parts were written from different samples."
        )
    column = read_column(file, name)
    if column.dtype.kind not in "fiu":
        raise DataError(f"{where}: must be numbers, got type {column.dtype}")
    values = column.reshape(n).astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)) if positive else ~np.isfinite(values))
    if len(bad):
        must = "finite and above 0" if positive else "finite"
        raise DataError(
            f"{where}: shower {bad[0]} has {values[bad[0]]} {unit}; it must be {must}. "
            f"{len(bad)} of {n} showers are so: repair them or leave them out."
        )
    return values * scale


def require_shape(file: h5py.File, name: str, tail: tuple[int, ...], meaning: str) -> int:
    """Number of showers of a data set that must be (N, \\*tail); DataError where its shape is another."""
    stored = file[name]
    if not isinstance(stored, h5py.Dataset) or stored.shape is None or stored.shape[1:] != tail:
        shape = getattr(stored, "shape", "of a group")
        wanted = ", ".join(map(str, ("N", *tail)))
        raise DataError(f"{file.filename}, data set {name!r}: shape {shape}, expected ({wanted}) = {meaning}")
    require_stored(stored, allow_external=how_to_open().allow_external)
    return int(stored.shape[0])


def file_attributes(file: h5py.File) -> dict[str, Any]:
    """Attributes of a file as JSON-able values, but for those that are neither text nor numbers."""
    plain: dict[str, Any] = {}
    for key in file.attrs:
        kind = file.attrs.get_id(key).dtype
        if kind.hasobject and h5py.check_string_dtype(kind) is None:
            continue
        value = file.attrs[key]
        if isinstance(value, np.generic | np.ndarray):
            value = value.tolist()
        plain[key] = value.decode(errors="replace") if isinstance(value, bytes) else value
    return plain


class StoredRows:
    """Rows of a file that is opened on first use in each process, as it was when they were found.

    They can be sent to worker processes. A subclass keeps what it opened in ``_opened`` and calls `keep_open`
    where it reads: a file stays open while it is among those read last.

    Args:
        path: the file.
        n: number of rows.
    """

    def __init__(self, path: Path, n: int) -> None:
        self.path, self._n, self._how = path, n, how_to_open()
        self._opened: Any = None

    def __len__(self) -> int:
        return self._n

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    def close(self) -> None:
        """Close the file, as soon as nobody reads it; the next read opens it again."""
        self._opened = None


class HDF5Source(StoredRows):
    """Energies in one data set of a file, converted at the door.

    Data are read by whole chunks, each decompressed once for consecutive reads (the chunk cache holds them);
    many chunks that are packed as ours by several threads.

    Args:
        path: the file.
        data_set: name of the data set, (N, ...).
        n: number of showers.
        convert: maps what is stored, (n, ...), to energies (n, V) in MeV and the order of the mesh.
        exact: give float64 where more than single precision is stored.
    """

    def __init__(
        self, path: Path, data_set: str, n: int, convert: Convert | None = None, *, exact: bool = False
    ) -> None:
        super().__init__(path, n)
        self.data_set, self._convert, self._exact = data_set, convert, exact
        self._opened: tuple[int, h5py.File, h5py.Dataset] | None = None

    def _stored(self) -> tuple[int, h5py.File, h5py.Dataset]:
        """Who opened it, the file and the data set, which can be read as long as somebody has them."""
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            file = open_file(self.path, self._how)
            try:
                stored = file[self.data_set]
                require_stored(stored, allow_external=self._how.allow_external)
                if stored.chunks is not None:
                    # a row of chunks may be larger than HDF5's cache of 1 MB, which then would not be used
                    row = stored.chunks[0] * int(np.prod(stored.shape[1:])) * stored.dtype.itemsize
                    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
                    access.set_chunk_cache(CACHE_SLOTS, min(max(row + (1 << 20), 1 << 20), CACHE_BYTES), 0.75)
                    stored = h5py.Dataset(h5py.h5d.open(file.id, self.data_set.encode(), access))
            except HDF5_ERRORS as error:
                if not damaged(error):
                    raise
                raise self._damaged("it cannot be opened", error) from error
            if len(stored) != self._n:
                raise DataError(
                    f"{self.path}, data set {self.data_set!r}: {len(stored)} showers where there were "
                    f"{self._n}; the file was changed since it was opened"
                )
            opened = self._opened = os.getpid(), file, stored
        keep_open(self)
        return opened

    def _damaged(self, what: str, error: Exception) -> DataError:
        return DataError(
            f"{self.path}, data set {self.data_set!r}: {what} ({error}); the file is damaged, get it again"
        )

    def _slice(self, start: int, stop: int, in_chunk: bool = False) -> NDArray[Any]:
        """What is stored, ``in_chunk`` where it lies in one chunk that is packed as ours."""
        try:
            _, _file, stored = self._stored()
            return unpacked_rows(stored, start, stop) if in_chunk else np.asarray(stored[start:stop])
        except HDF5_ERRORS as error:
            raise self._damaged(f"showers {start} to {stop - 1} are unreadable", error) from error

    def _checked(self, stored: NDArray[Any], showers: int | NDArray[np.int64]) -> Energies:
        where = f"{self.path}, data set {self.data_set!r}"
        converted = stored if self._convert is None else self._convert(stored)
        dtype = np.float64 if self._exact and stored.dtype.itemsize > 4 else np.float32
        energies = np.ascontiguousarray(as_energies(converted, where, dtype))
        energies = energies.reshape(len(stored), int(np.prod(energies.shape[1:])))
        check_energies(energies, where, showers)
        return energies

    def read(self, start: int, stop: int) -> Energies:
        """As `EnergySource.read`."""
        if self._threads(stop - start) > 1:
            return self.take(np.arange(start, stop))
        return self._checked(self._slice(start, stop), start)

    def take(self, index: NDArray[np.int64]) -> Energies:
        """As `EnergySource.take`; reads each chunk that holds wanted showers once, a thread one at a time."""
        if not len(index):
            return self.read(0, 0)
        order = np.argsort(index, kind="stable")
        wanted, rows = index[order], (self._stored()[2].chunks or (256,))[0]
        parts = np.split(np.arange(len(index)), np.flatnonzero(np.diff(wanted // rows)) + 1)
        threads = self._threads(rows * len(parts))

        def energies(part: NDArray[np.int64]) -> Energies:
            numbers = wanted[part]
            block = self._slice(int(numbers[0]), int(numbers[-1]) + 1, in_chunk=threads > 1)
            return self._checked(block[numbers - numbers[0]], numbers)

        first = energies(parts[0])
        result = np.empty((len(index), first.shape[1]), dtype=first.dtype)
        result[order[parts[0]]] = first

        def fill(part: NDArray[np.int64]) -> None:
            result[order[part]] = energies(part)

        for_all(fill, parts[1:], threads)
        return result

    def _threads(self, n: int) -> int:
        """Threads that pay for n showers."""
        _, _file, stored = self._stored()
        if stored.chunks is None or n <= FEW_CHUNKS * stored.chunks[0] or not is_packed(stored):
            return 1
        return unpacking_threads()

    def exact(self) -> HDF5Source:
        twin = copy.copy(self)
        twin._exact, twin._opened = True, None
        return twin


_open: weakref.WeakKeyDictionary[StoredRows, None] = weakref.WeakKeyDictionary()
_open_lock = threading.Lock()


def keep_open(source: StoredRows) -> None:
    """Note that a source is read, and close the one that was not for longest where too many are open."""
    with _open_lock:
        _open.pop(source, None)
        _open[source] = None
        for other in list(_open)[:-MOST_OPEN]:
            del _open[other]
            other.close()


class StackedSource:
    """Sources of the same showers whose voxels follow one another, such as one data set per layer."""

    def __init__(self, parts: list[HDF5Source]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return len(self._parts[0])

    def read(self, start: int, stop: int) -> Energies:
        """As `EnergySource.read`."""
        return np.concatenate([part.read(start, stop) for part in self._parts], axis=1)

    def take(self, index: NDArray[np.int64]) -> Energies:
        """As `EnergySource.take`."""
        return np.concatenate([part.take(index) for part in self._parts], axis=1)
