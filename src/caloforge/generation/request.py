"""What is asked of a generation: the conditions, and whether the model was trained for them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from caloforge.data.conditions import Conditions, pdg_code, pdg_name
from caloforge.data.formats import open_showers
from caloforge.data.showers import Showers
from caloforge.errors import ConditionError
from caloforge.training.checkpoint import Checkpoint

__all__ = ["asked_conditions", "check_range", "conditions_digest"]

MARGIN = 0.01
"""Energies this much, relatively, outside the range of the training showers are still inside."""
MARGIN_RAD = 1e-3
MARGIN_MM = 1e-3


def asked_conditions(
    checkpoint: Checkpoint,
    *,
    conditions: Conditions | None,
    like: Showers | str | os.PathLike[str] | None,
    energy: ArrayLike | None,
    theta: ArrayLike | None,
    phi: ArrayLike | None,
    n: int | None,
) -> Conditions:
    """The conditions asked for in one of three ways: as they are, like other showers, or by numbers.

    An angle, particle or detector that is not given is the one the model was trained on, where that is one.

    Raises:
        ConditionError: none or several ways were used, or something needed is missing.
        CheckpointError: the showers of ``like`` are on another mesh.
    """
    if sum(way is not None for way in (conditions, like, energy)) != 1:
        raise ConditionError("give exactly one of conditions, like and energy")
    if energy is not None:
        values = np.atleast_1d(np.asarray(energy, dtype=np.float64))
        if n is not None and len(values) not in (1, n):
            raise ConditionError(f"{len(values)} energies but n = {n}")
        if n is not None and len(values) == 1:
            values = np.full(n, values[0])
        angles = [
            _only(checkpoint, name) if angle is None else angle
            for name, angle in (("theta", theta), ("phi", phi))
        ]
        conditions = Conditions(values, *angles)
    else:
        if theta is not None or phi is not None:
            raise ConditionError("theta and phi go with energy; conditions and like have their own")
        if like is not None:
            source = like if isinstance(like, Showers) else open_showers(like)
            what = "these showers" if isinstance(like, Showers) else str(like)
            checkpoint.require_mesh(source.mesh, what)
            conditions = source.conditions
        assert conditions is not None
        if n is not None and n > len(conditions):
            raise ConditionError(
                f"{n} showers were asked for, but there are conditions for {len(conditions)}"
            )
        conditions = conditions[:n]
    if not len(conditions):
        raise ConditionError("no showers were asked for")
    return _with_defaults(checkpoint, conditions)


def _only(checkpoint: Checkpoint, name: str) -> float:
    low, high = checkpoint.valid_range[name]
    if high - low > MARGIN_RAD:
        raise ConditionError(f"give {name}; the model was trained for {low:.4g} to {high:.4g} rad")
    return float(low)


def _with_defaults(checkpoint: Checkpoint, conditions: Conditions) -> Conditions:
    particles, detectors = checkpoint.valid_range["particle"], checkpoint.valid_range["detector"]
    particle, detector = conditions.particle, conditions.detector
    if len(particles) == 1 and particles[0] != "unknown":
        code = pdg_code(particles[0]) if not particles[0].lstrip("-").isdigit() else int(particles[0])
        particle = np.where(particle == 0, np.int32(code), particle)
    if len(detectors) == 1:
        detector = np.where(detector == "", detectors[0], detector)
    return Conditions(
        conditions.energy, conditions.theta, conditions.phi, particle, detector, conditions.impact
    )


def check_range(conditions: Conditions, checkpoint: Checkpoint) -> None:
    """ConditionError naming the first shower outside the trained range, its value and the range.

    Energies may be one percent outside, angles 1 mrad, since a training sample need not touch its limits.
    """
    where = Path(checkpoint.path).name if checkpoint.path else "the checkpoint"
    hint = f"{where} was not trained there; use allow_extrapolation=True (--allow-extrapolation) to try it"
    valid = checkpoint.valid_range
    low, high = valid["energy"]
    spans: list[tuple[str, str, Any, float, float]] = [
        ("energy", "MeV", conditions.energy, low * (1 - MARGIN), high * (1 + MARGIN))
    ]
    for name in ("theta", "phi"):
        low, high = valid[name]
        spans.append((name, "rad", getattr(conditions, name), low - MARGIN_RAD, high + MARGIN_RAD))
    if "impact" in valid:
        if conditions.impact is None:
            raise ConditionError(f"{where} was trained with impact points; give them in the conditions")
        for i, axis in enumerate("xy"):
            low, high = valid["impact"][0][i], valid["impact"][1][i]
            spans.append((f"impact {axis}", "mm", conditions.impact[:, i], low - MARGIN_MM, high + MARGIN_MM))
    for name, unit, values, low, high in spans:
        bad = np.flatnonzero((values < low) | (values > high))
        if len(bad):
            raise ConditionError(
                f"{name} of shower {bad[0]} is {values[bad[0]]:.6g} {unit}, outside the trained range "
                f"{low:.6g} to {high:.6g} {unit} ({len(bad)} of {len(values)} showers are); {hint}"
            )
    for name, names in (
        ("particle", [pdg_name(code) for code in conditions.particle]),
        ("detector", [str(detector) for detector in conditions.detector]),
    ):
        strange = sorted(set(names) - set(valid[name]))
        if strange:
            raise ConditionError(
                f"{name} of shower {names.index(strange[0])} is {strange[0]!r}, but the model was trained on "
                f"{', '.join(map(repr, valid[name]))}; {hint}"
            )


def conditions_digest(conditions: Conditions) -> str:
    """Sixteen hexadecimal digits that differ where any condition does."""
    columns = (
        conditions.energy, conditions.theta, conditions.phi, conditions.particle, conditions.impact
    )  # fmt: skip
    state = hashlib.sha256()
    for column in columns:
        state.update(b"none" if column is None else np.ascontiguousarray(column).tobytes())
    state.update("\n".join(conditions.detector).encode())
    return state.hexdigest()[:16]
