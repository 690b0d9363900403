"""The store of finished chunks: what a kill leaves is found again, and nothing of the user's is touched."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from caloforge.errors import DataError
from caloforge.runtime.chunks import ChunkStore

REQUEST = {"seed": 1, "energy": (1.0, 2.0), "steps": None}


def store(folder: Path, n: int = 100, **changes: object) -> ChunkStore:
    return ChunkStore(folder / "a.h5", REQUEST | changes, n, "generation")


def fill(folder: Path, *spans: tuple[int, int]) -> None:
    with store(folder).open(resume=True, overwrite=False) as unfinished:
        for start, stop in spans:
            unfinished.chunk(start, stop).write({"numbers": np.arange(start, stop)})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_what_is_finished_and_what_is_not(tmp_path: Path) -> None:
    assert store(tmp_path).gaps() == [(0, 100)]
    fill(tmp_path, (0, 40), (60, 100))
    with store(tmp_path).open(resume=True, overwrite=False) as again:
        assert again.gaps() == [(40, 60)]
        assert again.n_finished == 80
        assert "80 of 100 showers are kept" in again.kept()
        again.chunk(40, 60).write({"numbers": np.arange(40, 60)})
        assert again.gaps() == []
        numbers = np.concatenate([chunk.read()["numbers"] for chunk in again.complete()])
        np.testing.assert_array_equal(numbers, np.arange(100))
        again.remove()
    assert names(tmp_path) == []


def test_another_request_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    fill(tmp_path, (0, 40))
    with (
        pytest.raises(DataError, match=r"its seed differs \(it was 1, now it is 2\) and its steps differs"),
        store(tmp_path, seed=2, steps=4).open(resume=True, overwrite=False),
    ):
        pass
    with (
        pytest.raises(DataError, match=r"unfinished generation; go on with resume=True"),
        store(tmp_path).open(resume=False, overwrite=False),
    ):
        pass
    with store(tmp_path, seed=2).open(resume=False, overwrite=True) as anew:
        assert anew.gaps() == [(0, 100)]
        about = json.loads((anew.folder / "request.json").read_text())
        assert about["request"] == {"seed": 2, "energy": [1.0, 2.0], "steps": None}


def test_without_a_finished_chunk_nothing_is_left(tmp_path: Path) -> None:
    def fail() -> None:
        with store(tmp_path).open(resume=False, overwrite=False) as unfinished:
            (unfinished.folder / "worker-0.log").write_text("why")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert names(tmp_path) == ["a.h5.parts", "worker-0.log"]
    with store(tmp_path).open(resume=False, overwrite=False) as anew:
        anew.remove()
    assert names(tmp_path) == []


def test_a_kill_after_the_end_leaves_something_that_is_cleared(tmp_path: Path) -> None:
    store(tmp_path).clear()
    fill(tmp_path, (0, 40), (40, 100))
    with pytest.raises(DataError, match="its seed differs"):
        store(tmp_path, seed=2).clear()
    store(tmp_path).clear()
    assert names(tmp_path) == []


def test_what_others_put_there_stays(tmp_path: Path) -> None:
    fill(tmp_path, (0, 40))
    thesis = tmp_path / "a.h5.parts" / "thesis.tex"
    with store(tmp_path).open(resume=True, overwrite=False) as unfinished:
        thesis.write_text("precious")
        unfinished.remove()
    assert names(tmp_path) == ["a.h5.parts", "thesis.tex"]
    for request in ("{", '{"format": "mine"}'):
        with (
            pytest.raises(DataError, match=r"holds other files \(thesis\.tex\)"),
            store(tmp_path).open(resume=False, overwrite=True),
        ):
            pass
        thesis = thesis.replace(thesis.with_name("request.json"))
        thesis.write_text(request)
        with (
            pytest.raises(DataError, match=r"request\.json: .*remove the folder"),
            store(tmp_path).open(resume=False, overwrite=True),
        ):
            pass
        assert thesis.read_text() == request
        thesis = thesis.replace(thesis.with_name("thesis.tex"))


@pytest.mark.parametrize("old", ["part-000000000000-000000000064.npz", "settings.json", "chunk-000000.npz"])
def test_what_an_older_version_left_is_refused(tmp_path: Path, old: str) -> None:
    (tmp_path / "a.h5.parts").mkdir()
    (tmp_path / "a.h5.parts" / old).write_text("{}")
    with (
        pytest.raises(DataError, match="older version left unfinished"),
        store(tmp_path).open(resume=True, overwrite=False),
    ):
        pass
    assert names(tmp_path) == ["a.h5.parts", old]


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    fill(tmp_path, (0, 40), (40, 100))
    chunk = store(tmp_path).chunks()[0]
    whole = chunk.path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:200] + b"\xff" + whole[201:], b""):
        chunk.path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"chunk-0+-0+40-\w+\.npz is damaged.*delete it and go on with"):
            chunk.read()
    chunk.path.unlink()
    assert store(tmp_path).gaps() == [(0, 40)]
    with pytest.raises(DataError, match="showers 0 to 39 were made and are gone"):
        store(tmp_path).complete()


def test_a_file_that_came_meanwhile_stays(tmp_path: Path) -> None:
    fill(tmp_path, (0, 40))
    (tmp_path / "a.h5").write_text("precious")
    with (
        pytest.raises(DataError, match="exists; choose another name"),
        store(tmp_path).open(resume=True, overwrite=False),
    ):
        pass
    assert store(tmp_path).n_finished == 40


def test_chunks_without_a_request_are_not_ours(tmp_path: Path) -> None:
    fill(tmp_path, (0, 40))
    (tmp_path / "a.h5.parts" / "request.json").unlink()
    with (
        pytest.raises(DataError, match=r"has no request\.json"),
        store(tmp_path).open(resume=False, overwrite=True),
    ):
        pass
    assert store(tmp_path).n_finished == 40


def test_chunks_of_another_request_are_not_taken(tmp_path: Path) -> None:
    """As two processes would write them on a file system without locks."""
    fill(tmp_path, (0, 40))
    other = store(tmp_path, seed=2)
    other.chunk(40, 100).write({"numbers": np.zeros(60)})
    assert [(chunk.start, chunk.stop) for chunk in store(tmp_path).chunks()] == [(0, 40)]
    with pytest.raises(DataError, match="showers 40 to 99 were made and are gone"):
        store(tmp_path).complete()
