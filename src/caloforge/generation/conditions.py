"""The incident conditions of showers that are to be generated. ``N`` is the number of showers."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.data.beam import Beam, impact_points, spectrum_named
from caloforge.data.conditions import Conditions
from caloforge.data.formats import open_showers
from caloforge.data.particles import pdg_code, pdg_name
from caloforge.data.quantities import Quantity, Range, parse_energies, parse_range
from caloforge.data.showers import Showers
from caloforge.errors import ConditionError
from caloforge.generation.trained import MARGIN_RAD, trained_name
from caloforge.runtime.shards import Shard

__all__ = ["incident_conditions"]

WHOLE = Shard()


def incident_conditions(
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
    shard: Shard = WHOLE,
) -> tuple[Conditions, int]:
    """Conditions (N,) from one of three sources: as they are, those of other showers, or energy and angles.

    They are those of a shard of the showers, of which the number of the first is given, too.

    An angle, particle or detector that is not given is the usual one of the model, or the one it was trained
    on, where that is one. Impact points are drawn as in the training.

    Raises:
        ConditionError: none or several sources are given, something needed is missing, or the model was not
            trained on the detector or particle.
        CheckpointError: the showers of ``like`` are on another mesh.
    """
    if sum(source is not None for source in (conditions, like, energy)) != 1:
        raise ConditionError("give exactly one of conditions, like and energy")
    if energy is None and (theta is not None or phi is not None):
        raise ConditionError("theta and phi go with energy; conditions and like have their own")
    names = _Names(checkpoint, detector, particle, needed=energy is not None)
    if energy is not None:
        valid = checkpoint.range_of(names.detector or "")
        if isinstance(energy, tuple):
            parse_energies(energy)  # which refuses a pair that may be a range
        if any(isinstance(value, str) for value in (energy, theta, phi)):
            low, high = shard.span(n or 1)
            found = _drawn(valid, energy, theta, phi, spectrum, high - low, seed, first + low)
            return names.fill(found), first + low
        found = _repeated(valid, energy, theta, phi, n, seed, first)
    else:
        found = conditions if conditions is not None else _conditions_like(checkpoint, like, detector)
        if n is not None and n > len(found):
            raise ConditionError(f"{n} showers were asked for, but there are conditions for {len(found)}")
        found = found[:n]
    if not len(found):
        raise ConditionError("no showers were asked for")
    low, high = shard.span(len(found))
    return names.fill(found[low:high]), first + low


class _Names:
    """The detector and particle of conditions that have none: those named, or the only ones known."""

    def __init__(
        self, checkpoint: Checkpoint, detector: str | None, particle: str | None, *, needed: bool
    ) -> None:
        self.named = {"detector": detector, "particle": particle}
        known = checkpoint.valid_range
        self.detector = (
            trained_name(checkpoint, "detector", detector)
            if needed or detector is not None or len(known["detector"]) == 1
            else None
        )
        self.particle = (
            trained_name(checkpoint, "particle", particle, self.detector)
            if needed or particle is not None or len(known["particle"]) == 1
            else None
        )

    def fill(self, conditions: Conditions) -> Conditions:
        """The conditions with names; ConditionError where others are named than they have."""
        detector, particle = conditions.detector, conditions.particle
        self._require("detector", np.unique(detector[detector != ""]).tolist())
        self._require("particle", [pdg_name(code) for code in np.unique(particle[particle != 0])])
        if self.detector is not None:
            detector = np.where(detector == "", self.detector, detector)
        if self.particle is not None:
            particle = np.where(particle == 0, np.int32(pdg_code(self.particle)), particle)
        return Conditions(
            conditions.energy, conditions.theta, conditions.phi, particle, detector, conditions.impact
        )

    def _require(self, kind: str, found: list[str]) -> None:
        named = self.named[kind]
        if named is not None and found not in ([], [named]):
            raise ConditionError(
                f"{kind} {named!r} was asked for, but the conditions are those of {', '.join(found)}; leave "
                f"the {kind} out, or give conditions for it"
            )


def _conditions_like(
    checkpoint: Checkpoint, like: Showers | str | os.PathLike[str] | None, detector: str | None
) -> Conditions:
    """Conditions of showers on the cells that the model makes."""
    assert like is not None
    showers = open_showers(like)
    what = "these showers" if isinstance(like, Showers) else str(like)
    for name, mesh in showers.meshes.items():
        checkpoint.require_mesh(mesh, what, name or detector or "")
    return showers.conditions


def _drawn(
    valid: dict[str, Any], energy: Any, theta: Any, phi: Any, spectrum: str, n: int, seed: int, first: int
) -> Conditions:
    """Conditions of showers first … first + n − 1 by quantities; others are usual, or as in training."""
    usual = valid.get("usual", {})
    theta, phi = (
        parse_range(usual.get(name, valid[name]) if value is None else value, "angle")
        for name, value in (("theta", theta), ("phi", phi))
    )
    beam = Beam(0, tuple(parse_energies(energy)), spectrum_named(spectrum), theta, phi, *_impact(valid))
    numbers = np.arange(first, first + n, dtype=np.int64)
    return beam.conditions("", seed, numbers, streams="generation")


def _impact(valid: dict[str, Any]) -> tuple[Range | None, Range | None]:
    """Ranges of the impact point, or None."""
    if valid.get("impact") is None:
        return None, None
    x, y = zip(*valid["impact"], strict=True)
    return x, y


def _repeated(
    valid: dict[str, Any], energy: Any, theta: Any, phi: Any, n: int | None, seed: int, first: int
) -> Conditions:
    """Conditions of energies (n,), MeV, or of one n times, with angles, rad."""
    values = np.atleast_1d(np.asarray(energy, dtype=np.float64))
    if n is not None and len(values) not in (1, n):
        raise ConditionError(f"{len(values)} energies but n = {n}")
    if n is not None and len(values) == 1:
        values = np.full(n, values[0])
    theta, phi = (
        _only(valid, name) if angle is None else angle for name, angle in (("theta", theta), ("phi", phi))
    )
    x, y = _impact(valid)
    impact = None
    if x is not None and y is not None:
        numbers = np.arange(first, first + len(values), dtype=np.int64)
        impact = impact_points(x, y, seed, numbers, "generation")
    return Conditions(values, theta, phi, impact=impact)


def _only(valid: dict[str, Any], name: str) -> float:
    if "usual" in valid:
        return float(valid["usual"][name])
    low, high = valid[name]
    if high - low > MARGIN_RAD:
        raise ConditionError(f"give {name}; the model was trained for {low:.4g} to {high:.4g} rad")
    return float(low)
