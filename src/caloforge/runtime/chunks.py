"""Finished showers of an unfinished run on disk, from which a stopped one goes on.

A `ChunkStore` is a folder with a lock, ``request.json``, which says what decides the showers, and one file
for each `Chunk`, ``chunk-<start>-<stop>.npz``. Each file appears whole or not at all, so that a kill at any
time loses no finished chunk; at the end the store removes what it wrote and nothing else.
"""

from __future__ import annotations

import fcntl
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.runtime.files import read_json, whole_file, write_json
from caloforge.runtime.structured import json_text, parse_json

__all__ = ["Chunk", "ChunkStore", "folder_lock", "parts_folder"]

LOCK, REQUEST = "lock", "request.json"
FORMAT = "caloforge chunks 1"
CHUNK = re.compile(r"chunk-(\d+)-(\d+)\.npz")
OURS = re.compile(rf"({CHUNK.pattern}|{re.escape(REQUEST)})(\..*partial)?|{LOCK}|worker-\d+\.log")
"""Names of all files that a store, or the workers that fill it, write."""
SHOWN_CHARACTERS = 200
LOCK_TRIES = 100


@dataclass(frozen=True)
class Chunk:
    """Showers ``start`` … ``stop`` − 1, and the file that holds them when they are finished."""

    start: int
    stop: int
    path: Path

    def __len__(self) -> int:
        return self.stop - self.start

    def write(self, columns: Mapping[str, Any]) -> None:
        """Save the showers as named arrays; DataError where the disk does not take them."""
        try:
            with whole_file(self.path) as file:
                np.savez(file, **columns)
        except OSError as error:
            raise DataError(
                f"cannot write {self.path}: {error}. Finished showers are kept; make room and go on with "
                "resume=True (--resume)"
            ) from error

    def read(self) -> dict[str, NDArray[Any]]:
        """What `write` was given; DataError where the file is damaged, which its checksums tell."""
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return dict(stored)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{self.path} is damaged ({error}); delete it and go on with resume=True (--resume), which "
                "makes it again"
            ) from error


