"""The benchmark of a GPU runs where there is none, with a model and a recipe alone."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from caloforge.data import Conditions, Showers
from caloforge.data.writer import write_showers
from caloforge.detector.detector import Detector


def benchmark(name: str) -> ModuleType:
    """A program of the folder benchmarks."""
    path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    if not path.is_file():
        pytest.skip("no benchmarks here")
    spec = importlib.util.spec_from_file_location(f"{name}_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    return benchmark("gpu")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    mesh, rng = Detector.load("par04-siw").mesh, np.random.default_rng(0)
    energies = rng.gamma(0.3, size=(60, *mesh.shape)).astype(np.float32)
    energies[energies < 0.02] = 0
    conditions = Conditions(np.geomspace(1e3, 5e4, 60), np.pi / 2, 0.0, particle="e-", detector="par04-siw")
    path = tmp_path_factory.mktemp("gpu") / "showers.h5"
    write_showers(Showers(energies, conditions, mesh, {"action": "test"}), path)
    return path


def test_a_model_and_a_recipe_are_measured(
    gpu: ModuleType, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gpu.SIZES, "cpu", (1,))
    cpu, showers = gpu.pick_device("cpu"), gpu.open_showers(file)
    ((name, size, plain, _, told, _, kernels, waits),) = gpu.generation(
        ["supercalo-siw"], cpu, time.monotonic() + 2
    )
    assert (name, size, told, waits) == ("supercalo-siw", "1", "plain", "0")
    assert float(plain) > 0
    assert int(kernels) > 100
    ((name, _, step, _, _, rate, _),) = gpu.training(["quickstart"], showers, cpu, time.monotonic() + 2)
    assert float(step) > 0
    assert float(rate) > 0


def test_what_there_is_no_time_for_is_said(
    gpu: ModuleType, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--without-laws", "--recipes", "quickstart", "--device", "cpu", "--minutes", "0"]
    gpu.main([str(file), *options])
    told = capsys.readouterr().out
    assert told.startswith("cpu, torch ")
    assert "| supercalo-siw | 100 | time is up |" in told
    assert "| quickstart | time is up |" in told


@pytest.mark.parametrize(
    ("name", "most"),
    [("showertransformer-siw", 5300), ("supercalo-siw", 11_000), ("conv-l2lflows-siw", 29_000)],
)
def test_a_shower_is_not_more_operations_than_it_was(name: str, most: int) -> None:
    operations = benchmark("operations").counted(name, "bfloat16")
    assert 1000 < operations.kernels <= most
    assert operations.kernels == operations.by_file.total()
    assert operations.waits == 0
