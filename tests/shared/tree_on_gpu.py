"""Showers of trees by the kernel for GPUs and in plain torch, compared: with Triton's interpreter on a CPU.

TRITON_INTERPRET=1 python tree_on_gpu.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from caloforge.data import Conditions
from caloforge.detector import BoxMesh, CylinderMesh, Mesh
from caloforge.models.base import ConditionTensors
from caloforge.models.tree.device_kernel import DeviceKernel
from caloforge.models.tree.level import HalvingModel
from caloforge.models.tree.model import ShowerTree

MESHES: list[Mesh] = [
    CylinderMesh.regular(n_z=5, n_phi=4, n_r=3),
    BoxMesh.regular((3, 3, 4), (3.0, 5.0, 5.0)),
    BoxMesh.regular((1, 4, 5), (3.0, 5.0, 5.0)),
]
SETTINGS: dict[str, Any] = {"width": 12, "depth": 2, "components": 3}


def compare(mesh: Mesh, device: str, bf16: bool = False, n: int = 3) -> float:
    """The largest difference of a cell's energy, as a share of what it should have and the threshold."""
    torch.manual_seed(0)
    model = ShowerTree(mesh, SETTINGS).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(torch.randn(parameter.shape), alpha=0.02 if "total" in name else 0.2)
    model.threshold.fill_(0.5)
    model.to(device)
    conditions = ConditionTensors.of(
        Conditions(np.geomspace(1e3, 2e4, n), 1.2, 0.3, particle="e-"), (), device
    )
    noise = {name: z.to(device) for name, z in model.noise(n, torch.Generator().manual_seed(1)).items()}
    worst = 0.0

    def both(
        self: HalvingModel, parents: Tensor, context: Tensor, z: Tensor, t: Tensor, bf16_: bool
    ) -> Tensor:
        nonlocal worst
        plain: Tensor = sample(self, parents, context, z, t, bf16_)
        given = (parents, context, z, t)
        ours = DeviceKernel().run(self.halving, self.network, self.table, self.size, given, bf16_)
        worst = max(worst, float(((ours - plain).abs() / (plain + t)).max()))
        return plain

    sample, HalvingModel.sample = HalvingModel.sample, both  # type: ignore[method-assign, assignment]
    for level in model.halvings:
        level.compiled = False  # type: ignore[assignment]
    model.execution = model.execution.__class__(
        torch.device(device), "bfloat16" if bf16 else "float32", "plain"
    )
    try:
        with torch.inference_mode():
            showers = model.decode(noise, conditions)
        assert (showers > 0).any()
    finally:
        HalvingModel.sample = sample  # type: ignore[method-assign]
    return worst


if __name__ == "__main__":
    for mesh in MESHES:
        print(compare(mesh, "cpu"))
