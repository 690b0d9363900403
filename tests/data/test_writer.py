"""A file appears whole under its name or not at all, and others can read it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import make_layouts
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloforge.data import Conditions, Showers, ShowerWriter, open_showers, write_showers
from caloforge.data.packing import PackedEnergies
from caloforge.data.patient_file import PatientFile
from caloforge.detector import BoxMesh, CylinderMesh, calochallenge_mesh
from caloforge.errors import DataError

MESH = CylinderMesh.regular()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def random_showers(n: int, seed: int = 0) -> Showers:
    rng = np.random.default_rng(seed)
    conditions = Conditions(
        rng.uniform(1e3, 1e6, n), rng.uniform(0, 3, n), rng.uniform(0, 6, n), "gamma", "déjà-vu", (1.0, 2.0)
    )
    return Showers(
        make_layouts.sparse((n, 6480), seed), conditions, MESH, {"seed": seed}, {"t": rng.random(n)}
    )


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 20), max_size=3), st.integers(0, 9))
def test_what_is_appended_is_read(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], level: int
) -> None:
    path = tmp_path_factory.mktemp("w") / "x.h5"
    parts = [random_showers(n, seed) for seed, n in enumerate(sizes)]
    with ShowerWriter(path, MESH, provenance={"a": [1, None]}, compression=level) as writer:
        for part in parts:
            writer.append(part.energies, part.conditions, part.extra)
    read = open_showers(path)
    assert len(read) == writer.n_written == sum(sizes)
    assert read.mesh == MESH
    assert read.provenance == {"a": [1, None], "n_showers": sum(sizes)}
    if parts:
        expected = Showers.concatenate(parts)
        assert np.array_equal(read.energies, expected.energies)
        assert read.conditions == expected.conditions
        assert np.array_equal(read.extra["t"], expected.extra["t"])


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 130), min_size=1, max_size=4))
def test_packed_showers_are_those_that_are_appended(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("w")
    parts = [random_showers(n, seed) for seed, n in enumerate(sizes)]
    with ShowerWriter(folder / "a.h5", MESH) as plain, ShowerWriter(folder / "b.h5", MESH) as packed:
        for part in parts:
            energies = PackedEnergies.pack(part.energies.reshape(len(part), -1), packed.n_written)
            plain.append(part.energies, part.conditions, part.extra)
            packed.append_packed(energies, part.conditions, part.extra)
    with h5py.File(folder / "a.h5") as a, h5py.File(folder / "b.h5") as b:
        for name in a:
            np.testing.assert_array_equal(a[name][:], b[name][:])
        for start in range(0, sum(sizes), a["showers"].chunks[0]):
            chunks = [file["showers"].id.read_direct_chunk((start, 0)) for file in (a, b)]
            assert chunks[0] == chunks[1]  # what HDF5's own filters make
    with ShowerWriter(folder / "c.h5", MESH) as writer, pytest.raises(DataError, match="do not fit"):
        writer.append_packed(energies, parts[0].conditions[:0])


def test_the_challenge_reads_our_files(tmp_path: Path) -> None:
    showers = random_showers(30)
    for layout in ("caloforge", "calochallenge"):
        write_showers(showers, tmp_path / "x.h5", overwrite=True, layout=layout)
        with h5py.File(tmp_path / "x.h5") as file:  # as its evaluation does
            energies, cells = file["incident_energies"][:], file["showers"][:]
            assert energies.shape == (30, 1)
            assert cells.shape == (30, 6480)
            assert cells.dtype == np.float32
            assert file["showers"].compression == "gzip"
            np.testing.assert_array_equal(energies[:, 0], showers.conditions.energy)
            np.testing.assert_array_equal(cells, showers.energies.reshape(30, -1))
            if layout == "calochallenge":
                assert set(file) == {"incident_energies", "showers"}
                assert not file.attrs
    assert set(open_showers(tmp_path / "x.h5").conditions.detector) == {"par04-siw"}


def test_the_same_showers_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        write_showers(random_showers(20), tmp_path / name)
        time.sleep(1.1)  # HDF5 writes times in seconds
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_ragged_and_empty(tmp_path: Path) -> None:
    for mesh in (calochallenge_mesh("1-photons"), BoxMesh.regular((2, 3, 4), (1, 1, 1))):
        empty = Showers(np.zeros((0, mesh.n_voxels)), Conditions([]), mesh, extra={"c": np.zeros((0, 3))})
        write_showers(empty, tmp_path / "e.h5", overwrite=True)
        read = open_showers(tmp_path / "e.h5")
        assert len(read) == 0
        assert read.mesh == mesh
        assert read.energies.shape == (0, *mesh.shape)


def test_existing_files(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_text("precious")
    with pytest.raises(DataError, match="exists; choose another name or allow overwriting"):
        ShowerWriter(path, MESH)

    def fail() -> None:
        with ShowerWriter(path, MESH, overwrite=True) as writer:
            writer.append(np.zeros((1, 6480)), Conditions([1.0]))
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fail()
    assert path.read_text() == "precious"
    assert names(tmp_path) == ["x.h5"]
    write_showers(random_showers(2), path, overwrite=True)
    assert len(open_showers(path)) == 2
    with pytest.raises(DataError, match="is a folder"):
        ShowerWriter(tmp_path, MESH, overwrite=True)
    with pytest.raises(DataError, match=r"cannot write .* is a file, not a folder"):
        ShowerWriter(path / "below.h5", MESH).__enter__()


def test_two_writers_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with ShowerWriter(path, MESH), pytest.raises(DataError, match="being written by another process"):
        ShowerWriter(path, MESH).__enter__()
    assert len(open_showers(path)) == 0
    late = ShowerWriter(tmp_path / "y.h5", MESH)
    with pytest.raises(DataError, match=r"meanwhile; the showers are in .*y\.h5\.partial"), late:
        (tmp_path / "y.h5").write_text("first")
    assert (tmp_path / "y.h5").read_text() == "first"
    assert (tmp_path / "y.h5.partial").exists()


AT_ONCE = """
import json, sys, time
from pathlib import Path
import h5py, numpy as np
from caloforge.data import Conditions, ShowerWriter
from caloforge.detector import CylinderMesh
from caloforge.errors import DataError

