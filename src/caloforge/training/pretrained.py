"""Trained models that come with caloforge: folders of ``pretrained/`` with a checkpoint and a model card."""

from __future__ import annotations

import difflib
from pathlib import Path

from caloforge.errors import CheckpointError

__all__ = ["model_card", "pretrained_folder", "pretrained_names"]

PRETRAINED = Path(__file__).resolve().parents[1] / "pretrained"
CARD = "CARD.md"


def pretrained_names() -> list[str]:
    """Names of the models that come with caloforge."""
    return sorted(path.parent.name for path in PRETRAINED.glob(f"*/{CARD}"))


def pretrained_folder(name: str) -> Path:
    """Folder of the model called ``name``.

    Raises:
        CheckpointError: there is none.
    """
    names = pretrained_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise CheckpointError(
            f"{name}: no such folder, and no model of that name{hint} comes with caloforge; "
            f"it has {', '.join(names) or 'none'}"
        )
    return PRETRAINED / name


def model_card(name: str) -> str:
    """The model card, Markdown: data, recipe, command, seed, metrics and valid range."""
    return (pretrained_folder(name) / CARD).read_text(encoding="utf-8")
