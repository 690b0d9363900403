"""What HDF5 would do in silence: values of other files, values never written, filters that are not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import make_layouts
import numpy as np
import pytest
from typer.testing import CliRunner

from caloforge.cli.data import app
from caloforge.data import (
    Conditions,
    Showers,
    ShowerWriter,
    describe,
    layout_of,
    open_showers,
    opening,
    write_showers,
)
from caloforge.data.formats.hdf5 import HDF5Source
from caloforge.data.operations import doubt_units
from caloforge.errors import DataError

N = 7


@pytest.fixture
def path(tmp_path: Path) -> Path:
    make_layouts.calochallenge(tmp_path / "x.h5")
    return tmp_path / "x.h5"


def virtual(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "source.h5", "w") as source:
        source["a"] = np.arange(float(N))
    layout = h5py.VirtualLayout((N,), "f8")
    layout[:] = h5py.VirtualSource("source.h5", "a", (N,))
    file.create_virtual_dataset("column", layout)


def external(file: h5py.File, folder: Path) -> None:
    (folder / "source.h5").write_bytes(np.arange(float(N)).tobytes())
    file.create_dataset("column", (N,), "f8", external=[(str(folder / "source.h5"), 0, 8 * N)])


def linked(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "source.h5", "w") as source:
        source["a"] = np.arange(float(N))
    file["column"] = h5py.ExternalLink("source.h5", "/a")


@pytest.mark.parametrize("put", [virtual, external, linked])
def test_values_of_other_files(put: Callable[[h5py.File, Path], None], path: Path) -> None:
    with h5py.File(path, "a") as file:
        put(file, path.parent)
    for read in (open_showers, layout_of):
        with pytest.raises(
            DataError, match=r"'column': its values are not in this file .*source\.h5.*--allow-external"
        ):
            read(path)
    assert open_showers(path, ignore=["column"]).load().extra == {}
    allowed = open_showers(path, allow_external=True)
    assert allowed.extra["column"].tolist() == list(range(N))
    assert np.array_equal(allowed.energies, open_showers(path, ignore=["column"]).energies)
    target = path.with_name("out.h5")
    result = CliRunner().invoke(app, ["convert", str(path), str(target)])
    assert isinstance(result.exception, DataError)
    assert not target.exists()
    result = CliRunner().invoke(app, ["convert", str(path), str(target), "--allow-external"])
    assert result.exit_code == 0, result.output
    assert open_showers(target).extra["column"].tolist() == list(range(N))
    (path.parent / "source.h5").unlink()
    with pytest.raises(DataError, match=r"'column': its values are in .*missing"):
        open_showers(path, allow_external=True)


def test_virtual_showers_whose_source_shrank(path: Path) -> None:
    with h5py.File(path, "a") as file, h5py.File(path.with_name("source.h5"), "w") as source:
        source["cells"] = file["showers"][:]
        del file["showers"]
        layout = h5py.VirtualLayout((N, 6480), "f4")
        layout[:] = h5py.VirtualSource("source.h5", "cells", (N, 6480))
        file.create_virtual_dataset("showers", layout)
    with pytest.raises(DataError, match="'showers': its values are not in this file"):
        open_showers(path)
    assert open_showers(path, allow_external=True).energies.any()
    with h5py.File(path.with_name("source.h5"), "a") as source:
        cells = source["cells"][:3]
        del source["cells"]
        source["cells"] = cells
    with pytest.raises(DataError, match=r"'cells' has another shape, \(3, 6480\)"):
        open_showers(path, allow_external=True)


def test_virtual_showers_of_which_a_part_is_nowhere(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["cells"] = file["showers"][:4]
        del file["showers"]
        layout = h5py.VirtualLayout((N, 6480), "f4")
        layout[:4] = h5py.VirtualSource(".", "cells", (4, 6480))
        file.create_virtual_dataset("showers", layout)
    for allow in (False, True):
        with pytest.raises(DataError, match=r"'showers': its values are (not )?in .*no file at all"):
            open_showers(path, ignore=["cells"], allow_external=allow)


def test_what_is_left_out_is_not_read_by_another_name(path: Path) -> None:
    (path.parent / "secret").write_bytes(np.full(N, 1.5).tobytes())
    with h5py.File(path, "a") as file:
        file.create_dataset("junk", (N,), "f8", external=[(str(path.parent / "secret"), 0, 8 * N)])
        file["incident_theta"] = h5py.SoftLink("/junk")
    with pytest.raises(DataError, match=r"'junk': its values are not in this file.*--ignore junk"):
        open_showers(path)
    with pytest.raises(DataError, match=r"'incident_theta': its values are not in this file"):
        open_showers(path, ignore=["junk"])
    assert open_showers(path, ignore=["junk", "incident_theta"]).conditions.theta[0] == pytest.approx(
        np.pi / 2
    )


def test_how_files_are_opened_holds_for_all_within(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["noise"], file["more"] = np.zeros(5), np.zeros(3)
    with opening(ignore=["noise"]), opening(ignore=["more"]):
        assert len(open_showers(path)) == N
    with pytest.raises(DataError, match="--ignore"):
        open_showers(path)


def test_filters_that_are_not_installed(path: Path) -> None:
    """As files of Blosc are where no filter of it is."""
    with h5py.File(path, "a") as file:
        del file["showers"]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((N, 6480))
        plist.set_filter(32030, h5py.h5z.FLAG_OPTIONAL, (2, 2))
        space = h5py.h5s.create_simple((N, 6480))
        stored = h5py.h5d.create(file.id, b"showers", h5py.h5t.IEEE_F32LE, space, plist)
        stored.write_direct_chunk((0, 0), b"packed", 0)
    with pytest.raises(DataError, match=r"'showers': .* filter .*32030.*pip install hdf5plugin"):
        open_showers(path)


@pytest.mark.parametrize("name", ["incident_energies", "showers", "seconds"])
@pytest.mark.parametrize("chunks", [None, True])
def test_values_that_were_never_written(name: str, chunks: bool | None, path: Path) -> None:
    with h5py.File(path, "a") as file:
        shape = file[name].shape if name in file else (N,)
        file.pop(name, None)
        file.create_dataset(name, shape, "f4", chunks=chunks)
    with pytest.raises(DataError, match=rf"'{name}'.*only 0 of its \d+ blocks were ever written"):
        open_showers(path)


def test_a_header_of_many_showers_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("incident_energies", (10**9, 1), "f8", chunks=(1000, 1))
        file.create_dataset("showers", (10**9, 368), "f4", chunks=(1000, 368))
        file["incident_energies"][0] = 1.0
        file["showers"][0] = 1.0
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "from caloforge.data import open_showers\n"
        f"open_showers({str(path)!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "DataError" in done.stderr
    assert "only 1 of its 1000000 blocks were ever written" in done.stderr


def test_a_heap_of_zeros_ends(tmp_path: Path) -> None:
    """HDF5 itself never ends where a size in a heap of texts is zero."""
    path = tmp_path / "x.h5"
    make_layouts.calochallenge(path)
    with h5py.File(path, "a") as file:
        file["incident_detector"] = np.array(["par04-siw"] * N, dtype=object)
    assert set(open_showers(path).conditions.detector) == {"par04-siw"}
    content = path.read_bytes()
    heap = content.index(b"GCOL")
    assert b"par04-siw" in content[heap : heap + 512]
    code = f"from caloforge.data import open_showers; print(open_showers({str(path)!r}).conditions.detector)"
    for start in (heap, heap + 16, heap + 64):
        path.write_bytes(content[:start] + bytes(512) + content[start + 512 :])
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
        )
        assert "DataError" in done.stderr, (start - heap, done.stdout, done.stderr)


def test_a_file_that_is_open_for_writing(path: Path) -> None:
    code = f"import h5py; file = h5py.File({str(path)!r}, 'a'); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(DataError, match="open for writing by another program") as error:
            open_showers(path)
        assert "truncated" not in str(error.value)
        writer.communicate(b"\n")
    assert len(open_showers(path)) == N


def test_a_file_that_was_never_closed(path: Path) -> None:
    code = (
        f"import h5py, os; file = h5py.File({str(path)!r}, 'w', libver='v110'); file['a'] = 1\n"
        "file.flush(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(DataError, match=r"open for writing by another program, or .*h5clear -s"):
        open_showers(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_one_may_not_read(path: Path) -> None:
    path.chmod(0)
    with pytest.raises(DataError, match="not allowed to read"):
        open_showers(path)


def test_ragged_columns_are_no_text(path: Path) -> None:
    with h5py.File(path, "a") as file:
        ragged = file.create_dataset("hits", (N,), h5py.vlen_dtype(np.float32))
        for i in range(N):
            ragged[i] = np.arange(i)
    with pytest.raises(DataError, match=r"'hits': it holds rows of different lengths.*--ignore hits"):
        open_showers(path)
    assert open_showers(path, ignore=["hits"]).extra == {}


@pytest.mark.parametrize("dtype", [object, "S"])
def test_texts_keep_their_shape(dtype: object, path: Path) -> None:
    texts = np.array([[f"a{i}", "long" * i] for i in range(N)])
    with h5py.File(path, "a") as file:
        file["pair"] = texts.astype(dtype)
    showers = open_showers(path)
    assert np.array_equal(showers.extra["pair"], texts)
    write_showers(showers, path.with_name("again.h5"))
    assert np.array_equal(open_showers(path.with_name("again.h5")).extra["pair"], texts)


def test_texts_that_are_not_utf8(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["label"] = np.array([b"a", b"caf\xe9"] + [b""] * (N - 2))
    with pytest.raises(DataError, match=r"'label': text 1 is not UTF-8"):
        open_showers(path)


def test_names_that_are_not_utf8(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file[b"caf\xe9"] = np.zeros(N)
    with pytest.raises(DataError, match=r"the name b'caf\\xe9' in it is not UTF-8"):
        open_showers(path)


def test_showers_in_the_shape_of_the_mesh_and_plain_energies(path: Path) -> None:
    flat = open_showers(path)
    with h5py.File(path, "a") as file:
        for name, shape in (("showers", (N, 45, 16, 9)), ("incident_energies", (N,))):
            values = file[name][()].reshape(shape)
            del file[name]
            file[name] = values
    shaped = open_showers(path)
    assert np.array_equal(shaped.energies, flat.energies)
    assert np.array_equal(shaped[[5, 2]].energies, flat.energies[[5, 2]])
    assert shaped.conditions == flat.conditions
    assert describe(shaped, everything=True)["response"] == describe(flat, everything=True)["response"]


@pytest.mark.parametrize(
    ("version", "words"), [(2, "made by a newer caloforge.*pip install -U"), ("x", "must be a number")]
)
def test_files_of_other_versions(version: object, words: str, path: Path) -> None:
    write_showers(open_showers(path), path.with_name("ours.h5"))
    with h5py.File(path.with_name("ours.h5"), "a") as file:
        file.attrs["caloforge_format"] = version
    with pytest.raises(DataError, match=words):
        open_showers(path.with_name("ours.h5"))


@pytest.mark.parametrize("theta", [-1.0, 1e9, np.nan])
def test_angles_that_are_none(theta: float, path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["incident_theta"] = np.where(np.arange(N) == 3, theta, 1.0)
    with pytest.raises(DataError, match=rf"x\.h5.*theta.*shower 3 (is|has) {theta}"):
        open_showers(path)


def test_large_energies_in_double_precision(path: Path) -> None:
    with h5py.File(path, "a") as file:
        values = file["showers"][()].astype(np.float64)
        values[4, 7] = 1e39
        del file["showers"]
        file["showers"] = values
    for showers in (open_showers(path), open_showers(path).exact()):
        with pytest.raises(DataError, match=r"shower 4, voxel 7 is (inf|1e\+39) MeV"):
            showers.load()


def test_every_column_of_ours_has_a_checksum(path: Path) -> None:
    showers = open_showers(path)
    showers.extra = {"seconds": np.arange(float(N)), "label": np.array(["a", "longer"] + ["b"] * (N - 2))}
    ours = path.with_name("ours.h5")
    write_showers(showers, ours)
    with h5py.File(ours) as file:
        for name, stored in file.items():
            assert stored.fletcher32 or stored.compression == "gzip", name
            assert not stored.dtype.hasobject, name
        places = {
            name: file[name].id.get_chunk_info(0).byte_offset
            for name in file
            if file[name].size and name != "showers"
        }
        assert json.loads(file.attrs["mesh"])
    content = ours.read_bytes()
    for name, place in places.items():
        ours.write_bytes(content[: place + 3] + bytes([content[place + 3] ^ 1]) + content[place + 4 :])
        with pytest.raises(DataError, match=name):
            open_showers(ours)


def test_texts_become_longer(tmp_path: Path, path: Path) -> None:
    """The length of texts in a file follows from the first ones until longer ones come."""
    showers = open_showers(path)
    names = ["a", "a much longer name", "ä", ""]
    with ShowerWriter(tmp_path / "names.h5", showers.mesh) as writer:
        for name in names:
            writer.append(np.zeros((2, 6480)), Conditions([1.0, 2.0], detector=name))
    assert open_showers(tmp_path / "names.h5").conditions.detector.tolist() == np.repeat(names, 2).tolist()


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        ((1e-3, 1.0), "large: are incident energies in GeV"),
        ((1.0, 1e-3), "small: are cells in GeV"),
        ((1, 1), ""),
    ],
)
def test_a_factor_1000_is_named(
    scale: tuple[float, float], words: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with h5py.File(path, "a") as file:
        file["incident_energies"][...] = 1e4 * scale[0]
        file["showers"][...] = file["showers"][...] * scale[1]
    with caplog.at_level("WARNING", "caloforge"):
        describe(open_showers(path))
    assert ("factor 1000" in caplog.text) == bool(words)
    assert words in caplog.text


def test_a_factor_1000_between_samples_is_named(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    reference = open_showers(path)
    conditions = reference.conditions
    with caplog.at_level("WARNING", "caloforge"):
        doubt_units(reference, "generated showers", like=reference)
        assert not caplog.messages
        larger = Showers(0.01 * reference.energies, conditions, reference.mesh)
        smaller = Showers(1e-5 * reference.energies, conditions, reference.mesh)
        doubt_units(larger, "generated showers", like=smaller)
    assert "generated showers: ΣE/E_inc is" in caplog.text
    assert "where the reference has" in caplog.text
    assert "factor 1000 too large" in caplog.text


def test_a_source_goes_on_as_it_was_opened(path: Path) -> None:
    with h5py.File(path, "a") as file:
        linked(file, path.parent)
    showers = open_showers(path, ignore=["column"])
    assert isinstance(showers.source, HDF5Source)
    showers.source.close()
    assert len(showers.energies) == N
