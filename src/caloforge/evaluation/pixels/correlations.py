"""Which sensors are lit together: rank correlations over the events.

Legend: ``m`` events, ``S`` sensors, ``B`` sources.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.packages import needed
from caloforge.evaluation.pixels.chance import Deal, Rows, against_chance
from caloforge.evaluation.pixels.reading import Sample
from caloforge.evaluation.results import SensorCorrelation

__all__ = ["compare_correlations", "spearman"]

Floats = NDArray[np.float64]
Table = NDArray[np.float64] | NDArray[np.int64]


def spearman(values: Table) -> Floats:
    """Spearman's rank correlation of the columns of (m, S): (S, S); NaN where a column never varies."""
    ranks = needed("scipy.stats").rankdata(values, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.corrcoef(ranks, rowvar=False), dtype=np.float64)


def compare_correlations(
    truth: Sample, generated: Sample, deals: Sequence[Deal], *, sources: bool
) -> dict[str, SensorCorrelation]:
    """Matrices of the sensors' occupancies and of their numbers of clusters, and how much they differ.

    Where the rates vary, all sensors follow them, which says little about the events. Therefore ``sources``
    adds matrices at given rates: of what a straight line in the logarithms of the rates leaves of the
    logarithm of 1 + each number.
    """
    samples = [truth, generated, *(d.second for d in deals[:1] if d.second is not None)]
    raw: dict[str, tuple[str, list[Table]]] = {
        "occupancy": ("occupancy", [sample.pixels for sample in samples]),
        "clusters": ("number of clusters", [sample.clusters.sum(axis=2) for sample in samples]),
    }
    columns = dict(raw)
    if sources:
        for name, (label, tables) in raw.items():
            left: list[Table] = [_given_rates(t, s.rates) for t, s in zip(tables, samples, strict=True)]
            columns[f"{name}_given_rates"] = (f"{label} at given rates", left)
    names = tuple(sensor.name for sensor in truth.events.detector.sensors)
    result = {}
    for name, (label, tables) in columns.items():
        table_of: Mapping[int, Table] = {id(s): t for s, t in zip(samples, tables, strict=True)}

        def distance(
            one: tuple[Sample, Rows], other: tuple[Sample, Rows], table_of: Mapping[int, Table] = table_of
        ) -> float:
            first, second = (spearman(table_of[id(sample)][rows]) for sample, rows in (one, other))
            off = ~np.eye(len(first), dtype=bool)
            return float(np.nanmean(np.abs(first - second)[off]))

        result[name] = SensorCorrelation(
            label=label,
            names=names,
            reference=spearman(tables[0]),
            generated=spearman(tables[1]),
            distance=against_chance(truth, generated, deals, distance),
        )
    return result


def _given_rates(counts: Table, rates: Floats) -> Floats:
    """What a straight line in the logarithms of the rates (m, B) leaves of log(1 + counts), (m, S)."""
    inputs = np.column_stack([np.ones(len(rates)), np.log(np.maximum(rates, 1e-6))])
    values = np.log1p(counts)
    return np.asarray(values - inputs @ np.linalg.lstsq(inputs, values, rcond=None)[0])
