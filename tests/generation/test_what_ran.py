"""What decides the bits of a production is part of its request and of its provenance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_models import MESH, toy_showers
from typer.testing import CliRunner

from caloforge.checkpoint import Checkpoint
from caloforge.cli.app import app
from caloforge.data import Showers, open_showers
from caloforge.errors import CaloforgeError, DataError
from caloforge.generation import generate, request
from caloforge.generation.production import ShowerProduction
from caloforge.models.base import load_model_class
from caloforge.runtime import compiled, precision
from caloforge.runtime.files import write_json

FLOW = ("flow.inductive:InductiveLayerFlow", {"blocks": 2, "hidden": 8, "energy_hidden": 8, "scale": 4.0})
TRANSFORMER = (
    "diffusion.model:DiffusionModel",
    {
        "energies": "none",
        "spectrum": False,
        "coordinates": {"kind": "log"},
        "backbone": {"patch": (2, 3, 3), "width": 16, "depth": 1, "heads": 2},
        "sampler": {"steps": 2},
    },
)
SHOWERS = toy_showers(200)


def checkpoint_of(model: tuple[str, dict[str, Any]], folder: Path) -> Checkpoint:
    name, settings = model
    torch.manual_seed(0)
    made = load_model_class(name)(MESH, settings)
    made.detectors, made.meshes = ("toy",), {"toy": MESH}
    made.fit(SHOWERS)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    checkpoint = Checkpoint.from_model(made, name, SHOWERS.conditions.ranges())
    checkpoint.save(folder)
    return checkpoint


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return checkpoint_of(FLOW, tmp_path_factory.mktemp("flow") / "model")


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return checkpoint_of(TRANSFORMER, tmp_path_factory.mktemp("transformer") / "model")


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine without one."""
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setattr(compiled, "PREBUILT", tmp_path / "none")
    forget()
    yield
    monkeypatch.undo()
    forget()


def forget() -> None:
    for cached in (compiled.compiled, compiled._compiler, compiled._processor):
        cached.cache_clear()


def native(monkeypatch: pytest.MonkeyPatch, yes: bool) -> None:
    monkeypatch.setattr(precision, "native_bf16", lambda device: yes)


def make(checkpoint: Checkpoint, **options: Any) -> Showers:
    return generate(checkpoint, **({"like": SHOWERS, "n": 40, "progress": False} | options))


def ran(showers: Showers) -> dict[str, Any]:
    performance = showers.provenance["performance"]
    return {key: performance[key] for key in ("device", "precision", "kernels")}


