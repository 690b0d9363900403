"""The ``caloforge`` command, each in a process of its own: forked from one that has imported all it needs.

What it takes to start Python and import torch is most of what a command of the tests takes.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["caloforge", "fails", "succeeds"]

NEEDED = (
    "caloforge.training.run",
    "caloforge.generation.generate",
    "caloforge.report.evaluate",
    "matplotlib.figure",
    "mplhep",
    "scipy.stats",
)


def caloforge(
    *arguments: object, cwd: Path | None = None, largest: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in this environment; the kernel refuses it files of more than ``largest`` bytes."""
    with tempfile.TemporaryDirectory() as folder:
        job = {
            "arguments": [*map(str, arguments)],
            "cwd": str(cwd or Path.cwd()),
            "environment": dict(os.environ),
            "largest": largest,
            "folder": folder,
        }
        server = _server()
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(job) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        out, err = ((Path(folder) / name).read_text() for name in ("out", "err"))
    return subprocess.CompletedProcess(job["arguments"], status, out, err)


def succeeds(*arguments: object, cwd: Path | None = None) -> str:
    """What a command says."""
    done = caloforge(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fails(*arguments: object, cwd: Path | None = None) -> str:
    """The message of a command that must fail with one message and no traceback."""
    done = caloforge(*arguments, cwd=cwd)
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    message = "".join(line for line in done.stderr.splitlines(True) if not line.startswith("note:"))
    assert message.startswith("error:")
    return " ".join(message.split())


@cache
def _server() -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(server.communicate)
    return server


def _serve() -> None:
    """Fork a process for each command, and tell its status."""
    for name in NEEDED:
        importlib.import_module(name)
    from caloforge.cli.app import main

    gc.freeze()  # a collection would touch, and so copy, all that is shared with this process
    for line in sys.stdin:
        if not (process := os.fork()):
            _become(**json.loads(line))
            _leave(main)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


def _become(arguments: list[str], cwd: str, environment: dict[str, str], largest: Any, folder: str) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
    for number, name in enumerate((os.devnull, "out", "err")):
        opened = os.open(Path(folder) / name, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, number)
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))


def _leave(main: Callable[[], None]) -> NoReturn:
    """End with a command as Python does, but without taking apart what was imported."""
    status = 0
    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


if __name__ == "__main__":
    _serve()
