"""The law of graphs for diffusion models: every network, process, sampler and kind of coordinates.

On a meta device, where nothing has a value, every number that would have to come from the host is seen: not
even single numbers may be copied. That is the path of a GPU, and needs none.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from test_laws import MESH, SHOWERS, moved_at_random
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from caloforge.models.base import Batch, ConditionTensors, GeneratorModel
from caloforge.models.diffusion.distillation import ConsistencyStudent, DiffusionStudent, FlowMapStudent
from caloforge.models.diffusion.model import DiffusionModel
from caloforge.models.diffusion.processes import PROCESSES
from caloforge.models.diffusion.samplers import SAMPLERS

BLOCK = 8
SMALL: dict[str, dict[str, Any]] = {
    "transformer": {"patch": (3, 2, 3), "width": 16, "depth": 1, "heads": 2},
    "unet": {"channels": (8, 8), "blocks": 1, "attention": 8, "embedding": 8},
}
DEFAULT: dict[str, Any] = {
    "energies": {"kind": "inductive", "hidden": 8, "depth": 1},
    "backbone": {"kind": "transformer", **SMALL["transformer"]},
    "process": {"kind": "flow"},
    "sampler": {"kind": "midpoint", "steps": 4},
    "coordinates": {"kind": "marginals"},
    "bf16": False,
}
FEW: dict[str, Any] = {"sampler": {"kind": "midpoint", "steps": 2}}
VARIANTS: list[tuple[type[DiffusionModel], dict[str, Any]]] = [
    (DiffusionModel, FEW | {"backbone": {"kind": "unet", **SMALL["unet"]}}),
    (DiffusionModel, FEW | {"backbone": {"kind": "transformer", "shares": True, **SMALL["transformer"]}}),
    (DiffusionModel, FEW | {"coordinates": {"kind": "logit"}, "bf16": True}),
    (DiffusionModel, FEW | {"coordinates": {"kind": "log"}, "energies": "none", "spectrum": False}),
    (FlowMapStudent, {"steps": 2}),
    (ConsistencyStudent, {"sampler": {"kind": "heun", "steps": 4}, "steps": 2}),
]
CLOCKS = [(process, sampler) for process in PROCESSES.names() for sampler in SAMPLERS.names()]


FORBIDDEN = ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh")


class OneDevice(TorchDispatchMode):
    """Fails where a value is needed on the host, a mask chooses, or tensors of two devices meet."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        assert name not in FORBIDDEN, f"{name} waits for the device"
        if name in ("index", "index_put", "index_put_"):
            assert all(index is None or index.dtype != torch.bool for index in args[1]), f"{name} with a mask"
        devices = {x.device for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)}
        assert len(devices) <= 1, f"{name} copies between {devices}"
        return result


class Decode(torch.nn.Module):
    """`decode` as a module of tensors, which is what can be exported."""

    def __init__(self, model: GeneratorModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, noise: dict[str, Tensor], columns: dict[str, Tensor]) -> Tensor:
        return self.model.decode(noise, ConditionTensors(**columns))


def name_of(variant: tuple[type[DiffusionModel], dict[str, Any]]) -> str:
    cls, settings = variant
    kinds = [value.get("kind") if isinstance(value, dict) else value for value in settings.values()]
    shares = ["shares"] if settings.get("backbone", {}).get("shares") else []
    return "-".join(map(str, [cls.__name__, *kinds, *shares]))


def made(cls: type[DiffusionModel], settings: dict[str, Any]) -> DiffusionModel:
    """A model that knows the statistics of its showers, its parameters moved at random."""
    torch.manual_seed(0)
    model = cls(MESH, DEFAULT | settings)
    model.detectors, model.meshes = ("toy",), {"toy": MESH}
    if issubclass(cls, DiffusionStudent):
        model.use_teacher(made(DiffusionModel, {k: v for k, v in settings.items() if k != "steps"}))
    model.fit(SHOWERS)
    moved_at_random(model)
    return model


@pytest.fixture(scope="module", params=VARIANTS, ids=name_of)
def model(request: pytest.FixtureRequest) -> DiffusionModel:
    """Each variant in turn."""
    return made(*request.param)


def block(model: GeneratorModel) -> tuple[dict[str, Tensor], ConditionTensors]:
    """Noise and conditions of a block."""
    conditions = ConditionTensors.of(SHOWERS.conditions[:BLOCK], model.detectors)
    return model.noise(BLOCK, torch.Generator().manual_seed(1)), conditions


def require_free(model: DiffusionModel) -> None:
    """`decode` neither waits nor copies anything from the host."""
    noise, conditions = block(model.eval())
    with torch.no_grad(), OneDevice():
        model.decode(noise, conditions)
    elsewhere, conditions = copy.deepcopy(model).to("meta"), conditions.to("meta")
    noise = {name: z.to("meta") for name, z in noise.items()}
    with pytest.MonkeyPatch.context() as patch, torch.no_grad(), OneDevice():
        patch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no meta device
        assert elsewhere.decode(noise, conditions).shape == (BLOCK, *MESH.shape)


def require_free_training(model: DiffusionModel) -> None:
    """Nor does a training step wait."""
    batch = Batch.with_energies(SHOWERS.energies[:BLOCK], SHOWERS.conditions[:BLOCK], model.detectors)
    generator = torch.Generator().manual_seed(0)
    for part in model.train().parts():
        with OneDevice():
            model.losses(batch, part, generator)["loss"].backward()


def test_decode_neither_waits_nor_copies(model: DiffusionModel) -> None:
    require_free(model)


def test_a_training_step_never_waits(model: DiffusionModel) -> None:
    require_free_training(model)


@pytest.mark.parametrize(("process", "sampler"), CLOCKS)
def test_times_are_no_tensors(process: str, sampler: str) -> None:
    settings = {"energies": "none", "coordinates": {"kind": "log"}, "spectrum": False}
    settings |= {"process": {"kind": process}, "sampler": {"kind": sampler, "steps": 4}}
    require_free(made(DiffusionModel, settings))


@pytest.mark.parametrize("process", PROCESSES.names())
@pytest.mark.parametrize("student", [FlowMapStudent, ConsistencyStudent])
def test_times_of_students_are_no_tensors(student: type[DiffusionModel], process: str) -> None:
    settings = {"energies": "none", "coordinates": {"kind": "log"}, "spectrum": False}
    model = made(student, settings | {"process": {"kind": process}, "steps": 2})
    require_free(model)
    require_free_training(model)


@pytest.mark.parametrize(
    "model", [v for v in VARIANTS if not issubclass(v[0], DiffusionStudent)], ids=name_of, indirect=True
)
def test_an_exported_decode_gives_the_same_showers(model: DiffusionModel) -> None:
    """Students are exported with all classes (`test_graphs`)."""
    noise, conditions = block(model.eval())
    columns = {k: v for k, v in vars(conditions).items() if v is not None}
    with torch.no_grad():
        exported = torch.export.export(Decode(model), (noise, columns), strict=False).module()
        other = {k: z.flip(0) for k, z in noise.items()}  # values that it was not made with
        expected = model.decode(other, conditions)
        torch.testing.assert_close(exported(other, columns), expected, rtol=1e-4, atol=1e-2)
