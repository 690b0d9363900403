"""A checkpoint's folder: ``model.safetensors`` and ``checkpoint.json``, which names the digest of the former.

A kill or a full disk leaves either the checkpoint that was there before or the new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from caloforge.errors import CheckpointError
from caloforge.runtime.files import read_bytes, read_json, write_bytes, write_json

__all__ = [
    "ABOUT",
    "BEFORE",
    "holds_checkpoint",
    "read_folder",
    "read_tensors",
    "write_folder",
    "write_tensors",
]

FORMAT = "caloforge-checkpoint"
FORMAT_VERSION = 1
WEIGHTS = "model.safetensors"
ABOUT = "checkpoint.json"
BEFORE = "before"
"""Folder, in that of an adapted model, of what it was before."""


def holds_checkpoint(folder: Path) -> bool:
    """True where the folder holds a checkpoint."""
    return (folder / ABOUT).is_file()


def write_folder(
    folder: Path, about: Mapping[str, Any], tensors: Mapping[str, Tensor], *, overwrite: bool
) -> None:
    """Write both files, the JSON file last.

    Raises:
        CheckpointError: there is a checkpoint already, or the disk does not take it.
    """
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; a checkpoint is a folder")
    if holds_checkpoint(folder) and not overwrite:
        raise CheckpointError(f"{folder} holds a checkpoint; choose another folder or allow overwriting")
    digest = write_tensors(folder / WEIGHTS, tensors)
    whole = {"format": FORMAT, "version": FORMAT_VERSION, "weights_sha256": digest, **about}
    write_json(folder / ABOUT, whole, indent=2, error=CheckpointError)


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What the JSON file holds, and the tensors.

    Raises:
        CheckpointError: it is missing, truncated, foreign or of another version.
    """
    if not holds_checkpoint(folder):
        raise CheckpointError(_missing(folder))
    where = folder / ABOUT
    about = read_json(where, error=CheckpointError)
    if about.get("format") != FORMAT:
        raise CheckpointError(f"{where}: not a caloforge checkpoint (format is {about.get('format')!r})")
    if about.get("version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{where}: has format version {about.get('version')!r}, but {FORMAT_VERSION} is expected; "
            "use the version of caloforge in its provenance or train again"
        )
    if "weights_sha256" not in about:
        raise CheckpointError(f"{where}: 'weights_sha256' is missing; the file is incomplete")
    return about, read_tensors(folder / WEIGHTS, str(about["weights_sha256"]))


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors as safetensors; returns the file's SHA-256. Tensors may be on any device or shared."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    data = safetensors.torch.save(plain)
    write_bytes(path, data, error=CheckpointError)
    return hashlib.sha256(data).hexdigest()


def read_tensors(path: Path, expected_digest: str) -> dict[str, Tensor]:
    """Read safetensors; CheckpointError where the file is missing or not the one with this SHA-256."""
    data = read_bytes(path, error=CheckpointError)
    if hashlib.sha256(data).hexdigest() != expected_digest:
        raise CheckpointError(
            f"{path}: its content ({len(data)} bytes) is not what its JSON file describes; "
            "it is truncated, damaged or from another checkpoint. Copy both files again from the same source"
        )
    try:
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error})") from error


def _missing(folder: Path) -> str:
    if not folder.exists():
        return f"{folder}: no such folder"
    if not folder.is_dir():
        return f"{folder} is a file; give the folder that holds {ABOUT}"
    if (folder / "resume").is_dir():
        return (
            f"{folder}: its training has not finished an epoch; go on with it, resume=True "
            "(caloforge train --resume, or caloforge adapt --resume)"
        )
    return f"{folder}: no {ABOUT} in it, so it is not a checkpoint"
