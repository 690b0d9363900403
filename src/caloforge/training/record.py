"""What a training records: one JSON line and TensorBoard numbers an epoch."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from caloforge.errors import CheckpointError
from caloforge.runtime.files import write_text
from caloforge.runtime.structured import json_text, parse_json

__all__ = ["LOG", "Log", "flat", "is_log", "summary"]

LOG = "log.jsonl"
log = logging.getLogger(__name__)


class Log:
    """Appends one line an epoch to ``log.jsonl`` and, where tensorboard is installed, to ``tensorboard/``.

    A resumed training removes the lines of epochs that it makes again. A CheckpointError tells where the disk
    takes no line; without TensorBoard's numbers it goes on.
    """

    def __init__(self, folder: Path, first_epoch: int) -> None:
        self._path = folder / LOG
        kept = []
        if first_epoch and self._path.exists():
            lines = self._path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _epoch_of(line) < first_epoch]
        write_text(self._path, "".join(line + "\n" for line in kept), error=CheckpointError)
        self._board: Any = None
        with self._board_or_not():
            self._board = _summary_writer(folder / "tensorboard", first_epoch)

    def write(self, row: dict[str, Any]) -> None:
        """Add the row of an epoch."""
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json_text(row) + "\n")
        except OSError as error:
            raise CheckpointError(
                f"cannot write {self._path}: {error.strerror or error}; go on with what is saved with "
                "resume=True (--resume)"
            ) from error
        with self._board_or_not():
            if self._board is not None:
                for name, value in flat(row).items():
                    self._board.add_scalar(name, value, row["epoch"])
                self._board.flush()

    def close(self) -> None:
        """Close TensorBoard's file."""
        with self._board_or_not():
            if self._board is not None:
                self._board.close()

    @contextmanager
    def _board_or_not(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            log.warning("no more numbers for TensorBoard: %s", error)
            self._board = None


def is_log(path: Path) -> bool:
    """True unless there is a file that is no log of a training."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            first = file.readline()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return not first or _epoch_of(first) != sys.maxsize


def _epoch_of(line: str) -> int:
    try:
        return int(parse_json(line)["epoch"])
    except (ValueError, KeyError, TypeError):
        return sys.maxsize  # half a line, from a kill


def _summary_writer(folder: Path, first_epoch: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(os.fspath(folder), purge_step=first_epoch or None)


def flat(row: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Numbers of a nested row by slash-joined names."""
    numbers: dict[str, float] = {}
    for key, value in row.items():
        if isinstance(value, dict):
            numbers |= flat(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            numbers[prefix + key] = float(value)
    return numbers


def summary(row: dict[str, Any]) -> str:
    """Losses of an epoch in a few words: ``loss 1.23 (validation 1.25)``; more parts by name."""
    words = []
    for name, part in row["parts"].items():
        if "loss" in part:
            label = f"{name} " if len(row["parts"]) > 1 else "loss "
            held_out = f" (validation {part['validation_loss']:.4g})" if "validation_loss" in part else ""
            words.append(f"{label}{part['loss']:.4g}{held_out}")
    chosen = row.get("selection", {})
    if "value" in chosen:
        words.append(f"{chosen['by']} {chosen['value']:.4g} (best {chosen['best']:.4g})")
    return ", ".join(words) or "all parts have stopped"