class ChunkStore:
    """Chunks of the showers 0 … n − 1 of one request.

    Args:
        folder: where they are.
        request: JSON-able description of all that decides the showers.
        n: number of showers in all.
        what: what is unfinished while the folder is there, for messages.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any], n: int, what: str = "run") -> None:
        self.folder, self.n, self.what = folder, n, what
        self.request: dict[str, Any] = parse_json(json_text(request))

    @contextmanager
    def open(self, *, resume: bool, overwrite: bool) -> Iterator[Self]:
        """Hold the folder for this process alone; without a single finished chunk it is gone afterwards.

        Args:
            resume: go on with the chunks that are there.
            overwrite: without ``resume``, remove them.

        Raises:
            DataError: there are chunks and neither ``resume`` nor ``overwrite``; they are of another request;
                another process uses the folder; or it holds other files or cannot be written.
        """
        self._refuse_other_files()
        with folder_lock(self.folder):
            self._prepare(resume, overwrite)
            try:
                yield self
            finally:
                if not self.chunks():
                    self._remove(keep_logs=True)

    def chunk(self, start: int, stop: int) -> Chunk:
        """The chunk of showers start … stop − 1, finished or not."""
        return Chunk(start, stop, self.folder.resolve() / f"chunk-{start:012d}-{stop:012d}.npz")

    def chunks(self) -> list[Chunk]:
        """Finished chunks in order."""
        found = (CHUNK.fullmatch(path.name) for path in self.folder.glob("chunk-*.npz"))
        chunks: list[Chunk] = []
        for start, stop in sorted((int(match[1]), int(match[2])) for match in found if match):
            if not chunks or start >= chunks[-1].stop:
                chunks.append(self.chunk(start, stop))
        return chunks

    def complete(self) -> list[Chunk]:
        """All chunks; DataError where showers are missing, so that no shorter file is made of them."""
        gaps = self.gaps()
        if gaps:
            start, stop = gaps[0]
            raise DataError(
                f"{self.folder}: showers {start} to {stop - 1} were made and are gone; go on with "
                "resume=True (--resume), which makes them again"
            )
        return self.chunks()

    def gaps(self) -> list[tuple[int, int]]:
        """Spans (start, stop) of showers that are not finished."""
        spans, at = [], 0
        for chunk in self.chunks():
            if at < chunk.start:
                spans.append((at, chunk.start))
            at = chunk.stop
        return [*spans, (at, self.n)] if at < self.n else spans

    @property
    def n_finished(self) -> int:
        """Number of showers in finished chunks."""
        return sum(len(chunk) for chunk in self.chunks())

    def kept(self) -> str:
        """A sentence for who is told that the run has ended early."""
        return (
            f"{self.n_finished} of {self.n} showers are kept in {self.folder}; the same command with "
            "--resume (resume=True) goes on from there."
        )

    def remove(self) -> None:
        """Remove all files of the store, and the folder where nothing else is in it."""
        self._remove(keep_logs=False)

    def clear(self) -> None:
        """Remove what a kill left behind after the result was there; DataError as `open` where it is not."""
        if self.folder.exists():
            with self.open(resume=True, overwrite=False):
                self.remove()

    def _remove(self, *, keep_logs: bool) -> None:
        names = [path.name for path in self.folder.glob("*") if OURS.fullmatch(path.name)]
        for name in sorted(names, key=lambda name: (name == LOCK, name == REQUEST)):  # the lock last
            if not (keep_logs and name.endswith(".log")):
                (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()

    def _refuse_other_files(self) -> None:
        others = sorted(path.name for path in self.folder.glob("*") if not OURS.fullmatch(path.name))
        if others:
            raise DataError(
                f"{self.folder} holds other files ({', '.join(others[:3])}{', …' if others[3:] else ''}), "
                "perhaps of a run that an older version left unfinished; remove it or choose another name"
            )

    def _prepare(self, resume: bool, overwrite: bool) -> None:
        saved = self.saved_request()
        if self.chunks() and resume:
            self._require_same(saved)
            return
        if self.chunks() and not overwrite:
            raise DataError(
                f"{self.folder} holds an unfinished {self.what}; go on with resume=True (--resume) or "
                "replace it with overwrite=True (--overwrite)"
            )
        for chunk in self.folder.glob("chunk-*"):
            chunk.unlink()
        try:
            write_json(self.folder / REQUEST, {"format": FORMAT, "request": self.request})
        except DataError:
            self._remove(keep_logs=True)
            raise

    def saved_request(self) -> dict[str, Any]:
        """The request of what is there, {} for nothing; DataError where it cannot be read."""
        path = self.folder / REQUEST
        if not path.exists():
            return {}
        try:
            about = read_json(path)
            if about["format"] == FORMAT:
                return dict(about["request"])
            reason = f"of format {about['format']}"
        except (ValueError, KeyError, TypeError) as error:
            reason = f"unreadable, {error!r}"
        raise DataError(f"{path}: {reason}; remove the folder or choose another name")

    def _require_same(self, saved: dict[str, Any]) -> None:
        differences = [
            f"its {name} differs (it was {_short(saved.get(name, 'not recorded'))}, now it is {_short(now)})"
            for name, now in self.request.items()
            if saved.get(name) != now
        ]
        if differences:
            raise DataError(
                f"{self.folder}: cannot go on, because {' and '.join(differences)}; use the same, or start "
                "anew with overwrite=True (--overwrite)"
            )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"


def parts_folder(target: Path) -> Path:
    """Where the chunks of a file that is to be made are; DataError where it cannot be a file."""
    try:
        if target.name and not target.is_dir():
            return target.with_name(f"{target.name}.parts")
    except OSError as error:
        raise DataError(f"{target}: {error.strerror}; choose another name") from error
    raise DataError(f"{str(target)!r} is a folder; give the name of a file")


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Make ``folder`` if need be and hold it for this process, until the end or a kill.

    Raises:
        DataError: another process holds it, or it cannot be made or written.
    """
    try:
        lock = _locked(folder)
    except BlockingIOError:
        raise DataError(
            f"another process is writing into {folder}; wait for it or choose another name"
        ) from None
    except OSError as error:
        raise DataError(f"cannot write into {folder}: {error}") from error
    with lock:
        yield


def _locked(folder: Path) -> BinaryIO:
    """The lock of a folder, open, and still in the folder when it is held: others remove theirs."""
    path = folder / LOCK
    for _ in range(LOCK_TRIES):
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            lock = path.open("ab")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                raise
            except OSError:
                return lock  # a file system without locks
            if path.exists() and os.path.samestat(path.stat(), os.fstat(lock.fileno())):
                return lock
            lock.close()
    raise BlockingIOError
