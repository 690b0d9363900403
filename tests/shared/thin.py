"""A detector of few layers: reports draw each of them, and that takes most of their time."""

from __future__ import annotations

from pathlib import Path

from caloforge.detector.detector import FILES

__all__ = ["write_thin"]


def write_thin(path: Path) -> None:
    """Write the file of a detector that is the first fifteenth of par04-siw."""
    whole = (FILES / "par04-siw.toml").read_text()
    thin = whole.replace("repeat = 90", "repeat = 6").replace("n_z = 45", "n_z = 3")
    path.write_text(thin.replace('name = "par04-siw"', f'name = "{path.stem}"'))
