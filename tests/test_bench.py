"""The benchmark: what is timed is what is generated, every configuration by itself, nothing lost."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_models
from typer.testing import CliRunner

from caloforge.bench import BenchResult, BenchRow, bench
from caloforge.bench.setting import choose_conditions, time_geant4
from caloforge.bench.worker import measure
from caloforge.checkpoint import Checkpoint
from caloforge.cli.app import app
from caloforge.errors import CaloforgeError, CheckpointError, ConditionError, DataError
from caloforge.generation import GenerationRequest, generate
from caloforge.generation.blocks import BlockDecoder
from caloforge.training import train

MODELS = '''
import os, signal, time
from toy_models import LayerGaussian

class Slow(LayerGaussian):
    """Takes 2 ms a shower."""
    def decode(self, noise, conditions):
        time.sleep(0.002 * len(conditions))
        return super().decode(noise, conditions)

class Killed(LayerGaussian):
    def decode(self, noise, conditions):
        os.kill(os.getpid(), signal.SIGKILL)

class Broken(LayerGaussian):
    def decode(self, noise, conditions):
        print("this goes to the log")
        raise RuntimeError("the model is broken")
'''


@pytest.fixture(scope="module", autouse=True)
def _surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The toy models can be imported, also by the benchmark's processes; torch's threads are restored."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "bench_models.py").write_text(MODELS)
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        patch.setenv("CALOFORGE_ALLOW_CODE", "toy_models,bench_models")
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    torch.set_num_threads(1)
    recipe = toy_models.RECIPE | {"training": toy_models.RECIPE["training"] | {"epochs": 1}}
    return train(
        recipe, toy_models.toy_showers(), out=tmp_path_factory.mktemp("toy") / "model", progress=False
    )


@pytest.fixture
def variant(checkpoint: Checkpoint, tmp_path: Path) -> Any:
    """A function that saves the checkpoint with another model or range."""

    def save(name: str = "toy_models:LayerGaussian", **changes: Any) -> Path:
        valid = checkpoint.valid_range | changes
        tensors = {key: value.clone() for key, value in checkpoint.tensors.items()}
        other = dataclasses.replace(checkpoint, model_name=name, valid_range=valid, tensors=tensors)
        return other.save(tmp_path / "variant")

    return save


def run(checkpoint: Checkpoint | Path, **options: Any) -> BenchResult:
    path = checkpoint.path if isinstance(checkpoint, Checkpoint) else checkpoint
    small = {"batch_sizes": [1], "threads": [1], "devices": ["cpu"], "repetitions": 2, "geant4": 0}
    return bench(path, **(small | {"progress": False} | options))


def job(path: Path, **options: Any) -> dict[str, Any]:
    """What a process is given."""
    few = {"energy": [2e3, 1e4], "particle": [11, 11], "detector": ["toy", "toy"]}
    return {
        "checkpoint": str(path),
        "device": "cpu",
        "threads": 1,
        "batch_size": 1,
        "repetitions": 5,
        "budget_s": 10.0,
        "seed": 0,
        "conditions": few,
        "settings": {},
        "precision": "auto",
        "kernels": "auto",
    } | options


def test_energies_outside_the_range_must_be_allowed(checkpoint: Checkpoint) -> None:
    with pytest.raises(ConditionError, match="--allow-extrapolation"):
        run(checkpoint, energy="100-200GeV")
    outside = run(checkpoint, energy="100-200GeV", allow_extrapolation=True)
    assert outside.rows[0].repetitions == 2
    assert outside.conditions["energy"][0] > 1e5


def test_what_is_timed_has_the_changed_settings(checkpoint: Checkpoint) -> None:
    changed = run(checkpoint, settings={"dropout": 0.5})
    assert changed.checkpoint["changed_settings"] == {"dropout": 0.5}
    assert changed.checkpoint["fingerprint"] == checkpoint.with_settings({"dropout": 0.5}).fingerprint
    assert changed.checkpoint["fingerprint"] != checkpoint.fingerprint
    report = measure(job(Path(str(checkpoint.path)), settings={"dropout": 0.5}))
    assert len(report["times"]) == 5
    with pytest.raises(CheckpointError, match="width cannot be changed"):
        measure(job(Path(str(checkpoint.path)), settings={"width": 3}))


@pytest.mark.parametrize("first", [0, 13])
def test_what_is_timed_is_what_generate_makes(checkpoint: Checkpoint, first: int) -> None:
    pool = choose_conditions(checkpoint, 7, None, None, 0)
    numbers = np.arange(first, first + 30, dtype=np.int64)
    request = GenerationRequest.resolve(checkpoint, conditions=pool, seed=5, fixed_blocks=False, device="cpu")
    with torch.inference_mode():
        made = BlockDecoder(request).decode(first, first + 30)
    expected = generate(
        checkpoint,
        conditions=pool[numbers % 7],
        seed=5,
        first=first,
        fixed_blocks=False,
        batch_size=30,
        progress=False,
    )
    assert np.array_equal(made, expected.energies.reshape(30, -1))


def test_rows_say_what_was_measured(checkpoint: Checkpoint, tmp_path: Path) -> None:
    big = 100_000
    result = run(checkpoint, batch_sizes=[big, 1], repetitions=3, out=tmp_path / "b.json")
    assert [row.key for row in result.rows] == [("cpu", 1, big), ("cpu", 1, 1)]
    for row in result.rows:
        assert row.repetitions == len(row.times) == 3
        assert row.ms == pytest.approx(np.mean(row.times))
        assert row.ms_std == pytest.approx(np.std(row.times, ddof=1))
        assert row.ms_min == min(row.times) > 0
        assert row.processor_ms > 0
        assert np.isnan(row.speed_up)
    first, second = result.rows
    assert first.ms < second.ms / 10
    assert first.peak_memory_mib > first.memory_before_mib + 4 * big * toy_models.MESH.n_voxels / 2**20
    assert second.peak_memory_mib < first.memory_before_mib + 10  # not that of the batch before it
    model = checkpoint.model()
    assert result.parameters == sum(p.numel() for p in model.parameters())
    assert result.model_mib * 2**20 == (Path(str(checkpoint.path)) / "model.safetensors").stat().st_size
    assert result.checkpoint["fingerprint"] == checkpoint.fingerprint
    assert result.machine["torch"] == torch.__version__
    assert result.summary().row_count == 2
    assert BenchResult.read(tmp_path / "b.json").to_dict() == result.to_dict()


def test_an_interrupted_benchmark_without_a_file_says_its_numbers(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(key: tuple[str, int, int], job: dict[str, Any]) -> BenchRow:
        if key[2] == 3:
            signal.raise_signal(signal.SIGINT)
        rows.append(measure_one(key, job))
        return rows[-1]

    bench_run = importlib.import_module("caloforge.bench.run")
    rows, measure_one = list[BenchRow](), bench_run._measure
    monkeypatch.setattr(bench_run, "_measure", measured)
    with pytest.raises(KeyboardInterrupt) as stop:
        run(checkpoint, batch_sizes=[1, 2, 3, 4])
    assert str(stop.value).splitlines() == [
        "2 of 4 configurations were measured",
        *(f"cpu, threads: 1, batch {row.batch_size}: {row.ms:.4g} ms per shower" for row in rows),
    ]


def test_an_interrupted_benchmark_goes_on(checkpoint: Checkpoint, tmp_path: Path) -> None:
    out = tmp_path / "b.json"
    command = [
        sys.executable,
        "-m",
        "caloforge",
        "bench",
        str(checkpoint.path),
        "-o",
        str(out),
        "--threads",
        "1",
        "--batches",
        "1,2,3,4,5,6,7,8",
        "--devices",
        "cpu",
        "--repetitions",
        "2",
        "--no-geant4",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not _measured(out):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    done = _measured(out)
    assert 1 <= done < 8
    assert f"{done} of 8 configurations were measured and kept" in " ".join(message.split())
    assert "Traceback" not in message

    first = BenchResult.read(out).rows[0]
    with pytest.raises(DataError, match=r"exists.*--resume"):
        run(checkpoint, out=out)
    for change, told in (
        ({"seed": 1}, "its seed was 0 and now is 1"),
        ({"repetitions": 3}, "its repetitions was 2"),
        ({"energy": "2GeV"}, "its conditions was"),
    ):
        with pytest.raises(DataError, match=told):
            run(checkpoint, out=out, resume=True, **change)
    second = run(checkpoint, out=out, batch_sizes=[1, 9], resume=True)
    assert second.rows[0].times == first.times  # not measured again
    assert [row.batch_size for row in second.rows if row.repetitions] == [1, 9, *range(2, done + 1)]
    out.write_text("{}")
    with pytest.raises(DataError, match="schema"):
        run(checkpoint, out=out, resume=True)


def _measured(path: Path) -> int:
    if not path.exists():
        return 0
    return sum(row["repetitions"] > 0 for row in json.loads(path.read_text())["rows"])


def test_what_does_not_fit_the_budget_is_said(variant: Any) -> None:
    slow = variant("bench_models:Slow")
    report = measure(job(slow, batch_size=1000, budget_s=0.5))
    assert report["times"] == []
    assert re.fullmatch(
        r"not measured: a batch would take about [2-4] s, the budget is 0.5 s", report["remark"]
    )
    fewer = measure(job(slow, batch_size=50, budget_s=0.35))
    assert 1 <= len(fewer["times"]) <= 3  # 0.1 s each
    assert min(fewer["times"]) >= 2
    assert max(fewer["processor_times"]) < 2  # it sleeps
    assert len(measure(job(slow, batch_size=2))["times"]) == 5


def test_what_does_not_fit_the_memory_is_said(checkpoint: Checkpoint) -> None:
    code = (
        "import json, sys, caloforge.bench.worker as worker\n"
        "worker.free_memory = lambda: 60 << 20\n"  # bytes; a batch of 10⁵ needs more
        "print(json.dumps(worker.measure(json.load(sys.stdin))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(job(Path(str(checkpoint.path)), batch_size=10**7)),
        capture_output=True,
        text=True,
        check=True,
    )
    report = json.loads(done.stdout)
    assert report["times"] == []
    assert "GiB of memory, and 0.1 GiB are free" in report["remark"]


def test_failures_of_a_process(variant: Any) -> None:
    killed = run(variant("bench_models:Killed"))
    assert killed.rows[0].repetitions == 0
    assert "the system ended the process" in killed.rows[0].remark
    assert killed.summary().row_count == 1
    (killed_path := Path(killed.checkpoint["path"])).rename(killed_path.with_name("old"))
    with pytest.raises(CaloforgeError, match=r"(?s)batch 1 failed.*the model is broken"):
        run(variant("bench_models:Broken"))


def test_a_checkpoint_that_gives_nan_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    broken = dataclasses.replace(checkpoint, tensors=dict(checkpoint.tensors))
    broken.tensors["share"] = torch.full_like(broken.tensors["share"], torch.nan)
    with pytest.raises(CheckpointError, match="the model gave nan MeV in voxel"):
        run(broken.save(tmp_path / "broken"))


def test_conditions_represent_their_spectrum(checkpoint: Checkpoint) -> None:
    low, high = checkpoint.valid_range["energy"]
    energies = choose_conditions(checkpoint, 20, None, None, 0).energy
    for n in (5, 10, 20):
        places = np.sort(np.log(energies[:n] / low) / np.log(high / low))
        assert np.abs(places - (np.arange(n) + 0.5) / n).max() < 1.2 / n
    several = choose_conditions(checkpoint, 4, None, "2GeV,10-20GeV", 0)
    assert several.energy[::2].tolist() == [2000, 2000]
    assert ((several.energy[1::2] > 10_000) & (several.energy[1::2] < 20_000)).all()
    assert set(several.particle) == {11}
    assert set(several.detector) == {"toy"}
    sample = toy_models.toy_showers(50, seed=3)
    like = choose_conditions(checkpoint, 20, sample, None, 0)
    assert set(like.energy) <= set(sample.conditions.energy)
    assert len(set(like.energy)) == 20
    assert len(choose_conditions(checkpoint, 2, None, [2e3, 3e3, 4e3], 0)) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"energy": "100-200GeV"}, "outside the trained range"),
        ({"energy": "2GeV", "like": toy_models.toy_showers(10)}, "either like or energy"),
        ({"batch_sizes": [0]}, "at least 1"),
        ({"threads": [0]}, "at least 1"),
        ({"repetitions": 0}, "at least 1"),
        ({"budget_s": 0.0}, "budget positive"),
        ({"batch_sizes": []}, "at least one batch size"),
        ({"geant4": -1}, "no negative geant4"),
    ],
)
def test_senseless_options(checkpoint: Checkpoint, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        run(checkpoint, **options)
    with pytest.raises(CaloforgeError, match="unknown device 'gpu'"):
        run(checkpoint, devices=["gpu"])
    with pytest.raises(ConditionError, match="expected whole numbers"):
        raise CliRunner().invoke(app, ["bench", str(checkpoint.path), "--threads", "two"]).exception  # type: ignore[misc]


@pytest.mark.skipif(importlib.util.find_spec("geant4_pybind") is None, reason="no Geant4")
def test_geant4_at_the_same_energies(variant: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xraylib")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GEANT4_DATA_DIR", raising=False)
    result = run(variant(detector=["par04-siw"]), geant4=3, energy="1-1.1GeV", threads=[1, 2])
    assert result.geant4.showers == 3
    assert result.geant4.ms > 0
    assert result.geant4.ms_error > 0
    assert result.geant4.mean_energy_mev == result.conditions["mean_energy"]
    assert "G4EmStandardPhysics" in result.geant4.physics
    for row, ms in zip(result.rows, (result.rows[0].processor_ms, result.rows[1].ms), strict=True):
        assert row.speed_up == pytest.approx(result.geant4.ms / ms)


def test_a_detector_that_cannot_be_simulated_is_a_remark(variant: Any, checkpoint: Checkpoint) -> None:
    pool = choose_conditions(checkpoint, 3, None, None, 0)
    assert "toy" in time_geant4(checkpoint, pool, None, 0).remark
    nameless = dataclasses.replace(checkpoint, valid_range=checkpoint.valid_range | {"detector": [""]})
    pool = choose_conditions(nameless, 3, None, None, 0)
    told = time_geant4(nameless, pool, None, 0)
    assert "does not name its particle and detector" in told.remark
    assert told.showers == 0
    assert np.isnan(told.ms)
    several = dataclasses.replace(checkpoint, valid_range=checkpoint.valid_range | {"detector": ["a", "b"]})
    with pytest.raises(ConditionError, match="--like FILE"):
        choose_conditions(several, 3, None, None, 0)


def test_a_parametrisation_has_no_file() -> None:
    result = bench("gflash:par04-siw", batch_sizes=[2], threads=[1], devices=["cpu"], repetitions=1, geant4=0)
    assert result.rows[0].repetitions == 1
    assert result.checkpoint["path"] == "gflash:par04-siw"
    assert (result.parameters, result.model_mib) == (0, 0.0)
