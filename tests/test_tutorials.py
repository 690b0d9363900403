"""The tutorials run as they stand, without Jupyter: Python in one namespace, commands in a shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TUTORIALS = Path(__file__).parents[1] / "docs" / "tutorials"
CELL = re.compile(r"^```\{code-cell\}\n((?::.*\n)*)(.*?)^```", re.MULTILINE | re.DOTALL)
pages = [page for page in sorted(TUTORIALS.glob("*.md")) if page.stem != "index"]
pytestmark = pytest.mark.slow


def cells(page: Path) -> list[str]:
    return [code for _, code in CELL.findall(page.read_text(encoding="utf-8"))]


def in_a_shell(code: str, commands: Path) -> None:
    """Run commands, ``caloforge`` being that of this Python."""
    commands.mkdir(exist_ok=True)
    program = commands / "caloforge"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m caloforge "$@"\n')
    program.chmod(0o755)
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-e", "-c", code], check=True, env={**os.environ, "PATH": path})


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("page", pages, ids=lambda page: page.stem)
def test_it_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    names: dict[str, Any] = {}
    for code in cells(page):
        magic, _, rest = code.partition("\n")
        if magic == "%%bash -e":
            in_a_shell(rest, tmp_path / "bin")
        elif magic.startswith("%%writefile "):
            Path(magic.split()[1]).write_text(rest)
        else:
            exec(compile(code, page.name, "exec"), names)
