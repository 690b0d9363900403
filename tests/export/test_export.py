"""Exported files: the same showers, what they say of themselves, and what is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_models import LayerGaussian, toy_showers
from typer.testing import CliRunner

from caloforge.checkpoint import Checkpoint
from caloforge.cli import app
from caloforge.data import Conditions
from caloforge.errors import CaloforgeError, ConditionError, ExportError
from caloforge.exports import Exported, export
from caloforge.exports import operations as ours
from caloforge.exports.contracts.keyed import keyed_normals
from caloforge.exports.formats.onnx import onnx_model
from caloforge.exports.graph import OLDEST_TORCH, traced
from caloforge.generation import generate
from caloforge.generation.noise import torch_normals

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < OLDEST_TORCH, reason="torch is too old to export"
)
ENDINGS = {"onnx": ".onnx", "torchscript": ".pt", "program": ".pt2"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    showers = toy_showers(60)
    model = LayerGaussian(showers.mesh)
    model.know(("toy",), {"toy": showers.mesh})
    model.fit(showers)
    made = Checkpoint.from_model(model, "toy_models:LayerGaussian", showers.conditions.ranges())
    return made.save(tmp_path_factory.mktemp("export") / "toy")


@pytest.fixture(scope="module", params=ENDINGS)
def file(request: pytest.FixtureRequest, checkpoint: Path) -> Path:
    """The model in each format."""
    out = checkpoint.with_name(f"toy{ENDINGS[request.param]}")
    return out if out.exists() else export(checkpoint, out, to=request.param)


@pytest.mark.parametrize("n", [1, 7, 64])
def test_same_showers_as_generated(file: Path, checkpoint: Path, n: int) -> None:
    """The seed and number of a shower, not only its noise, mean the same."""
    conditions = Conditions(np.geomspace(2e3, 4e4, n), particle="e-", detector="toy")
    exported = Exported.load(file)
    made = exported.run(exported.inputs(conditions, seed=3, first=5))
    expected = generate(
        checkpoint,
        conditions=conditions,
        seed=3,
        first=5,
        kernels="plain",
        precision="float32",
        progress=False,
    ).energies
    np.testing.assert_allclose(made, expected, rtol=1e-5)


def test_a_file_says_what_it_is(file: Path, checkpoint: Path) -> None:
    about, held = Exported.load(file).about, Checkpoint.load(checkpoint)
    assert about["fingerprint"] == held.fingerprint
    assert about["axes"] == ["z", "phi", "r"]
    assert about["noise"] == {"layers": [4]}
    assert [i["name"] for i in about["inputs"]] == ["energy", "theta", "phi", "noise_layers"]
    assert about["units"]["energy"] == "MeV"
    assert about["valid_range"]["particle"] == ["e-"]
    assert Exported.load(file).mesh == held.mesh


def test_a_changed_file_is_refused(file: Path, tmp_path: Path) -> None:
    changed = tmp_path / file.name
    if file.suffix == ".onnx":
        import onnx

        model = onnx.load(file)
        model.graph.node[0].name = "by hand"
        onnx.save(model, changed)
    else:
        with zipfile.ZipFile(file) as old, zipfile.ZipFile(changed, "w", zipfile.ZIP_STORED) as new:
            for name in old.namelist():
                new.writestr(name, old.read(name) + (b"\0" if name.endswith("/version") else b""))
    with pytest.raises(ExportError, match="was changed after it was exported"):
        Exported.load(changed)


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "theirs", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 8
    save(model, tmp_path / "theirs.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "text.pt").write_text("no archive")
    for name, told in (
        ("theirs.onnx", "was not made by caloforge export"),
        ("text.onnx", "ONNX Runtime cannot read it"),
        ("text.pt", "not an archive of torch"),
        ("missing.onnx", "cannot read"),
        ("model.bin", "exported files end in"),
    ):
        with pytest.raises(ExportError, match=told):
            Exported.load(tmp_path / name)


def test_strange_inputs_are_refused(file: Path) -> None:
    exported = Exported.load(file)
    good = exported.inputs(Conditions([1e4, 2e4], particle="e-", detector="toy"))
    for change, told in (
        ({"noise_layers": np.zeros((2, 5))}, r"noise_layers has shape \(2, 5\); \(2, 4\) is expected"),
        ({"theta": [np.nan, 1.0]}, "theta has numbers that are not finite"),
        ({"extra": [0.0, 0.0]}, "has the inputs energy, theta, phi, noise_layers"),
    ):
        with pytest.raises(ConditionError, match=told):
            exported.run(good | change)


def test_other_detectors_and_particles_are_refused(file: Path) -> None:
    exported = Exported.load(file)
    for particle, detector, told in (
        ("e-", "par04-siw", "makes showers of detector toy, not par04-siw"),
        ("gamma", "toy", "makes showers of particle e-, not gamma"),
    ):
        with pytest.raises(ConditionError, match=told):
            exported.inputs(Conditions([1e4], particle=particle, detector=detector))


def test_a_run_time_that_is_too_old_is_refused(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    path = export(checkpoint, tmp_path / "toy.onnx")
    monkeypatch.setattr(onnxruntime, "__version__", "1.13.1")
    with pytest.raises(ExportError, match=r"needs ONNX Runtime 1.14 or later, and 1.13.1 is here"):
        Exported.load(path)


def test_nothing_is_overwritten(checkpoint: Path, tmp_path: Path) -> None:
    kept = tmp_path / "model.onnx"
    kept.write_text("mine")
    with pytest.raises(ExportError, match="exists; choose another name"):
        export(checkpoint, kept)
    assert kept.read_text() == "mine"
    for options, told in (
        ({"to": "pickle"}, "unknown format 'pickle'"),
        ({"out": tmp_path / "model.pt", "to": "onnx"}, "a file of onnx ends in .onnx"),
        ({"particle": "gamma"}, "was trained on particle e-, not 'gamma'"),
        ({"contract": "par04-vea"}, "no contract 'par04-vea'.*par04-vae"),
    ):
        with pytest.raises(ExportError, match=told):
            export(checkpoint, **{"out": tmp_path / "new.onnx", **options})
    assert list(tmp_path.iterdir()) == [kept]


def test_the_command(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "toy.onnx"
    told = CliRunner().invoke(app, ["export", str(checkpoint), "-o", str(out)])
    assert told.exit_code == 0
    assert "noise_layers (n, 4)" in told.output
    again = CliRunner().invoke(app, ["export", str(checkpoint), "-o", str(out)])
    assert isinstance(again.exception, CaloforgeError)


def test_replaced_operations_are_as_exact_as_float32() -> None:
    z = torch.linspace(-9, 9, 20_001)
    exact, log = torch.special.ndtr(z.double()), torch.special.log_ndtr(z.double())
    torch.testing.assert_close(ours.ndtr(z).double(), exact, rtol=2e-5, atol=3e-7)
    torch.testing.assert_close(ours.log_ndtr(z).double(), log, rtol=1e-6, atol=5e-7)
    torch.testing.assert_close(ours.erfc(z).double(), torch.erfc(z.double()), rtol=1e-4, atol=5e-7)
    p = torch.linspace(1e-6, 1 - 1e-6, 20_001)
    torch.testing.assert_close(ours.ndtri(p).double(), torch.special.ndtri(p.double()), rtol=1e-6, atol=3e-6)
    torch.testing.assert_close(
        ours.erfinv(2 * p - 1).double(), torch.erfinv((2 * p - 1).double()), rtol=2e-6, atol=3e-6
    )
    rows = torch.rand(3, 9).sort().values
    values = torch.cat([torch.rand(3, 5), rows[:, :2]], dim=1)
    for right in (False, True):
        with ours.Exportable():
            found = torch.searchsorted(rows, values, right=right)
        assert torch.equal(found, torch.searchsorted(rows, values, right=right))


def test_keyed_noise_is_that_of_generation() -> None:
    numbers = torch.tensor([0, 1, 7, 2**40 + 3])
    sizes = {"noise/cells": 10, "noise/layers": 3}
    own, expected = keyed_normals(11, numbers, sizes), torch_normals(11, numbers, sizes)
    for name in sizes:
        torch.testing.assert_close(own[name], expected[name])


class Told(torch.nn.Module):
    """Constants that are made and dropped one after the other; whether all and any numbers are positive."""

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        (x,) = tensors
        total = torch.zeros_like(x)
        for i in range(20):
            total = total + x * torch.full((100,), float(i))
            total = total + torch.nn.functional.linear(x, torch.full((100, 100), float(i)))
        return total + 1e4 * (x > 0).all(dim=1, keepdim=True) + 1e5 * (x > 0).any(dim=1, keepdim=True)


def test_numbers_are_chosen_one_by_one_and_shapes_come_and_go() -> None:
    import onnx
    import onnxruntime

    class Chosen(torch.nn.Module):
        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            (x,) = tensors
            flat = x.flatten()
            flat = flat[(torch.arange(6).view(2, 3) + x[:1, :1].long()).flatten()] * flat.view(-1, 4)[0, 0]
            many = x.index_select(1, torch.arange(300) % 4).prod(dim=1)
            return flat.reshape(2, 3).sum() + many + torch.addmm(x, x, torch.eye(4), beta=2).sum(dim=1)

    x = torch.linspace(0.9, 1.3, 12).view(3, 4)
    data = onnx_model(traced(Chosen(), (x,)), ["x"], "y", {})
    (made,) = onnxruntime.InferenceSession(data).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(made, Chosen()(x).numpy(), rtol=1e-5)
    kinds = [node.op_type for node in onnx.load_from_string(data).graph.node]
    assert kinds.count("GatherElements") == 2
    assert {"Gemm", "ReduceProd"} <= set(kinds)


def test_tables_of_indices_take_few_bytes() -> None:
    import onnx
    import onnxruntime

    class Tables(torch.nn.Module):
        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            (x,) = tensors
            return torch.cat([torch.arange(100) * step - x.long() for step in (1, 2**10, 2**40)], dim=1)

    x = torch.ones(3, 1)
    data = onnx_model(traced(Tables(), (x,)), ["x"], "y", {})
    (made,) = onnxruntime.InferenceSession(data).run(None, {"x": x.numpy()})
    np.testing.assert_array_equal(made, Tables()(x).numpy())
    stored = [t.data_type for t in onnx.load_from_string(data).graph.initializer if list(t.dims) == [100]]
    assert sorted(stored) == sorted(getattr(onnx.TensorProto, kind) for kind in ("INT16", "INT32", "INT64"))


def test_parts_are_written_from_the_end_and_by_steps() -> None:
    import onnxruntime

    class Parts(torch.nn.Module):
        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            (x,) = tensors
            y = x.repeat_interleave(2, dim=1)
            y[:, -2:] = x[:, :2]
            y[:, -4] = x[:, 2]
            y[:, 1:-2:3] = -x[:, :3]
            return y

    x = torch.arange(15.0).view(3, 5)
    data = onnx_model(traced(Parts(), (x,)), ["x"], "y", {})
    (made,) = onnxruntime.InferenceSession(data).run(None, {"x": x.numpy()})
    np.testing.assert_array_equal(made, Parts()(x).numpy())


def test_what_is_made_of_a_constant_is_not_taken_for_that_of_another() -> None:
    """Constants that nobody else holds would have one id after the other."""
    from caloforge.exports.formats.writer import Writer

    writer = Writer()
    made = []
    for i in range(50):
        x = torch.full((9, 9), float(i))
        made.append(float(writer.kept("twice", x, (2 * x).clone).sum()))
        del x
    assert made == [162 * i for i in range(50)]


def test_constants_are_told_apart() -> None:
    import onnxruntime

    x = torch.ones(3, 100)
    x[1, 5:], x[2] = -1, -1
    data = onnx_model(traced(Told(), (x,)), ["x"], "y", {})
    (made,) = onnxruntime.InferenceSession(data).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(made, Told()(x).numpy(), rtol=1e-6)
