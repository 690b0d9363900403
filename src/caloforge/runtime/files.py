"""Files that appear under their name whole or not at all, also on a full disk or after a kill."""

from __future__ import annotations

import codecs
import errno
import json
import os
import secrets
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from caloforge.errors import CaloforgeError, DataError

__all__ = [
    "output_file",
    "plain",
    "read_json",
    "read_toml",
    "whole_file",
    "write_bytes",
    "write_json",
    "write_text",
]

ROOM = 40
"""Characters that names of locks and unfinished files are longer than that of the file."""


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
    """A new file to write bytes to, which gets the name ``path`` when all of it is on disk, or never.

    What is there stays until the new file is complete. Several processes may write the same file: it is that
    of the last one.

    Raises:
        OSError: the disk does not take it; nothing is left under another name.
    """
    path = _file_meant(path)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as file:
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
    """Write a whole UTF-8 file, as `write_bytes`."""
    write_bytes(path, text.encode(), error=error)


def write_json(
    path: str | os.PathLike[str], value: Any, *, indent: int = 1, error: type[CaloforgeError] = DataError
) -> None:
    """Write JSON that a person can read, as `write_bytes`.

    What JSON does not know becomes `plain`. NaN and infinity are a ValueError.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False, default=plain)
    write_text(path, text + "\n", error=error)


def read_toml(path: Path, *, error: type[CaloforgeError]) -> dict[str, Any]:
    """The TOML in a UTF-8 file; ``error`` is raised where it cannot be read, with the place."""
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
        return tomllib.loads(content.decode())
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror or problem})") from problem
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise error(
            f"{path}: line {line} is not UTF-8 (byte 0x{content[problem.start]:02x}); save the file as UTF-8"
        ) from problem
    except tomllib.TOMLDecodeError as problem:
        raise error(f"{path}: not valid TOML: {problem}") from problem


def plain(value: Any) -> Any:
    """What JSON knows in place of what it does not: numbers and lists for numpy's, texts for all else."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def read_json(path: str | os.PathLike[str], *, error: type[CaloforgeError] = DataError) -> dict[str, Any]:
    """The JSON object in a file; ``error`` is raised where it is missing, damaged or something else."""
    try:
        value = json.loads(Path(path).read_bytes())
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror or problem}") from problem
    except ValueError as problem:
        raise error(f"cannot read {path}: not valid JSON ({problem}); the file is damaged") from problem
    if not isinstance(value, dict):
        raise error(f"cannot read {path}: expected a JSON object, got {type(value).__name__}")
    return value
