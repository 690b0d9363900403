"""Exporting a model of pixel events to TorchScript: a file that needs torch alone, from Python or C++."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path

import torch

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.errors import CheckpointError
from caloforge.runtime.files import write_bytes
from caloforge.runtime.structured import json_text

__all__ = ["export_events"]


def export_events(checkpoint: Checkpoint, out: Path) -> None:
    """Write a model of pixel events as a module of TorchScript.

    ``torch.jit.load(out)(seed, number, rates)`` then gives the event that `caloforge.generate_events` makes
    on a CPU: its charges, uint8, for Belle II's pixel detector of shape (40, 250, 768). The number is 0 and
    the rates are nominal where they are left out. The file's "about.json" says what the model is.

    Raises:
        CheckpointError: the checkpoint is unusable, or its model cannot be exported; the file cannot be
            written.
    """
    model = checkpoint.pixel_model("cpu")
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
