"""Cells of showers in several detectors: arranged alike, so that one network can learn them, not of one size.

In each detector a cell spans as many radiation lengths and Molière radii, hence other millimetres.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.mesh import Mesh
from caloforge.errors import DataError

__all__ = ["Cells", "cells_of", "merged_meshes"]

Cells = Mesh | dict[str, Mesh]
"""One mesh for all showers, or that of each detector where they differ."""


def cells_of(meshes: Mapping[str, Mesh], detectors: NDArray[np.str_]) -> Cells:
    """The meshes of those ``detectors`` (N,) that occur, or the one mesh that they have in common.

    Raises DataError where a detector has no mesh, or the meshes differ in more than the size of their cells.
    """
    if not meshes:
        raise DataError("there is no mesh; give one, or that of each detector")
    present = set(detectors.tolist())
    missing = sorted(present - set(meshes))
    if missing:
        raise DataError(f"there are showers in {missing[0]!r}, but meshes of {', '.join(meshes)} only")
    first_name, first = next(iter(meshes.items()))
    for name, mesh in meshes.items():
        if (mesh.kind, mesh.frame, mesh.shape) != (first.kind, first.frame, first.shape):
            raise DataError(
                f"the showers in {name} are on a {mesh} in the {mesh.frame}'s frame, those in {first_name} "
                f"on a {first} in the {first.frame}'s frame; joint showers need as many cells along each axis"
            )
    occurring = {name: mesh for name, mesh in meshes.items() if name in present}
    distinct = set(occurring.values()) or {first}
    return distinct.pop() if len(distinct) == 1 else occurring


def merged_meshes(parts: Iterable[Mapping[str, Mesh]]) -> dict[str, Mesh]:
    """The meshes by detector of several samples; DataError where a detector has two."""
    merged: dict[str, Mesh] = {}
    for meshes in parts:
        for name, mesh in meshes.items():
            known = merged.setdefault(name, mesh)
            if known != mesh:
                told = f"the detector {name!r}" if name else "showers that do not name their detector"
                raise DataError(
                    f"there are two meshes of {told}: a {known} [{known.fingerprint}] and a {mesh} "
                    f"[{mesh.fingerprint}]; joint showers need one mesh for each detector, and its name"
                )
    return merged
