"""What a model was trained on, and whether that is what is asked of it."""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.data.conditions import Conditions
from caloforge.data.particles import pdg_code, pdg_name
from caloforge.detector.mesh import Mesh
from caloforge.errors import ConditionError
from caloforge.registry import enumerated

__all__ = ["MARGIN_RAD", "check_range", "trained_mesh", "trained_name"]

log = logging.getLogger(__name__)

MARGIN = 0.01
"""Energies this much, relatively, outside the range of the training showers are still inside."""
MARGIN_RAD = 1e-3
MARGIN_MM = 1e-3


def trained_name(
    checkpoint: Checkpoint,
    kind: Literal["detector", "particle"],
    name: str | None,
    detector: str | None = None,
) -> str:
    """The detector or particle called ``name``, or, for None, the usual or only one that the model is for.

    What is usual may be another in each ``detector``.

    Raises:
        ConditionError: the model was not trained on it, or on several and none is named.
    """
    known = _known(checkpoint, kind)
    if name is None:
        name = checkpoint.range_of(detector or "").get("usual", {}).get(kind)
    names = enumerated(filter(None, known)) or "without a name"
    trained = f"{checkpoint.name} {_stands(checkpoint)} {kind}{'s' * (len(known) > 1)} {names}"
    if name is not None and name not in known:
        raise ConditionError(f"{trained}, not {name!r}; take one of its own, or another checkpoint")
    if name is None and len(known) > 1:
        raise ConditionError(
            f"{trained}; say which is wanted ({kind}=, --{kind}) or give showers (like=, --like FILE)"
        )
    return known[0] if name is None else name


def trained_mesh(checkpoint: Checkpoint, conditions: Conditions) -> Mesh:
    """Cells of the showers that a model makes for these conditions.

    Raises:
        ConditionError: they are in several detectors whose cells differ, or in one that a model of several
            does not know. A model of one makes its showers, which is logged as a warning.
    """
    known = checkpoint.detectors
    strange = sorted(set(conditions.detector.tolist()) - set(known))
    if strange and len(known) > 1:
        raise ConditionError(
            f"{checkpoint.name} knows the detectors {enumerated(known)}, and {strange[0]!r} could be "
            "taken for any of them; give conditions with one of these, or adapt the model (caloforge adapt)"
        )
    if strange and known:
        log.warning(
            "showers in %r are made as those of %r, the one detector of the model", strange[0], known[0]
        )
    meshes = {name: checkpoint.mesh_of(name) for name in sorted(set(conditions.detector.tolist()))}
    mesh, *others = set(meshes.values())
    if others:
        raise ConditionError(
            f"showers in {', '.join(meshes)} were asked for at once, but their cells are of other sizes; "
            "generate those in one detector at a time"
        )
    return mesh


def check_range(conditions: Conditions, checkpoint: Checkpoint) -> None:
    """ConditionError naming the first shower outside the trained range, its value and the range.

    The range is that of the shower's detector, where the checkpoint has one for each. Energies may be one
    percent outside, angles 1 mrad, since a training sample need not touch its limits.
    """
    called, trained = checkpoint.name, checkpoint.trained
    hint = (
        f"{called} {'was not trained' if trained else 'is not meant for showers'} there; use "
        "allow_extrapolation=True (--allow-extrapolation) to try it"
    )
    span = "trained" if trained else "valid"
    detectors, number = np.unique(conditions.detector, return_inverse=True)
    ranges = [checkpoint.range_of(str(name)) for name in detectors]  # number: the one of each shower

    def check(name: str, unit: str, values: Any, spans: list[tuple[float, float]]) -> None:
        low, high = np.array(spans)[number].T
        bad = np.flatnonzero((values < low) | (values > high))
        if len(bad):
            first = bad[0]
            raise ConditionError(
                f"{name} of shower {first} is {values[first]:.6g} {unit}, outside the {span} range "
                f"{low[first]:.6g} to {high[first]:.6g} {unit} ({len(bad)} of {len(values)} showers are); "
                f"{hint}"
            )

    energies = [(low * (1 - MARGIN), high * (1 + MARGIN)) for low, high in (r["energy"] for r in ranges)]
    check("energy", "MeV", conditions.energy, energies)
    for name in ("theta", "phi"):
        angles = [(low - MARGIN_RAD, high + MARGIN_RAD) for low, high in (r[name] for r in ranges)]
        check(name, "rad", getattr(conditions, name), angles)
    if any("impact" in r for r in ranges):
        if conditions.impact is None:
            raise ConditionError(f"{called} was trained with impact points; give them in the conditions")
        for i, axis in enumerate("xy"):
            points = [
                (low[i] - MARGIN_MM, high[i] + MARGIN_MM) for low, high in (r["impact"] for r in ranges)
            ]
            check(f"impact {axis}", "mm", conditions.impact[:, i], points)
    for name, names in (
        ("particle", [pdg_name(code) for code in conditions.particle]),
        ("detector", [str(detector) for detector in conditions.detector]),
    ):
        known = _known(checkpoint, name)
        strange = sorted(set(names) - set(known))
        if strange:
            raise ConditionError(
                f"{name} of shower {names.index(strange[0])} is {strange[0]!r}, but the model "
                f"{_stands(checkpoint)} {enumerated(map(repr, known))}; {hint}"
            )


def _known(checkpoint: Checkpoint, kind: str) -> list[str]:
    """Detectors or particles of the training; old checkpoints have numbers for particles that have names."""
    names: list[str] = checkpoint.valid_range[kind]
    return names if kind == "detector" else [pdg_name(pdg_code(name)) for name in names]


def _stands(checkpoint: Checkpoint) -> str:
    return "was trained on" if checkpoint.trained else "is for"
