"""ResNet-18 in two and three dimensions: the published sizes, any regular mesh, every weight learns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from caloforge.data import Showers
from caloforge.detector import BoxMesh, CylinderMesh, Mesh, calochallenge_mesh
from caloforge.errors import MeshError
from caloforge.evaluation import PRESETS, compute_features, train_classifier
from caloforge.evaluation.classifiers.inputs import INPUTS, check_names
from caloforge.evaluation.classifiers.networks import ResNet18, make_network
from caloforge.evaluation.classifiers.settings import ClassifierSettings

Make = Callable[..., Showers]
CHALLENGE = (32, 64, 64, 128)


def weights_of(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_two_dimensions_are_the_usual_resnet18() -> None:
    network = ResNet18((3, 30, 30), 1000, (64, 128, 256, 512))
    usual = 11_689_512  # 3 channels, 1000 classes
    assert weights_of(network) == usual + 1000 + 2  # the energy: one more input, and its normalisation


def test_three_dimensions_are_those_of_the_challenge() -> None:
    network = ResNet18((1, 45, 16, 9), 1, CHALLENGE)
    expected = 7**3 * 32 + 2 * 32  # the stem and its normalisation
    for inputs, width in zip((32, 32, 64, 64), CHALLENGE, strict=True):
        expected += 27 * width * (inputs + 3 * width) + 8 * width  # two blocks of two convolutions
    expected += (32 * 64 + 2 * 64) + (64 * 64 + 2 * 64) + (64 * 128 + 2 * 128)  # shortcuts
    expected += 2 + 129 + 1  # energy and output
    assert weights_of(network) == expected
    shapes = []
    for module in (network.stem[0], network.stem, *network.stages):
        module.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:])))
    assert network(torch.rand(2, 1 + 6480)).shape == (2, 1)
    assert shapes[:2] == [(32, 23, 8, 5), (32, 12, 4, 3)]
    assert shapes[3::2] == [(32, 12, 4, 3), (64, 6, 2, 2), (64, 3, 1, 1), (128, 2, 1, 1)]
    assert not [m for m in network.modules() if getattr(m, "padding_mode", "zeros") != "zeros"]


@pytest.mark.parametrize("name", ["resnet", "c2st"])
def test_the_presets_build_them(name: str, make: Make) -> None:
    mesh = calochallenge_mesh("2")
    features = compute_features(make(mesh, n=2))
    layout = INPUTS[name].layout(features)
    published = make_network(layout.width, 1, layout, PRESETS["calochallenge"].of(name))
    assert isinstance(published, ResNet18)
    assert published.shape == {"resnet": (1, 45, 16, 9), "c2st": (45, 16, 9)}[name]
    assert published.stem[0].out_channels == {"resnet": 32, "c2st": 64}[name]
    quick = make_network(layout.width + mesh.n_voxels, 1, layout, PRESETS["quick"].of(name))
    assert isinstance(quick, ResNet18)
    assert quick.shape == {"resnet": (2, 45, 16, 9), "c2st": (90, 16, 9)}[name]


@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (1, 3, 2, 4), (5, 30, 30), (1, 45, 16, 9)])
def test_every_parameter_gets_a_gradient_on_any_mesh(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = ResNet18(shape, 1, (4, 4, 8, 8))
    network(torch.randn(6, 1 + int(np.prod(shape))))[:, 0].square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        # kernels wider than a tiny mesh see padding alone at their rims, so single zeros are right
        assert bool((parameter.grad != 0).any()), name


def test_the_image_has_its_axes_in_the_right_order() -> None:
    network = ResNet18((4, 8, 3), 1, (4, 4, 8, 8))
    seen: list[torch.Tensor] = []
    network.stem.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    grid = torch.arange(96.0).reshape(1, 4, 8, 3)
    network.eval()(torch.cat([torch.zeros(1, 1), grid.reshape(1, -1)], dim=1))
    assert bool((seen[0] == grid).all())


SMALL = (BoxMesh.regular((1, 6, 6), (1, 1, 1)), CylinderMesh.regular(n_z=2, n_phi=2, n_r=2))


@pytest.mark.parametrize("name", ["resnet", "c2st"])
@pytest.mark.parametrize("mesh", SMALL, ids=["box", "cylinder"])
def test_small_meshes_are_judged(name: str, mesh: Mesh, make: Make) -> None:
    settings = ClassifierSettings(
        widths=(4, 4, 4, 4),
        epochs=10,
        batch_size=30,
        learning_rate=3e-3,
        repeats=1,
        standardise=True,
        threads=1,
    )
    first, second = make(mesh, n=300), make(mesh, n=300, seed=1)
    faint = Showers(second.energies * np.float32(0.3), second.conditions, mesh)
    pair = [(s, compute_features(s)) for s in (first, faint)]
    assert train_classifier(name, *pair, settings).auc > 0.9


def test_ragged_meshes_are_refused_with_what_fits(mesh: Mesh, make: Make) -> None:
    if mesh.is_regular:
        check_names(("resnet", "c2st"), mesh)
        return
    features = compute_features(make(mesh, n=3))
    with pytest.raises(MeshError, match=r"'resnet' needs .* these classifiers fit it: boosted, high, low"):
        INPUTS["resnet"].layout(features)
