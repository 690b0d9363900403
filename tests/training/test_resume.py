import json
import os
import signal
import subprocess
import sys
from typing import Literal

import pytest
import toy_models
from toy_models import RECIPE, LayerGaussian, toy_showers

from caloforge.checkpoint import Checkpoint
from caloforge.data import Showers, write_showers
from caloforge.errors import CheckpointError
from caloforge.models import names
from caloforge.runtime import precision
from caloforge.training import loader, run, train

CHANGES = {"settings.dropout": 0.3, "training.clip": 1.0, "training.augment": ["rotate_phi"]}


class Stops(LayerGaussian):
    """Sends its own process a signal in one of its steps."""

    at: int | None = None
    number = signal.SIGINT
    count = 0

    def after_step(self, part):
        type(self).count += 1
        if self.count == self.at:
            os.kill(os.getpid(), self.number)


@pytest.fixture
def stops(monkeypatch):
    monkeypatch.setattr(toy_models, "Stops", Stops, raising=False)
    monkeypatch.setattr(Stops, "count", 0)
    monkeypatch.setattr(Stops, "at", None)
    return Stops


def fit(out, showers=None, **options):
    changes = CHANGES | {"model": "toy_models:Stops"} | options.pop("overrides", {})
    return train(RECIPE, showers or toy_showers(), out=out, overrides=changes, progress=False, **options)


def changed_in_the_middle():
    """The toy showers, but those from 10 to 289 have five times the energy."""
    showers = toy_showers()
    energies = showers.energies.copy()
    energies[10:-10] *= 5
    return Showers(energies, showers.conditions, showers.mesh, showers.provenance)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("at", [3, 16, 21])  # in the first epoch, at the end of one, in the middle
def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path, monkeypatch, stops, at, streamed):
    monkeypatch.setattr(run, "fits_in_memory", lambda showers: not streamed)
    if streamed:
        monkeypatch.setattr(loader, "WHOLE_BYTES", 0)
        monkeypatch.setattr(loader, "WINDOW_BYTES", 4 * 64 * toy_models.MESH.n_voxels)
        monkeypatch.setattr(loader, "RUN", 8)
    whole = fit(tmp_path / "whole")
    stops.count, stops.at = 0, at
    with pytest.raises(KeyboardInterrupt, match="resume=True"):
        fit(tmp_path / "cut")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.setattr(run, "fits_in_memory", lambda showers: True)  # the machine is another
    resumed = fit(tmp_path / "cut", resume=True)
    assert resumed.fingerprint == whole.fingerprint
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("whole", "cut")]
    parts = [[json.loads(line)["parts"] for line in log] for log in logs]
    assert parts[0] == parts[1]
    assert not (tmp_path / "cut" / "resume").exists()


def test_termination_saves_too(tmp_path, monkeypatch, stops):
    stops.at = 20
    monkeypatch.setattr(stops, "number", signal.SIGTERM)
    with pytest.raises(SystemExit) as error:
        fit(tmp_path / "a")
    assert error.value.code == 128 + signal.SIGTERM
    assert Checkpoint.load(tmp_path / "a").metrics["steps"] == 20
    with pytest.raises(CheckpointError, match="unfinished training"):
        fit(tmp_path / "a")


class StopsInEither(Stops):
    """In bfloat16 where the machine has it."""

    class Settings(Stops.Settings):
        bf16: bool | Literal["auto"] = "auto"


def test_a_training_goes_on_in_the_precision_it_began_with(tmp_path, monkeypatch, stops):
    monkeypatch.setattr(toy_models, "StopsInEither", StopsInEither, raising=False)
    monkeypatch.setattr(precision, "native_bf16", lambda device: True)
    either = {"overrides": {"model": "toy_models:StopsInEither"}}
    stops.at = 16
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "a", **either)
    assert Checkpoint.load(tmp_path / "a").provenance["precision"] == "bfloat16"
    monkeypatch.setattr(precision, "native_bf16", lambda device: False)
    with pytest.raises(CheckpointError, match=r"it was bfloat16, now it is float32.*--precision bfloat16"):
        fit(tmp_path / "a", resume=True, **either)
    done = fit(tmp_path / "a", resume=True, precision="bfloat16", **either)
    assert done.provenance["precision"] == "bfloat16"
    assert done.provenance["kernels"] == "none"
    with pytest.raises(CheckpointError, match=r"precision bfloat16, not float32 .--precision bfloat16"):
        fit(tmp_path / "a", resume=True, **either)
    again = fit(tmp_path / "a", resume=True, precision="bfloat16", **either)
    assert again.fingerprint == done.fingerprint


def test_only_files_of_the_state_are_removed(tmp_path, stops):
    notes = tmp_path / "a" / "resume" / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    fit(tmp_path / "a")
    assert [path.name for path in notes.parent.iterdir()] == ["notes.txt"]
    stops.count, stops.at = 0, 20
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "b" / "resume").iterdir())
    assert names == ["state-20.safetensors", "state.json"]


