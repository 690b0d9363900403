"""Writes that the kernel refuses, as on a full disk: one clear error, nothing lost, and it goes on.

A limit on the size of files (RLIMIT_FSIZE) stands for the end of the disk, in a process of its own and its
workers; no function is replaced.
"""

from pathlib import Path

import numpy as np
import pytest
from commands import caloforge, succeeds

from caloforge.data import open_showers

SIMULATE = ["simulate", "par04-siw", "-n", 40, "--energy", "2-5GeV", "--seed", 4, "--workers", 2, "-o"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Showers on a disk that has room for them."""
    out = tmp_path_factory.mktemp("whole") / "whole.h5"
    succeeds(*SIMULATE, out)
    return out


@pytest.mark.parametrize("size", [4_000, 60_000], ids=["first chunk", "joining chunks"])
def test_simulation_on_a_full_disk(whole: Path, tmp_path: Path, size: int) -> None:
    out = tmp_path / "full.h5"
    done = caloforge(*SIMULATE, out, largest=size)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "error:" in done.stderr
    assert "disk" in done.stderr or "File too large" in done.stderr
    assert "--resume" in done.stderr
    assert not out.exists()

    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    assert bool(kept) == (size > 10_000)
    succeeds(*SIMULATE, out, "--resume")
    resumed, expected = open_showers(out), open_showers(whole)
    np.testing.assert_array_equal(resumed.energies, expected.energies)
    np.testing.assert_array_equal(resumed.conditions.energy, expected.conditions.energy)


def test_generation_on_a_full_disk(whole: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "full.h5"
    small = ["settings.blocks=1", "settings.hidden=8", "settings.depth=0", "training.epochs=1"]
    succeeds("train", "quickstart", whole, "-o", model, *(part for text in small for part in ("--set", text)))
    command = ["generate", model, "--energy", "3-4GeV", "-n", 300, "--batch-size", 128, "-o"]
    succeeds(*command, tmp_path / "whole.h5")
    for size in (4_000, (tmp_path / "whole.h5").stat().st_size // 2):
        done = caloforge(*command, out, "--resume", largest=size)
        assert done.returncode == 1, done.stderr
        assert done.stderr.startswith("error:")
        assert "File too large" in done.stderr
        assert not out.exists()
    succeeds(*command, out, "--resume")
    np.testing.assert_array_equal(open_showers(out).energies, open_showers(tmp_path / "whole.h5").energies)
