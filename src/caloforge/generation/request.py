"""What is asked of a generation: the conditions, and whether the model was trained for them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.data.beam import Beam, spectrum_named
from caloforge.data.conditions import Conditions
from caloforge.data.formats import open_showers
from caloforge.data.particles import pdg_code, pdg_name
from caloforge.data.quantities import Quantity, parse_energies, parse_range
from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh
from caloforge.errors import ConditionError
from caloforge.generation.choice import chosen_name

__all__ = ["asked_conditions", "asked_mesh", "check_range", "conditions_digest"]

MARGIN = 0.01
"""Energies this much, relatively, outside the range of the training showers are still inside."""
MARGIN_RAD = 1e-3
MARGIN_MM = 1e-3


def asked_conditions(
    checkpoint: Checkpoint,
    *,
    conditions: Conditions | None = None,
    like: Showers | str | os.PathLike[str] | None = None,
    energy: Quantity | ArrayLike | None = None,
    theta: Quantity | ArrayLike | None = None,
    phi: Quantity | ArrayLike | None = None,
    spectrum: str = "log-uniform",
    detector: str | None = None,
    particle: str | None = None,
    n: int | None = None,
    seed: int = 0,
    first: int = 0,
) -> Conditions:
    """The conditions asked for in one of three ways: as they are, like other showers, or by energy and angle.

    An angle, particle or detector that is not given is the one the model was trained on, where that is one.

    Raises:
        ConditionError: none or several ways were used, something needed is missing, or the model was not
            trained on the detector or particle.
        CheckpointError: the showers of ``like`` are on another mesh.
    """
    if sum(way is not None for way in (conditions, like, energy)) != 1:
        raise ConditionError("give exactly one of conditions, like and energy")
    if energy is not None:
        detector = chosen_name(checkpoint, "detector", detector)
        particle = chosen_name(checkpoint, "particle", particle)
        valid = checkpoint.range_of(detector)
        if any(isinstance(value, str) for value in (energy, theta, phi)):
            conditions = _drawn(valid, energy, theta, phi, spectrum, n or 1, seed, first)
        else:
            conditions = _by_numbers(valid, energy, theta, phi, n)
    else:
        if theta is not None or phi is not None:
            raise ConditionError("theta and phi go with energy; conditions and like have their own")
        if like is not None:
            source = open_showers(like)
            what = "these showers" if isinstance(like, Showers) else str(like)
            for name, mesh in source.meshes.items():
                checkpoint.require_mesh(mesh, what, name or detector or "")
            conditions = source.conditions
        assert conditions is not None
        if n is not None and n > len(conditions):
            raise ConditionError(
                f"{n} showers were asked for, but there are conditions for {len(conditions)}"
            )
        conditions = conditions[:n]
    if not len(conditions):
        raise ConditionError("no showers were asked for")
    return _with_names(checkpoint, conditions, detector, particle)


def _drawn(
    valid: dict[str, Any], energy: Any, theta: Any, phi: Any, spectrum: str, n: int, seed: int, first: int
) -> Conditions:
    """Conditions of showers first … first + n − 1 by quantities; what is not given is as in training."""
    theta, phi = (
        parse_range(valid[name] if value is None else value, "angle")
        for name, value in (("theta", theta), ("phi", phi))
    )
    x, y = zip(*valid["impact"], strict=True) if "impact" in valid else (None, None)
    beam = Beam(0, tuple(parse_energies(energy)), spectrum_named(spectrum), theta, phi, x, y)
    return beam.conditions("", seed, np.arange(first, first + n, dtype=np.int64))


def _by_numbers(valid: dict[str, Any], energy: Any, theta: Any, phi: Any, n: int | None) -> Conditions:
    """Conditions of energies (n,), MeV, or of one n times, with angles, rad."""
    values = np.atleast_1d(np.asarray(energy, dtype=np.float64))
    if n is not None and len(values) not in (1, n):
        raise ConditionError(f"{len(values)} energies but n = {n}")
    if n is not None and len(values) == 1:
        values = np.full(n, values[0])
    angles = [
        _only(valid, name) if angle is None else angle for name, angle in (("theta", theta), ("phi", phi))
    ]
    return Conditions(values, *angles)


def _only(valid: dict[str, Any], name: str) -> float:
    low, high = valid[name]
    if high - low > MARGIN_RAD:
        raise ConditionError(f"give {name}; the model was trained for {low:.4g} to {high:.4g} rad")
    return float(low)


def _with_names(
    checkpoint: Checkpoint, conditions: Conditions, detector: str | None, particle: str | None
) -> Conditions:
    """The conditions with a detector and particle where they have none: those given, or the only ones known.

    ConditionError where one is given and the conditions have another.
    """
    names, codes = conditions.detector, conditions.particle
    if detector is not None or len(checkpoint.valid_range["detector"]) == 1:
        wanted = chosen_name(checkpoint, "detector", detector)
        _require_same("detector", detector, np.unique(names[names != ""]).tolist())
        names = np.where(names == "", wanted, names)
    if particle is not None or len(checkpoint.valid_range["particle"]) == 1:
        wanted = chosen_name(checkpoint, "particle", particle)
        _require_same("particle", particle, [pdg_name(code) for code in np.unique(codes[codes != 0])])
        codes = np.where(codes == 0, np.int32(pdg_code(wanted)), codes)
    return Conditions(conditions.energy, conditions.theta, conditions.phi, codes, names, conditions.impact)


def _require_same(kind: str, asked: str | None, found: list[str]) -> None:
    if asked is not None and found not in ([], [asked]):
        raise ConditionError(
            f"{kind} {asked!r} was asked for, but the conditions are those of {', '.join(found)}; leave the "
            f"{kind} out, or give conditions for it"
        )


def asked_mesh(checkpoint: Checkpoint, conditions: Conditions) -> Mesh:
    """Cells of the showers that are asked for.

    Raises:
        ConditionError: they are in several detectors whose cells differ.
        CheckpointError: such a checkpoint does not know their detector.
    """
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
    where = Path(checkpoint.path).name if checkpoint.path else "the checkpoint"
    hint = f"{where} was not trained there; use allow_extrapolation=True (--allow-extrapolation) to try it"
    detectors, number = np.unique(conditions.detector, return_inverse=True)
    ranges = [checkpoint.range_of(str(name)) for name in detectors]  # number: the one of each shower

    def check(name: str, unit: str, values: Any, spans: list[tuple[float, float]]) -> None:
        low, high = np.array(spans)[number].T
        bad = np.flatnonzero((values < low) | (values > high))
        if len(bad):
            first = bad[0]
            raise ConditionError(
                f"{name} of shower {first} is {values[first]:.6g} {unit}, outside the trained range "
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
            raise ConditionError(f"{where} was trained with impact points; give them in the conditions")
        for i, axis in enumerate("xy"):
            points = [
                (low[i] - MARGIN_MM, high[i] + MARGIN_MM) for low, high in (r["impact"] for r in ranges)
            ]
            check(f"impact {axis}", "mm", conditions.impact[:, i], points)
    valid = checkpoint.valid_range
    particles = [pdg_name(pdg_code(name)) for name in valid["particle"]]  # older ones may be numbers
    for name, names, known in (
        ("particle", [pdg_name(code) for code in conditions.particle], particles),
        ("detector", [str(detector) for detector in conditions.detector], valid["detector"]),
    ):
        strange = sorted(set(names) - set(known))
        if strange:
            raise ConditionError(
                f"{name} of shower {names.index(strange[0])} is {strange[0]!r}, but the model was trained on "
                f"{', '.join(map(repr, known))}; {hint}"
            )


def conditions_digest(conditions: Conditions) -> str:
    """Sixteen hexadecimal digits that differ where any condition does."""
    columns = (conditions.energy, conditions.theta, conditions.phi, conditions.particle, conditions.impact)
    state = hashlib.sha256()
    for column in columns:
        state.update(b"none" if column is None else np.ascontiguousarray(column).tobytes())
    state.update("\n".join(conditions.detector).encode())
    return state.hexdigest()[:16]
