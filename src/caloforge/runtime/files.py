"""Files that appear under their name whole or not at all, also on a full disk or after a kill."""

from __future__ import annotations

import codecs
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from caloforge.errors import CaloforgeError, DataError
from caloforge.runtime.structured import json_text, parse_json, parse_toml

__all__ = [
    "output_file",
    "read_bytes",
    "read_json",
    "read_toml",
    "whole_file",
    "write_bytes",
    "write_json",
    "write_text",
]

ROOM = 40
"""Characters that names of locks and unfinished files are longer than that of the file."""
MOST_TOML = 4 << 20
"""Bytes of a file that people write by hand."""


def output_file(path: str | os.PathLike[str], *, error: type[CaloforgeError] = DataError) -> Path:
    """The file that is to be written: ``path``, or where that is a link what it leads to.

    Raises:
        error: there is a folder, a device or the like, the name is too long, or its folder cannot be entered.
    """
    try:
        return _file_meant(Path(path))
    except IsADirectoryError:
        raise error(f"{path} is a folder; give the name of a file") from None
    except OSError as problem:
        raise error(f"cannot write {path}: {problem.strerror or problem}") from problem


def _file_meant(path: Path) -> Path:
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    with suppress(FileNotFoundError, NotADirectoryError):  # the latter is told by who makes the folder
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is a device or the like, not a file")
    with suppress(FileNotFoundError, NotADirectoryError):
        path.with_name(path.name + "_" * ROOM).lstat()  # the file system tells whether that is too long
    return path


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A new file to write bytes to, or read, which gets the name ``path`` when all is on disk, or never.

    What is there stays until the new file is complete. Several processes may write the same file: it is that
    of the last one.

    Raises:
        OSError: the disk does not take it; nothing is left under another name.
    """
    path = _file_meant(path)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(
    path: str | os.PathLike[str], data: bytes, *, error: type[CaloforgeError] = DataError
) -> None:
    """Write a whole file and make its folder where there is none; ``error`` is raised where that fails."""
    try:
        with whole_file(Path(path)) as file:
            file.write(data)
    except OSError as problem:
        raise error(
            f"cannot write {path}: {problem.strerror or problem}; what was there before is unchanged"
        ) from problem


def write_text(path: str | os.PathLike[str], text: str, *, error: type[CaloforgeError] = DataError) -> None:
    """Write a whole UTF-8 file, as `write_bytes`; half characters, of names that are no text, as escapes."""
    write_bytes(path, text.encode(errors="backslashreplace"), error=error)


def write_json(
    path: str | os.PathLike[str], value: Any, *, indent: int = 1, error: type[CaloforgeError] = DataError
) -> None:
    """Write JSON that a person can read, as `write_bytes`; what JSON does not know as `json_text` has it."""
    write_text(path, json_text(value, indent=indent, ascii_only=False) + "\n", error=error)


def read_bytes(
    path: str | os.PathLike[str], *, error: type[CaloforgeError] = DataError, most: int | None = None
) -> bytes:
    """What is in a file.

    Raises:
        CaloforgeError: of the kind ``error``: it cannot be read, is a folder or a pipe, or has more than
            ``most`` bytes.
    """
    try:
        status = os.stat(path)  # noqa: PTH116  (of a path that may be text)
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
            raise error(f"cannot read {path}: it is {kind}, and a file is needed")
        if most is not None and status.st_size > most:
            raise error(f"cannot read {path}: {status.st_size:,} bytes are too many for such a file")
        return Path(path).read_bytes()
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror or problem}") from problem
    except ValueError as problem:
        if isinstance(problem, CaloforgeError):
            raise
        raise error(f"cannot read {path!r}: {problem}") from problem


def read_json(path: str | os.PathLike[str], *, error: type[CaloforgeError] = DataError) -> dict[str, Any]:
    """The JSON object in a file; ``error`` is raised where it is missing, damaged or something else."""
    content = read_bytes(path, error=error)
    try:
        value = parse_json(content)
    except ValueError as problem:
        raise error(f"cannot read {path}: not valid JSON ({problem}); the file is damaged") from problem
    if not isinstance(value, dict):
        raise error(f"cannot read {path}: expected a JSON object, got {type(value).__name__}")
    return value


def read_toml(path: str | os.PathLike[str], *, error: type[CaloforgeError] = DataError) -> dict[str, Any]:
    """The table in a TOML file; ``error`` is raised where it is missing, damaged or something else."""
    content = read_bytes(path, error=error, most=MOST_TOML).removeprefix(codecs.BOM_UTF8)
    try:
        return parse_toml(content.decode())
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise error(
            f"{path}: line {line} is not UTF-8 (byte 0x{content[problem.start]:02x}); save the file as UTF-8"
        ) from problem
    except ValueError as problem:
        raise error(f"{path}: not valid TOML: {problem}") from problem
