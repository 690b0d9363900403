"""A campaign whose workers are killed again and again is complete, and its showers those of a quiet one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHAOS = Path(__file__).parents[2] / "benchmarks" / "chaos.py"


@pytest.mark.slow
def test_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    if not CHAOS.is_file():
        pytest.skip("no benchmarks here")
    words = [tmp_path, "--shards", 60, "--showers", 10, "--every", 0.3]
    done = subprocess.run(
        [sys.executable, str(CHAOS), *map(str, words)], capture_output=True, text=True, timeout=1200
    )
    assert done.stdout, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, told
    assert told["kills"] > 3
    assert told["equal"]
