"""What commands print, and how files are named whose name is not given."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from caloforge.runtime.screen import Screen

if TYPE_CHECKING:
    from rich.table import Table

    from caloforge.checkpoint import Checkpoint

__all__ = [
    "console",
    "errors",
    "execution",
    "file_name",
    "note",
    "say",
    "say_trained",
    "show",
    "show_log",
    "speaks",
    "warn",
]

console = Screen()
errors = Screen(stderr=True)
WIDE = 1000
"""Columns for a table that goes to a file or another program."""
speaks = int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK", "0") == "0"
"""False in all but the first of several processes that torchrun started, which say what it says."""


def show(table: Table) -> None:
    """Print a table, on a terminal within its width, elsewhere in full."""
    (console if console.is_terminal else Screen(width=WIDE)).print(table)


def say(text: str) -> None:
    """Print a line as it is: no markup, no colours, not broken."""
    if speaks:
        console.print(Text(text), soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning on standard error."""
    if speaks:
        errors.print(Text(f"warning: {text}", style="yellow"), soft_wrap=True)


def note(text: str) -> None:
    """Print on standard error what one may want to know, such as what was assumed."""
    errors.print(Text(f"note: {text}"), soft_wrap=True)


class _Screen(logging.Handler):
    """Prints what is logged on standard error, each line once."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._seen: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text not in self._seen:
            self._seen.add(text)
            (warn if record.levelno >= logging.WARNING else note)(text)


def show_log() -> None:
    """Print from now on what caloforge logs, in the place of what an earlier call began."""
    log = logging.getLogger("caloforge")
    for handler in [handler for handler in log.handlers if isinstance(handler, _Screen)]:
        log.removeHandler(handler)
    log.addHandler(_Screen())
    log.setLevel(logging.INFO)


def say_trained(checkpoint: Checkpoint, what: str, out: Path) -> None:
    """Say where a checkpoint is, and its validation losses."""
    parts = checkpoint.metrics.get("parts", {}).items()
    losses = {name: part["validation_loss"] for name, part in parts}
    told = ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items() if loss is not None)
    chosen = checkpoint.metrics.get("selection", {})
    precision = checkpoint.provenance.get("precision", "unknown")
    say(f"{what} → {out} (precision: {precision}" + (f"; validation losses: {told})" if told else ")"))
    if "best_step" in chosen:
        say(f"the weights are those of step {chosen['best_step']}, {chosen['by']} {chosen['best']:.4g}")
    if "trouble" in chosen:
        say(f"the training {chosen['trouble']}")


def execution(performance: Mapping[str, Any]) -> str:
    """How showers were generated, of the provenance of their speed; older ones know less."""
    device, threads = performance.get("device"), performance.get("threads")
    precision, kernels = (performance.get(key, "not recorded") for key in ("precision", "kernels"))
    return f"{device}, {precision}, kernels: {kernels}, threads: {threads}"


def file_name(*words: Any) -> Path:
    """A file named after what is in it, ``par04-siw_e-_10GeV_n1000_seed0.h5``; empty words are left out."""
    return Path("_".join(re.sub(r"[^\w.+-]+", "-", str(word)) for word in words if word) + ".h5")
