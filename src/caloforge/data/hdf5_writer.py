"""HDF5 files that appear under their name when they are whole, also where the disk is full."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from caloforge.data.formats.hdf5 import HDF5_ERRORS, access_through
from caloforge.data.packing import COMPRESSION, chunk_rows
from caloforge.data.patient_file import PatientFile
from caloforge.errors import DataError
from caloforge.runtime.files import output_file
from caloforge.runtime.locks import file_lock
from caloforge.runtime.signals import interrupts_deferred
from caloforge.runtime.structured import json_text

__all__ = ["HDF5Writer", "as_bytes"]


class HDF5Writer:
    """Appends rows to the data sets of a file that appears under its name only when it is complete.

    A context manager: data go to ``<path>.partial``, which is renamed at a clean exit and removed otherwise.
    Killed outright, it leaves the ``.partial``, which the next writer of that name replaces. One process at a
    time writes to a name.

    Args:
        path: the file to make, or a link to it.
        provenance: what makes it; JSON-able.
        compression: gzip level 0-9.
        overwrite: replace an existing file; otherwise that is a DataError.

    Attributes:
        what: the rows, for messages.
        packed: data sets that are compressed.
        batch: rows that `append_all` holds at once.
        n_written: rows so far.
    """

    what: ClassVar[str] = "rows"
    packed: ClassVar[tuple[str, ...]] = ()
    batch: ClassVar[int]

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        provenance: Mapping[str, Any] | None = None,
        compression: int = COMPRESSION,
        overwrite: bool = False,
    ) -> None:
        self.path = output_file(path)
        self.provenance = dict(provenance or {})
        self.n_written = 0
        self._compression, self._overwrite = compression, overwrite
        if compression not in range(10):
            raise DataError(f"compression must be 0-9, got {compression}")
        self._file: h5py.File | None = None
        self._disk: PatientFile | None = None
        self._held, self._complete = ExitStack(), False
        self._check_target()
        self._partial = self.path.with_name(self.path.name + ".partial")

    def _check_target(self) -> None:
        if self.path.exists() and not self._overwrite:
            raise DataError(f"{self.path} exists; choose another name or allow overwriting (--overwrite)")

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(file_lock(self.path))
            self._check_target()  # another process may have been faster
            stack.callback(self._drop_partial)
            self._disk = PatientFile(self._partial)
            stack.callback(self._disk.close)
            with interrupts_deferred():
                self._file = _new_file(self._partial, self._disk)
                self._begin(self._file)
            self._held = stack.pop_all()
        return self

    def _drop_partial(self) -> None:
        if not self._complete:
            self._partial.unlink(missing_ok=True)

    def _begin(self, file: h5py.File) -> None:
        """Write what a new file begins with."""

    def _finish(self, file: h5py.File) -> None:
        """Write what a complete file ends with."""
        self.provenance[f"n_{self.what}"] = self.n_written
        self._describe(file, "provenance", json_text(self.provenance))

    def append(self, rows: Any, conditions: Any, extra: Mapping[str, NDArray[Any]] | None = None) -> None:
        """Add rows, their conditions and further columns."""
        raise NotImplementedError

    def append_all(self, source: Any, progress: Callable[[int, int], None] | None = None) -> None:
        """Add `Showers` or `PixelEvents` in batches, so that they need not fit in memory.

        ``progress`` is called with the number written and the number in all.
        """
        for start in range(0, max(1, len(source)), self.batch):
            stop = min(start + self.batch, len(source))
            extra = {name: column[start:stop] for name, column in source.extra.items()}
            self.append(source.read(start, stop), source.conditions[start:stop], extra)
            if progress is not None:
                progress(stop, len(source))

    def _opened(self) -> h5py.File:
        if self._file is None:
            raise DataError(f"a {type(self).__name__} must be used in a with statement")
        return self._file

    def _longer(
        self, file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], at: int | None = None
    ) -> h5py.Dataset:
        """The data set with room for (n, ...) more rows from ``at`` on, by default behind those written."""
        data_set = file[name] if name in file else self._create(file, name, shape[1:], dtype)
        if dtype.kind == "S" and dtype.itemsize > data_set.dtype.itemsize:  # a text longer than all before
            before = data_set[: self.n_written]
            del file[name]
            data_set = self._create(file, name, shape[1:], dtype)
            data_set.resize(self.n_written, axis=0)
            self._write(data_set, 0, before)
        data_set.resize((self.n_written if at is None else at) + shape[0], axis=0)
        return data_set

    def _extend(self, file: h5py.File, columns: Mapping[str, NDArray[Any]], at: int | None = None) -> None:
        """Write columns behind the rows that are written, or from ``at`` on."""
        for name, column in columns.items():
            data_set = self._longer(file, name, column.shape, column.dtype, at)
            self._write(data_set, self.n_written if at is None else at, column)

    def _write(self, data_set: h5py.Dataset, start: int, rows: NDArray[Any]) -> None:
        if data_set.dtype.kind == "S":
            rows = rows.astype(data_set.dtype)  # which says that they are UTF-8
        data_set[start : start + len(rows)] = rows
        self._raise_disk_error()

    def _create(self, file: h5py.File, name: str, row: tuple[int, ...], dtype: np.dtype[Any]) -> h5py.Dataset:
        row_bytes = max(1, int(np.prod(row))) * max(1, dtype.itemsize)
        packed = {"compression": "gzip", "compression_opts": self._compression, "shuffle": True}
        return file.create_dataset(
            name,
            shape=(0, *row),
            maxshape=(None, *row),
            dtype=h5py.string_dtype(length=dtype.itemsize) if dtype.kind == "S" else dtype,
            chunks=(self._rows_of_chunk(name, row_bytes), *row),
            **(packed if name in self.packed else {"fletcher32": True}),  # gzip has a checksum of its own
        )

    def _rows_of_chunk(self, name: str, row_bytes: int) -> int:
        """Rows of a chunk of a new data set."""
        return chunk_rows(row_bytes)

    @staticmethod
    def _describe(file: h5py.File, name: str, text: str) -> None:
        """Set an attribute, of a fixed length: texts of any length have no checksum in HDF5."""
        content = text.encode()
        file.attrs.create(name, content, dtype=h5py.string_dtype(length=len(content)))

    def _raise_disk_error(self) -> None:
        assert self._disk is not None
        if self._disk.error is not None:
            error = self._disk.error
            raise DataError(
                f"cannot write {self._partial}: {error.strerror}; {self.n_written} {self.what} were written. "
                "Free space or choose another place."
            ) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        assert self._disk is not None
        disk = self._disk
        try:
            with interrupts_deferred():
                if kind is None:
                    self._finish(self._file)
                try:
                    self._file.close()
                except HDF5_ERRORS:
                    if disk.error is None:
                        raise
            if kind is None:
                self._raise_disk_error()
                disk.sync()
                self._complete = True
                if self.path.exists() and not self._overwrite:
                    raise DataError(
                        f"{self.path} was made by someone else meanwhile; the {self.what} are in "
                        f"{self._partial}"
                    )
                self._partial.replace(self.path)
        except OSError as problem:
            raise DataError(f"cannot write {self.path}: {problem}; is the disk full?") from problem
        finally:
            self._file = self._disk = None
            self._held.close()


def _new_file(path: Path, disk: PatientFile) -> h5py.File:
    """A file without times, for HDF5 1.10 and later, with checksums of names and places, too."""
    access, creation = access_through(disk), h5py.h5p.create(h5py.h5p.FILE_CREATE)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    creation.set_obj_track_times(False)
    return h5py.File(h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, creation, access))


def as_bytes(texts: NDArray[Any]) -> NDArray[np.bytes_]:
    """Texts as UTF-8, all of one length, so that checksums cover them."""
    encoded = np.char.encode(texts.astype(np.str_), "utf-8")
    return encoded.astype(np.bytes_).reshape(texts.shape)  # older numpy makes other arrays of empty ones
