"""Each thing that can be wrong with a file is one DataError that names the file and the place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import make_layouts
import numpy as np
import pytest

from caloforge.data import ShowerWriter, describe, open_showers, write_showers
from caloforge.data.formats import FORMATS, hdf5
from caloforge.detector import CylinderMesh
from caloforge.errors import CaloforgeError, DataError

Change = Callable[[h5py.File], None]


def put(name: str, index: int | tuple[int, ...], value: float) -> Change:
    def change(file: h5py.File) -> None:
        file[name][index] = value

    return change


def replace(name: str, values: object) -> Change:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = values

    return change


def delete(name: str) -> Change:
    return lambda file: file.__delitem__(name)


def add(name: str, values: object) -> Change:
    return lambda file: file.__setitem__(name, values)


def attribute(name: str, value: object) -> Change:
    return lambda file: file.attrs.__setitem__(name, value)


MAKERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "calochallenge": ("c.h5", make_layouts.calochallenge),
    "getting-high": ("g.h5", make_layouts.getting_high),
    "calogan": ("gamma.h5", make_layouts.calogan),
    "par04": ("SiW_angle_90.h5", make_layouts.par04),
    "lemurs": ("odd_Par04SiW.h5", make_layouts.lemurs),
}
WRONG: list[tuple[str, Change, str]] = [
    ("calochallenge", put("showers", (3, 17), np.nan), "'showers'.*shower 3, voxel 17 is nan"),
    ("calochallenge", put("showers", (6, 0), -2.5), "'showers'.*shower 6, voxel 0 is -2.5"),
    ("calochallenge", put("showers", (0, 6479), np.inf), "'showers'.*shower 0, voxel 6479 is inf"),
    ("calochallenge", put("incident_energies", 4, 0.0), "'incident_energies': shower 4 has 0.0 MeV"),
    ("calochallenge", put("incident_energies", 4, np.nan), "'incident_energies': shower 4 has nan"),
    ("calochallenge", replace("incident_energies", np.ones((6, 1))), r"'incident_energies': shape \(6, 1\)"),
    ("calochallenge", replace("incident_energies", np.ones((7, 2))), r"\(7,\) or \(7, 1\)"),
    ("calochallenge", replace("incident_energies", ["x"] * 7), "must be numbers"),
    (
        "calochallenge",
        replace("showers", np.zeros((7, 9, 16, 45))),
        r"expected \(N, 6480\) = showers, voxels",
    ),
    ("calochallenge", replace("showers", np.zeros(7)), r"expected \(N, voxels\)"),
    ("calochallenge", replace("showers", np.zeros((7, 100))), "100 voxels are none of .*--mesh"),
    ("calochallenge", replace("showers", np.full((7, 6480), b"x")), "real numbers"),
    ("calochallenge", add("noise", np.zeros(5)), r"'noise': shape \(5,\).*--ignore noise"),
    ("calochallenge", add("noise", 5.0), "'noise'.*--ignore noise"),
    ("calochallenge", add("more/noise", np.zeros(7)), "'more': shape of a group"),
    ("calochallenge", add("incident_theta", np.full(7, np.nan)), "'incident_theta': shower 0 has nan rad"),
    ("calochallenge", add("incident_pdg", np.zeros(3, dtype=int)), "'incident_pdg': shape"),
    ("calochallenge", add("impact_point", np.zeros(7)), "'impact_point': shape"),
    ("calochallenge", attribute("particle", "electron"), "unknown particle 'electron'"),
    ("calochallenge", attribute("provenance", "{"), "'provenance': not valid JSON"),
    ("calochallenge", delete("incident_energies"), "unknown layout with data sets showers"),
    ("getting-high", put("30x30/layers", (2, 1, 0, 3), -1), "'30x30/layers'.*shower 2, voxel 903 is -1000"),
    ("getting-high", delete("30x30/energy"), "no data set 'energy'"),
    ("getting-high", put("30x30/energy", 1, -1), "'30x30/energy': shower 1 has -1.0 GeV"),
    ("calogan", replace("layer_1", np.zeros((6, 12, 12))), "different numbers of showers"),
    ("calogan", replace("layer_2", np.zeros((7, 6, 12))), r"'layer_2': shape .* expected \(N, 12, 6\)"),
    ("calogan", put("layer_1", (5, 0, 1), np.nan), "'layer_1'.*shower 5, voxel 1 is nan"),
    ("calogan", replace("overflow", np.zeros((2, 3))), "'overflow': 2 rows"),
    ("par04", replace("16", np.zeros((2, 45, 50, 18))), r"'16': shape .*\(N, 18, 50, 45\) = showers, r"),
    ("par04", put("16", (1, 0, 0, 2), -1), "'16'.*shower 1, voxel 1800 is -1"),
    ("par04", add("0", np.zeros((1, 18, 50, 45))), "'0': the name is the energy"),
    ("par04", add("notes", np.zeros(3)), "unknown layout"),
    ("lemurs", delete("incident_phi"), "no data set 'incident_phi'"),
    ("lemurs", put("incident_theta", 2, -1), "theta of shower 2 is -1.0 rad; it must lie between 0 and π"),
    ("lemurs", put("incident_energy", 2, -3), "'incident_energy': shower 2 has -3.0 MeV"),
    ("lemurs", replace("showers", np.zeros((7, 45, 16, 9))), r"\(N, 9, 16, 45\)"),
]


@pytest.mark.parametrize(("layout", "change", "words"), WRONG, ids=[f"{w[0]}: {w[2][:40]}" for w in WRONG])
def test_what_is_wrong_is_said(layout: str, change: Change, words: str, tmp_path: Path) -> None:
    name, maker = MAKERS[layout]
    path = tmp_path / name
    maker(path)
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(DataError, match=words) as error:
        describe(open_showers(path), everything=True)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 600


def test_a_column_can_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    make_layouts.calochallenge(path)
    with h5py.File(path, "a") as file:
        file["noise"] = np.zeros(5)
    assert open_showers(path, ignore=["noise"]).extra == {}


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        open_showers(tmp_path / "missing.h5")
    with pytest.raises(DataError, match="folder"):
        open_showers(tmp_path)
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(DataError, match="not a readable HDF5 file"):
        open_showers(tmp_path / "text.h5")
    h5py.File(tmp_path / "empty.h5", "w").close()
    with pytest.raises(DataError, match="unknown layout with data sets none at all"):
        open_showers(tmp_path / "empty.h5")
    make_layouts.par04(tmp_path / "whatever.h5")
    with pytest.raises(DataError, match="name it like SiW_angle_90"):
        open_showers(tmp_path / "whatever.h5")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "pipe", "a pipe or a device"),
        (Path("/dev/zero"), "a pipe or a device"),
        (tmp_path / ("a" * 300), "name too long"),
        (tmp_path / "a\0b", "null byte"),
    ):
        with pytest.raises(DataError, match=words):
            open_showers(path)
    for target in ("", ".", str(tmp_path)):
        with pytest.raises(DataError, match="is a folder"):
            ShowerWriter(target, CylinderMesh.regular())


def test_cut_off_at_any_length(tmp_path: Path) -> None:
    whole = tmp_path / "whole.h5"
    make_layouts.calochallenge(whole)
    content = whole.read_bytes()
    for length in (0, 7, 100, 2000, len(content) // 2, len(content) - 1):
        path = tmp_path / "cut.h5"
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"cut\.h5"):
            describe(open_showers(path), everything=True)


@pytest.mark.parametrize("threads", [1, 2])
def test_opens_but_a_chunk_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    monkeypatch.setattr(hdf5, "unpacking_threads", lambda: threads)
    path = tmp_path / "x.h5"
    make_layouts.calochallenge(path, n=300)
    write_showers(open_showers(path), tmp_path / "chunks.h5")
    path = tmp_path / "chunks.h5"
    with h5py.File(path) as file:
        stored = file["showers"]
        rows = stored.chunks[0]
        chunk = stored.id.get_chunk_info(2)
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset + chunk.size // 2)
        raw.write(bytes(chunk.size // 4))
    showers = open_showers(path)
    assert len(showers) == 300
    assert showers[: 2 * rows].energies.any()  # the chunks before it are sound
    for damaged in (showers[2 * rows :], showers[[2 * rows, 5]], showers):
        with pytest.raises(DataError, match=r"'showers': showers .* unreadable .* get it again"):
            damaged.energies  # noqa: B018


def test_bad_sectors(tmp_path: Path) -> None:
    """512 zeros anywhere: the file is refused, or the zeros hit nothing that is used."""
    make_layouts.calochallenge(tmp_path / "whole.h5", n=3)
    write_showers(open_showers(tmp_path / "whole.h5"), tmp_path / "ours.h5")
    content = (tmp_path / "ours.h5").read_bytes()
    expected = open_showers(tmp_path / "ours.h5").energies
    refused = 0
    for start in range(0, len(content), max(512, len(content) // 60)):
        path = tmp_path / "d.h5"
        path.write_bytes(content[:start] + bytes(512) + content[start + 512 :])
        try:
            energies = open_showers(path).energies
        except CaloforgeError:
            refused += 1
        else:
            assert np.array_equal(energies, expected)
    assert refused > 10


def test_a_file_that_changes_under_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    make_layouts.calochallenge(path)
    showers = open_showers(path)
    make_layouts.calochallenge(tmp_path / "other.h5", n=3)
    shutil.copy(tmp_path / "other.h5", path)
    with pytest.raises(DataError, match="3 showers where there were 7"):
        showers.energies  # noqa: B018


@pytest.mark.parametrize("error", [TypeError("a slip"), KeyError("a slip"), ValueError("a slip")])
def test_a_mistake_in_a_format_is_no_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def read(*args: object) -> None:
        raise error

    path = tmp_path / "c.h5"
    make_layouts.calochallenge(path)
    monkeypatch.setattr(FORMATS["CaloChallenge"], "read", read)
    with pytest.raises(type(error), match="a slip"):
        open_showers(path)
    monkeypatch.setattr(FORMATS["CaloChallenge"], "matches", read)
    with pytest.raises(type(error), match="a slip"):
        open_showers(path)
