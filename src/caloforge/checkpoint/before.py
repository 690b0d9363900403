"""What an adapted model was before: kept in its folder, for the detectors that it was not adapted to.

All detectors share a network, which forgets those that it sees no more; so each is made with the weights that
were the last to see it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.checkpoint.folder import BEFORE, holds_checkpoint

__all__ = ["ADAPTED_TO", "keep_before", "weights_for"]

ADAPTED_TO = "adapted_to"
"""What of the provenance says to which detectors a model was adapted."""


def keep_before(start: Checkpoint, folder: Path) -> None:
    """Copy the checkpoint that is adapted, with what it keeps itself, into the folder of the adapted one."""
    earlier = None if start.path is None else start.path / BEFORE
    where, path = folder / BEFORE, start.path
    if earlier is not None and earlier.is_dir() and path != folder:
        shutil.copytree(earlier, where / BEFORE, dirs_exist_ok=True)
    start.save(where, overwrite=True)
    start.path = path


def weights_for(checkpoint: Checkpoint, detector: str) -> Checkpoint:
    """The checkpoint itself, or, for a detector that it was not adapted to, what it was before."""
    adapted = checkpoint.provenance.get(ADAPTED_TO)
    if adapted is None or detector in adapted or checkpoint.path is None:
        return checkpoint
    before = checkpoint.path / BEFORE
    if not holds_checkpoint(before):
        return checkpoint
    changed = checkpoint.provenance.get("changed_settings", {})
    return weights_for(Checkpoint.load(before).with_settings(changed), detector)