mesh = CylinderMesh.regular(n_z=2, n_phi=3, n_r=2)
path, who, done, end = Path(sys.argv[1]), int(sys.argv[2]), 0, time.monotonic() + 2
while time.monotonic() < end:
    try:
        if who:
            with ShowerWriter(path, mesh, overwrite=True, provenance={"who": who}) as writer:
                for _ in range(who):
                    writer.append(np.full((5, mesh.n_voxels), who), Conditions(np.full(5, float(who))))
        elif path.exists():
            with h5py.File(path) as file:
                made = json.loads(file.attrs["provenance"])
                assert len(file["showers"]) == made["n_showers"] == 5 * made["who"]
                assert (file["showers"][:] == made["who"]).all()
                assert (file["incident_energies"][:] == made["who"]).all()
        done += 1
    except DataError as error:
        assert "being written by another process" in str(error), error
        time.sleep(0.002)
print(done)
"""


def test_a_name_of_several_writers_is_always_a_whole_file_of_one(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", AT_ONCE, str(tmp_path / "x.h5"), str(who)] for who in range(4)]
    started = [
        subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for c in commands
    ]
    said = [process.communicate(timeout=60) for process in started]
    assert [error for _, error in said] == [""] * 4
    assert int(said[0][0]) > 0
    assert sum(int(out) for out, _ in said[1:]) > 0
    assert names(tmp_path) == ["x.h5"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "x.h5").symlink_to(tmp_path / "elsewhere.h5")
    for n in (2, 3):
        write_showers(random_showers(n), tmp_path / "x.h5", overwrite=True)
        assert (tmp_path / "x.h5").is_symlink()
        assert len(open_showers(tmp_path / "elsewhere.h5")) == n
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is a device or the like"):
        ShowerWriter(tmp_path / "pipe", MESH, overwrite=True)


def test_a_file_can_be_rewritten_from_itself(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    write_showers(random_showers(10), path)
    expected = open_showers(path).energies[3:]
    write_showers(open_showers(path)[3:], path, overwrite=True)
    assert np.array_equal(open_showers(path).energies, expected)


def test_what_does_not_fit_is_refused_before_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    good = random_showers(3)
    bad = np.zeros((3, 6480))
    bad[1, 5] = np.nan
    with ShowerWriter(path, MESH) as writer:
        writer.append(good.energies, good.conditions, good.extra)
        for energies, extra, words in (
            (np.zeros((3, 7)), good.extra, "do not fit"),
            (np.zeros((2, 6480)), good.extra, "do not fit"),
            (bad, good.extra, "shower 4, voxel 5 is nan"),
            (good.energies, {}, "columns"),
            (good.energies, {"t": np.zeros(1)}, "needs 3 rows"),
            (good.energies, {"t": np.zeros((3, 2))}, "changed its shape"),
            (good.energies, {"showers": np.zeros(3)}, "cannot add column 'showers'"),
        ):
            with pytest.raises(DataError, match=words):
                writer.append(energies, good.conditions, extra)
        writer.append(good.energies, good.conditions, good.extra)
    assert np.array_equal(open_showers(path).energies, np.concatenate([good.energies] * 2))
    with pytest.raises(DataError, match="with statement"):
        writer.append(good.energies, good.conditions)
    with pytest.raises(DataError, match="compression"):
        ShowerWriter(path, MESH, compression=10)


FILL = """
import os, resource, sys, numpy as np
from caloforge.data import Conditions, ShowerWriter
from caloforge.detector import CylinderMesh
from caloforge.errors import DataError
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
rng = np.random.default_rng(0)
try:
    with ShowerWriter(sys.argv[1] + "/x.h5", CylinderMesh.regular()) as writer:
        for _ in range(60):
            writer.append(rng.random((20, 6480), dtype=np.float32), Conditions(np.full(20, 1e3)))
