"""Contracts: clients that do what the real programs do get the model's showers, or fail where those would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from toy_models import LayerGaussian
from typer.testing import CliRunner

from caloforge.checkpoint import Checkpoint
from caloforge.cli import app
from caloforge.detector import BoxMesh, CylinderMesh, Mesh
from caloforge.errors import ExportError
from caloforge.exports import Exported, export
from caloforge.exports.contracts.client import DDML, FastCaloSim, Par04, run_inference
from caloforge.exports.contracts.contract import Contract
from caloforge.exports.graph import OLDEST_TORCH
from caloforge.models.base import ConditionTensors

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < OLDEST_TORCH, reason="torch is too old to export"
)
CYLINDER = CylinderMesh.regular(n_z=4, n_phi=6, n_r=3)
ENERGY = 2e4


class Directed(LayerGaussian):
    """Its showers hang on the direction: the share of every cell does."""

    def decode(self, noise, conditions):
        lean = 1 + 0.3 * (conditions.phi.cos() * conditions.theta.sin())[:, None, None, None]
        return super().decode(noise, conditions) * lean


def made(
    mesh: Mesh, folder: Path, cls: type[LayerGaussian] = LayerGaussian, **valid: object
) -> tuple[LayerGaussian, Path]:
    """A model whose cells all have another energy, and its checkpoint."""
    torch.manual_seed(0)
    model = cls(mesh)
    model.know(("toy",), {"toy": mesh})
    shares = torch.rand(mesh.shape)
    model.share.copy_(shares / shares.sum(dim=(1, 2), keepdim=True))
    model.mean.fill_(9.0)
    span = {"energy": (1e3, 5e4), "theta": (np.pi / 2,) * 2, "phi": (0.0, 0.0), "particle": ["e-"]}
    name = f"{cls.__module__}:{cls.__name__}"
    about = Checkpoint.from_model(model, name, {**span, "detector": ["toy"], **valid})
    return model.eval(), about.save(folder / "model")


def gauss(seed: int = 0) -> Callable[[], float]:
    """An engine of random numbers."""
    rng = np.random.default_rng(seed)
    return lambda: float(rng.normal())


def shower(
    model: LayerGaussian, noise: list[float], theta: float = np.pi / 2, phi: float = 0.0
) -> NDArray[np.float32]:
    """The model's own, (Z, P, R), MeV."""
    one, whole = torch.ones(1), torch.zeros(1, dtype=torch.int64)
    conditions = ConditionTensors(ENERGY * one, theta * one, phi * one, whole + 11, whole)
    with torch.no_grad():
        return model.decode({"layers": torch.tensor([noise])}, conditions)[0].numpy()


def test_par04_vae(tmp_path: Path) -> None:
    model, folder = made(CYLINDER, tmp_path)
    file = export(folder, tmp_path / "vae.onnx", contract="par04-vae")
    client = Par04(file.read_bytes(), (3, 6, 4), 4.65, 3.4, latent=4)
    engine = gauss()
    energies = client.energies(ENERGY, np.pi / 2, 0.3, engine)
    expected = shower(model, [f() for f in [gauss()] for _ in range(4)]).transpose(2, 1, 0)
    np.testing.assert_allclose(energies, expected, rtol=1e-5)
    centres, hits = CYLINDER.centres(), client.hits(energies)
    own = shower(model, [f() for f in [gauss()] for _ in range(4)]).ravel()
    for axis, name in enumerate("xyz"):
        assert (hits[:, axis] * hits[:, 3]).sum() == pytest.approx((centres[name] * own).sum(), rel=1e-4)
    lines = Exported.load(file).about["lines"]
    assert "setSizeLatentVector 4" in lines
    assert "setNbOfRhoCells 3" in lines
    assert "vae.onnx" in lines
    with pytest.raises(ExportError, match="reads beyond"):
        Par04(file.read_bytes(), (4, 6, 4), 4.65, 3.4, latent=4).energies(ENERGY, 1.5, 0, gauss())
    plain = export(folder, tmp_path / "plain.onnx")
    with pytest.raises(ExportError, match="fills one input; the file has 4"):
        Par04(plain.read_bytes(), (3, 6, 4), 4.65, 3.4, latent=4).energies(ENERGY, 1.5, 0, gauss())


def test_par04_calodit(tmp_path: Path) -> None:
    """Its φ comes in (−π, π], and noise is drawn inside."""
    model, folder = made(CYLINDER, tmp_path, Directed, phi=(0.0, 6.3), theta=(0.8, 2.3))
    with torch.no_grad():
        model.log_sigma.fill_(-20.0)  # hardly any noise
    Checkpoint.from_model(
        model, Checkpoint.load(folder).model_name, Checkpoint.load(folder).valid_range
    ).save(folder, overwrite=True)
    file = export(folder, tmp_path / "dit.onnx", contract="par04-calodit2")
    client = Par04(file.read_bytes(), (3, 6, 4), 4.65, 3.4)
    energies = client.energies(ENERGY, 1.2, 4.0, gauss())
    np.testing.assert_allclose(energies, shower(model, [0.0] * 4, 1.2, 4.0).transpose(2, 1, 0), rtol=1e-4)


