"""Whole files or none, and JSON that is what was written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from caloforge.errors import CheckpointError, DataError
from caloforge.runtime.files import output_file, read_json, whole_file, write_bytes, write_json, write_text


def test_json_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.json"
    write_json(path, {"θ": [1.5, None], "path": tmp_path})
    assert read_json(path) == {"θ": [1.5, None], "path": str(tmp_path)}
    assert path.read_text(encoding="utf-8").startswith('{\n "θ"')
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert read_json(path)["θ"] == [1.5, None]
    assert [entry.name for entry in path.parent.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read .*No such file"),
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[1]", "got list"),
    ],
)
@pytest.mark.parametrize("error", [DataError, CheckpointError])
def test_damaged_json_is_the_callers_error(
    content: bytes | None, message: str, error: type[DataError], tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=message):
        read_json(path, error=error)


def test_a_broken_writing_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "déjà")
    assert path.read_bytes() == "déjà".encode()

    def broken() -> None:
        with whole_file(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert path.read_bytes() == "déjà".encode()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot write .*what was there before is unchanged"):
        write_bytes(tmp_path / "file" / "a.json", b"", error=CheckpointError)


def test_a_link_is_followed_and_a_device_left_alone(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    for name, target in (("link", "real.txt"), ("dangling", "later.txt")):
        (tmp_path / name).symlink_to(target)
        write_text(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / target).read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"pipe: it is a device or the like, not a file"):
        write_text(tmp_path / "pipe", "new")
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is a folder; give the name of a file"),
        (".", "is a folder"),
        ("n" * 256, "File name too long"),
        ("é" * 120, "File name too long"),  # no room for names of locks
    ],
)
def test_names_that_cannot_be_written(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        output_file(name)
