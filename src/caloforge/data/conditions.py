"""Conditions: what is known before the shower. ``N`` is the number of showers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.data.particles import pdg_code, pdg_name
from caloforge.errors import ConditionError

__all__ = ["Conditions", "merged_ranges"]

_MARGIN_RAD = 1e-5
"""By as much rounding, also of degrees in single precision, may exceed a limit."""
_LEGAL = {
    "energy": (np.nextafter(0, 1), float(np.finfo(np.float32).max), "MeV; it must be positive and finite"),
    "theta": (-_MARGIN_RAD, np.pi + _MARGIN_RAD, "rad; it must lie between 0 and π"),
    "phi": (-2 * np.pi - _MARGIN_RAD, 2 * np.pi + _MARGIN_RAD, "rad; it must lie between -2 π and 2 π"),
}
"""Lowest and highest value, unit and rule of conditions."""


@dataclass(frozen=True, eq=False)
class Conditions:
    """Incident conditions of N showers.

    Scalars are repeated N times, where N is the length of ``energy``.

    Attributes:
        energy: kinetic energy, MeV, (N,) float64.
        theta: polar angle of the momentum, rad, (N,).
        phi: azimuth of the momentum, rad, (N,).
        particle: PDG codes, (N,) int32; 0 where unknown.
        detector: detector names, (N,) str; empty where unknown.
        impact: optional impact point on the detector's face, mm, (N, 2) = (x, y).
    """

    energy: NDArray[np.float64]
    theta: NDArray[np.float64]
    phi: NDArray[np.float64]
    particle: NDArray[np.int32]
    detector: NDArray[np.str_]
    impact: NDArray[np.float64] | None = None

    def __init__(
        self,
        energy: ArrayLike,
        theta: ArrayLike = np.pi / 2,
        phi: ArrayLike = 0.0,
        particle: ArrayLike | str = 0,
        detector: ArrayLike | str = "",
        impact: ArrayLike | None = None,
    ) -> None:
        energy = np.atleast_1d(_numbers("energy", energy, np.float64))
        if energy.ndim != 1:
            raise ConditionError(f"energy must have one axis (N,), got shape {energy.shape}")
        n = len(energy)
        particle = np.asarray(particle)
        if particle.dtype.kind in "UO":
            particle = np.array([pdg_code(name) for name in particle.ravel().tolist()]).reshape(
                particle.shape
            )
        columns = {
            "energy": energy,
            "theta": _column("theta", theta, np.float64, n),
            "phi": _column("phi", phi, np.float64, n),
            "particle": _column("particle", particle, np.int32, n),
            "detector": _column("detector", detector, np.str_, n),
        }
        for name, (low, high, must) in _LEGAL.items():
            bad = np.flatnonzero(~((columns[name] >= low) & (columns[name] <= high)))
            if len(bad):
                raise ConditionError(f"{name} of shower {bad[0]} is {columns[name][bad[0]]} {must}")
        for name, column in columns.items():
            object.__setattr__(self, name, column)
        if impact is not None:
            impact = _numbers("impact", impact, np.float64)
            if impact.shape == (2,):
                impact = np.tile(impact, (n, 1))
            if impact.shape != (n, 2):
                raise ConditionError(f"impact must have shape ({n}, 2), got {impact.shape}")
            bad = np.flatnonzero(~np.isfinite(impact).all(axis=1))
            if len(bad):
                raise ConditionError(f"impact of shower {bad[0]} is {impact[bad[0]]} mm; it must be finite")
        object.__setattr__(self, "impact", impact)

    def __len__(self) -> int:
        return len(self.energy)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Conditions) or (self.impact is None) != (other.impact is None):
            return False
        names = ("energy", "theta", "phi", "particle", "detector")
        same = all(np.array_equal(getattr(self, name), getattr(other, name)) for name in names)
        return same and (self.impact is None or np.array_equal(self.impact, other.impact))  # type: ignore[arg-type]

    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, index: slice | NDArray[Any] | Sequence[int]) -> Conditions:
        """The conditions at a slice, an index array or a boolean mask."""
        index = index if isinstance(index, slice) else np.asarray(index)
        impact = None if self.impact is None else self.impact[index]
        return Conditions(
            self.energy[index],
            self.theta[index],
            self.phi[index],
            self.particle[index],
            self.detector[index],
            impact,
        )

    @staticmethod
    def concatenate(parts: Sequence[Conditions]) -> Conditions:
        """Join conditions in order; an impact point must be given by all or by none."""
        if not parts:
            raise ConditionError("there is nothing to concatenate")
        with_impact = [part.impact for part in parts if part.impact is not None]
        if with_impact and len(with_impact) != len(parts):
            raise ConditionError("some of the conditions have impact points and some have none")
        names = ("energy", "theta", "phi", "particle", "detector")
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return Conditions(**columns, impact=np.concatenate(with_impact) if with_impact else None)

    def ranges(self) -> dict[str, Any]:
        """Smallest and largest energy (MeV), θ and φ (rad), and the particles and detectors that occur."""
        if not len(self):
            raise ConditionError("no showers, hence no range")
        spans: dict[str, Any] = {
            name: [float(getattr(self, name).min()), float(getattr(self, name).max())]
            for name in ("energy", "theta", "phi")
        }
        spans["particle"] = [pdg_name(code) for code in np.unique(self.particle)]
        spans["detector"] = [str(name) for name in np.unique(self.detector)]
        if self.impact is not None:
            spans["impact"] = [self.impact.min(axis=0).tolist(), self.impact.max(axis=0).tolist()]
        return spans


def merged_ranges(ranges: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The least `Conditions.ranges` that hold all of the given ones."""
    merged: dict[str, Any] = {
        name: [min(r[name][0] for r in ranges), max(r[name][1] for r in ranges)]
        for name in ("energy", "theta", "phi")
    }
    for name in ("particle", "detector"):
        merged[name] = list(dict.fromkeys(value for r in ranges for value in r[name]))
    if all("impact" in r for r in ranges):
        lows, highs = zip(*(r["impact"] for r in ranges), strict=True)
        merged["impact"] = [np.min(lows, axis=0).tolist(), np.max(highs, axis=0).tolist()]
    return merged


def _numbers(name: str, values: ArrayLike, dtype: type) -> NDArray[Any]:
    try:
        with np.errstate(invalid="ignore"):
            array = np.asarray(values)
            if array.dtype.kind in "cVmM":
                raise TypeError(f"got data of type {array.dtype}")
            converted: NDArray[Any] = array.astype(dtype, copy=False)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConditionError(f"{name} must be numbers of type {np.dtype(dtype).name}: {error}") from error
    if dtype is np.int32 and not np.array_equal(converted, array):
        bad = np.flatnonzero(converted != array)[0]
        raise ConditionError(
            f"{name} must be numbers of type int32, but of shower {bad} it is {array.ravel()[bad]}"
        )
    return converted


def _column(name: str, values: ArrayLike, dtype: type, n: int) -> NDArray[Any]:
    column = _numbers(name, values, dtype)
    if column.ndim == 0:
        return np.full(n, column)
    if column.shape != (n,):
        raise ConditionError(f"{name} must have shape ({n},) like energy, got {column.shape}")
    return column
