"""Writes that the kernel refuses, as on a full disk: one clear error, nothing lost, and it goes on.

A limit on the size of files (RLIMIT_FSIZE) stands for the end of the disk, in a process of its own and its
workers; no function is replaced.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from caloforge.data import open_showers

LIMITED = """
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
from caloforge.cli.app import main
main()
"""


def limited(size: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LIMITED, str(size), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def run(*arguments: object) -> None:
    command = [sys.executable, "-m", "caloforge", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("size", [4_000, 150_000], ids=["first chunk", "joining chunks"])
def test_simulation_on_a_full_disk(tmp_path: Path, size: int) -> None:
    out = tmp_path / "full.h5"
    command = ["simulate", "par04-siw", "-n", 120, "--energy", "2-5GeV", "--seed", 4, "--workers", 2, "-o"]
    done = limited(size, *command, out)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "error:" in done.stderr
    assert "disk" in done.stderr or "File too large" in done.stderr
    assert "--resume" in done.stderr
    assert not out.exists()

    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    assert bool(kept) == (size > 100_000)
    run(*command, out, "--resume")
    run(*command, tmp_path / "whole.h5")
    resumed, whole = open_showers(out), open_showers(tmp_path / "whole.h5")
    np.testing.assert_array_equal(resumed.energies, whole.energies)
    np.testing.assert_array_equal(resumed.conditions.energy, whole.conditions.energy)


def test_generation_on_a_full_disk(tmp_path: Path) -> None:
    showers, model, out = tmp_path / "geant4.h5", tmp_path / "model", tmp_path / "full.h5"
    run("simulate", "par04-siw", "-n", 40, "--energy", "2-5GeV", "-o", showers)
    small = ["settings.blocks=1", "settings.hidden=8", "settings.depth=0", "training.epochs=1"]
    run("train", "quickstart", showers, "-o", model, *(part for text in small for part in ("--set", text)))
    command = ["generate", model, "--energy", "3-4GeV", "-n", 300, "--batch-size", 128, "-o"]
    run(*command, tmp_path / "whole.h5")
    for size in (4_000, (tmp_path / "whole.h5").stat().st_size // 2):
        done = limited(size, *command, out, "--resume")
        assert done.returncode == 1, done.stderr
        assert done.stderr.startswith("error:")
        assert "File too large" in done.stderr
        assert not out.exists()
    run(*command, out, "--resume")
    np.testing.assert_array_equal(open_showers(out).energies, open_showers(tmp_path / "whole.h5").energies)
