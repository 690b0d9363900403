"""Several processes that want to write the same: one does, the others are told, and nothing is mixed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from caloforge.errors import CheckpointError, DataError
from caloforge.runtime.locks import LOCK, file_lock, folder_lock

STORES = """
import sys, time
from pathlib import Path
import numpy as np
from caloforge.errors import DataError
from caloforge.runtime.chunks import ChunkStore

out, who = Path(sys.argv[1]), int(sys.argv[2])
made, end = 0, time.monotonic() + 1.5
while time.monotonic() < end:
    try:
        store = ChunkStore(out, {"seed": who}, 4)
        with store.open(resume=False, overwrite=False):
            for start in range(4):
                store.chunk(start, start + 1).write({"who": np.array([who])})
            assert [int(chunk.read()["who"][0]) for chunk in store.complete()] == [who] * 4
            store.remove()
        made += 1
    except DataError as error:
        assert "another process" in str(error) or "holds an unfinished" in str(error), error
        assert "is damaged" not in str(error)
print(made)
"""

WRITERS = """
import sys, time
from pathlib import Path
from caloforge.runtime.files import write_json

path, who = Path(sys.argv[1]), int(sys.argv[2])
end = time.monotonic() + 1.5
made = 0
while time.monotonic() < end:
    write_json(path, {"who": [who] * (2000 * who)})
    made += 1
print(made)
"""

HOLD = """
import sys
from pathlib import Path
from caloforge.runtime.locks import file_lock, folder_lock
with {"file": file_lock, "folder": folder_lock}[sys.argv[1]](Path(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


def at_once(code: str, path: Path) -> list[int]:
    """What three processes print that do the same at the same time."""
    commands = [[sys.executable, "-c", code, str(path), str(who)] for who in (1, 2, 3)]
    started = [
        subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for c in commands
    ]
    said = [process.communicate(timeout=60) for process in started]
    assert [error for _, error in said] == ["", "", ""]
    return [int(out) for out, _ in said]


def test_stores_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    made = at_once(STORES, tmp_path / "a.h5")
    assert sum(made) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_several_writers_is_that_of_one(tmp_path: Path) -> None:
    assert min(at_once(WRITERS, tmp_path / "a.json")) > 0
    who = json.loads((tmp_path / "a.json").read_text())["who"]
    assert who == [who[0]] * (2000 * who[0])
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_one_process_at_a_time(kind: str, tmp_path: Path) -> None:
    place, lock = tmp_path / "a", {"file": file_lock, "folder": folder_lock}[kind]
    command = [sys.executable, "-c", HOLD, kind, str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(CheckpointError, match=rf"another process.* \({other.pid} on .*\)"):
            lock(place, error=CheckpointError).__enter__()
        other.kill()
    with lock(place):  # a kill frees it
        assert list(tmp_path.rglob(f"*{LOCK}"))
    assert not list(tmp_path.rglob(f"*{LOCK}"))


def test_a_folder_goes_only_where_it_was_made_and_is_empty(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "a" / "b"):
        (tmp_path / "a" / "mine").write_text("")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "mine"]
    with folder_lock(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "mine").write_text("")
    (tmp_path / "empty").mkdir()
    with folder_lock(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").is_dir()
    with folder_lock(tmp_path / "empty", transient=True):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "mine", "mine"]


def test_what_cannot_be_held_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match=r"cannot write into .*file is a file, not a folder"):
        folder_lock(tmp_path / "file").__enter__()
    with pytest.raises(DataError, match=r"cannot write into .*: Not a directory"):
        folder_lock(tmp_path / "file" / "below").__enter__()
    with pytest.raises(DataError, match=r"cannot write .*File name too long"):
        file_lock(tmp_path / ("n" * 250)).__enter__()
    with pytest.raises(DataError, match="is a folder; give the name of a file"):
        file_lock(tmp_path).__enter__()
    with pytest.raises(FileNotFoundError), folder_lock(tmp_path / "folder"):
        raise FileNotFoundError  # the user's own error is not taken for one of the lock
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="it is a device or the like, not a file"):
        file_lock(tmp_path / "pipe").__enter__()
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_told_before_anything_is_done(tmp_path: Path) -> None:
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from caloforge.errors import DataError\n"
        "from caloforge.runtime.locks import file_lock, folder_lock\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "for lock, name in ((file_lock, 'a.h5'), (folder_lock, 'new/folder')):\n"
        "    try: lock(Path(sys.argv[1]) / name).__enter__()\n"
        "    except DataError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"cannot write {tmp_path}/a.h5: File too large",
        f"cannot write into {tmp_path}/new/folder: File too large",
    ]
    assert list(tmp_path.iterdir()) == []
