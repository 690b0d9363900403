"""The tree's kernel for GPUs gives the showers of plain torch; without a GPU in Triton's interpreter."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no Triton")
PROGRAM = Path(__file__).parents[1] / "shared" / "tree_on_gpu.py"


@pytest.mark.skipif(torch.cuda.is_available(), reason="tested on the GPU")
def test_showers_are_the_same_in_the_interpreter() -> None:
    told = subprocess.run(
        [sys.executable, str(PROGRAM)],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert len(told) == 3
    assert all(float(worst) < 1e-4 for worst in told)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("index", range(3))
def test_showers_are_the_same_on_a_gpu(index: int) -> None:
    from tree_on_gpu import MESHES, compare

    assert compare(MESHES[index], "cuda", n=40) < 1e-3
    assert compare(MESHES[index], "cuda", n=3) < 1e-3
