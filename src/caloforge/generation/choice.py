"""With which model showers are generated, for which detector and particle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.checkpoint.pretrained import default_model, default_models, pretrained_folder
from caloforge.errors import CheckpointError, ConditionError

__all__ = ["chosen_checkpoint", "chosen_name"]


def chosen_checkpoint(
    checkpoint: Checkpoint | str | os.PathLike[str] | None,
    detector: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """The checkpoint, or the model that comes with caloforge for ``detector``, with changed settings.

    Raises:
        CheckpointError: neither is given, the checkpoint is unusable, or none comes for that detector.
        DetectorError: there is no such detector.
        RecipeError: there is no such setting, or its value is illegal.
    """
    if checkpoint is None:
        if detector is None:
            raise CheckpointError(
                "say which model: the folder of a checkpoint, a name (caloforge models lists them), or a "
                f"detector for which one comes with caloforge: --detector {' or '.join(default_models())}"
            )
        checkpoint = pretrained_folder(default_model(detector))
    return Checkpoint.load(checkpoint).with_settings(settings or {})


def chosen_name(checkpoint: Checkpoint, kind: Literal["detector", "particle"], asked: str | None) -> str:
    """The detector or particle that is asked for, else the only one that the model was trained on.

    Raises:
        ConditionError: the model was not trained on it, or on several and none is asked for.
    """
    known: list[str] = checkpoint.valid_range[kind]
    where = Path(checkpoint.path).name if checkpoint.path else "the checkpoint"
    names = ", ".join(filter(None, known)) or "without a name"
    trained = f"{where} was trained on {kind}{'s' * (len(known) > 1)} {names}"
    if asked is not None and asked not in known:
        raise ConditionError(f"{trained}, not on {asked!r}; take one of its own, or another checkpoint")
    if asked is None and len(known) > 1:
        raise ConditionError(
            f"{trained}; say which is wanted ({kind}=, --{kind}) or give showers (like=, --like FILE)"
        )
    return known[0] if asked is None else asked
