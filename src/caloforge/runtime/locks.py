"""One process at a time writes a file, or into a folder.

A lock is a small file that says who holds it. It is taken before the first byte is written, which shows at
once whether the disk takes anything, and goes at the end; a kill leaves the file, but frees the lock.
"""

from __future__ import annotations

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from caloforge.errors import BusyError, CaloforgeError, DataError
from caloforge.runtime.files import output_file
from caloforge.runtime.signals import interrupts_deferred

__all__ = ["LOCK", "file_lock", "folder_lock"]

LOCK = ".caloforge-lock"
"""Name of the lock in a folder, and the end of the names of those beside files."""
TRIES = 100


@contextmanager
def folder_lock(
    folder: Path, *, error: type[CaloforgeError] = DataError, transient: bool = False
) -> Iterator[None]:
    """Make ``folder`` if need be and hold it for this process, until the end or a kill.

    Folders that were made for this and are empty at the end are removed.

    Args:
        folder: where to write.
        error: what is raised where another process holds it (of DataError a BusyError), or it cannot be
            made or written.
        transient: remove it where it is empty at the end also if it was there before.
    """
    missing = _missing(folder)
    busy = f"another process is writing into {folder}"
    try:
        with _held(folder / LOCK, busy, f"cannot write into {folder}", error):
            yield
    finally:
        with suppress(OSError):
            for place in missing or [folder] * transient:
                place.rmdir()


@contextmanager
def file_lock(path: Path, *, error: type[CaloforgeError] = DataError) -> Iterator[None]:
    """Hold the name ``path`` for this process, until the end or a kill; the file need not be there yet.

    Its folder is made if need be. ``error`` is raised where another process holds it or it cannot be written.
    """
    path = output_file(path, error=error)
    lock = path.with_name(f".{path.name}{LOCK}")
    with _held(lock, f"{path} is being written by another process", f"cannot write {path}", error):
        yield


@contextmanager
def _held(lock: Path, busy: str, cannot: str, error: type[CaloforgeError]) -> Iterator[None]:
    held: int | None = None
    try:
        with interrupts_deferred():  # a signal finds the lock held, and so removed, or not there
            held = _acquired(lock, busy, cannot, error)
        yield
    finally:
        if held is not None:
            with suppress(OSError):
                lock.unlink()  # while it is held, so that it is nobody else's
            os.close(held)


def _acquired(lock: Path, busy: str, cannot: str, error: type[CaloforgeError]) -> int:
    try:
        return _locked(lock)
    except BlockingIOError:
        kind = BusyError if error is DataError else error
        raise kind(f"{busy}{_holder(lock)}; wait for it or choose another name") from None
    except FileExistsError:
        raise error(f"{cannot}: {lock.parent} is a file, not a folder") from None
    except OSError as problem:
        raise error(f"{cannot}: {problem.strerror or problem}") from problem


def _locked(lock: Path) -> int:
    """The lock, open, and still under its name when it is held: others remove theirs.

    Raises:
        BlockingIOError: another process holds it.
        OSError: it cannot be made, or the disk does not take it.
    """
    problem: OSError = BlockingIOError()
    for _ in range(TRIES):
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            held = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except (FileNotFoundError, FileExistsError) as error:
            if lock.parent.exists() and not lock.parent.is_dir():
                raise
            problem = error  # another process removed the folder meanwhile
            continue
        try:
            if _is_ours(held, lock):
                _sign(held, lock)
                return held
        except BaseException:
            os.close(held)
            raise
        os.close(held)
    raise problem


def _is_ours(held: int, lock: Path) -> bool:
    """Lock the open file; False where its name is another file's by now, BlockingIOError where it is held."""
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        pass
    try:
        return os.path.samestat(lock.stat(), os.fstat(held))
    except FileNotFoundError:
        return False


def _sign(held: int, lock: Path) -> None:
    """Write down who holds it; OSError where the disk takes nothing, and then no lock is left."""
    try:
        os.ftruncate(held, 0)
        os.pwrite(held, f"{os.getpid()} on {platform.node()}".encode(), 0)
    except OSError:
        lock.unlink(missing_ok=True)
        raise


def _holder(lock: Path) -> str:
    """Who holds a lock, in words; "" where it does not say."""
    try:
        said = lock.read_text("utf-8", errors="replace")
    except OSError:
        said = ""
    return f" ({said})" if said else ""


def _missing(folder: Path) -> list[Path]:
    """The folder and those above it that are not there, itself first."""
    missing = []
    for place in (folder, *folder.parents):
        try:
            place.lstat()
            break
        except FileNotFoundError:
            missing.append(place)
        except OSError:
            break
    return missing
