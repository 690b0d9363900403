"""What commands print, and how files are named whose name is not given."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from caloforge.checkpoint import Checkpoint

__all__ = ["console", "errors", "file_name", "say", "say_trained", "speaks", "warn"]

console = Console()
errors = Console(stderr=True)
speaks = int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK", "0") == "0"
"""False in all but the first of several processes that torchrun started, which say what it says."""


def say(text: str) -> None:
    """Print a line as it is: no markup, no colours, not broken."""
    if speaks:
        console.print(Text(text), soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning on standard error."""
    if speaks:
        errors.print(Text(f"warning: {text}", style="yellow"), soft_wrap=True)


def say_trained(checkpoint: Checkpoint, what: str, out: Path) -> None:
    """Say where a checkpoint is, and its validation losses."""
    parts = checkpoint.metrics.get("parts", {}).items()
    losses = {name: part["validation_loss"] for name, part in parts}
    told = ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items() if loss is not None)
    say(f"{what} → {out}" + (f" (validation losses: {told})" if told else ""))


def file_name(*words: Any) -> Path:
    """A file named after what is in it, ``par04-siw_e-_10GeV_n1000_seed0.h5``; empty words are left out."""
    return Path("_".join(re.sub(r"[^\w.+-]+", "-", str(word)) for word in words if word) + ".h5")
