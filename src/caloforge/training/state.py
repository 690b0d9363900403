"""The state of a training on disk, from which it goes on to the same result: safetensors and JSON."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.checkpoint.files import read_json, read_tensors, write_json, write_tensors
from caloforge.data.showers import Showers
from caloforge.errors import CheckpointError
from caloforge.models.names import current_names
from caloforge.training.trainer import Position, Trainer

__all__ = ["data_fingerprint", "has_state", "load_state", "remove_state", "save_state"]

STATE_VERSION = 1
ABOUT = "state.json"


def data_fingerprint(showers: Showers) -> str:
    """Sixteen hexadecimal digits of the cells, all conditions and the energies of a few showers."""
    cells = " ".join(dict.fromkeys(mesh.fingerprint for mesh in showers.meshes.values()))
    state = hashlib.sha256(f"{len(showers)} {cells}".encode())
    conditions = showers.conditions
    for column in (conditions.energy, conditions.theta, conditions.phi, conditions.particle):
        state.update(np.ascontiguousarray(column).tobytes())
    state.update("\n".join(np.unique(conditions.detector)).encode())
    for start in (0, max(len(showers) - 10, 0)):
        state.update(np.ascontiguousarray(showers.read(start, start + 10)).tobytes())
    return state.hexdigest()[:16]


def has_state(folder: Path) -> bool:
    """True where a training can be resumed."""
    return (folder / ABOUT).is_file()


def save_state(folder: Path, trainer: Trainer, run: dict[str, Any]) -> None:
    """Save the trainer; ``run`` says which training it is. A kill leaves the former state as it was."""
    tensors = {f"model/{name}": tensor for name, tensor in trainer.model.state_dict().items()}
    parts = {}
    for name, part in trainer.parts.items():
        own, parts[name] = part.state()
        tensors |= {f"part/{key}": tensor for key, tensor in own.items()}
    file = f"state-{trainer.at.total}.safetensors"
    digest = write_tensors(folder / file, tensors)
    about = {"version": STATE_VERSION, "file": file, "sha256": digest, "run": run}
    write_json(folder / ABOUT, about | {"position": asdict(trainer.at), "parts": parts})
    for old in folder.glob("state-*"):
        if old.name != file:
            old.unlink(missing_ok=True)


def load_state(folder: Path, trainer: Trainer, run: dict[str, Any]) -> None:
    """Put a saved state into a fresh trainer.

    Raises:
        CheckpointError: the state is damaged or belongs to another training.
    """
    about = read_json(folder / ABOUT)
    if about.get("version") != STATE_VERSION:
        raise CheckpointError(f"{folder}: state of version {about.get('version')}, expected {STATE_VERSION}")
    check_run(folder, about, run)
    try:
        tensors = read_tensors(folder / str(about["file"]), str(about["sha256"]))
        model = {k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")}
        own = {k.removeprefix("part/"): v for k, v in tensors.items() if k.startswith("part/")}
        trainer.model.load_state_dict(model)
        for name, part in trainer.parts.items():
            part.load_state(own, about["parts"][name])
        trainer.at = Position(**about["position"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: the state does not fit the model ({error}); train anew") from error


def saved_run(folder: Path) -> dict[str, Any]:
    """What `save_state` was told about the training."""
    return dict(read_json(folder / ABOUT).get("run", {}))


def check_run(folder: Path, about: dict[str, Any], run: dict[str, Any]) -> None:
    """CheckpointError naming what differs between a saved training and this one."""
    saved = current_names(about.get("run", {}))
    for key, value in run.items():
        if saved.get(key) != value:
            raise CheckpointError(
                f"{folder}: cannot resume, because the {key} of that training differs "
                f"(it was {saved.get(key)}, now it is {value}); resume with the same, or train anew with "
                "overwrite=True (--overwrite)"
            )


def remove_state(folder: Path) -> None:
    """Remove the folder of a state."""
    shutil.rmtree(folder, ignore_errors=True)
