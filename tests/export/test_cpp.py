"""The client in C++ of docs/how-to/exports.md is built against torch and gives Python's showers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_models import LayerGaussian, toy_showers

from caloforge.checkpoint import Checkpoint
from caloforge.exports import Exported, export
from caloforge.exports.graph import OLDEST_TORCH

pytestmark = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < OLDEST_TORCH, reason="torch is too old to export"
)
SOURCE = Path(__file__).parents[2] / "examples" / "libtorch"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (shutil.which("cmake") and shutil.which("c++") and SOURCE.is_dir()):
        pytest.skip("no cmake, no C++ compiler or no examples here")
    folder = tmp_path_factory.mktemp("libtorch")
    prefix = f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"
    for command in (
        ["cmake", "-S", str(SOURCE), "-B", str(folder), prefix, "-DCMAKE_BUILD_TYPE=Release"],
        ["cmake", "--build", str(folder)],
    ):
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stdout + made.stderr
    return folder / "showers"


@pytest.mark.slow
def test_libtorch(program: Path, tmp_path: Path) -> None:
    showers = toy_showers(60)
    model = LayerGaussian(showers.mesh)
    model.know(("toy",), {"toy": showers.mesh})
    model.fit(showers)
    held = Checkpoint.from_model(model, "toy_models:LayerGaussian", showers.conditions.ranges())
    file, out = export(held, tmp_path / "toy.pt", to="torchscript"), tmp_path / "out.bin"
    for n in (1, 12):
        command = [program, file, out, n, 1e4, 1.5, 0, 7, 4]
        ran = subprocess.run([str(x) for x in command], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        noise = torch.randn(n, 4, generator=torch.Generator().manual_seed(7)).numpy()
        told = {"energy": np.full(n, 1e4), "theta": np.full(n, 1.5), "phi": np.zeros(n)}
        expected = Exported.load(file).run({**told, "noise_layers": noise})
        np.testing.assert_allclose(np.fromfile(out, np.float32), expected.ravel(), rtol=1e-5)
    wrong = subprocess.run(
        [str(program), str(tmp_path / "no.pt"), str(out), *["1", "1", "1", "1", "1", "4"]], check=False
    )
    assert wrong.returncode == 1
