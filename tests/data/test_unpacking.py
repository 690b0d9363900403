"""What several threads unpack is what HDF5 reads, to the last bit."""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caloforge.data import Conditions, Showers, open_showers, write_showers
from caloforge.data.formats import hdf5
from caloforge.data.formats.unpacking import is_packed
from caloforge.data.packing import inflated
from caloforge.detector import CylinderMesh
from caloforge.errors import DataError

MESH = CylinderMesh.regular(n_z=45, n_phi=16, n_r=9)
N = 300


@pytest.fixture(scope="module")
def energies() -> np.ndarray:
    random = np.random.default_rng(1)
    cells = random.exponential(size=(N, MESH.n_voxels)) * (random.random((N, MESH.n_voxels)) > 0.9)
    return cells.astype(np.float32)


@pytest.fixture(scope="module")
def path(energies: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "showers.h5"
    write_showers(Showers(energies, Conditions(np.full(N, 1e4)), MESH), path)
    return path


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "unpacking_threads", lambda: 3)


@given(st.lists(st.integers(0, N - 1), max_size=2 * N), st.integers(0, N), st.integers(0, N))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_showers_in_any_order(
    path: Path, energies: np.ndarray, index: list[int], start: int, stop: int
) -> None:
    source = open_showers(path).source
    chosen = np.array(index, dtype=np.int64)
    assert np.array_equal(source.take(chosen), energies[chosen])
    assert np.array_equal(source.read(start, max(start, stop)), energies[start : max(start, stop)])


def test_only_what_is_packed_as_ours_is_read_past_hdf5(
    path: Path, tmp_path: Path, energies: np.ndarray
) -> None:
    ours = {"chunks": (40, MESH.n_voxels), "shuffle": True, "compression": "gzip"}
    others = {
        "no shuffle": ours | {"shuffle": False},
        "part of a row": ours | {"chunks": (40, MESH.n_voxels // 2)},
        "double precision": ours | {"dtype": "f8"},
        "other end first": ours | {"dtype": ">f4"},
        "lzf": ours | {"compression": "lzf"},
        "checksum": ours | {"fletcher32": True},
        "not packed": {},
    }
    with h5py.File(path) as file:
        assert is_packed(file["showers"])
    for name, how in others.items():
        other = tmp_path / f"{name}.h5"
        with h5py.File(other, "w") as file:
            file["incident_energies"] = np.full((N, 1), 1e4)
            assert not is_packed(file.create_dataset("showers", data=energies, **how))
        assert np.array_equal(open_showers(other).source.read(0, N), energies), name


def test_a_chunk_without_its_filters(path: Path, tmp_path: Path, energies: np.ndarray) -> None:
    copy = tmp_path / "copy.h5"
    copy.write_bytes(path.read_bytes())
    with h5py.File(copy, "r+") as file:
        stored = file["showers"]
        rows = stored.chunks[0]
        stored.id.write_direct_chunk((rows, 0), energies[rows : 2 * rows].tobytes(), filter_mask=0b11)
    assert np.array_equal(open_showers(copy).source.read(0, N), energies)


@pytest.mark.parametrize("content", [b"none", zlib.compress(b"short"), zlib.compress(bytes(2 << 20))])
def test_a_chunk_that_holds_something_else(path: Path, tmp_path: Path, content: bytes) -> None:
    copy = tmp_path / "copy.h5"
    copy.write_bytes(path.read_bytes())
    with h5py.File(copy, "r+") as file:
        file["showers"].id.write_direct_chunk((80, 0), content)
    with pytest.raises(DataError, match=r"copy\.h5, data set 'showers': showers 80 to 119 are unreadable"):
        open_showers(copy).source.read(0, N)
    with pytest.raises(ValueError, match=r"block|reshape"):
        inflated(content, 40, MESH.n_voxels)
