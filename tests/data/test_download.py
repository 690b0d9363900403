"""Downloads from a real HTTP server that breaks off, lacks Range, changes its file or sends the wrong one."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from caloforge.data import catalogue
from caloforge.data.catalogue import PublicFile, public_files
from caloforge.data.download import BASE_VARIABLE, download
from caloforge.errors import DataError
from caloforge.runtime.signals import Stopped

CONTENT = os.urandom(700_000)


@dataclass
class Behaviour:
    content: bytes = CONTENT
    ranges: bool = True
    validators: bool = True
    announce_length: bool = True
    break_after: list[int] = field(default_factory=list)
    """After how many bytes of the body each of the first requests is cut."""
    statuses: list[int] = field(default_factory=list)
    """Errors that the first requests get."""
    requests: list[str | None] = field(default_factory=list)
    """The Range of each request."""


class Handler(BaseHTTPRequestHandler):
    behaviour: Behaviour

    def do_GET(self) -> None:
        how = self.behaviour
        wanted = self.headers.get("Range")
        how.requests.append(wanted)
        if how.statuses:
            self.send_error(how.statuses.pop(0))
            return
        body, start = how.content, 0
        tag = f'"{hashlib.md5(body).hexdigest()}"'
        if wanted and how.ranges and self.headers.get("If-Range") == tag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if how.validators:
            self.send_header("ETag", tag)
        if how.announce_length:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        length = how.break_after.pop(0) if how.break_after else len(body)
        self.wfile.write(body[start : start + length])

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[tuple[str, Behaviour]]:
    behaviour = Behaviour()
    handler = type("H", (Handler,), {"behaviour": behaviour})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}", behaviour
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries of the catalogue whose content the test server has."""
    md5 = hashlib.md5(CONTENT).hexdigest()
    entries = (
        PublicFile("pinned-set", "pinned.h5", "https://page.invalid/1", "http://x.invalid/f", f"md5:{md5}"),
        PublicFile("open-set", "open.h5", "https://page.invalid/2", "http://x.invalid/f"),
        PublicFile("hand-set", "hand.h5", "https://page.invalid/3", None),
    )
    monkeypatch.setattr(catalogue, "CATALOGUE", entries)
    monkeypatch.delenv(BASE_VARIABLE, raising=False)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def get(name: str, folder: Path, base: str, **how: Any) -> list[Path]:
    return download(name, folder, base_url=base, wait=0.001, **how)