def test_only_the_same_training_is_resumed(tmp_path, stops):
    stops.at = 3
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"finished an epoch"):
        Checkpoint.load(tmp_path / "a")
    with pytest.raises(CheckpointError, match="seed of that training differs"):
        fit(tmp_path / "a", resume=True, seed=1)
    with pytest.raises(CheckpointError, match="recipe of that training differs"):
        fit(tmp_path / "a", resume=True, overrides={"training.epochs": 9})
    with pytest.raises(CheckpointError, match=r"threads .* differs .it was 1, now it is 2.*--threads 1"):
        fit(tmp_path / "a", resume=True, threads=2)
    with pytest.raises(CheckpointError, match="data of that training differs"):
        fit(tmp_path / "a", changed_in_the_middle(), resume=True)
    state = next((tmp_path / "a" / "resume").glob("*.safetensors"))
    state.write_bytes(state.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="truncated"):
        fit(tmp_path / "a", resume=True)
    fit(tmp_path / "a", overwrite=True)


def test_a_finished_training_notices_other_showers(tmp_path, stops):
    done = fit(tmp_path / "a")
    assert fit(tmp_path / "a", resume=True).fingerprint == done.fingerprint
    with pytest.raises(CheckpointError, match="a finished training with other showers"):
        fit(tmp_path / "a", changed_in_the_middle(), resume=True)
    with pytest.raises(CheckpointError, match="a finished training with the seed 0, not 1"):
        fit(tmp_path / "a", resume=True, seed=1)
    with pytest.raises(CheckpointError, match="a finished training with another recipe"):
        fit(tmp_path / "a", resume=True, overrides={"training.epochs": 9})
    assert Checkpoint.load(tmp_path / "a").fingerprint == done.fingerprint


def test_a_finished_training_of_an_older_version_is_returned(tmp_path, stops):
    fit(tmp_path / "a")
    about = tmp_path / "a" / "checkpoint.json"
    told = json.loads(about.read_text())
    del told["provenance"]["fingerprints"]
    about.write_text(json.dumps(told))
    fit(tmp_path / "a", resume=True)


def test_a_training_goes_on_after_its_model_moved(tmp_path, stops, monkeypatch):
    stops.at = 20
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "a")
    monkeypatch.setitem(names.MOVED, "toys_of_old", "toy_models")
    state = tmp_path / "a" / "resume" / "state.json"
    state.write_text(state.read_text().replace("toy_models:", "toys_of_old:"))
    stops.at = None
    done = fit(tmp_path / "a", resume=True)
    about = tmp_path / "a" / "checkpoint.json"
    about.write_text(about.read_text().replace("toy_models:", "toys_of_old:"))
    assert fit(tmp_path / "a", resume=True).metrics == done.metrics
    assert Checkpoint.load(tmp_path / "a").model().n_parameters == done.model().n_parameters


ASKED = """
import os, signal, sys
import torch, toy_models
torch.set_num_threads(1)
from caloforge.cli.app import main

class Asked(toy_models.LayerGaussian):
    count = 0
    def after_step(self, part):
        self.count += 1
        if self.count == 19:
            os.kill(os.getpid(), int(number))

Asked.__module__ = "toy_models"
toy_models.Asked = Asked
number, *sys.argv[1:] = sys.argv[1:]
main()
"""


def test_the_command_ends_with_the_status_of_its_signal(tmp_path):
    """Of others in `test_stopped`."""
    number, status = signal.SIGINT, 130
    recipe, showers, out = tmp_path / "recipe.toml", tmp_path / "showers.h5", tmp_path / "out"
    recipe.write_text('model = "toy_models:Asked"\n[training]\nepochs = 6\nbatch_size = 50\n')
    write_showers(toy_showers(), showers)
    command = ["train", recipe, showers, "--out", out, "--device", "cpu"]
    script = [sys.executable, "-c", ASKED, str(int(number)), *map(str, command)]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert "all is saved" in done.stderr
    assert "--resume" in done.stderr
    assert "Traceback" not in done.stderr
    assert Checkpoint.load(out).metrics["steps"] == 19


KILLED = """
import os, signal, sys
import torch, toy_models
torch.set_num_threads(1)
from caloforge.training import loader, run, train
run.SAVING_SHARE = 1e9

class Killed(toy_models.LayerGaussian):
    count = 0
    def after_step(self, part):
        self.count += 1
        if self.count == 29:
            os.kill(os.getpid(), signal.SIGKILL)

Killed.__module__ = "toy_models"
toy_models.LayerGaussian = Killed
train(toy_models.RECIPE, toy_models.toy_showers(), out=sys.argv[1], progress=False)
"""


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "cut")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert Checkpoint.load(tmp_path / "cut").metrics["epochs"] == 3
    whole = train(RECIPE, toy_showers(), out=tmp_path / "whole", progress=False)
    resumed = train(RECIPE, toy_showers(), out=tmp_path / "cut", resume=True, progress=False)
    assert resumed.fingerprint == whole.fingerprint
    assert resumed.metrics["epochs"] == 6
