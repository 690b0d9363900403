"""The command line, on real files in a temporary folder."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import make_layouts
import numpy as np
import pytest
from typer.testing import CliRunner

from caloforge.cli.data import app
from caloforge.data import layout_of, open_showers
from caloforge.errors import CaloforgeError, DataError, MeshError
from caloforge.runtime.locks import file_lock


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, CaloforgeError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "dataset_2_1.hdf5"
    make_layouts.calochallenge(path, n=50)
    return path


def test_info(source: Path) -> None:
    text = run("info", source)
    for words in ("CaloChallenge", "50", "cylinder mesh 45 × 16 × 9 [", "e-", "par04-siw", "assumed"):
        assert words in text
    facts = json.loads(run("info", source, "--json", "--check"))
    assert facts["looked_at"] == facts["showers"] == 50
    assert facts["checked"] is True
    showers = open_showers(source)
    ratios = showers.energies.sum(axis=(1, 2, 3), dtype=np.float64) / showers.conditions.energy
    assert facts["response"][0] == pytest.approx(ratios.mean())
    assert facts["sparsity"] == pytest.approx((showers.energies == 0).mean())
    assert [f["layout"] for f in json.loads(run("info", source, source, "--json"))] == ["CaloChallenge"] * 2


def test_info_finds_a_single_bad_cell_only_when_it_looks(source: Path) -> None:
    make_layouts.calochallenge(source, n=1200)
    with h5py.File(source, "a") as file:
        file["showers"][105, 3] = -1
    assert "1200" in run("info", source)
    with pytest.raises(DataError, match="shower 105, voxel 3"):
        run("info", source, "--check")


def test_convert(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.h5"
    text = run("convert", source, target, "--coarsen", "1,2,3", "--energy", "2000:")
    showers, original = open_showers(target), open_showers(source).filter(energy=(2000, np.inf))
    assert f"{len(original)} of 50 showers" in text
    assert showers.mesh.shape == (45, 8, 3)
    assert showers.conditions == original.conditions
    np.testing.assert_allclose(showers.energies.sum((1, 2, 3)), original.energies.sum((1, 2, 3)), rtol=1e-5)
    assert showers.provenance["action"] == "convert"
    assert showers.provenance["settings"]["energy"] == "2000:"
    assert showers.provenance["source"]["file"] == source.name
    with pytest.raises(DataError, match="--overwrite"):
        run("convert", source, target)
    run("convert", source, target, "--overwrite", "--layout", "calochallenge", "--detector", "par04-siw")
    assert layout_of(target) == "CaloChallenge"
    assert len(open_showers(target)) == 50
    with pytest.raises(DataError, match=r"none of the 50 showers .* its detectors are: par04-siw"):
        run("convert", source, tmp_path / "none.h5", "--detector", "odd")
    assert not (tmp_path / "none.h5").exists()


def test_convert_with_a_mesh(tmp_path: Path) -> None:
    source = tmp_path / "unknown.h5"
    with h5py.File(source, "w") as file:
        file["incident_energies"] = np.full((3, 1), 1e3)
        file["showers"] = np.ones((3, 8))
    (tmp_path / "b.xml").write_text(
        '<Bins><Bin pid="22" name="photon"><Layer id="0" r_edges="0,1,2" n_bin_alpha="4"/></Bin></Bins>'
    )
    with pytest.raises(DataError, match="--mesh"):
        run("convert", source, tmp_path / "out.h5")
    run("convert", source, tmp_path / "out.h5", "--mesh", tmp_path / "b.xml")
    assert open_showers(tmp_path / "out.h5").mesh.layer_sizes.tolist() == [8]
    with pytest.raises(DataError, match="8 voxels a shower, but 6480"):
        run("convert", source, tmp_path / "other.h5", "--mesh", "2")


def test_split_and_merge_give_back_the_whole(source: Path, tmp_path: Path) -> None:
    run("split", source, "--parts", "0.6,0.3,0.1", "--seed", 4, "--names", "train,val,test")
    parts = [tmp_path / f"dataset_2_1_{name}.h5" for name in ("train", "val", "test")]
    assert [len(open_showers(part)) for part in parts] == [30, 15, 5]
    run("merge", tmp_path / "all.h5", *parts)
    whole, merged = open_showers(source), open_showers(tmp_path / "all.h5")
    order = np.argsort(whole.conditions.energy)
    merged_order = np.argsort(merged.conditions.energy)
    assert np.array_equal(whole[order].energies, merged[merged_order].energies)
    assert not np.array_equal(whole.conditions.energy, merged.conditions.energy)
    before = parts[0].read_bytes()
    with pytest.raises(DataError, match=r"train\.h5 exists"):
        run("split", source, "--parts", "0.6,0.3,0.1", "--names", "a,b,train")
    assert not (tmp_path / "dataset_2_1_a.h5").exists()  # nothing is written where one would be refused
    kept = parts[0].read_bytes(), parts[2].read_bytes()
    with file_lock(parts[2]), pytest.raises(DataError, match="being written by another process"):
        run("split", source, "--parts", "0.6,0.3,0.1", "--names", "train,val,test", "--overwrite")
    assert (parts[0].read_bytes(), parts[2].read_bytes()) == kept  # no parts of two splits beside each other
    assert parts[0].read_bytes() == before


def test_split_by_numbers(source: Path, tmp_path: Path) -> None:
    said = run("split", source, "--parts", "7,3", "--folder", tmp_path / "new")
    assert "40 of the 50 showers are in none of the parts 7,3" in said
    first, second = (open_showers(tmp_path / "new" / f"dataset_2_1_part{i}.h5") for i in (1, 2))
    whole = open_showers(source)
    assert np.array_equal(first.energies, whole[:7].energies)
    assert np.array_equal(second.energies, whole[7:10].energies)


def test_percentages_are_no_numbers_of_showers(source: Path) -> None:
    make_layouts.calochallenge(source, n=120)
    with pytest.raises(DataError, match=r"leave out 20 of 120; for percentages write 0\.7,0\.3"):
        run("split", source, "--parts", "70,30")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("split", "S", "--parts", "60,3"), DataError, "at most 50"),
        (("split", "S", "--parts", "0.9,0.9"), DataError, "at most 1"),
        (("split", "S", "--parts", "a"), DataError, "--parts must be numbers"),
        (("split", "S", "--parts", "2,2", "--names", "a"), DataError, "2 parts need as many"),
        (("split", "S", "--parts", "2,2", "--names", "a,../b"), DataError, "2 parts need as many"),
        (("convert", "S", "x.h5", "--energy", "5"), DataError, "LOW:HIGH"),
        (("convert", "S", "x.h5", "--coarsen", "1,2"), DataError, "three whole numbers"),
        (("convert", "S", "x.h5", "--coarsen", "2,1,1"), MeshError, "does not divide"),
        (("convert", "S", "x.h5", "--mesh", "atlantis"), MeshError, "no mesh 'atlantis'"),
        (("convert", "S", "x.h5", "--layout", "root"), DataError, "layout"),
        (("merge", "x.h5", "S", "missing.h5"), DataError, "no such file"),
        (("download", "calochallenge-9"), DataError, "no public data set"),
    ],
)
def test_mistakes(
    arguments: tuple[str, ...],
    error: type[Exception],
    words: str,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(source.parent)
    with pytest.raises(error, match=words):
        run(*(source.name if argument == "S" else argument for argument in arguments))
    assert sorted(path.name for path in source.parent.iterdir()) == [source.name]


def test_merging_what_does_not_fit(source: Path, tmp_path: Path) -> None:
    make_layouts.calochallenge(tmp_path / "fine.h5", "3", n=2)
    with pytest.raises(MeshError, match=r"fine.h5 cannot be joined to .*dataset_2_1.hdf5: expected the"):
        run("merge", tmp_path / "x.h5", source, tmp_path / "fine.h5")
    make_layouts.calochallenge(tmp_path / "more.h5", n=2)
    with h5py.File(tmp_path / "more.h5", "a") as file:
        file["cpu"] = np.zeros(2)
    assert "left out: cpu" in run("merge", tmp_path / "x.h5", source, tmp_path / "more.h5")
    assert open_showers(tmp_path / "x.h5").extra == {}


def test_the_list_of_downloads() -> None:
    text = run("download")
    for words in ("calochallenge-2", "dataset_3_4.hdf5", "6082201", "by hand"):
        assert words in text
