"""Exporting a model of pixel events to TorchScript: a file that needs torch alone, from Python or C++."""

from __future__ import annotations

import os
import warnings
from io import BytesIO
from pathlib import Path

import torch

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.errors import CheckpointError
from caloforge.runtime.files import output_file, write_bytes
from caloforge.runtime.structured import json_text

__all__ = ["export"]


def export(
    checkpoint: Checkpoint | str | os.PathLike[str], *, out: str | os.PathLike[str], overwrite: bool = False
) -> Path:
    """Write a model of pixel events as a module of TorchScript.

    ``torch.jit.load(out)(seed, number, rates)`` then gives the event that `caloforge.generate_events` makes
    on a CPU: its charges, uint8, for Belle II's pixel detector of shape (40, 250, 768). The number is 0 and
    the rates are nominal where they are left out. The file's "about.json" says what the model is.

    Args:
        checkpoint: the model, its folder, or the name of one that comes with caloforge.
        out: the file.
        overwrite: replace an existing file.

    Raises:
        CheckpointError: the checkpoint is unusable, or its model cannot be exported; the file exists, or
            cannot be written.
    """
    checkpoint, out = Checkpoint.load(checkpoint), output_file(out)
    model = checkpoint.pixel_model("cpu")
    if out.exists() and not overwrite:
        raise CheckpointError(f"{out} exists; choose another name or allow overwriting (--overwrite)")
    about = {
        "model": checkpoint.model_name,
        "fingerprint": checkpoint.fingerprint,
        "detector": model.detector.name,
        "sensors": [sensor.name for sensor in model.detector.sensors],
        "sources": [source.name for source in model.detector.sources],
        "valid_range": checkpoint.valid_range,
    }
    content = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(model.script(), content, _extra_files={"about.json": json_text(about)})
    write_bytes(out, content.getvalue(), error=CheckpointError)
    return out
