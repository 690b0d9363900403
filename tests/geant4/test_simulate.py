"""Making showers: the same whoever makes them, resumed after a kill, clear errors."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from caloforge.data import Showers, open_showers
from caloforge.detector.detector import Detector
from caloforge.detector.mesh import CylinderMesh
from caloforge.errors import ConditionError, DataError, SimulationError
from caloforge.geant4 import simulate

N = 24
SETTINGS = {"n": N, "energy": "1-3GeV", "seed": 11, "phi": "0-360deg", "progress": False}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """An uninterrupted run on one worker."""
    return simulate("par04-siw", out=tmp_path_factory.mktemp("reference") / "a.h5", workers=1, **SETTINGS)


def same(a, b):
    np.testing.assert_array_equal(a.energies, b.energies)
    for name in ("energy", "theta", "phi", "particle", "detector"):
        np.testing.assert_array_equal(getattr(a.conditions, name), getattr(b.conditions, name))


def test_what_is_in_the_file(reference):
    assert reference.energies.shape == (N, 45, 16, 9)
    assert reference.energies.dtype == np.float32
    positive = reference.energies[reference.energies > 0]
    assert positive.min() >= 0.01515
    assert (reference.extra["geant4_cpu_seconds"] > 0).all()
    made = reference.provenance["settings"]
    assert made["physics"] == "G4EmStandardPhysics"
    assert "reduced" in made["data"]
    assert made["seed"] == 11
    assert 0.8 < (reference.energies.sum((1, 2, 3)) / reference.conditions.energy).mean() < 1.1


def test_two_workers_make_the_same(reference, tmp_path):
    two = simulate("par04-siw", out=tmp_path / "b.h5", workers=2, **SETTINGS)
    same(two, reference)
    assert [path.name for path in tmp_path.iterdir()] == ["b.h5"]


def test_shards_are_the_whole(reference, tmp_path):
    parts = [
        simulate("par04-siw", out=tmp_path / f"{k}.h5", shard=f"{k}/2", workers=1, **SETTINGS) for k in (2, 1)
    ]
    same(Showers.concatenate(parts[::-1]), reference)
    assert parts[0].provenance["settings"]["first"] == N // 2
    with pytest.raises(DataError, match="other settings"):
        simulate("par04-siw", out=tmp_path / "1.h5", shard="2/2", resume=True, **SETTINGS)


def test_resumed_after_a_kill(reference, tmp_path):
    out = tmp_path / "c.h5"
    call = f"simulate('par04-siw', out={str(out)!r}, workers=1, **{SETTINGS!r})"
    code = f"from caloforge.geant4 import simulate; {call}"
    with subprocess.Popen([sys.executable, "-c", code], env=os.environ.copy()) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("c.h5.parts/chunk-*.npz")) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    made = len(list(tmp_path.glob("c.h5.parts/chunk-*.npz")))
    assert 1 <= made < 12
    assert not out.exists()
    with pytest.raises(DataError, match=r"unfinished simulation.*--resume"):
        simulate("par04-siw", out=out, workers=2, **SETTINGS)
    with pytest.raises(DataError, match=r"its seed differs \(it was 11, now it is 12\)"):
        simulate("par04-siw", out=out, resume=True, **(SETTINGS | {"seed": 12}))
    resumed = simulate("par04-siw", out=out, workers=2, resume=True, **SETTINGS)
    same(resumed, reference)
    again = simulate("par04-siw", out=out, workers=2, resume=True, **SETTINGS)  # nothing left to do
    same(again, reference)
    with pytest.raises(DataError, match="exists"):
        simulate("par04-siw", out=out, **SETTINGS)


def test_a_batch_system_sends_its_signal_to_all(tmp_path):
    out = tmp_path / "s.h5"
    ask = ["simulate", "par04-siw", "-n", "2000", "--energy", "5GeV", "--workers", "1", "-o", str(out)]
    command = [sys.executable, "-m", "caloforge", *ask]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("s.h5.parts/chunk-*.npz")) and time.monotonic() < deadline:
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for one in (*map(int, children), process.pid):
            os.kill(one, signal.SIGUSR1)
        _, text = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGUSR1, text
    assert "of 2000 showers are kept in" in text
    assert "--resume" in text
    assert "Traceback" not in text
    assert list(tmp_path.glob("s.h5.parts/chunk-*.npz"))


def test_a_worker_killed_is_one_clear_error(tmp_path):
    out = tmp_path / "k.h5"
    code = (
        "import sys\nfrom caloforge.geant4 import simulate\nfrom caloforge.errors import SimulationError\n"
        f"try: simulate('par04-siw', out={str(out)!r}, n=2000, energy='5GeV', workers=1, progress=False)\n"
        "except SimulationError as error: print(error); sys.exit(3)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("k.h5.parts/chunk-*.npz")) and time.monotonic() < deadline:
            time.sleep(0.05)
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        text, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "it was killed by signal 9" in text
    assert "of 2000 showers are kept" in text
    assert "RuntimeWarning" not in text


def test_a_worker_that_dies_is_one_clear_error(tmp_path):
    broken = Detector.load("par04-siw").to_dict()
    broken["stack"][0]["layers"][0]["material"] = "G4_UNOBTAINIUM"
    with pytest.raises(SimulationError, match=r"UNOBTAINIUM") as caught:
        simulate(Detector.from_dict(broken), out=tmp_path / "d.h5", workers=1, **SETTINGS)
    assert "None of the 24 showers was finished" in str(caught.value)


@pytest.mark.parametrize("settings", [{"n": 0}, {"workers": 0}])
def test_senseless_settings(settings, tmp_path):
    with pytest.raises(ConditionError, match="at least 1"):
        simulate("par04-siw", out=tmp_path / "e.h5", **(SETTINGS | settings))


def test_another_mesh(tmp_path, reference):
    fine = CylinderMesh.regular(n_phi=50, n_r=18, dr=2.325)
    showers = simulate("par04-siw", out=tmp_path / "f.h5", workers=2, mesh=fine, **SETTINGS)
    assert showers.energies.shape == (N, 45, 50, 18)
    ratio = showers.energies.sum((1, 2, 3)) / reference.energies.sum((1, 2, 3))
    assert ratio == pytest.approx(1.0, abs=0.08)  # more cells, each with the same threshold


def test_one_seed_is_other_conversions_in_another_detector_and_at_another_energy(tmp_path):
    first = []
    for name, energy in (("par04-siw", "1GeV"), ("odd-ecal", "1GeV"), ("par04-siw", "1001MeV")):
        out, shot = tmp_path / f"{name}-{energy}.h5", {"particle": "gamma", "energy": energy}
        made = simulate(name, out=out, n=60, seed=1, **shot, workers=1, progress=False)
        first.append((made.energies.sum(axis=(2, 3)) > 0).argmax(axis=1))  # the layer of the conversion
    correlation = np.corrcoef(first)[np.triu_indices(3, 1)]
    assert np.std(first, axis=1).min() > 0.5
    assert np.abs(correlation).max() < 0.4, correlation  # three standard deviations of chance; was 0.6


@pytest.mark.parametrize("name", Detector.names())
def test_every_detector_makes_showers(name, tmp_path):
    detector = Detector.load(name)
    showers = simulate(name, out=tmp_path / "g.h5", n=4, energy="2GeV", workers=1, progress=False)
    assert showers.energies.shape == (4, *detector.mesh.shape)
    fraction = showers.energies.reshape(4, -1).sum(axis=1) / 2000
    assert 0.6 < fraction.mean() < 1.15, name
    assert open_showers(tmp_path / "g.h5").mesh == detector.mesh
