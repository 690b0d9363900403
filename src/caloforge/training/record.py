"""What a training records: one JSON line and TensorBoard numbers an epoch."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from caloforge.runtime.structured import json_text, parse_json

__all__ = ["Log", "flat", "summary"]

LOG = "log.jsonl"


class Log:
    """Appends one line an epoch to ``log.jsonl`` and, where tensorboard is installed, to ``tensorboard/``.

    A resumed training removes the lines of epochs that it makes again.
    """

    def __init__(self, folder: Path, first_epoch: int) -> None:
        self._path = folder / LOG
        kept = []
        if first_epoch and self._path.exists():
            lines = self._path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _epoch_of(line) < first_epoch]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self._board = _summary_writer(folder / "tensorboard", first_epoch)

    def write(self, row: dict[str, Any]) -> None:
        """Add the row of an epoch."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json_text(row) + "\n")
        if self._board is not None:
            for name, value in flat(row).items():
                self._board.add_scalar(name, value, row["epoch"])
            self._board.flush()

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._board is not None:
            self._board.close()


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
    return ", ".join(words) or "all parts have stopped"
