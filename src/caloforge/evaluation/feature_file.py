"""Features of showers as tables that others read: Parquet, or Arrow's files.

One row is one shower: ``incident_energy`` (MeV), ``incident_theta``, ``incident_phi`` (rad),
``incident_pdg``, ``incident_detector``, and every feature by its name, float64 (`Features.columns`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.data.exports import EXPORTS, exported_file
from caloforge.data.showers import Showers
from caloforge.errors import DataError, MissingDependencyError
from caloforge.evaluation.features import compute_features
from caloforge.runtime.files import output_file
from caloforge.runtime.structured import json_text

__all__ = ["read_features", "write_features"]

ROWS = 10_000
"""Showers of a row group or record batch."""
PARQUET, ARROW = ".parquet", ".arrow"


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependencyError("pyarrow", "parquet") from error
    return pyarrow


@EXPORTS.add("features")
def write_features(
    showers: Showers,
    path: Path,
    *,
    provenance: Mapping[str, Any],
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Compute and write features, in slices; the file is of Parquet or Arrow, as its name says.

    Raises:
        DataError: the name ends otherwise, or the file exists or cannot be written.
    """
    pa, path = _pyarrow(), output_file(path)
    if path.suffix not in (PARQUET, ARROW):
        raise DataError(f"{path}: features are written to files called *{PARQUET} or *{ARROW}")
    with exported_file(path, overwrite) as file:
        writer: Any = None
        for start in range(0, max(1, len(showers)), ROWS):
            columns = pa.table(_columns(showers[start : start + ROWS]))
            told = {"mesh": json_text(showers.mesh.to_dict()), "provenance": json_text(provenance)}
            columns = columns.replace_schema_metadata(told)
            if writer is None:
                make = pa.parquet.ParquetWriter if path.suffix == PARQUET else pa.ipc.new_file
                writer = make(file, columns.schema)
            writer.write_table(columns)
            if progress is not None:
                progress(min(start + ROWS, len(showers)), len(showers))
        writer.close()


def _columns(showers: Showers) -> dict[str, NDArray[Any]]:
    conditions = showers.conditions
    incident: dict[str, NDArray[Any]] = {
        "incident_energy": conditions.energy,
        "incident_theta": conditions.theta,
        "incident_phi": conditions.phi,
        "incident_pdg": conditions.particle,
        "incident_detector": conditions.detector.astype(object),
    }
    return incident | compute_features(showers).columns()


def read_features(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """The columns of a file that `write_features` wrote; DataError where it is something else."""
    pa, place = _pyarrow(), Path(path)
    try:
        if place.suffix == PARQUET:
            table = pa.parquet.read_table(place)
        else:
            with pa.memory_map(os.fspath(place)) as mapped:
                table = pa.ipc.open_file(mapped).read_all()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: not a readable table of features ({error})") from error
    return {name: np.asarray(table[name]) for name in table.column_names}
