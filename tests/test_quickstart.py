"""The main job on real Geant4, small."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from caloforge.checkpoint.pretrained import default_model
from caloforge.data import open_showers
from caloforge.evaluation import read_comparison


def run(folder: Path) -> str:
    command = [
        sys.executable,
        "-m",
        "caloforge",
        "quickstart",
        str(folder),
        "-n",
        "100",
        "--set",
        "training.epochs=1",
        "--set",
        "settings.hidden=16",
        "--set",
        "settings.blocks=4",
    ]
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
    assert "Geant4" in (folder / "report" / "report.html").read_text()
    assert any("training showers are repeated" in warning for warning in metrics["warnings"])

    # the model that comes with caloforge stands beside it, judged on the same showers
    pretrained = default_model("par04-siw")
    comparison = read_comparison(folder / "comparison")
    assert [model.name for model in comparison.models] == ["quickstart", pretrained]
    assert comparison.evaluations["quickstart"].to_dict() == metrics
    generated, shipped = (open_showers(folder / name) for name in ("generated.h5", f"{pretrained}.h5"))
    np.testing.assert_array_equal(generated.conditions.energy, shipped.conditions.energy)
    assert Path(shipped.provenance["checkpoint"]["path"]).name == pretrained
    assert pretrained in (folder / "comparison" / "compare.html").read_text()

    made = {name: (folder / name).stat().st_mtime_ns for name in ("geant4.h5", "model/model.safetensors")}
    run(folder)
    for name, when in made.items():
        assert (folder / name).stat().st_mtime_ns == when, f"{name} was made again"
