"""What a campaign's folder says of it: which campaign it is, and what whoever began has decided."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from caloforge.errors import DataError
from caloforge.runtime.chunks import differences
from caloforge.runtime.files import read_json, write_json
from caloforge.runtime.structured import json_text, parse_json

__all__ = ["NAME", "Cost", "Record"]

NAME = "campaign.json"
FORMAT = "caloforge campaign 1"
FILE_BYTES = 300_000
"""Bytes of a file without its showers, at most."""


@dataclass(frozen=True)
class Cost:
    """What showers cost, by a short probe.

    Attributes:
        seconds: of one core, a shower.
        bytes: on disk, a shower.
        memory_mib: of a process that makes them.
        showers: that were probed.
    """

    seconds: float
    bytes: float
    memory_mib: float
    showers: int

    def disk(self, showers: int, files: int) -> int:
        """Bytes of so many showers in so many files."""
        return int(self.bytes * showers) + FILE_BYTES * files


@dataclass(frozen=True)
class Record:
    """The content of ``campaign.json``.

    Attributes:
        asked: what stands in the campaign's file.
        decided: all else that decides the showers: the model's fingerprint, versions, the class of the host.
        cost: what they cost where the campaign was begun.
    """

    asked: dict[str, Any]
    decided: dict[str, Any]
    cost: Cost

    @cached_property
    def mark(self) -> str:
        """Sixteen hexadecimal digits that differ where anything does that decides the showers."""
        told = json_text({"asked": self.asked, "decided": self.decided})
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The record in a folder, None where there is none; DataError where it is damaged."""
        path = folder / NAME
        if not path.exists():
            return None
        told = read_json(path)
        try:
            if told["format"] != FORMAT:
                raise ValueError(f"its format is {told['format']!r}")
            return cls(dict(told["asked"]), dict(told["decided"]), Cost(**told["cost"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{path} is no record of a campaign ({error}); remove it if it is not yours"
            ) from error

    def write(self, folder: Path) -> Self:
        """Write it where there is none yet; returns the one that is there, perhaps somebody else's.

        The name appears with the whole content, for one of several who begin at the same time.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path, mine = folder / NAME, folder / f"{NAME}.{secrets.token_hex(4)}.partial"
        try:
            write_json(mine, {"format": FORMAT, **asdict(self)})
            try:
                os.link(mine, path)
            except FileExistsError:
                pass
            except OSError as error:  # a file system without hard links
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                    raise DataError(f"cannot write {path}: {error.strerror}") from error
                if not path.exists():
                    mine.replace(path)
        finally:
            mine.unlink(missing_ok=True)
        found = type(self).read(folder)
        assert found is not None
        return found

    def require_asked(self, asked: Mapping[str, Any], usual: Mapping[str, Any], folder: Path) -> None:
        """DataError where the campaign in the folder was asked for otherwise.

        What it does not tell, since a later version has it, has to be as ``usual``.
        """
        told = {key: value for key, value in asked.items() if key in self.asked or value != usual.get(key)}
        found = differences(self.asked, told)
        if found:
            raise DataError(
                f"{folder} holds another campaign, or this one was changed after it had begun: {found}. Put "
                "back what it was, or give this campaign a folder of its own (out)"
            )

    def require_decided(self, decided: Mapping[str, Any], folder: Path) -> None:
        """DataError where this machine would make other showers."""
        found = differences(self.decided, decided)
        if found:
            raise DataError(
                f"this machine would make other showers than those of the campaign in {folder}: {found}. Run "
                "it where these are the same, or start another campaign in another folder"
            )


def plain(value: Any) -> Any:
    """As it is when it is read from JSON again."""
    return parse_json(json_text(value))
