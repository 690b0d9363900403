"""Trained models that come with caloforge: folders of ``pretrained/`` with a checkpoint and a model card.

``pretrained/defaults.toml`` says which of them is taken for a detector where none is named.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from caloforge.checkpoint.folder import ABOUT
from caloforge.checkpoint.untrained import GFLASH
from caloforge.detector.description import kind_of
from caloforge.detector.detector import Detector
from caloforge.errors import CheckpointError, DetectorError
from caloforge.registry import suggestion
from caloforge.runtime.files import read_json

__all__ = [
    "FOUNDATION",
    "default_model",
    "default_models",
    "model_card",
    "pretrained_folder",
    "pretrained_names",
]

PRETRAINED = Path(__file__).resolve().parents[1] / "pretrained"
CARD = "CARD.md"
DEFAULTS = "defaults.toml"
FOUNDATION = "foundation"
"""The model for detectors that have none of their own, where it comes with caloforge."""


def pretrained_names(*, showers: bool = False) -> list[str]:
    """Names of the models that come with caloforge, or of those alone that make showers."""
    names = sorted(path.parent.name for path in PRETRAINED.glob(f"*/{CARD}"))
    return [name for name in names if not showers or "energy" in _valid_range(name)]


def _valid_range(name: str) -> dict[str, Any]:
    found: dict[str, Any] = read_json(PRETRAINED / name / ABOUT, error=CheckpointError)["valid_range"]
    return found


def pretrained_folder(name: str) -> Path:
    """Folder of the model called ``name``.

    Raises:
        CheckpointError: there is none.
    """
    names = pretrained_names()
    if name not in names:
        if name in Detector.names():
            raise CheckpointError(
                f"{name} is a detector, not a checkpoint; `caloforge generate --detector {name}` takes the "
                "model that comes for it, where there is one, and `caloforge models` lists all"
            )
        raise CheckpointError(
            f"{name}: no such folder, and no model of that name{suggestion(name, names)} comes with "
            f"caloforge; it has {', '.join(names) or 'none'}"
        )
    return PRETRAINED / name


def default_models() -> dict[str, str]:
    """Name of the model that stands for each detector for which one comes with caloforge."""
    return {
        detector: str(name)
        for detector, name in tomllib.loads((PRETRAINED / DEFAULTS).read_text(encoding="utf-8")).items()
    }


def default_model(detector: str) -> str:
    """Name of the model that stands for ``detector``, a name or file: a trained one, or else GFlash.

    Raises:
        DetectorError: there is no such detector.
        CheckpointError: it is a pixel detector for which there is no trained model.
    """
    defaults, known = default_models(), Detector.names()
    if detector in defaults:
        return defaults[detector]
    if kind_of(detector) == "pixel":
        raise CheckpointError(
            f"no trained model for {detector} comes with caloforge; train one: caloforge simulate {detector} "
            "-n 400 --rate 0.5-2 -o events.h5, caloforge train pxd-clusters events.h5 -o model, caloforge "
            "generate model -n 100"
        )
    if detector not in known and not Path(detector).is_file():
        raise DetectorError(
            f"there is no detector or file {detector!r}{suggestion(detector, known)}; known are "
            f"{', '.join(known)}. For one of your own, give its file, or the checkpoint trained on it"
        )
    return f"{GFLASH}{detector}"


def model_card(name: str) -> str:
    """The model card, Markdown: data, recipe, command, seed, metrics and valid range."""
    return (pretrained_folder(name) / CARD).read_text(encoding="utf-8")
