"""Showers of more files than may be open at a time."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from caloforge.cli.data import merge
from caloforge.data import Conditions, Showers, open_showers, write_showers
from caloforge.data.formats.hdf5 import MOST_OPEN
from caloforge.detector import BoxMesh

FILES = MOST_OPEN + 20


def n_open() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[list[Path]]:
    """Files of two showers each, and no more than a few of them may be open."""
    mesh, paths = BoxMesh.regular((2, 1, 1), (1, 1, 1)), [tmp_path / f"{i}.h5" for i in range(FILES)]
    write_showers(Showers(np.zeros((2, 2)), Conditions([1e3, 2e3], detector="d"), mesh), paths[0])
    for i, path in enumerate(paths[1:], 1):
        shutil.copy(paths[0], path)
        with h5py.File(path, "r+") as file:
            file["showers"][:] = i
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_open() + MOST_OPEN + 5, before[1]))
    yield paths
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_joined_showers_are_read_in_any_order(paths: list[Path]) -> None:
    before, joined = n_open(), Showers.join([open_showers(path) for path in paths])
    expected = np.repeat(np.arange(FILES), 2)
    for index in (np.arange(2 * FILES), np.random.default_rng(0).permutation(2 * FILES)):
        assert np.array_equal(joined[index].energies[:, 0, 0, 0], expected[index])
    for start in range(0, 2 * FILES, 7):
        assert joined.read(start, start + 1)[0, 0, 0, 0] == expected[start]
    del joined
    assert n_open() <= before


def test_many_files_are_merged(paths: list[Path], tmp_path: Path) -> None:
    merge(tmp_path / "all.h5", paths)
    assert (
        open_showers(tmp_path / "all.h5").energies[:, 0, 0, 0].tolist() == np.repeat(range(FILES), 2).tolist()
    )
