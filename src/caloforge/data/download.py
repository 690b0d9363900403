"""Downloading public data sets: resumed where they stopped, checked, and renamed only when whole.

pooch keeps the registry, the folder and the checksums; it begins an interrupted download again, so that it is
given a downloader that asks for the missing bytes only (HTTP ``Range`` with ``If-Range``, RFC 9110).
"""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any

from caloforge.data.catalogue import PublicFile, public_files
from caloforge.errors import DataError, MissingDependencyError
from caloforge.runtime.files import output_file, read_json, write_json, write_text
from caloforge.runtime.locks import file_lock
from caloforge.runtime.signals import stoppable

__all__ = ["BASE_VARIABLE", "Progress", "ResumingDownloader", "UnreachableError", "download"]

BASE_VARIABLE = "CALOFORGE_DOWNLOAD_BASE"
"""Environment variable with an address to take the place of each file's own folder (a mirror)."""
Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes it has and, where the server tells, those it will have."""
BLOCK = 1 << 18


class ResumingDownloader:
    """A downloader for pooch: ``downloader(url, output_file, pooch)``.

    Bytes go to ``part``, which stays after an interruption; the next call asks for the rest. The file's
    ``ETag`` or ``Last-Modified`` lies beside it, so that a file that changed at the server is begun again,
    as is one from a server without ``Range``. The length is compared with what the server announced.

    Args:
        part: the unfinished file.
        attempts: how often to connect before giving up; those that brought bytes do not count.
        timeout: seconds without a byte after which a connection is given up.
        wait: seconds before the second attempt, doubled each time.
    """

    def __init__(
        self,
        part: Path,
        *,
        attempts: int = 4,
        timeout: float = 30.0,
        wait: float = 1.0,
        progress: Progress | None = None,
    ) -> None:
        self.part, self.attempts, self.timeout, self.wait = part, attempts, timeout, wait
        self._progress = progress
        self._notes = part.with_name(part.name + ".json")

    def __call__(self, url: str, output_file: Any, pooch: Any) -> None:
        if not url.startswith(("http://", "https://")):
            raise DataError(f"{url!r} is not an address; it must begin with http:// or https://")
        failures = 0
        while True:
            before = self._size()
            try:
                if self._fetch(url):
                    break
                problem: Exception = OSError("the connection ended early")
            except urllib.error.HTTPError as error:
                error.close()
                if error.code < 500 and error.code not in (408, 429):
                    raise DataError(f"{url}: the server says {error.code} {error.reason}") from error
                problem = error
            except (OSError, HTTPException) as error:
                problem = error
            failures = 0 if self._size() > before else failures + 1
            if failures >= self.attempts:
                raise UnreachableError(f"{url}: {problem}") from problem
            time.sleep(self.wait * 2 ** max(failures - 1, 0))
        self.part.replace(output_file)
        self._notes.unlink(missing_ok=True)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _fetch(self, url: str) -> bool:
        """Ask for what is missing and append it; True when the file is whole."""
        have, validator = self._size(), self._validator(url)
        request = urllib.request.Request(
            url, headers={"User-Agent": "caloforge", "Accept-Encoding": "identity"}
        )
        if have and validator:
            request.add_header("Range", f"bytes={have}-")
            request.add_header("If-Range", validator)
        try:
            response = urllib.request.urlopen(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # nothing from there on: the part is whole already, or is not this file's
                total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
                error.close()
                if total == str(have):
                    return True
                self.part.unlink()
                return False
            raise
        with response:
            resumed = response.status == 206
            if resumed and not (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
                raise OSError(f"asked for bytes from {have} on, got {response.headers.get('Content-Range')}")
            start = have if resumed else 0
            length = response.headers.get("Content-Length")
            total_bytes = None if length is None else start + int(length)
            self._note(url, response.headers.get("ETag"), response.headers.get("Last-Modified"))
            with self.part.open("ab" if resumed else "wb") as file:
                size = self._copy(response, file, start, total_bytes)
        return total_bytes is None or size == total_bytes

    def _copy(self, response: Any, file: IO[bytes], size: int, total: int | None) -> int:
        while block := response.read(BLOCK):
            try:
                file.write(block)
                file.flush()
            except OSError as error:
                raise DataError(f"cannot write {self.part}: {error.strerror}; is the disk full?") from error
            size += len(block)
            if self._progress is not None:
                self._progress(self.part.stem, size, total)
        return size

    def _note(self, url: str, etag: str | None, modified: str | None) -> None:
        # a weak ETag does not promise the same bytes and must not be used to continue
        strong = etag if etag and not etag.startswith("W/") else None
        write_json(self._notes, {"url": url, "validator": strong or modified})

    def _validator(self, url: str) -> str | None:
        try:
            notes = read_json(self._notes)
        except DataError:
            return None
        return str(notes["validator"]) if notes.get("url") == url and notes.get("validator") else None


class UnreachableError(Exception):
    """The server could not be reached, or kept breaking off."""


def download(
    name: str,
    folder: str | os.PathLike[str],
    *,
    base_url: str | None = None,
    progress: Progress | None = None,
    warn: Callable[[str], None] | None = None,
    attempts: int = 4,
    wait: float = 1.0,
) -> list[Path]:
    """Download a public data set, or one file of it, and return the paths.

    What lies in ``folder`` already with the right checksum is not downloaded again.

    Args:
        name: a data set such as ``calochallenge-2`` or a file such as ``dataset_2_1.hdf5``.
        folder: where to put the files.
        base_url: address of a folder that holds the files instead of their own pages; by default what the
            environment variable ``CALOFORGE_DOWNLOAD_BASE`` says, if anything.
        progress: called as bytes arrive.
        warn: called with a line of text where a file has no pinned checksum.
        attempts, wait: see `ResumingDownloader`.

    Raises:
        DataError: no such data set, no network, a wrong checksum, an address that has to be got by hand, or
            another process downloads the same file.
        KeyboardInterrupt: Ctrl-C; what came is kept.
        MissingDependencyError: pooch is not installed.
    """
    files = public_files(name)
    base_url = base_url or os.environ.get(BASE_VARIABLE)
    try:
        import pooch
    except ImportError as error:
        raise MissingDependencyError("pooch", "download") from error
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {folder}: {error.strerror}") from error
    paths = []
    for file in files:
        url = f"{base_url.rstrip('/')}/{file.name}" if base_url else file.url
        if url is None:
            raise DataError(
                f"{file.data_set}: the addresses of its files are not known to caloforge; download what you "
                f"need by hand from {file.page} and open it with caloforge data info, or give --base-url"
            )
        paths.append(_download_one(pooch, file, url, folder, progress, warn, attempts, wait))
    return paths


def _download_one(
    pooch: Any,
    file: PublicFile,
    url: str,
    folder: Path,
    progress: Progress | None,
    warn: Callable[[str], None] | None,
    attempts: int,
    wait: float,
) -> Path:
    target = output_file(folder / file.name)
    part = folder / (file.name + ".part")
    if _is_there(pooch, file, target):
        return target
    kept = f"what came so far is kept in {part}; the same command goes on from there"
    with file_lock(target), stoppable(lambda: kept if part.exists() else f"nothing of {file.name} is kept"):
        downloader = ResumingDownloader(part, attempts=attempts, wait=wait, progress=progress)
        _fetch(pooch, file, url, target, downloader)
        if file.checksum is None:
            digest = f"sha256:{pooch.file_hash(str(target))}"
            write_text(_note_of(target), digest + "\n")
            if warn is not None:
                warn(f"{file.name} has no pinned checksum, so it was not verified; {digest}")
    return target


def _is_there(pooch: Any, file: PublicFile, target: Path) -> bool:
    """True where the file was downloaded before.

    Raises:
        DataError: it is not as it was downloaded, and no checksum tells that what comes again is right.
    """
    if not target.is_file():
        return False
    known = file.checksum
    if known is None:
        try:
            known = _note_of(target).read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return True  # got by hand
    algorithm, _, digest = known.partition(":")
    if pooch.file_hash(str(target), alg=algorithm) == digest:
        return True
    if file.checksum is None:
        raise DataError(
            f"{target} is not as it was downloaded, which {_note_of(target)} tells; it is damaged or was "
            "changed. Remove it to download it again, or remove the note to keep it"
        )
    return False


def _note_of(target: Path) -> Path:
    """Where the checksum of a downloaded file is noted that has no pinned one."""
    return target.with_name(target.name + ".sha256")


def _fetch(pooch: Any, file: PublicFile, url: str, target: Path, downloader: ResumingDownloader) -> None:
    registry = pooch.create(
        path=target.parent, base_url="", registry={target.name: file.checksum}, urls={target.name: url}
    )
    pooch.get_logger().setLevel("WARNING")
    try:
        registry.fetch(target.name, downloader=downloader)
    except UnreachableError as error:
        part = downloader.part
        kept = f" What came so far is kept in {part} and will be continued." if part.exists() else ""
        raise DataError(
            f"cannot reach {error}. Try again, or download it by hand from {file.page} and put it at "
            f"{target}.{kept}"
        ) from error
    except ValueError as error:  # pooch's word for a wrong checksum; its temporary file is gone by then
        if isinstance(error, DataError):
            raise DataError(f"{error}. Or download it by hand from {file.page} to {target}") from error
        raise DataError(
            f"{url}: the file is not the one that was published ({error}). Nothing was kept; "
            f"try again, or download it by hand from {file.page} and put it at {target}."
        ) from error
    except OSError as error:
        raise DataError(f"cannot write {target}: {error.strerror or error}; is the disk full?") from error
