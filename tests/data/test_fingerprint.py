"""The fingerprint of data: no shower, cell or condition may change without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from caloforge.data import Conditions, Showers, fingerprint, open_showers, write_showers
from caloforge.data.fingerprint import data_fingerprint
from caloforge.detector import BoxMesh

MESH = BoxMesh.regular((2, 2, 2), (1.0, 1.0, 1.0))
N = 50


def columns() -> dict[str, NDArray[np.generic]]:
    random = np.random.default_rng(0)
    return {
        "energy": random.uniform(1e3, 1e4, N),
        "theta": random.uniform(0, 1, N),
        "phi": random.uniform(0, 1, N),
        "particle": np.full(N, 11),
        "detector": np.array(["a", "b"] * (N // 2)),
        "impact": random.uniform(-1, 1, (N, 2)),
    }


def showers(scale: NDArray[np.float64] | None = None, **changed: NDArray[np.generic]) -> Showers:
    energies = np.random.default_rng(1).random((N, *MESH.shape))
    if scale is not None:
        energies *= scale[:, None, None, None]
    return Showers(energies, Conditions(**(columns() | changed)), MESH)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [0, 9, 10, 25, 39, 40, 49])
def test_every_shower_counts(number: int) -> None:
    scale = np.ones(N)
    scale[number] = 5.0
    assert data_fingerprint(showers(scale)) != data_fingerprint(showers())


@pytest.mark.parametrize("name", list(columns()))
def test_every_condition_counts(name: str) -> None:
    column = columns()[name]
    swapped = column.copy()
    swapped[[24, 25]] = -column[24] if name == "particle" else column[[25, 24]]
    assert data_fingerprint(showers(**{name: swapped})) != data_fingerprint(showers())


def test_the_cells_of_each_detector_count() -> None:
    wide = BoxMesh.regular((2, 2, 2), (1.0, 2.0, 2.0))
    one, other = ({"a": MESH, "b": wide}, {"a": wide, "b": MESH})
    sample = showers()
    prints = {
        data_fingerprint(Showers(sample.energies, sample.conditions, mesh)) for mesh in (MESH, one, other)
    }
    assert len(prints) == 3


def test_it_does_not_matter_how_they_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = showers()
    expected = data_fingerprint(sample)
    for level in (0, 9):
        write_showers(sample, tmp_path / f"{level}.h5", compression=level)
        assert data_fingerprint(open_showers(tmp_path / f"{level}.h5")) == expected
    assert data_fingerprint(Showers.concatenate([sample[:7], sample[7:]])) == expected
    monkeypatch.setattr(fingerprint, "READ_BYTES", 100)
    assert data_fingerprint(sample) == expected
