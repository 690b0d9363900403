"""The CaloChallenge's high-level features. Legend: ``n`` showers, ``D`` inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Showers
from caloforge.evaluation.classifiers.inputs.base import INPUTS, ClassifierInputs, Layout, Table
from caloforge.evaluation.features import Features

__all__ = ["HighInputs", "high_inputs"]


class HighInputs(ClassifierInputs):
    """Features of the shower, `high_inputs`."""

    of_cells: ClassVar[bool] = False

    def layout(self, features: Features, *, sums: bool = False) -> Layout:
        first, second = features.plane
        order = (
            "e_inc",
            "e_layer",
            f"ec_{first}",
            f"ec_{second}",
            f"width_{first}",
            f"width_{second}",
            "e_total",
            "sparsity",
            "ec_r",
            "width_r",
        )
        singles: dict[str, NDArray[np.int64]] = {}
        groups: dict[str, NDArray[np.int64]] = {}
        for group in order:
            numbers = (None,) if group in ("e_inc", "e_total") else features.layers_of(group)
            groups[group] = len(singles) + np.arange(len(numbers))
            for column, number in zip(groups[group], numbers, strict=True):
                singles[group if number is None else f"{group}_{number}"] = column[None]
        return Layout(
            width=len(singles),
            features=singles,
            energies=np.concatenate([groups[g] for g in ("e_inc", "e_layer", "e_total")]),
            groups=groups,
        )

    def batches(
        self, showers: Showers, features: Features, rows: NDArray[np.int64], *, sums: bool = False
    ) -> Iterator[Table]:
        yield high_inputs(features, rows)


INPUTS.add("high")(HighInputs())


def high_inputs(features: Features, rows: NDArray[np.int64]) -> Table:
    """Inputs of the high-level classifier, (n, D), for the showers in ``rows``.

    log₁₀ E_inc, log₁₀(E_layer + 10⁻⁸), centres and widths in the plane / 100 mm, log₁₀(E_tot + 10⁻⁸),
    sparsity, EC_r / 100 mm, width_r / 100 mm; energies in MeV.
    """
    first, second = features.plane
    columns = [
        np.log10(features.incident_energy[rows])[:, None],
        np.log10(features.e_layer[rows].astype(np.float64) + 1e-8),
        *(features.centre[axis][rows] / 100 for axis in (first, second)),
        *(features.width[axis][rows] / 100 for axis in (first, second)),
        np.log10(features.e_total[rows] + 1e-8)[:, None],
        features.sparsity[rows],
        features.centre["r"][rows] / 100,
        features.width["r"][rows] / 100,
    ]
    return np.concatenate(columns, axis=1).astype(np.float32)
