"""A model decides once where and how it computes, and asks the machine no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from caloforge.detector import CylinderMesh
from caloforge.errors import CaloforgeError
from caloforge.models.base import Batch, GeneratorModel, load_model_class
from caloforge.runtime import compiled as kernels
from caloforge.runtime import precision
from caloforge.runtime.execution import Execution

MESH = CylinderMesh.regular(n_z=6, n_phi=4, n_r=3)
FLOW = {"blocks": 2, "hidden": 8}
SMALL: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "transformer": (
        "diffusion.model:DiffusionModel",
        {
            "energies": "none",
            "spectrum": False,
            "coordinates": {"kind": "log"},
            "backbone": {"patch": (3, 2, 3), "width": 16, "depth": 1, "heads": 2},
            "sampler": {"steps": 2},
        },
        (),
    ),
    "coupling": ("flow.inductive:InductiveLayerFlow", FLOW | {"energy_hidden": 8}, ("splines",)),
    "autoregressive": (
        "flow.caloflow:CaloFlow",
        FLOW | {"energies": {"kind": "autoregressive", "hidden": 8}},
        ("autoregressive",),
    ),
    "tree": ("tree.model:ShowerTree", {"width": 12, "depth": 1, "components": 3}, ("tree",)),
}


def build(name: str, **settings: Any) -> GeneratorModel:
    model, common, _ = SMALL[name]
    torch.manual_seed(0)
    return load_model_class(model)(MESH, common | settings).eval()


def native(monkeypatch: pytest.MonkeyPatch, yes: bool) -> None:
    """A machine that multiplies bfloat16 natively, or does not."""
    monkeypatch.setattr(precision, "native_bf16", lambda device: yes)


def forget() -> None:
    for cached in (kernels.compiled, kernels._compiler, kernels._processor):
        cached.cache_clear()


@pytest.mark.parametrize("setting", [True, False, "auto"])
@pytest.mark.parametrize("asked", ["auto", "float32", "bfloat16"])
@pytest.mark.parametrize("fast", [True, False])
def test_precision_is_what_is_asked_for_then_the_setting_then_the_machine(
    setting: object, asked: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    native(monkeypatch, fast)
    model = build("transformer", bf16=setting).execute_on("cpu", asked)
    expected = asked == "bfloat16" if asked != "auto" else fast if setting == "auto" else setting
    assert model.bf16 == expected
    assert model.execution == Execution(torch.device("cpu"), "bfloat16" if expected else "float32", "none")


@pytest.mark.parametrize("name", SMALL)
def test_neither_decode_nor_losses_ask_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    native(monkeypatch, False)
    model = build(name, bf16="auto").execute_on("cpu", kernels="plain")
    generator = torch.Generator().manual_seed(1)
    noise = model.noise(3, generator)
    incident = {key: torch.ones(3) for key in ("energy", "theta", "phi")}
    whole = {key: torch.zeros(3, dtype=torch.int64) for key in ("particle", "detector")}
    energies = torch.rand(3, *MESH.shape, generator=generator) + 1.0
    batch = Batch(energies=energies, **incident, **whole)

    def results() -> list[torch.Tensor]:
        with torch.no_grad():
            made = [model.decode(noise, batch)]
            return made + [
                model.losses(batch, part, torch.Generator().manual_seed(2))["loss"] for part in model.parts()
            ]

    before = results()
    native(monkeypatch, True)
    monkeypatch.setattr(kernels, "_compiler", lambda: pytest.fail("asked for a compiler"))
    for again, was in zip(results(), before, strict=True):
        assert torch.equal(again, was)


def test_a_chain_says_where_its_steps_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    native(monkeypatch, True)
    chain = load_model_class("supercalo.chain:CoarseToFine")
    slot = {"model": "flow.inductive:InductiveLayerFlow", "settings": FLOW | {"bf16": False}}
    model = chain(MESH, {"grouping": (2, 2, 1), "coarse": slot})
    assert model.execute_on("cpu").execution.precision == "mixed"
    assert model.execute_on("cpu", "bfloat16").execution.precision == "bfloat16"
    assert model.execute_on("cpu", "float32").execution.precision == "float32"
    assert {m.execution.precision for m in model.modules() if isinstance(m, GeneratorModel)} == {"float32"}


def test_what_cannot_be_done_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CaloforgeError, match="'float16'; choose one of auto, float32, bfloat16"):
        build("coupling").execute_on("cpu", "float16")
    with pytest.raises(CaloforgeError, match="'fast'; choose one of auto, compiled, fused, plain"):
        build("coupling").execute_on("cpu", kernels="fast")
    monkeypatch.setenv("CALOFORGE_KERNELS", "0")
    forget()
    try:
        with pytest.raises(CaloforgeError, match=r"no compiled kernels \(splines\) for cpu.*=0"):
            build("coupling").execute_on("cpu", kernels="compiled")
        assert build("coupling").execute_on("cpu").execution.kernels == "plain"
        assert build("transformer").execute_on("cpu", kernels="compiled").execution.kernels == "none"
    finally:
        monkeypatch.undo()
        forget()


def test_bfloat16_is_not_left_to_kernels_that_cannot_multiply_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """They computed in float32 instead, and showers depended on the processor."""
    from caloforge.models.networks.autoregressive import kernel

    monkeypatch.setattr(kernel, "multiplies_bf16", lambda: False)
    assert build("autoregressive", bf16=True).execute_on("cpu").execution.kernels == "plain"


def test_a_model_knows_its_kernels_and_no_others_are_compiled(tmp_path: Path) -> None:
    """In a process of its own, with an empty cache for each."""
    script = (
        "import sys, json, os; sys.path.insert(0, sys.argv[1]); import test_execution as t\n"
        "for name in t.SMALL:\n"
        "    os.environ['XDG_CACHE_HOME'] = cache = os.path.join(sys.argv[2], name)\n"
        "    t.forget()\n"
        "    model = t.build(name)\n"
        "    names = model.kernel_names\n"
        "    before = sorted(p.name for p in t.Path(cache).rglob('*.so'))\n"
        "    model.execute_on('cpu', 'float32')\n"
        "    after = sorted(p.name.split('-')[0] for p in t.Path(cache).rglob('*.so'))\n"
        "    print(json.dumps([names, before, after, model.execution.kernels]))"
    )
    here = str(Path(__file__).parent)
    env = os.environ | {"PYTHONPATH": ":".join(p for p in sys.path if p)}
    run = subprocess.run(
        [sys.executable, "-c", script, here, str(tmp_path)], env=env, capture_output=True, check=True
    )
    for (_, _, kernels_of), line in zip(SMALL.values(), run.stdout.splitlines(), strict=True):
        names, before, after, decided = json.loads(line)
        expected = list(kernels_of)
        assert names == expected
        assert before == []
        if decided != "plain":
            assert after == expected
            assert decided == ("compiled" if expected else "none")


@pytest.mark.parametrize(
    ("capability", "native"), [((6, 1), False), ((7, 5), False), ((8, 0), True), ((9, 0), True)]
)
def test_emulated_bfloat16_does_not_count(
    capability: tuple[int, int], native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch says of GPUs before Ampere that they support it."""
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert precision.native_bf16(torch.device("cuda")) == native
    assert not precision.native_bf16(torch.device("mps"))