except DataError as error:
    print(error)
print(os.listdir(sys.argv[1]))
"""


@pytest.mark.parametrize("limit", [1, 300, 5_000, 200_000, 3_000_000, 10_000_000])
def test_a_limit_on_the_size(limit: int, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path), str(limit)], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "File too large" in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"


def test_a_full_disk(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        result = subprocess.run(
            [sys.executable, "-c", FILL, str(tmp_path)], capture_output=True, text=True, timeout=60
        )
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert "No space left on device" in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"


WRITE_ON = """
import sys, numpy as np
from caloforge.data import Conditions, ShowerWriter
from caloforge.detector import CylinderMesh
rng = np.random.default_rng(0)
energies = rng.random((200, 6480), dtype=np.float32)
with ShowerWriter(sys.argv[1], CylinderMesh.regular(), compression=6) as writer:
    while True:
        writer.append(energies, Conditions(np.full(200, 1e3)))
        print("more", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted(number: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_ON, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        time.sleep(0.05)  # into the next append
        process.send_signal(number)
        assert process.wait(30) != 0
        trace = process.stderr.read()
    assert not path.exists()
    if number is signal.SIGINT:
        assert trace.rstrip().endswith("KeyboardInterrupt")
        assert "Exception ignored" not in trace
        assert names(tmp_path) == []
    else:
        assert names(tmp_path) == [".x.h5.caloforge-lock", "x.h5.partial"]
    write_showers(random_showers(2), path)  # what was left is no hindrance
    assert names(tmp_path) == ["x.h5"]


def test_the_patient_file_gives_back_what_the_disk_refused(tmp_path: Path) -> None:
    file = PatientFile(tmp_path / "x")
    file.write(b"abcdef")
    os.close(file._fd)
    file._fd = os.open(tmp_path / "x", os.O_RDONLY)  # a disk that takes nothing more
    file.seek(4)
    file.write(b"XYZ")
    assert file.error is not None
    file.seek(10)
    file.write(b"end")
    file.seek(0)
    assert file.read() == b"abcdXYZ\0\0\0end"
    file.seek(2)
    assert file.read(4) == b"cdXY"
    assert file.seek(0, os.SEEK_END) == 13
    assert file.truncate(6) == 6
    file.close()


def test_provenance_is_json(tmp_path: Path) -> None:
    with ShowerWriter(tmp_path / "x.h5", MESH, provenance={"path": tmp_path, "set": {1}}):
        pass
    with h5py.File(tmp_path / "x.h5") as file:
        assert json.loads(file.attrs["provenance"])["path"] == str(tmp_path)
