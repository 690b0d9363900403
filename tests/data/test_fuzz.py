"""Files damaged at random: every read ends, in an error of ours or in right numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import damage
import pytest

SECONDS = 600
"""After this, a read is taken to have no end."""


@pytest.mark.parametrize(
    ("first", "stop"),
    [(0, 60), *(pytest.param(k, k + 125, marks=pytest.mark.slow) for k in range(60, 560, 125))],
)
def test_damaged_files(first: int, stop: int, tmp_path: Path) -> None:
    command = [sys.executable, damage.__file__, str(tmp_path), str(first), str(stop)]
    said = tmp_path / "said"
    with said.open("w") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, timeout=SECONDS, check=False)
    lines = said.read_text().splitlines()
    assert done.returncode == 0, lines[-20:]
    assert lines.pop() == "done"
    assert len(lines) == stop - first
    assert [line for line in lines if "TRACEBACK" in line or "WRONG" in line] == []
    refused = sum("refused: " in line for line in lines)
    assert 0.5 * len(lines) < refused < len(lines)
