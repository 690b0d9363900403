"""The main job on real Geant4, small."""

import json
import subprocess
import sys
from pathlib import Path


def run(folder: Path) -> str:
    command = [
        sys.executable, "-m", "caloforge", "quickstart", str(folder), "-n", "100",
        "--set", "training.epochs=1", "--set", "settings.hidden=16", "--set", "settings.blocks=4",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_quickstart_from_nothing_and_again(tmp_path: Path) -> None:
    folder = tmp_path / "quickstart"
    told = run(folder)
    assert "5/5" in told
    assert "report.html" in told
    metrics = json.loads((folder / "report" / "metrics.json").read_text())
    assert metrics["counts"]["reference"] == 30
    assert metrics["timing"]["speed_up"] > 1
    page = (folder / "report" / "report.html").read_text()
    assert "Geant4" in page

    made = {name: (folder / name).stat().st_mtime_ns for name in ("geant4.h5", "model/model.safetensors")}
    run(folder)
    for name, when in made.items():
        assert (folder / name).stat().st_mtime_ns == when, f"{name} was made again"