def test_a_transformer_says_that_no_kernels_made_its_showers(
    transformer: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file said "compiled", after flow kernels had been compiled for it."""
    native(monkeypatch, False)
    monkeypatch.setattr(compiled, "_compiler", lambda: pytest.fail("asked for a compiler"))
    showers = make(transformer, device="cpu")
    assert ran(showers) == {"device": "cpu", "precision": "float32", "kernels": "none"}
    assert showers.provenance["request"]["kernels"] == "none"


def test_a_flow_says_with_which_kernels_it_was_made(flow: Checkpoint) -> None:
    if not compiled._compiler():
        pytest.skip("no compiler")
    showers = make(flow, device="cpu", precision="bfloat16")
    assert ran(showers) == {"device": "cpu", "precision": "bfloat16", "kernels": "compiled (splines)"}
    assert showers.provenance["request"]["kernels"] == "compiled"
    plain = make(flow, device="cpu", precision="bfloat16", kernels="plain")
    assert ran(plain)["kernels"] == "plain (splines)"


def test_without_a_compiler_kernels_are_plain(flow: Checkpoint, no_compiler: None) -> None:
    assert ran(make(flow, device="cpu"))["kernels"] == "plain (splines)"
    with pytest.raises(CaloforgeError, match="compiler"):
        make(flow, device="cpu", kernels="compiled")


def test_what_is_asked_for_is_the_same_on_every_machine(
    flow: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for yes in (True, False):
        native(monkeypatch, yes)
        made.append(make(flow, device="cpu", precision="float32", kernels="plain"))
    assert np.array_equal(*(showers.energies for showers in made))
    assert made[0].provenance["request"] == made[1].provenance["request"]
    assert not np.array_equal(make(flow, device="cpu", precision="bfloat16").energies, made[0].energies)


@pytest.fixture
def unfinished(flow: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file to be whose first 128 showers were made on a machine with native bfloat16, in plain torch."""
    native(monkeypatch, True)
    out = tmp_path / "a.h5"
    many = ShowerProduction._blocks

    def some(self: ShowerProduction, start: int, stop: int) -> Iterator[Any]:
        for block in many(self, start, stop):
            yield block
            self.interrupt.signal = 2

    with monkeypatch.context() as patched:
        patched.setattr(ShowerProduction, "_blocks", some)
        with pytest.raises(KeyboardInterrupt):
            make(flow, out=out, n=200, device="cpu", kernels="plain")
    return out


def go_on(flow: Checkpoint, out: Path, **options: Any) -> Showers:
    asked = {"out": out, "n": 200, "device": "cpu", "resume": True}
    return make(flow, **(asked | options))


def test_another_machine_does_not_go_on_in_another_precision(
    flow: Checkpoint, unfinished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native(monkeypatch, False)
    with pytest.raises(DataError, match=r"precision bfloat16 and would now.*float32.*--precision bfloat16"):
        go_on(flow, unfinished, kernels="plain")
    made = go_on(flow, unfinished, kernels="plain", precision="bfloat16")
    native(monkeypatch, True)
    whole = make(flow, n=200, device="cpu", kernels="plain")
    assert np.array_equal(made.energies, whole.energies)


def test_another_machine_does_not_go_on_with_other_kernels(flow: Checkpoint, unfinished: Path) -> None:
    if not compiled._compiler():
        pytest.skip("no compiler")
    with pytest.raises(DataError, match=r"kernels plain and would now.*compiled.*--kernels plain"):
        go_on(flow, unfinished)


def test_another_version_does_not_go_on_but_takes_what_is_finished(
    flow: Checkpoint, unfinished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = make(flow, out=tmp_path / "done.h5", device="cpu")
    monkeypatch.setattr(request, "code_version", lambda: "99.0")
    with pytest.raises(DataError, match=r"its code differs .*now it is caloforge 99\.0, torch"):
        go_on(flow, unfinished, kernels="plain")
    again = make(flow, out=tmp_path / "done.h5", device="cpu", resume=True)
    assert again.provenance["request"] == done.provenance["request"]


def test_a_finished_file_is_known_by_how_it_was_made(
    flow: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native(monkeypatch, True)
    out = tmp_path / "a.h5"
    made = make(flow, out=out, device="cpu", kernels="plain")
    native(monkeypatch, False)
    with pytest.raises(DataError, match=r"precision='bfloat16'"):
        make(flow, out=out, device="cpu", kernels="plain", resume=True)
    again = make(flow, out=out, device="cpu", kernels="plain", precision="bfloat16", resume=True)
    assert np.array_equal(again.energies, made.energies)


def test_files_of_older_versions(flow: Checkpoint, unfinished: Path, tmp_path: Path) -> None:
    """A finished one is known by the rest of its request; an unfinished one might go on in other bits."""
    from caloforge.data.writer import ShowerWriter

    made = make(flow, device="cpu")
    about = made.provenance
    for key in ("precision", "kernels"):
        del about["request"][key]
    old = tmp_path / "old.h5"
    with ShowerWriter(old, made.mesh, provenance=about) as writer:
        writer.append(made.energies, made.conditions)
    assert np.array_equal(make(flow, device="cpu", out=old, resume=True).energies, made.energies)
    with pytest.raises(DataError, match="exists"):
        make(flow, device="cpu", out=old, resume=True, seed=1)

    request = unfinished.with_name("a.h5.parts") / "request.json"
    saved = json.loads(request.read_text())
    del saved["request"]["precision"]
    write_json(request, saved)
    with pytest.raises(DataError, match=r"precision differs .it was not recorded"):
        go_on(flow, unfinished, kernels="plain")


def test_the_command_says_what_ran(flow: Checkpoint, tmp_path: Path) -> None:
    out = tmp_path / "a.h5"
    ask = ["generate", str(flow.path), "--energy", "10GeV", "-n", "3", "-o", str(out), "--device", "cpu"]
    result = CliRunner().invoke(app, [*ask, "--precision", "float32", "--kernels", "plain"])
    assert result.exit_code == 0, result.output
    assert "cpu, float32, kernels: plain (splines)" in result.output
    assert open_showers(out).provenance["request"]["precision"] == "float32"
