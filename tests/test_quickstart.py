"""The main job on real Geant4, small."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from thin import write_thin

from caloforge.checkpoint.pretrained import default_model
from caloforge.data import open_showers
from caloforge.evaluation import read_comparison

SMALL = ["training.epochs=1", "settings.hidden=16", "settings.blocks=4"]
ELSEWHERE = """
import caloforge.quickstart as quickstart
from caloforge.cli.app import main

quickstart.DETECTOR, quickstart.default_model = "thin.toml", lambda detector: "beside"
main()
"""


@pytest.fixture(params=["thin.toml", pytest.param("par04-siw", marks=pytest.mark.slow)])
def detector(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The quickstart's own, and one of fewer layers to draw, beside which the same model stands once more."""
    write_thin(tmp_path / "thin.toml")
    (tmp_path / "beside").symlink_to(Path("quickstart") / "model")
    return str(request.param)


def begin(detector: str, folder: Path) -> subprocess.Popen[str]:
    by = ["-m", "caloforge"] if detector == "par04-siw" else ["-c", ELSEWHERE]
    settings = [part for text in SMALL for part in ("--set", text)]
    command = [sys.executable, *by, "quickstart", "-n", "100", str(folder), *settings]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder.parent
    )


def test_quickstart_from_nothing_and_on_after_an_interrupt(detector: str, tmp_path: Path) -> None:
    folder = tmp_path / "quickstart"
    with begin(detector, folder) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("4/5"):
                process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        told = process.stderr.read()
    assert process.returncode == 130, told
    assert "run the quickstart again to go on" in " ".join(told.split())
    assert not (folder / "report").exists()
    made = {name: (folder / name).stat().st_mtime_ns for name in ("geant4.h5", "model/model.safetensors")}

    with begin(detector, folder) as process:
        told, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert "5/5" in told
    assert "report.html" in told
    for name, when in made.items():
        assert (folder / name).stat().st_mtime_ns == when, f"{name} was made again"
    metrics = json.loads((folder / "report" / "metrics.json").read_text())
    assert metrics["counts"]["reference"] == 30
    assert metrics["timing"]["speed_up"] > 0
    assert "Geant4" in (folder / "report" / "report.html").read_text()
    assert any("training showers are repeated" in warning for warning in metrics["warnings"])

    # what comes with caloforge stands beside it, judged on the same showers
    pretrained = default_model("par04-siw") if detector == "par04-siw" else "beside"
    comparison = read_comparison(folder / "comparison")
    assert [model.name for model in comparison.models] == ["quickstart", pretrained]
    assert comparison.evaluations["quickstart"].to_dict() == metrics
    generated, shipped = (open_showers(folder / name) for name in ("generated.h5", f"{pretrained}.h5"))
    np.testing.assert_array_equal(generated.conditions.energy, shipped.conditions.energy)
    assert Path(shipped.provenance["checkpoint"]["path"]).name == pretrained
    assert pretrained in (folder / "comparison" / "compare.html").read_text()
