"""Writing tensors and JSON so that a kill or a full disk never leaves half a file under the final name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from caloforge.errors import CheckpointError
from caloforge.runtime.files import whole_file

__all__ = ["digest", "read_json", "read_tensors", "write_bytes", "write_json", "write_tensors"]


def digest(data: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(data).hexdigest()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file under another name, wait until it is on disk, and give it its name."""
    try:
        with whole_file(path) as file:
            file.write(data)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error}; what was there before is unchanged") from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON that a person can read; NaN is not allowed."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str)
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; CheckpointError where it is missing or damaged."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not valid JSON ({error}); the file is damaged") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors as safetensors; returns the file's digest. Tensors may be on any device or shared."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    data = safetensors.torch.save(plain)
    write_bytes(path, data)
    return digest(data)


def read_tensors(path: Path, expected_digest: str) -> dict[str, Tensor]:
    """Read safetensors; CheckpointError where the file is missing or not the one with this digest."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if digest(data) != expected_digest:
        raise CheckpointError(
            f"{path}: its content ({len(data)} bytes) is not what its JSON file describes; "
            "it is truncated, damaged or from another checkpoint. Copy both files again from the same source"
        )
    try:
        return safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error})") from error
