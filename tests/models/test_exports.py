"""Every family and shipped model as ONNX and TorchScript: the showers that torch makes of the same noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_laws import CLASSES, fitted, moved_at_random, name_of, showers_of
from test_tree_kernel import make_tree

from caloforge.checkpoint import Checkpoint
from caloforge.checkpoint.pretrained import pretrained_names
from caloforge.detector import CylinderMesh
from caloforge.exports import Exported, export
from caloforge.exports.graph import OLDEST_TORCH, Graph
from caloforge.models.base import GeneratorModel
from caloforge.models.pixels.base import PixelModel
from caloforge.models.trainable import load_trainable_class

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < OLDEST_TORCH, reason="torch is too old to export"
)
FEW_CELLS = showers_of(CylinderMesh.regular(n_z=6, n_phi=2, n_r=3), n=60)
QUICK = ("autoencoder.vae:DenseVAE", "adversarial.dense_gan:DenseGAN", "autoencoder.wgan:VolumeGAN")
CLOSE, FLIPPED = 1e-5, 1e-4
SHIPPED = [
    name
    for name in pretrained_names()
    if not issubclass(load_trainable_class(Checkpoint.load(name).model_name), PixelModel)
]


def moved_by_rounding(graph: Graph, inputs: list[torch.Tensor], expected: np.ndarray) -> np.ndarray:
    """Energy (n,) that is elsewhere in torch's own showers if the last bit of all noise is another, MeV."""
    moved = []
    for towards in (-np.inf, np.inf):
        nudged = [
            torch.nextafter(x, torch.full_like(x, towards)) if i.name in graph.noise_names else x
            for i, x in zip(graph.inputs, inputs, strict=True)
        ]
        with torch.no_grad():
            moved.append(np.abs(graph(*nudged).flatten(1).numpy() - expected).sum(axis=1))
    return np.maximum(*moved)


def require_same_showers(checkpoint: Checkpoint, folder: Path, to: str) -> None:
    """At batches of 1, 7 and 64.

    Rounding may lift a cell over the threshold, or send a split the other way; then a shower differs in what
    comes after. Hence all but a few showers have to be equal, and few cells differ in being lit. Equal is as
    far as rounding moves the shower in torch itself: flows that are inverted at small energies enlarge it.
    """
    graph = Graph(checkpoint)
    ending = {"onnx": ".onnx", "torchscript": ".pt"}[to]
    exported = Exported.load(export(checkpoint, folder / f"model{ending}", to=to))  # type: ignore[arg-type]
    names = [i.name for i in graph.inputs]
    for n in (1, 7, 64):
        inputs = graph.examples(seed=n, n=n)
        with torch.no_grad():
            expected = graph(*inputs).flatten(1).numpy()
        made = exported.run(dict(zip(names, (x.numpy() for x in inputs), strict=True))).reshape(n, -1)
        size = np.maximum(expected.sum(axis=1), 1.0)
        apart = np.abs(made - expected).sum(axis=1) / size
        close = np.maximum(CLOSE, 5 * moved_by_rounding(graph, inputs, expected) / size)
        assert (apart <= close).mean() >= 0.5
        assert (np.abs(made.sum(axis=1) - expected.sum(axis=1)) <= 1e-3 * size).all()
        assert ((made > 0) != (expected > 0)).mean() <= FLIPPED or (apart > close).mean() < 0.1


def small(cls: type[GeneratorModel]) -> Checkpoint:
    torch.manual_seed(0)
    model = moved_at_random(fitted(cls, FEW_CELLS)).eval()
    return Checkpoint.from_model(model, name_of(cls), FEW_CELLS.conditions.ranges())


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if name_of(cls) in QUICK], ids=name_of)
def test_quick_families(cls: type[GeneratorModel], tmp_path: Path) -> None:
    require_same_showers(small(cls), tmp_path, "onnx")


def test_a_tree_of_splits(tmp_path: Path) -> None:
    mesh = CylinderMesh.regular(n_z=3, n_phi=2, n_r=2)
    model = make_tree(mesh)
    model.know(("toy",), {"toy": mesh})
    valid = {"energy": (1e2, 5e3), "theta": (1.5, 1.5), "phi": (0.0, 0.0)}
    about = Checkpoint.from_model(
        model, "tree.model:ShowerTree", {**valid, "particle": ["e-"], "detector": ["toy"]}
    )
    exported, graph = Exported.load(export(about, tmp_path / "tree.onnx")), Graph(about)
    for n in (1, 20):
        inputs = dict(zip((i.name for i in graph.inputs), graph.examples(seed=n, n=n), strict=True))
        with torch.no_grad():
            expected = graph(*inputs.values()).flatten(1).numpy()
        made = exported.run({name: x.numpy() for name, x in inputs.items()}).reshape(n, -1)
        apart = np.abs(made - expected).sum(axis=1) / expected.sum(axis=1)
        assert (apart < 1e-5).mean() >= 0.95
        np.testing.assert_allclose(made.sum(axis=1), expected.sum(axis=1), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "torchscript"])
@pytest.mark.parametrize("cls", CLASSES, ids=name_of)
def test_every_family(cls: type[GeneratorModel], to: str, tmp_path: Path) -> None:
    require_same_showers(small(cls), tmp_path, to)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "torchscript"])
@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_model(name: str, to: str, tmp_path: Path) -> None:
    require_same_showers(Checkpoint.load(name), tmp_path, to)
