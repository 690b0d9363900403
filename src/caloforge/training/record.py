"""What a training tells: one JSON line and TensorBoard numbers an epoch, and a progress bar on a terminal."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Display", "Log", "display"]

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
            file.write(json.dumps(row) + "\n")
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
        return int(json.loads(line)["epoch"])
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


class Display(Protocol):
    """Shows how far a training is."""

    def step(self, epoch: int, done: int, loss: str) -> None:
        """``done`` steps are made in all."""

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch is over."""

    def note(self, text: str) -> None:
        """Say something once."""

    def close(self) -> None:
        """Nothing more comes."""


def display(enabled: bool, n_steps: int, n_epochs: int, batch_size: int) -> Display:
    """A progress bar on a terminal, one plain line an epoch elsewhere, nothing where not enabled."""
    from rich.console import Console

    console = Console(stderr=True)
    if not enabled:
        return _Silent()
    if console.is_terminal:
        return _Bar(console, n_steps, n_epochs, batch_size)
    return _Lines(n_epochs)


class _Silent:
    def step(self, epoch: int, done: int, loss: str) -> None:
        pass

    def epoch(self, row: dict[str, Any]) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


class _Lines(_Silent):
    """At most one line every ten seconds, and the last."""

    def __init__(self, n_epochs: int) -> None:
        self._n_epochs, self._last = n_epochs, -1e9

    def epoch(self, row: dict[str, Any]) -> None:
        now = time.monotonic()
        if now - self._last >= 10 or row["epoch"] + 1 == self._n_epochs:
            self._last = now
            self.note(
                f"epoch {row['epoch'] + 1}/{self._n_epochs}: {summary(row)}, "
                f"{row['showers_per_second']:.0f} showers/s"
            )

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class _Bar(_Silent):
    def __init__(self, console: Any, n_steps: int, n_epochs: int, batch_size: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._n_epochs, self._batch_size, self._start = n_epochs, batch_size, time.monotonic()
        self._first: int | None = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[loss]}  {task.fields[speed]} showers/s"),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=2,
        )
        self._task = self._progress.add_task("training", total=n_steps, loss="", speed="–")
        self._progress.start()

    def step(self, epoch: int, done: int, loss: str) -> None:
        if self._first is None:
            self._first = done - 1
        seconds = max(time.monotonic() - self._start, 1e-9)
        if loss:
            self._progress.update(self._task, loss=loss)
        self._progress.update(
            self._task,
            completed=done,
            description=f"epoch {epoch + 1}/{self._n_epochs}",
            speed=f"{(done - self._first) * self._batch_size / seconds:.0f}",
        )

    def epoch(self, row: dict[str, Any]) -> None:
        self._progress.update(self._task, loss=summary(row))

    def note(self, text: str) -> None:
        self._progress.console.print(text)

    def close(self) -> None:
        self._progress.stop()


def summary(row: dict[str, Any]) -> str:
    """Losses of an epoch in a few words: ``loss 1.23 (validation 1.25)``; more parts by name."""
    words = []
    for name, part in row["parts"].items():
        if "loss" in part:
            label = f"{name} " if len(row["parts"]) > 1 else "loss "
            held_out = f" (validation {part['validation_loss']:.4g})" if "validation_loss" in part else ""
            words.append(f"{label}{part['loss']:.4g}{held_out}")
    return ", ".join(words) or "all parts have stopped"
