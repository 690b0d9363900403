"""The command line as a user meets it."""

import json
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np
import pytest
from commands import caloforge, fails, succeeds

from caloforge.checkpoint.pretrained import default_model
from caloforge.data import Conditions, Showers, open_showers, write_showers
from caloforge.detector import CylinderMesh
from caloforge.detector.detector import FILES

SMALL = [
    "--set",
    "settings.blocks=2",
    "--set",
    "settings.hidden=8",
    "--set",
    "settings.depth=1",
    "--set",
    "settings.bins=4",
    "--set",
    "settings.energy_hidden=8",
    "--set",
    "training.epochs=2",
    "--set",
    "training.batch_size=16",
]


def toy_showers(n_z: int, n: int, seed: int = 0) -> Showers:
    """Showers of layers of 4 × 3 cells."""
    mesh = CylinderMesh.regular(n_z=n_z, n_phi=4, n_r=3)
    rng = np.random.default_rng(seed)
    energy = np.exp(rng.uniform(np.log(1000), np.log(10000), n))
    energies = energy[:, None] * rng.dirichlet(np.full(mesh.n_voxels, 0.5), n)
    energies[energies < 15] = 0
    return Showers(energies, Conditions(energy, particle="e-", detector="toy"), mesh)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty toy showers and a checkpoint trained on them by the command."""
    folder = tmp_path_factory.mktemp("cli")
    write_showers(toy_showers(6, 80), folder / "showers.h5")
    out = succeeds("train", "layer-flow", folder / "showers.h5", "-o", folder / "model", "--seed", 3, *SMALL)
    assert "checkpoint" in out
    return folder


def test_version_and_help() -> None:
    command = [sys.executable, "-m", "caloforge", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"caloforge {version('caloforge')}")
    for command in (
        [],
        ["simulate"],
        ["train"],
        ["generate"],
        ["adapt"],
        ["upsample"],
        ["evaluate"],
        ["compare"],
        ["bench"],
        ["amplify"],
        ["quickstart"],
        ["serve"],
        ["doctor"],
        ["data", "info"],
    ):
        assert "Usage" in succeeds(*command, "--help")


def test_lists() -> None:
    assert "par04-siw" in succeeds("detectors")
    assert "layer-flow" in succeeds("recipes")


def test_a_list_that_goes_to_no_terminal_is_whole() -> None:
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in succeeds("models").splitlines()]
    whole = ["showertransformer-siw", "par04-siw", "e-", "1-50 GeV", "45 × 16 × 9", "7,736,235"]
    assert whole in rows


def test_generate_like_a_file_is_reproducible(folder: Path, tmp_path: Path) -> None:
    for name, batch in (("a.h5", 7), ("b.h5", 80)):
        told = succeeds(
            "generate",
            folder / "model",
            "--like",
            folder / "showers.h5",
            "-o",
            tmp_path / name,
            "--seed",
            5,
            "--batch-size",
            batch,
        )
        assert "showers/s" in told
        assert "peak memory" in told
    a, b = open_showers(tmp_path / "a.h5"), open_showers(tmp_path / "b.h5")
    np.testing.assert_array_equal(a.energies, b.energies)
    np.testing.assert_allclose(a.conditions.energy, open_showers(folder / "showers.h5").conditions.energy)
    assert set(a.provenance["performance"]) >= {"showers_per_second", "ms_per_shower", "peak_memory_mib"}


def test_generate_with_explicit_energies(folder: Path, tmp_path: Path) -> None:
    succeeds("generate", folder / "model", "--energy", "2-5GeV", "-n", 20, "-o", tmp_path / "a.h5")
    conditions = open_showers(tmp_path / "a.h5").conditions
    assert len(conditions) == 20
    assert conditions.energy.min() >= 2000
    assert conditions.energy.max() <= 5000
    assert set(conditions.detector) == {"toy"}
    succeeds(
        "generate", folder / "model", "--energy", "2-5GeV", "-n", 5, "--first", 15, "-o", tmp_path / "b.h5"
    )
    whole, tail = open_showers(tmp_path / "a.h5"), open_showers(tmp_path / "b.h5")
    np.testing.assert_array_equal(whole.energies[15:], tail.energies)


def test_a_detector_is_enough_to_generate(tmp_path: Path) -> None:
    ask = ["generate", "--detector", "par04-siw", "--energy", "10GeV", "-n", 3, "--seed", 2]
    told = succeeds(*ask, cwd=tmp_path)
    file = tmp_path / "par04-siw_e-_10GeV_n3_seed2.h5"
    assert file.name in told
    assert f"3 showers by {default_model('par04-siw')}" in told
    assert set(open_showers(file).conditions.detector) == {"par04-siw"}
    assert "exists" in fails(*ask, cwd=tmp_path)


def test_any_detector_file_is_enough_to_generate(tmp_path: Path) -> None:
    text = (FILES / "ild-ecal.toml").read_text().replace('name = "ild-ecal"', 'name = "mine"')
    (tmp_path / "anything.toml").write_text(text)
    ask = ["generate", "--detector", "anything.toml", "--energy", "10GeV", "-n", 100]
    done = caloforge(*ask, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "100 showers by gflash:mine → mine_e-_10GeV_n100_seed0.h5" in done.stdout
    assert "warning: no trained model for anything.toml" in done.stderr
    assert len(open_showers(tmp_path / "mine_e-_10GeV_n100_seed0.h5")) == 100
    refused = caloforge(*ask, "--particle", "pi-", cwd=tmp_path)
    assert refused.returncode == 1
    assert "error: gflash:mine is for particles e-, e+, gamma, not 'pi-'" in refused.stderr


def test_files_are_named_after_what_is_asked_for(tmp_path: Path) -> None:
    told = succeeds("simulate", "par04-siw", "-n", 1, "--energy", "100MeV", "--allow-outside", cwd=tmp_path)
    file = tmp_path / "geant4_par04-siw_e-_100MeV_n1_seed0.h5"
    assert f"→ {file.name}" in told
    assert len(open_showers(file)) == 1


def test_detector_particle_and_settings_of_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    ask = [
        "generate",
        folder / "model",
        "--energy",
        "2GeV,4GeV",
        "-n",
        4,
        "--first",
        7,
        "--theta",
        "90deg",
        "--particle",
        "e-",
        "--detector",
        "toy",
    ]
    succeeds(*ask, "--set", "bf16=auto", cwd=tmp_path)
    showers = open_showers(tmp_path / "toy_e-_2GeV-4GeV_theta90deg_n4_from7_seed0.h5")
    assert showers.provenance["request"]["changed_settings"] == {"bf16": "auto"}
    assert showers.conditions.energy.tolist() == [4e3, 2e3, 4e3, 2e3]
    assert "unknown key 'hiden' (did you mean 'hidden'?)" in fails(*ask, "--set", "hiden=3", cwd=tmp_path)


def test_evaluate_writes_metrics_and_report(tmp_path: Path) -> None:
    """Of two layers: drawing takes its time."""
    samples = [tmp_path / f"{seed}.h5" for seed in (0, 1)]
    for seed, path in enumerate(samples):
        write_showers(toy_showers(2, 60, seed), path)
    told = succeeds("evaluate", *samples, "-o", tmp_path / "report", "--classifiers", "none")
    assert "E_tot" in told
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["schema"] >= 1
    assert (tmp_path / "report" / "report.html").stat().st_size > 10_000
    assert "exists" in fails("evaluate", *samples, "-o", tmp_path / "report")


def test_ctrl_c_says_what_is_kept(folder: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "caloforge",
        "generate",
        str(folder / "model"),
        "--energy",
        "2-5GeV",
        "-n",
        "2000000",
        "-o",
        str(tmp_path / "many.h5"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not any(tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted. " in told
    assert "--resume" in told or "resume" in told
    assert "Traceback" not in told


def plain_file(path: Path, n: int, seed: int) -> Path:
    """Showers of data set 2 as anybody writes them: two data sets, no attributes."""
    rng = np.random.default_rng(seed)
    energy = 1000 * 50 ** rng.random(n)
    cells = rng.exponential(1.0, (n, 6480)) * (rng.random((n, 6480)) < 0.2)
    with h5py.File(path, "w") as file:
        file["incident_energies"] = energy[:, None]
        file["showers"] = cells * (energy / cells.sum(axis=1))[:, None]
    return path


def test_anyones_files_are_judged(tmp_path: Path) -> None:
    first, second, third = (plain_file(tmp_path / f"{seed}.h5", 60, seed) for seed in range(3))
    succeeds(
        "evaluate",
        first,
        second,
        "-o",
        tmp_path / "report",
        "--classifiers",
        "none",
        "--no-distances",
        "--no-report",
        "--second-reference",
        third,
        "--training",
        third,
        "--slice",
        "energy=2",
        "--threshold",
        "0.5",
    )
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert metrics["threshold_mev"] == 0.5
    assert [part["condition"] for part in metrics["slices"]] == ["energy", "energy"]
    assert metrics["memorisation"]["counts"]["training"] == 60
    assert "second reference" in metrics["provenance"]
    assert "expected a number of bins or edges" in fails(
        "evaluate", first, second, "-o", tmp_path / "other", "--slice", "energy=few"
    )


def test_errors_say_what_to_do(folder: Path, tmp_path: Path) -> None:
    showers, out = folder / "showers.h5", tmp_path / "x.h5"
    assert "no such folder" in fails("generate", tmp_path / "nothing", "--energy", "2GeV", "-o", out)
    assert "has no unit" in fails("generate", folder / "model", "--energy", "2000", "-o", out)
    message = fails("generate", folder / "model", "--energy", "50GeV", "-o", out)
    assert "50000" in message
    assert "extrapolation" in message
    assert "--like FILE or --energy" in fails("generate", folder / "model", "-o", out)
    assert "no such file" in fails("train", "layer-flow", tmp_path / "no.h5", "-o", tmp_path / "m")
    message = fails("train", "layer-flow", showers, "-o", tmp_path / "m", "--set", "training.epoch=1")
    assert "epochs" in message
    assert "layer-flow" in fails("train", "layerflow", showers, "-o", tmp_path / "m")
    assert "holds a checkpoint" in fails("train", "layer-flow", showers, "-o", folder / "model", *SMALL)
    assert "par04-siw" in fails("simulate", "par04-siv", "-n", 1, "-o", out)
    assert "no unit" in fails("simulate", "par04-siw", "-n", 1, "--energy", "10", "-o", out)
    truncated = tmp_path / "truncated.h5"
    truncated.write_bytes(showers.read_bytes()[:3000])
    assert "truncated.h5" in fails("evaluate", truncated, showers, "-o", tmp_path / "r")
    assert not out.exists()


def test_what_is_assumed_of_a_file_is_on_the_screen(tmp_path: Path) -> None:
    path = tmp_path / "mine.h5"
    with h5py.File(path, "w") as file:
        file["incident_energies"] = np.full((3, 1), 1e4)
        file["showers"] = np.ones((3, 6480), dtype=np.float32)
    for words in (("data", "info", "--json", path), ("data", "convert", path, tmp_path / "out.h5")):
        done = caloforge(*words)
        assert done.returncode == 0, done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("note:")]
        for told in (path.name, "particle e-", "detector par04-siw", "theta 90 deg", "unit MeV"):
            assert told in line
    assert "note:" not in caloforge("data", "info", tmp_path / "out.h5").stderr  # it says all that itself
