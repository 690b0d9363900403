"""Results that the CaloChallenge published (arXiv:2410.21611), as rows to hold measured ones against.

They were not measured here and belong to other showers: 100,000 of each kind from 1 GeV to 1 TeV (photons of
data set 1: 256 MeV to 4 TeV), with the challenge's large classifiers trained 10 times.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

from caloforge.detector import Mesh
from caloforge.evaluation.binning import challenge_set
from caloforge.evaluation.results import PublishedResult

__all__ = ["published_results"]


def published_results(mesh: Mesh) -> list[PublishedResult]:
    """The published rows for showers on this mesh, by their low-level AUC; none for most meshes."""
    name = challenge_set(mesh)
    return [result for result in _all_results() if result.data_set == name]


@cache
def _all_results() -> tuple[PublishedResult, ...]:
    text = (files("caloforge.evaluation.comparison") / "published.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    for row in table["result"]:  # FPD and KPD are published times 1000
        row["metrics"] |= {key: row["metrics"][key] / 1000 for key in ("fpd", "kpd") if key in row["metrics"]}
    return tuple(PublishedResult(source=table["source"], **row) for row in table["result"])
