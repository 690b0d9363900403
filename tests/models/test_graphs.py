"""The law that `decode` and `losses` of every model class are graphs: no host waits, no shape hangs on data.

That is what CUDA graphs, exported programs and a device that is never kept waiting need. Classes and showers
are those of the other laws. A `TorchDispatchMode` sees every operation; each class is tried with compiled
kernels, as on a CPU, and without, as everywhere else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_laws import CLASSES, DEVICES, SHOWERS, fitted, moved_at_random, name_of, require_close, showers_of
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from caloforge.data import Showers
from caloforge.detector import CylinderMesh
from caloforge.models import lit
from caloforge.models.base import Batch, ConditionTensors, GeneratorModel
from caloforge.models.networks import linear
from caloforge.models.networks.autoregressive.kernel import FlowKernel
from caloforge.models.networks.splines import splines
from caloforge.models.supercalo.chain import coarse_showers
from caloforge.models.tree.kernel import HalvingKernel

BLOCK = 8
FEW_CELLS, FEWER_CELLS = (showers_of(CylinderMesh.regular(n_z=6, n_phi=2, n_r=n), n=60) for n in (3, 1))
UNROLLED = ("flow.caloflow", "flow.icaloflow", "flow.l2lflows", "supercalo")
"""Autoregressive flows are exported dimension by dimension: one ring of cells is enough of them."""
FORBIDDEN = {
    "aten::_local_scalar_dense",  # float(), int(), bool(), .item() of a tensor
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",
    "aten::nonzero_numpy",
    "aten::masked_select",
    "aten::unique_dim",
    "aten::_unique",
    "aten::_unique2",
    "aten::unique_consecutive",
    "aten::bincount",
}
LIFTED = "aten::lift_fresh"
"""A tensor made of Python numbers or of an array, which are copied to the device."""


class NoHostWaits(TorchDispatchMode):
    """Fails on operations that need values on the host, copy between devices or have shapes made of data.

    Args:
        host: the device's memory is the host's, from which new tensors cost nothing.
    """

    def __init__(self, host: bool) -> None:
        super().__init__()
        self.host = host

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        masked = name in ("aten::index", "aten::index_put", "aten::index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in FORBIDDEN or masked or (name == LIFTED and not self.host):
            raise AssertionError(f"{name}{' with a mask' if masked else ''} waits for the device")
        result = func(*args, **(kwargs or {}))
        devices = {
            x.device.type for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor) and x.dim()
        }
        if len(devices) > 1:
            raise AssertionError(f"{name} copies between {' and '.join(sorted(devices))}")
        return result


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """Each device of the machine in turn."""
    return str(request.param)


@pytest.fixture(scope="module", params=CLASSES, ids=name_of)
def model(request: pytest.FixtureRequest, device: str) -> GeneratorModel:
    """Each model class in turn, its parameters moved at random."""
    torch.manual_seed(0)
    return moved_at_random(fitted(request.param, SHOWERS)).to(device)


def as_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a CPU do what every other device does, and what is exported: plain torch, all rows."""
    monkeypatch.setattr(splines, "has_kernel", lambda *_: False)
    monkeypatch.setattr(FlowKernel, "run", lambda *_: None)
    monkeypatch.setattr(HalvingKernel, "run", lambda *_: None)
    monkeypatch.setattr(lit, "traced", lambda: True)
    monkeypatch.setattr(linear, "keeps", lambda _: hasattr(torch, "get_autocast_dtype"))


@pytest.fixture(params=["host", "elsewhere"])
def no_waits(request: pytest.FixtureRequest, device: str, monkeypatch: pytest.MonkeyPatch) -> NoHostWaits:
    """As on a CPU, with compiled kernels and rows chosen by their values, and as on every other device."""
    host = request.param == "host"
    if not host:
        as_elsewhere(monkeypatch)
    return NoHostWaits(host and device == "cpu")


def given(model: GeneratorModel, showers: Showers = SHOWERS) -> Tensor | None:
    """What the model refines, on its device."""
    if model.given_mesh is None:
        return None
    return torch.from_numpy(coarse_showers(model, showers).energies[:BLOCK]).to(model.device)


def block(model: GeneratorModel, showers: Showers = SHOWERS) -> tuple[dict[str, Tensor], ConditionTensors]:
    """Noise and conditions of a block."""
    conditions = ConditionTensors.of(showers.conditions[:BLOCK], model.detectors, model.device)
    noise = model.noise(BLOCK, torch.Generator().manual_seed(1))
    return {k: z.to(model.device) for k, z in noise.items()}, replace(conditions, given=given(model, showers))


def test_decode_never_waits(model: GeneratorModel, no_waits: NoHostWaits) -> None:
    noise, conditions = block(model.eval())
    with torch.no_grad():
        model.decode(noise, conditions)  # what is derived once may be
        with no_waits:
            model.decode(noise, conditions)


def test_a_chain_never_waits(model: GeneratorModel, no_waits: NoHostWaits) -> None:
    """Where what is refined need not be given."""
    noise, conditions = block(model.eval())
    blind = replace(conditions, given=None)
    if model.given_mesh is None or "coarse.cells" not in noise:
        return
    with torch.no_grad(), no_waits:
        model.decode(noise, blind)


def test_a_training_step_never_waits(model: GeneratorModel, no_waits: NoHostWaits) -> None:
    model.train()
    batch = Batch.with_energies(
        SHOWERS.energies[:BLOCK], SHOWERS.conditions[:BLOCK], model.detectors, model.device
    )
    generator = torch.Generator(model.device).manual_seed(0)
    for part in model.parts():
        for seen in (batch, replace(batch, given=given(model))):
            with no_waits:
                loss = model.losses(seen, part, generator)["loss"]
                loss.backward()
                model.after_step(part)
        model.zero_grad()


class _Decode(torch.nn.Module):
    """`decode` as a module of tensors, which is what can be exported."""

    def __init__(self, model: GeneratorModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, noise: dict[str, Tensor], columns: dict[str, Tensor]) -> Tensor:
        return self.model.decode(noise, ConditionTensors(**columns))


@pytest.mark.parametrize("cls", CLASSES, ids=name_of)
def test_an_exported_decode_gives_the_same_showers(
    cls: type[GeneratorModel], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_elsewhere(monkeypatch)
    torch.manual_seed(0)
    showers = FEWER_CELLS if name_of(cls).startswith(UNROLLED) else FEW_CELLS
    model = moved_at_random(fitted(cls, showers)).to(device).eval()
    noise, conditions = block(model, showers)
    columns = {k: v for k, v in vars(conditions).items() if v is not None}
    with torch.no_grad():
        exported = torch.export.export(_Decode(model), (noise, columns), strict=False).module()
        other = {k: z.flip(0) for k, z in noise.items()}  # values that it was not made with
        for z in (noise, other):
            require_close(exported(z, columns), model.decode(z, conditions))
