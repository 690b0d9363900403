"""A training on disk: the state from which it goes on to the same result, and whether it is finished."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.checkpoint.folder import WEIGHTS, holds_checkpoint, read_tensors, write_tensors
from caloforge.errors import CheckpointError
from caloforge.models.names import current_names
from caloforge.runtime.files import read_json, write_json
from caloforge.training.record import LOG, is_log
from caloforge.training.task import TrainingTask
from caloforge.training.trainer import Position, Trainer

__all__ = ["RESUME", "finished_training", "has_state", "load_state", "remove_state", "save_state"]

STATE_VERSION = 3
ABOUT = "state.json"
OURS = re.compile(r"(state\.json|state-\d+\.safetensors)(\..*partial)?")
"""Names of the files of a state."""
WORDS = {
    "data": "showers",
    "teacher": "weights of the teacher",
    "given": "given showers",
    "start": "weights at the start",
}
OPTIONS = ("precision", "threads")
"""What of a training is asked for by an option of that name."""
RESUME = "resume"
"""Folder of the state, in that of the checkpoint."""


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
    file = f"state-{trainer.position.total}.safetensors"
    digest = write_tensors(folder / file, tensors)
    about = {"version": STATE_VERSION, "file": file, "sha256": digest, "run": run}
    about |= {"position": asdict(trainer.position), "parts": parts}
    if trainer.selection is not None:
        about["selection"] = trainer.selection.state()
    write_json(folder / ABOUT, about, indent=2, error=CheckpointError)
    _remove_files(folder, keep=(file, ABOUT))


def load_state(folder: Path, trainer: Trainer, run: dict[str, Any]) -> None:
    """Put a saved state into a fresh trainer.

    Raises:
        CheckpointError: the state is damaged or belongs to another training.
    """
    about = read_json(folder / ABOUT, error=CheckpointError)
    if about.get("version") != STATE_VERSION:
        raise CheckpointError(
            f"{folder}: a state of version {about.get('version')}, expected {STATE_VERSION}; go on with the "
            "version of caloforge that made it, or train anew with overwrite=True (--overwrite)"
        )
    check_run(folder, about, run)
    try:
        tensors = read_tensors(folder / str(about["file"]), str(about["sha256"]))
        model = {k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")}
        own = {k.removeprefix("part/"): v for k, v in tensors.items() if k.startswith("part/")}
        trainer.model.load_state_dict(model)
        for name, part in trainer.parts.items():
            part.load_state(own, about["parts"][name])
        if trainer.selection is not None:
            trainer.selection.load_state(about["selection"])
        trainer.position = TypeAdapter(Position).validate_python(about["position"])
    except CheckpointError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: the state does not fit the model ({error}); train anew") from error


def check_run(folder: Path, about: dict[str, Any], run: dict[str, Any]) -> None:
    """CheckpointError naming what differs between a saved training and this one."""
    saved = about.get("run", {})
    if not isinstance(saved, dict):
        raise CheckpointError(f"{folder / ABOUT}: 'run' must be a table, got {saved!r}; the file is damaged")
    saved = current_names(saved)
    for key, value in run.items():
        if saved.get(key, value) != value:
            how = f" (--{key} {saved[key]})" if key in OPTIONS else ""
            raise CheckpointError(
                f"{folder}: cannot resume, because the {key} of that training differs "
                f"(it was {saved[key]}, now it is {value}); resume with the same{how}, or train "
                "anew with overwrite=True (--overwrite)"
            )


def remove_state(folder: Path) -> None:
    """Remove the files of a state, and the folder where nothing else is in it."""
    if not folder.is_dir():
        return
    _remove_files(folder, keep=())
    with suppress(OSError):
        folder.rmdir()


def _remove_files(folder: Path, keep: tuple[str, ...]) -> None:
    for path in list(folder.iterdir()):
        if OURS.fullmatch(path.name) and path.name not in keep:
            path.unlink(missing_ok=True)


def finished_training(
    folder: Path, task: TrainingTask[Any], resume: bool, overwrite: bool, device: torch.device, precision: str
) -> Checkpoint | None:
    """Make sure that ``folder`` may be written; returns its checkpoint where this training is finished.

    ``device`` and ``precision`` are where and how it would be trained now.

    Raises:
        CheckpointError: the folder is in use, or its training had another recipe, seed, precision or other
            data.
    """
    state = folder / RESUME
    if resume and not has_state(state) and holds_checkpoint(folder):
        checkpoint = Checkpoint.load(folder)
        differs = _differs(checkpoint, task, device, precision)
        if not differs:
            return checkpoint
        raise CheckpointError(
            f"{folder} holds a finished training with {differs}; ask for the same, choose another folder or "
            "replace it with overwrite=True (--overwrite)"
        )
    if not resume and not overwrite:
        if has_state(state):
            raise CheckpointError(
                f"{folder} holds an unfinished training; go on with resume=True (--resume) or replace "
                "it with overwrite=True (--overwrite)"
            )
        if holds_checkpoint(folder):
            raise CheckpointError(
                f"{folder} holds a checkpoint; choose another folder or use overwrite=True (--overwrite)"
            )
    if not overwrite and not has_state(state) and not holds_checkpoint(folder):
        _refuse_other_files(folder)
    if not resume:
        remove_state(state)
    return None


def _refuse_other_files(folder: Path) -> None:
    """CheckpointError where the folder holds files with names of ours that are somebody else's."""
    others = [WEIGHTS] * (folder / WEIGHTS).exists() + [LOG] * (not is_log(folder / LOG))
    if others:
        raise CheckpointError(
            f"{folder} holds another {' and '.join(others)}; choose another folder or use overwrite=True "
            "(--overwrite)"
        )


def _differs(checkpoint: Checkpoint, task: TrainingTask[Any], device: torch.device, precision: str) -> str:
    """What a finished training has that this one has not, "" if nothing; data and precision if recorded."""
    if current_names(checkpoint.recipe) != task.recipe.to_dict():
        return "another recipe"
    if checkpoint.seed != task.seed:
        return f"the seed {checkpoint.seed}, not {task.seed}"
    was = checkpoint.provenance.get("precision")
    if was is not None and was != (now := checkpoint.network(device, precision).execution.precision):
        return f"precision {was}, not {now} (--precision {was})"
    saved = checkpoint.provenance.get("fingerprints", {})
    return next((f"other {WORDS[name]}" for name in saved if saved[name] != task.fingerprints.get(name)), "")
