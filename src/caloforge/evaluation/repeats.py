"""Showers that are copies: of another one in the same sample (a collapsed generator), or of the reference.

Legend: ``N`` showers, ``n`` of them in a batch, ``V`` voxels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Conditions

__all__ = ["Fingerprints", "count_repeats"]

_SEED = 0x5EED


class Fingerprints:
    """A number of 64 bits for every shower, the same for equal cells only; a visitor of `compute_features`.

    It is Σ wᵥ xᵥ mod 2⁶⁴ of the bits x of the single-precision energies, with random weights w; two showers
    that differ share it with a probability of about 2⁻⁶⁴. Incident energies do not enter.
    """

    def __init__(self, n_voxels: int) -> None:
        weights = np.random.default_rng(_SEED).integers(0, 2**63, n_voxels, dtype=np.uint64)
        self._weights = 2 * weights + np.uint64(1)
        self._parts: list[NDArray[np.uint64]] = []

    def __call__(self, start: int, energies: NDArray[np.floating], conditions: Conditions) -> None:
        bits = np.ascontiguousarray(energies, dtype=np.float32).view(np.uint32)
        self.add(np.einsum("nv,v->n", bits, self._weights, dtype=np.uint64, casting="unsafe"))

    def add(self, values: NDArray[np.uint64]) -> None:
        """Add fingerprints, (n,)."""
        self._parts.append(values)

    @property
    def values(self) -> NDArray[np.uint64]:
        """Fingerprints of all showers in order, (N,); 0 for showers without energy."""
        return np.concatenate(self._parts) if self._parts else np.zeros(0, dtype=np.uint64)


def count_repeats(reference: Fingerprints, generated: Fingerprints) -> dict[str, int]:
    """How many showers are copies; those without energy are not counted.

    ``reference_repeated`` and ``generated_repeated`` are showers equal to an earlier one of the same sample,
    ``generated_in_reference`` are generated showers that equal a reference shower.
    """
    first, second = (sample.values[sample.values != 0] for sample in (reference, generated))
    return {
        "reference_repeated": len(first) - len(np.unique(first)),
        "generated_repeated": len(second) - len(np.unique(second)),
        "generated_in_reference": int(np.isin(second, first).sum()),
    }