def test_ddml_par04_turns_phi(tmp_path: Path) -> None:
    """Ten random numbers make all that the model wants, in the same way each time."""
    model, folder = made(CylinderMesh.regular(n_z=12, n_phi=6, n_r=3), tmp_path)
    file = export(folder, tmp_path / "ddml.onnx", contract="ddml-par04vae")
    client = DDML(file.read_bytes())
    first, again, other = (
        client.par04(ENERGY, np.pi / 2, gauss(seed)).reshape(3, 6, 12) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    share = np.roll(model.share.numpy(), -3, axis=1).transpose(2, 1, 0)
    np.testing.assert_allclose(first / first.sum(axis=(0, 1)), share, rtol=1e-4)
    odd = made(CylinderMesh.regular(n_z=4, n_phi=5, n_r=3), tmp_path / "odd")[1]
    with pytest.raises(ExportError, match="an odd number"):
        export(odd, tmp_path / "odd.onnx", contract="ddml-par04vae")


@pytest.mark.parametrize("to", ["onnx", "torchscript"])
def test_ddml_regular_grid(tmp_path: Path, to: str) -> None:
    model, folder = made(BoxMesh.regular((30, 30, 30), (5.0, 5.0, 5.0)), tmp_path)
    file = export(
        folder, tmp_path / f"grid{'.onnx' if to == 'onnx' else '.pt'}", contract="ddml-regulargrid", to=to
    )
    rng = np.random.default_rng(0)
    energies = DDML(file.read_bytes(), to).regular_grid(ENERGY, rng.random)
    share = model.share.numpy().transpose(0, 2, 1)
    np.testing.assert_allclose(energies / energies.sum(axis=(1, 2), keepdims=True), share, rtol=1e-4)
    small = made(BoxMesh.regular((6, 4, 3), (5.0, 5.0, 5.0)), tmp_path / "small")[1]
    with pytest.raises(ExportError, match="reads 30 × 30 × 30 cells"):
        export(small, tmp_path / "small.onnx", contract="ddml-regulargrid")


def test_ddml_l2lflows(tmp_path: Path) -> None:
    model, folder = made(BoxMesh.regular((30, 90, 90), (5.0, 5.0, 5.0)), tmp_path)
    with pytest.raises(ExportError, match="reads torchscript, not onnx"):
        export(folder, tmp_path / "l2l.onnx", contract="ddml-l2lflows")
    file = export(folder, tmp_path / "l2l.pt", contract="ddml-l2lflows", to="torchscript")
    energies = DDML(file.read_bytes(), "torchscript").l2lflows(ENERGY, (1.0, 0.0, 0.0))
    share = model.share.numpy().transpose(0, 2, 1)
    np.testing.assert_allclose(energies / energies.sum(axis=(1, 2), keepdims=True), share, rtol=1e-4)


def test_fastcalosim(tmp_path: Path) -> None:
    model, folder = made(CYLINDER, tmp_path, Directed, theta=(0.1, 3.0))
    file = export(folder, tmp_path / "fcs.onnx", contract="fastcalosim")
    eta = -0.7
    energies = FastCaloSim(file.read_bytes(), 72, 4).energies(ENERGY, eta, gauss())
    noise = [f() for f in [gauss()] for _ in range(4)]
    expected = shower(model, noise, theta=2 * np.arctan(np.exp(-abs(eta))))
    np.testing.assert_allclose(energies, expected.ravel(), rtol=1e-5)


def test_the_hook_of_ddml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, folder = made(CYLINDER, tmp_path)
    file = export(folder, tmp_path / "hook.onnx")
    monkeypatch.delenv("DDML_MODEL_PATH", raising=False)
    with pytest.raises(ExportError, match="DDML_MODEL_PATH is not set"):
        run_inference([])
    monkeypatch.setenv("DDML_MODEL_PATH", str(file))
    noise = np.full((1, 4), 0.5, dtype=np.float32)
    one = np.ones(1, dtype=np.float32)
    flat = run_inference([ENERGY * one, np.pi / 2 * one, 0 * one, noise])
    np.testing.assert_allclose(flat, shower(model, [0.5] * 4).ravel(), rtol=1e-5)
    with pytest.raises(ExportError, match="got 1 arrays"):
        run_inference([one])


@pytest.mark.parametrize(
    ("contract", "mesh", "valid", "told"),
    [
        ("par04-vae", CYLINDER, {"phi": (0.0, 6.3)}, "has to be told phi"),
        ("ddml-regulargrid", CYLINDER, {}, "reads showers on a box mesh"),
        ("par04-vae", CylinderMesh((0.0, 3.0, 9.0), 4, (0.0, 5.0)), {}, "one thickness of layers"),
        ("par04-vae", CYLINDER, {"impact": [[-5.0, -5.0], [5.0, 5.0]]}, "has to be told the impact point"),
        ("fastcalosim", CYLINDER, {"particle": ["e-", "gamma"]}, "choose one: --particle"),
    ],
)
def test_what_a_contract_does_not_carry(
    contract: str, mesh: Mesh, valid: dict[str, object], told: str, tmp_path: Path
) -> None:
    folder = made(mesh, tmp_path, **valid)[1]
    with pytest.raises(ExportError, match=told):
        export(folder, tmp_path / "no.onnx", contract=contract)
    assert not (tmp_path / "no.onnx").exists()


def test_every_contract_can_be_read() -> None:
    for name in Contract.names():
        contract = Contract.load(name)
        assert contract.carries("energy")
        assert contract.macro(CYLINDER, 10, "file.onnx")


def test_shipped_models_and_contracts_are_listed() -> None:
    told = CliRunner().invoke(app, ["models", "--exports"], env={"COLUMNS": "300"})
    assert told.exit_code == 0
    rows = [line for line in told.output.splitlines() if "showertree-siw" in line and "par04-vae" in line]
    assert any("--to onnx" in row for row in rows)
    assert "has to be told" in " ".join(told.output.replace("│", " ").split())  # cells break lines
