"""Finished showers of an unfinished run on disk, from which a stopped one goes on.

A `ChunkStore` is a folder with a lock, ``request.json``, which says what decides the showers, and one file
for each `Chunk`, ``chunk-<start>-<stop>-<request>.npz``, with a digest of the request: showers of two
requests do not mix even on a file system without locks. Each file appears whole or not at all, so that a kill
at any time loses no finished chunk; at the end the store removes what it wrote and nothing else.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.runtime.files import read_json, whole_file, write_json
from caloforge.runtime.locks import LOCK, folder_lock
from caloforge.runtime.structured import json_text, parse_json

__all__ = ["Chunk", "ChunkStore", "differences"]

REQUEST = "request.json"
FORMAT = "caloforge chunks 2"
CHUNK = re.compile(r"chunk-(\d+)-(\d+)-([0-9a-f]+)\.npz")
OURS = re.compile(rf"({CHUNK.pattern}|{re.escape(REQUEST)})(\..*partial)?|{re.escape(LOCK)}|worker-\d+\.log")
"""Names of all files that a store, or the workers that fill it, write."""
SHOWN_CHARACTERS = 200


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
    """Chunks of the showers 0 … n − 1 of one request, in the folder ``<out>.parts``.

    Args:
        out: the file that is made of them.
        request: JSON-able description of all that decides the showers.
        n: number of showers in all.
        what: what is unfinished while the folder is there, for messages.
        noun: what is made, for messages.
    """

    def __init__(
        self, out: Path, request: Mapping[str, Any], n: int, what: str = "run", noun: str = "showers"
    ) -> None:
        self.out, self.n, self.what, self.noun = out, n, what, noun
        self.folder = out.with_name(f"{out.name}.parts")
        text = json_text(request)
        self.request: dict[str, Any] = parse_json(text)
        self._mark = hashlib.sha256(text.encode()).hexdigest()[:16]

    @contextmanager
    def open(self, *, resume: bool, overwrite: bool) -> Iterator[Self]:
        """Hold the folder for this process alone; without a single finished chunk it is gone afterwards.

        Args:
            resume: go on with the chunks that are there.
            overwrite: without ``resume``, remove them; ``out`` may be there.

        Raises:
            DataError: there are chunks and neither ``resume`` nor ``overwrite``; they are of another request;
                ``out`` is there; another process uses the folder; it holds other files or cannot be written.
        """
        with folder_lock(self.folder, transient=True):
            self._refuse_other_files()
            if self.out.exists() and not overwrite:
                raise DataError(f"{self.out} exists; choose another name or allow overwriting (--overwrite)")
            self._prepare(resume, overwrite)
            try:
                yield self
            finally:
                if not self._found():
                    self._remove(keep_logs=True)

    def chunk(self, start: int, stop: int) -> Chunk:
        """The chunk of showers start … stop − 1, finished or not."""
        return Chunk(start, stop, self.folder.resolve() / f"chunk-{start:012d}-{stop:012d}-{self._mark}.npz")

    def chunks(self) -> list[Chunk]:
        """Finished chunks in order."""
        chunks: list[Chunk] = []
        for start, stop in sorted((int(m[1]), int(m[2])) for m in self._found() if m[3] == self._mark):
            if not chunks or start >= chunks[-1].stop:
                chunks.append(self.chunk(start, stop))
        return chunks

    def _found(self) -> list[re.Match[str]]:
        """Names of the finished chunks of any request."""
        return [match for match in map(CHUNK.fullmatch, self._names()) if match]

    def _names(self) -> list[str]:
        """Names of all files in the folder."""
        try:
            return sorted(path.name for path in self.folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def complete(self) -> list[Chunk]:
        """All chunks; DataError where showers are missing, so that no shorter file is made of them."""
        gaps = self.gaps()
        if gaps:
            start, stop = gaps[0]
            raise DataError(
                f"{self.folder}: {self.noun} {start} to {stop - 1} were made and are gone; go on with "
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
        if not self.chunks():
            return f"None of the {self.n} {self.noun} was finished, and nothing is kept."
        return (
            f"{self.n_finished} of {self.n} {self.noun} are kept in {self.folder}; the same command with "
            "--resume (resume=True) goes on from there."
        )

    def remove(self) -> None:
        """Remove all files of the store; the folder goes when it is closed, where nothing else is in it."""
        self._remove(keep_logs=False)

    def clear(self) -> None:
        """Remove what a kill left behind after the result was there; DataError as `open` where it is not."""
        if self.folder.exists():
            with self.open(resume=True, overwrite=True):
                self.remove()

    def _remove(self, *, keep_logs: bool) -> None:
        names = [name for name in self._names() if OURS.fullmatch(name)]
        for name in sorted(names, key=lambda name: name == REQUEST):  # which says what the others are
            if name != LOCK and not (keep_logs and name.endswith(".log")):
                (self.folder / name).unlink(missing_ok=True)

    def _refuse_other_files(self) -> None:
        others = [name for name in self._names() if not OURS.fullmatch(name)]
        if others:
            raise DataError(
                f"{self.folder} holds other files ({', '.join(others[:3])}{', …' if others[3:] else ''}), "
                "perhaps of a run that an older version left unfinished; remove it or choose another name"
            )

    def _prepare(self, resume: bool, overwrite: bool) -> None:
        saved, found = self.saved_request(), bool(self._found())
        if found and not saved:
            raise DataError(f"{self.folder} has no {REQUEST}; remove the folder or choose another name")
        if found and resume:
            self._require_same(saved)
            return
        if found and not overwrite:
            raise DataError(
                f"{self.folder} holds an unfinished {self.what}; go on with resume=True (--resume) or "
                "replace it with overwrite=True (--overwrite)"
            )
        self._remove(keep_logs=True)
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
        found = differences(saved, self.request)
        if found:
            raise DataError(
                f"{self.folder}: cannot go on, because {found}; use the same, or start anew with "
                "overwrite=True (--overwrite)"
            )


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What of ``now`` differs from what was saved, in words; "" where nothing does."""
    return " and ".join(
        f"its {name} differs (it was {_short(saved.get(name, 'not recorded'))}, now it is {_short(value)})"
        for name, value in now.items()
        if saved.get(name) != value
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