def test_a_whole_file(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    base, behaviour = server
    seen: list[tuple[str, int, int | None]] = []
    (path,) = get("pinned-set", tmp_path / "new", base, progress=lambda *step: seen.append(step))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == ("pinned.h5", len(CONTENT), len(CONTENT))
    assert names(tmp_path / "new") == ["pinned.h5"]
    get("pinned.h5", tmp_path / "new", base)  # it is there, so that nothing is asked
    assert behaviour.requests == [None]
    path.write_bytes(CONTENT[:-1])
    get("pinned-set", tmp_path / "new", base)
    assert path.read_bytes() == CONTENT


def test_broken_off_and_continued(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    base, behaviour = server
    behaviour.break_after = [300_000, 50_000, 0, 0]
    (path,) = get("pinned-set", tmp_path, base)
    assert path.read_bytes() == CONTENT
    assert behaviour.requests == [None, "bytes=300000-", *["bytes=350000-"] * 3]
    assert names(tmp_path) == ["pinned.h5"]


def test_given_up_and_continued_by_the_next_command(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    base, behaviour = server
    behaviour.break_after = [300_000, 0, 0, 0, 0]
    with pytest.raises(
        DataError, match=r"cannot reach .*/pinned.h5.* by hand from .*page.invalid/1 and put it at "
    ):
        get("pinned-set", tmp_path, base)
    assert (tmp_path / "pinned.h5.part").stat().st_size == 300_000
    assert not (tmp_path / "pinned.h5").exists()
    behaviour.break_after, behaviour.requests = [], []
    (path,) = get("pinned-set", tmp_path, base)
    assert path.read_bytes() == CONTENT
    assert behaviour.requests == ["bytes=300000-"]


@pytest.mark.parametrize("lacking", ["ranges", "validators"])
def test_servers_that_cannot_continue(lacking: str, server: tuple[str, Behaviour], tmp_path: Path) -> None:
    base, behaviour = server
    setattr(behaviour, lacking, False)
    behaviour.break_after = [300_000]
    (path,) = get("pinned-set", tmp_path, base)
    assert path.read_bytes() == CONTENT
    assert len(behaviour.requests) == 2


def test_a_file_that_changed_meanwhile_is_begun_again(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    base, behaviour = server
    behaviour.content, behaviour.break_after = os.urandom(700_000), [300_000, 0, 0, 0, 0]
    with pytest.raises(DataError, match="cannot reach"):
        get("pinned-set", tmp_path, base)
    behaviour.content, behaviour.break_after = CONTENT, []
    assert get("pinned-set", tmp_path, base)[0].read_bytes() == CONTENT


def test_all_bytes_were_there_already(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    base, behaviour = server
    behaviour.break_after = [len(CONTENT) - 1, 0, 0, 0, 0]
    with pytest.raises(DataError, match="cannot reach"):
        get("pinned-set", tmp_path, base)
    with (tmp_path / "pinned.h5.part").open("ab") as part:
        part.write(CONTENT[-1:])  # as if it was stopped between the last byte and the renaming
    behaviour.break_after = []
    assert get("pinned-set", tmp_path, base)[0].read_bytes() == CONTENT
    assert behaviour.requests[-1] == f"bytes={len(CONTENT)}-"


def test_the_wrong_file(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    base, behaviour = server
    behaviour.content = b"<html>not the file</html>"
    with pytest.raises(DataError, match="not the one that was published"):
        get("pinned-set", tmp_path, base)
    assert names(tmp_path) == []
    behaviour.content = CONTENT
    assert get("pinned-set", tmp_path, base)[0].read_bytes() == CONTENT


def test_no_length_announced(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    base, behaviour = server
    behaviour.announce_length = False
    assert get("pinned-set", tmp_path, base)[0].read_bytes() == CONTENT
    behaviour.break_after = [10]
    with pytest.raises(DataError, match="not the one that was published"):
        get("pinned-set", tmp_path / "b", base)


def test_errors_of_the_server(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    base, behaviour = server
    behaviour.statuses = [404]
    with pytest.raises(DataError, match=r"the server says 404 .*page.invalid/1"):
        get("pinned-set", tmp_path, base)
    assert len(behaviour.requests) == 1
    behaviour.statuses = [503, 429]
    assert get("pinned-set", tmp_path, base)[0].read_bytes() == CONTENT


def test_no_network(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot reach http://127.0.0.1:9/pinned.h5.*by hand") as error:
        get("pinned-set", tmp_path, "http://127.0.0.1:9", attempts=1)
    assert str(tmp_path / "pinned.h5") in str(error.value)
    with pytest.raises(DataError, match="must begin with http"):
        get("pinned-set", tmp_path, "ftp://somewhere")
    with pytest.raises(DataError, match=r"by hand from https://page.invalid/3"):
        download("hand-set", tmp_path)


def test_unpinned_files_are_said_to_be(
    server: tuple[str, Behaviour], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BASE_VARIABLE, server[0])
    said: list[str] = []
    download("open-set", tmp_path, warn=said.append)
    assert len(said) == 1
    assert "open.h5 has no pinned checksum" in said[0]
    assert f"sha256:{hashlib.sha256(CONTENT).hexdigest()}" in said[0]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot make the folder"):
        download("pinned-set", tmp_path / "file" / "below")


def test_without_pooch() -> None:
    code = (
        "import sys; sys.modules['pooch'] = None\n"
        "from caloforge.data.download import download\n"
        "from caloforge.errors import MissingDependencyError\n"
        "try: download('calochallenge-2', '.')\n"
        "except MissingDependencyError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'caloforge[download]'" in result.stdout


def test_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for name, count in (("calochallenge-1-photons", 2), ("calochallenge-2", 2), ("calochallenge-3", 4)):
        files = public_files(name)
        assert len(files) == count
        assert all(file.checksum and len(file.checksum) == 4 + 32 for file in files)
    assert public_files("dataset_2_1.hdf5")[0].url == (
        "https://zenodo.org/records/6366271/files/dataset_2_1.hdf5"
    )
    assert [file.name for file in public_files("par04")][:2] == ["SiW_angle_50.h5", "SiW_angle_60.h5"]
    with pytest.raises(DataError, match="there are calochallenge-1-photons"):
        public_files("nothing")


def test_a_file_without_a_pinned_checksum_is_checked_against_its_note(
    server: tuple[str, Behaviour], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, behaviour = server
    loose = PublicFile("loose", "loose.h5", "page", None)
    monkeypatch.setattr(catalogue, "CATALOGUE", (loose,))
    (path,) = download("loose", tmp_path, base_url=base)
    assert download("loose", tmp_path, base_url=base) == [path]
    assert len(behaviour.requests) == 1
    path.write_bytes(CONTENT[:8000])
    with pytest.raises(DataError, match=r"loose\.h5 is not as it was downloaded, which .*loose\.h5\.sha256"):
        download("loose", tmp_path, base_url=base)
    assert path.read_bytes() == CONTENT[:8000]
    path.unlink()
    download("loose", tmp_path, base_url=base)
    assert path.read_bytes() == CONTENT


HOLD = """
import sys
from pathlib import Path
from caloforge.runtime.locks import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_downloads_a_file(
    server: tuple[str, Behaviour], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, behaviour = server
    monkeypatch.setattr(catalogue, "CATALOGUE", (PublicFile("loose", "loose.h5", "page", None),))
    command = [sys.executable, "-c", HOLD, str(tmp_path / "loose.h5")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(DataError, match="is being written by another process"):
            download("loose", tmp_path, base_url=base)
        assert behaviour.requests == []
        other.kill()
    download("loose", tmp_path, base_url=base)


def test_a_download_that_is_stopped_says_what_is_kept(
    server: tuple[str, Behaviour], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, _ = server
    monkeypatch.setattr(catalogue, "CATALOGUE", (PublicFile("loose", "loose.h5", "page", None),))

    def stop(name: str, done: int, total: int | None) -> None:
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped, match=r"kept in .*loose\.h5\.part; the same command goes on") as stopped:
        download("loose", tmp_path, base_url=base, progress=stop)
    assert stopped.value.code == 143
    assert (tmp_path / "loose.h5.part").exists()
    download("loose", tmp_path, base_url=base)
    assert (tmp_path / "loose.h5").read_bytes() == CONTENT
