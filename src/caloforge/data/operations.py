"""What can be done to showers on disk without loading them: describe, check and coarsen."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.data.matching import discrete_values
from caloforge.data.showers import BATCH, Showers
from caloforge.data.sources import Energies, EnergySource
from caloforge.detector.mesh import RegularMesh
from caloforge.errors import MeshError

__all__ = ["coarsened", "describe", "doubt_units"]

log = logging.getLogger(__name__)

SAMPLE = 1000
LIKELY = (2e-3, 30.0)
"""ΣE/E_inc of showers whose energies all have one unit: what is seen of a shower, or calibrated to."""


class _CoarsenedSource:
    """Showers of another source, summed over groups of cells as they are read."""

    def __init__(self, parent: EnergySource, mesh: RegularMesh, factors: tuple[int, int, int]) -> None:
        self._parent, self._mesh, self._factors = parent, mesh, factors

    def __len__(self) -> int:
        return len(self._parent)

    def _coarsen(self, fine: Energies) -> Energies:
        return self._mesh.coarsen(fine, self._factors).reshape(len(fine), self._n_voxels)

    @property
    def _n_voxels(self) -> int:
        return self._mesh.n_voxels // int(np.prod(self._factors))

    def read(self, start: int, stop: int) -> Energies:
        return self._coarsen(self._parent.read(start, stop))

    def take(self, index: NDArray[np.int64]) -> Energies:
        return self._coarsen(self._parent.take(index))


def coarsened(showers: Showers, factors: tuple[int, int, int]) -> Showers:
    """The showers on the mesh that joins ``factors`` cells along each axis, lazily.

    Raises MeshError where the mesh has no three axes or a factor does not divide one.
    """
    if not isinstance(showers.mesh, RegularMesh):
        raise MeshError(f"only a mesh with three axes can be coarsened, not a {showers.mesh}")
    mesh = showers.mesh.coarsened(factors)
    source = _CoarsenedSource(showers.source, showers.mesh, factors)
    return Showers(source, showers.conditions, mesh, showers.provenance, showers.extra)


def doubt_units(showers: Showers, what: str, like: Showers | None = None) -> None:
    """Warn, in the log, where energies seem to be in GeV in one place and in MeV in another.

    ``like`` are showers of the same kind, whose ΣE/E_inc cannot be a thousand times another.
    """
    ratio = _typical_ratio(showers)
    other = 1.0 if like is None else _typical_ratio(like)
    if not (ratio and other):
        return
    low, high = LIKELY if like is None else (3e-3, 300.0)
    if not low < ratio / other < high:
        known = "" if like is None else f", where the reference has {other:.3g}"
        which = "large: are incident energies" if ratio > other else "small: are cells"
        log.warning(
            f"{what}: ΣE/E_inc is {ratio:.3g}{known}, perhaps by the factor 1000 too {which} in GeV? "
            "All must be in MeV; multiply those by 1000 if so"
        )


def _typical_ratio(showers: Showers) -> float:
    """Median of ΣE/E_inc of some showers that have energy, 0 where none has."""
    n = min(len(showers), SAMPLE // 10)
    sums = showers.source.read(0, n).sum(axis=1, dtype=np.float64)
    ratios = (sums / showers.conditions.energy[:n])[sums > 0]
    return float(np.median(ratios)) if len(ratios) else 0.0


def describe(
    showers: Showers, *, everything: bool = False, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Numbers that tell what showers these are, JSON-able, energies in MeV.

    ``response`` is the mean of ΣE/E_inc with its standard error, ``sparsity`` the mean fraction of cells that
    are zero. They are of all showers if ``everything``, which thereby checks every one, and otherwise of
    about 1000 in ten runs spread over the file; ``looked_at`` says of how many.

    Raises:
        DataError: a shower that is read is damaged or has an illegal energy.
    """
    n = len(showers)
    facts: dict[str, Any] = {
        "showers": n,
        "mesh": str(showers.mesh),
        "mesh_fingerprint": showers.mesh.fingerprint,
        "voxels": showers.mesh.n_voxels,
        "columns": {name: list(column.shape[1:]) for name, column in showers.extra.items()},
    }
    if not n:
        return facts | {"looked_at": 0}
    doubt_units(showers, "these showers")
    facts |= showers.conditions.ranges()
    energies = discrete_values(showers.conditions.energy, most=40, each=2)
    if len(energies) and n > 1:
        facts["discrete_energies"] = energies.tolist()
    ratios, empty, largest, smallest = [], 0, 0.0, np.inf
    runs = _runs(n, everything)
    total, done = sum(stop - start for start, stop in runs), 0
    for start, stop in runs:
        values = showers.source.read(start, stop)
        summed = values.sum(axis=1, dtype=np.float64)
        ratios.append(summed / showers.conditions.energy[start:stop])
        positive = values > 0
        empty += values.size - int(np.count_nonzero(positive))
        largest = max(largest, float(values.max()))
        smallest = min(smallest, float(values.min(where=positive, initial=np.inf)))
        done += stop - start
        if progress is not None:
            progress(done, total)
    ratio = np.concatenate(ratios)
    error = float(ratio.std(ddof=1) / np.sqrt(len(ratio))) if len(ratio) > 1 else None
    return facts | {
        "looked_at": total,
        "response": [float(ratio.mean()), error],
        "sparsity": empty / (total * showers.mesh.n_voxels),
        "cell_energy": [smallest if np.isfinite(smallest) else None, largest],
        "showers_without_energy": int(np.count_nonzero(ratio == 0)),
    }


def _runs(n: int, everything: bool) -> list[tuple[int, int]]:
    if everything or n <= SAMPLE:
        return [(start, min(start + BATCH, n)) for start in range(0, n, BATCH)]
    length = SAMPLE // 10
    return [(start, start + length) for start in np.linspace(0, n - length, 10).astype(int).tolist()]
