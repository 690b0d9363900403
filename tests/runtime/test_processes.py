"""Child processes: what they print is no message, what they die of is told, and they end with the parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from caloforge.runtime.processes import Channel, Child, ChildError, MessageError

MODULE = """
import os, signal, sys, time
from caloforge.runtime.processes import serve

def work(channel):
    for message in channel:
        if message["do"] == "die":
            print("last words", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if message["do"] == "fail":
            raise ValueError("no such thing")
        print("not a message", message["do"])
        os.write(1, b"{}")
        if message["do"] == "double":
            channel.send({"done": "double"}, 2 * message["bytes"])
            continue
        channel.send({"done": message["do"], "threads": os.environ["OMP_NUM_THREADS"], "path": sys.path})
        if message["do"] == "stay":
            time.sleep(60)

if __name__ == "__main__":
    sys.exit(serve(work))
"""


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module is found; a working directory full of traps is not looked into."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "child_of_a_test.py").write_text(MODULE)
    (tmp_path / "here").mkdir()
    for name in ("json", "random", "numpy", "socket"):
        (tmp_path / "here" / f"{name}.py").write_text("raise SystemExit('run from the working directory')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    monkeypatch.chdir(tmp_path / "here")


def test_messages_and_a_log(tmp_path: Path) -> None:
    with Child("child_of_a_test", log=tmp_path / "log", threads=3) as child:
        for text in ("a", "é" * 300_000):
            answer = child.ask({"do": text})
            assert answer["done"] == text
        assert answer["threads"] == "3"
        assert str(Path.cwd()) not in answer["path"]
    assert (tmp_path / "log").read_bytes().count(b"not a message") == 2


def test_bytes_go_with_a_message_as_they_are() -> None:
    content = bytes(range(256)) * 5000 + b"\n{}\n"
    with Child("child_of_a_test") as child:
        for _ in range(2):
            child.send({"do": "double"}, content)
            received: list[dict[str, Any]] = child.receive()
            assert received == [{"done": "double", "bytes": 2 * content}]
        assert "bytes" not in child.ask({"do": "a"})


def test_both_sides_may_send_much_at_once() -> None:
    """The child answers the first message while the parent still sends others."""
    contents = [bytes([number]) * 30_000_000 for number in range(4)]
    with Child("child_of_a_test") as child:
        for content in contents:
            child.send({"do": "double"}, content)
        received: list[dict[str, Any]] = []
        while len(received) < len(contents):
            received += child.receive()
    for message, content in zip(received, contents, strict=True):
        assert message["bytes"] == 2 * content


def test_a_child_ends_although_nobody_reads_what_it_says() -> None:
    with Child("child_of_a_test") as child:
        child.send({"do": "double"}, bytes(30_000_000))
        child.send({"do": "double"}, bytes(30_000_000))
    assert child._process.returncode >= 0  # by itself, not killed


def test_a_child_prints_what_the_terminal_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    with Child("child_of_a_test", log=tmp_path / "log") as child:
        child.ask({"do": "a → b"})
    assert "a → b" in (tmp_path / "log").read_text(encoding="utf-8")


def test_a_death_is_told_with_its_last_words() -> None:
    with Child("child_of_a_test") as child, pytest.raises(ChildError) as caught:
        child.ask({"do": "die"})
    assert caught.value.status == -signal.SIGKILL
    assert str(caught.value) == "it was killed by signal 9; the end of its output:\nlast words"
    with (
        Child("no_such_module") as child,
        pytest.raises(ChildError, match=r"(?s)ended with status 1.*No module named no_such_module"),
    ):
        child.receive()


def test_an_exception_is_reported() -> None:
    with Child("child_of_a_test") as child, pytest.raises(ChildError) as caught:
        child.ask({"do": "fail"})
    assert str(caught.value) == "ValueError: no such thing"
    assert "Traceback" in caught.value.details


def test_a_child_that_is_busy_is_ended() -> None:
    def interrupted() -> None:
        with Child("child_of_a_test") as child:
            child.ask({"do": "stay"})
            raise KeyboardInterrupt

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - begin < 30


def test_a_child_ends_when_its_parent_is_killed() -> None:
    code = (
        "import os, signal\nfrom caloforge.runtime.processes import Child\n"
        "with Child('child_of_a_test') as child:\n"
        "    child.ask({'do': 'a'})\n    print(child.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(sys.modules["caloforge"].__file__ or "").parents[1]
    paths = os.pathsep.join([os.environ["PYTHONPATH"], str(root)])
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, check=False)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and _runs(int(done.stdout)):
        time.sleep(0.05)
    assert not _runs(int(done.stdout))


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"nonsense\n", "is no JSON"),
        (b"[1]\n", "must be a table, got list"),
        (b"[" * 5000 + b"\n", "is no JSON: it is nested"),
        (b'{"bytes": 11}\n', "comes with 0 to 10 bytes, not 11"),
        (b'{"bytes": -1}\n', "not -1"),
        (b'{"bytes": true}\n', "not True"),
        (b'{"bytes": "3"}\n', "not '3'"),
        (b"x" * 70_000, "a line of more than 65536 bytes"),
        (b"{}" + b" " * 70_000 + b"\n", "a line of more than 65536 bytes"),
    ],
)
def test_messages_from_anywhere_are_checked(sent: bytes, why: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        channel = Channel(ours, 10)
        with pytest.raises(MessageError, match=why):
            list(channel)


def test_messages_from_anywhere_arrive() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b'{"a": 1}\n{"bytes": 10}\n0123456789{}\n')
        theirs.shutdown(socket.SHUT_WR)
        assert list(Channel(ours, 10)) == [{"a": 1}, {"bytes": b"0123456789"}, {}]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_just_being_started_ends_with_us(number: int) -> None:
    code = """
from caloforge.runtime.processes import run_module
from caloforge.runtime.signals import stoppable
with stoppable():
    print("begins", flush=True)
    run_module("http.server", 0, "--bind", "127.0.0.1")
"""
    root = str(Path(sys.modules["caloforge"].__file__ or "").parents[1])
    for delay in (0.0, 0.001, 0.002, 0.004, 0.3):
        parent = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            env=os.environ | {"PYTHONPATH": root},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"begins\n"
            time.sleep(delay)
            parent.send_signal(number)
            parent.communicate(timeout=20)  # until nobody holds its output
        except BaseException:
            os.killpg(parent.pid, signal.SIGKILL)  # a failure leaves nothing behind, and does not wait for it
            parent.communicate()
            raise
        assert parent.returncode
        with pytest.raises(ProcessLookupError):
            os.killpg(parent.pid, 0)
