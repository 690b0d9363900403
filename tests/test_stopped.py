"""Commands that are stopped by a signal say what is kept, go on from there, and end with 128 + its number."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_models

from caloforge.checkpoint import Checkpoint
from caloforge.data import write_showers
from caloforge.errors import CheckpointError
from caloforge.generation import generate
from caloforge.training import train

SCRIPT = Path(toy_models.__file__).with_name("stops.py")
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
RECIPE = """
model = "toy_models:LayerGaussian"

[training]
epochs = 6
batch_size = 32
learning_rate = 0.02
ema = 0.9
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Toy showers, a recipe, and a checkpoint trained in one go."""
    folder = tmp_path_factory.mktemp("stopped")
    write_showers(toy_models.toy_showers(), folder / "showers.h5")
    (folder / "recipe.toml").write_text(RECIPE)
    train(folder / "recipe.toml", folder / "showers.h5", out=folder / "whole", progress=False)
    return folder


def stopped(where: Path, number: int, at: int, *arguments: object, launcher: tuple[str, ...] = ()) -> Any:
    command = [sys.executable, *launcher, SCRIPT, where, number, at, *arguments]
    return subprocess.Popen(
        [*map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(*paths: Path) -> None:
    deadline = time.monotonic() + 120
    while not all(path.exists() for path in paths) and time.monotonic() < deadline:
        time.sleep(0.05)


def test_generation(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.h5"
    ask = ("generate", folder / "whole", "--like", folder / "showers.h5", "--threads", 1, "-o", out)
    process = stopped(tmp_path, signal.SIGUSR1, 3, *ask, "--batch-size", 70)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 138, told
    assert "192 of 300 showers were made and kept in" in told
    assert "--resume" in told
    assert "Traceback" not in told
    assert not out.exists()
    again: dict[str, Any] = {"like": folder / "showers.h5", "threads": 1, "progress": False}
    made = generate(folder / "whole", out=out, resume=True, **again)
    assert made.provenance["performance"]["n_showers"] == 300 - 192
    np.testing.assert_array_equal(made.energies, generate(folder / "whole", **again).energies)


def test_training(folder: Path, tmp_path: Path) -> None:
    ask = (
        "train",
        folder / "recipe.toml",
        folder / "showers.h5",
        "-o",
        tmp_path / "model",
        "--device",
        "cpu",
    )
    process = stopped(tmp_path, signal.SIGHUP, 20, *ask)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 129, told
    assert "stopped in epoch 3 of 6; all is saved in" in told
    assert told.count("--resume") == 1
    assert "Traceback" not in told
    train(folder / "recipe.toml", folder / "showers.h5", out=tmp_path / "model", resume=True, progress=False)
    trained = [Checkpoint.load(place).fingerprint for place in (tmp_path / "model", folder / "whole")]
    assert trained[0] == trained[1]


@pytest.mark.slow
def test_training_in_several_processes(folder: Path, tmp_path: Path) -> None:
    """A terminal sends its signal to the launcher and its processes, and the launcher sends them another."""
    model = tmp_path / "model"
    ask = ("train", folder / "recipe.toml", folder / "showers.h5", "-o", model, "--device", "cpu")
    process = stopped(tmp_path, 0, 0, *ask, "--set", "training.epochs=1000", launcher=(*TWO,))
    wait_for(tmp_path / "begun-0", tmp_path / "begun-1")
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert [(tmp_path / f"status-{rank}").read_text() for rank in (0, 1)] == ["130", "130"], told
    assert told.count("all is saved in") == 1
    assert (model / "resume" / "state.json").exists()


def test_what_keeps_nothing_says_so(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "caloforge", "evaluate", folder / "showers.h5", folder / "showers.h5"]
    ask = [*map(str, [*command, "-o", tmp_path / "report", "--classifiers", "quick"])]
    with subprocess.Popen(ask, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(tmp_path / "report" / ".caloforge-lock")
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 143, told
    assert told.splitlines()[-1] == "stopped by SIGTERM; nothing was kept."
    assert "Traceback" not in told
    assert list(tmp_path.iterdir()) == []


def test_one_process_trains_a_model(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    ask = ("train", folder / "recipe.toml", folder / "showers.h5", "-o", model, "--device", "cpu")
    first = stopped(tmp_path, 0, 0, *ask, "--set", "training.epochs=1000")
    wait_for(tmp_path / "begun-0")
    message = rf"another process is writing into {model} \({first.pid} on .*; wait for it"
    for how in ("resume", "overwrite"):
        with pytest.raises(CheckpointError, match=message):
            train(folder / "recipe.toml", folder / "showers.h5", out=model, progress=False, **{how: True})
    first.send_signal(signal.SIGTERM)
    _, told = first.communicate(timeout=120)
    assert first.returncode == 143, told
    assert not (model / ".caloforge-lock").exists()
