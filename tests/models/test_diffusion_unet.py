"""Laws of the cylindrical U-Net: shapes, symmetry, what it is told, independence of showers."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from caloforge.detector.mesh import BoxMesh, CylinderMesh
from caloforge.models.diffusion.backbones.unet import (
    CylinderUNet,
    UNetSettings,
    _Convolution,
    _LinearAttention,
)

MESH = CylinderMesh.regular(n_z=7, n_phi=8, n_r=5)
MESHES = [
    MESH,
    CylinderMesh.regular(n_z=3, n_phi=7, n_r=1),
    CylinderMesh.regular(n_z=1, n_phi=1, n_r=4),
    BoxMesh.regular((4, 5, 3), (1.0, 1.0, 1.0)),
]


def awake(mesh=MESH, levels=1, **settings) -> CylinderUNet:
    """A network whose last convolution, which starts at zero, is not."""
    torch.manual_seed(0)
    unet = CylinderUNet(
        UNetSettings(**{"channels": (8, 8, 16), "attention": 4, "embedding": 16} | settings),
        mesh,
        conditions=3,
        layers=2,
        levels=levels,
    )
    nn.init.normal_(unet.last.weight, std=0.1)
    return unet.eval()


def inputs(mesh=MESH, n=3, levels=1):
    generator = torch.Generator().manual_seed(1)
    shapes = (n, *mesh.shape), (n, levels), (n, 3), (n, mesh.shape[0], 2)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def run(unet, x, level, conditions, layers):
    with torch.no_grad():
        return unet(x, level, unet.prepare(conditions, layers))


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_any_regular_mesh_and_a_start_at_zero(mesh):
    x, level, conditions, layers = inputs(mesh)
    fresh = CylinderUNet(UNetSettings(embedding=16), mesh, conditions=3, layers=2)
    assert (run(fresh, x, level, conditions, layers) == 0).all()
    out = run(awake(mesh), x, level, conditions, layers)
    assert out.shape == x.shape
    assert out.std() > 0.01


@pytest.mark.parametrize("mesh", MESHES[:2] + MESHES[3:], ids=str)
def test_gradients_reach_every_parameter(mesh):
    unet = awake(mesh, levels=2)
    nn.init.normal_(unet.level.outer[1].weight)
    x, level, conditions, layers = inputs(mesh, levels=2)
    unet(x, level, unet.prepare(conditions, layers)).square().sum().backward()
    for name, parameter in unet.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("turn", [4, -4])
def test_showers_turn_with_their_noise(turn):
    """Three levels: a turn by 2² bins stays a turn by whole bins on each of them."""
    x, level, conditions, layers = inputs()
    unet = awake(phi_maps=False)
    turned = run(unet, x.roll(turn, dims=2), level, conditions, layers)
    torch.testing.assert_close(turned, run(unet, x, level, conditions, layers).roll(turn, dims=2))


def test_maps_of_phi_fix_the_direction():
    x, level, conditions, layers = inputs()
    unet = awake(phi_maps=True)
    turned = run(unet, x.roll(4, dims=2), level, conditions, layers)
    assert (turned - run(unet, x, level, conditions, layers).roll(4, dims=2)).abs().max() > 1e-3


def test_convolutions_are_cyclic_along_phi_alone():
    x = torch.zeros(1, 1, 5, 6, 4)
    x[0, 0, 0, 0, 0] = 1.0
    convolution = _Convolution(1, 1, (5, 6, 4), True, bias=False)
    nn.init.ones_(convolution.weight)
    reached = convolution(x)[0, 0] > 0.5
    expected = torch.zeros(5, 6, 4, dtype=torch.bool)
    expected[:2, [-1, 0, 1], :2] = True
    assert torch.equal(reached, expected)
    in_a_box = _Convolution(1, 1, (5, 6, 4), False, bias=False)
    nn.init.ones_(in_a_box.weight)
    expected[:, -1] = False
    assert torch.equal(in_a_box(x)[0, 0] > 0.5, expected)


def test_linear_attention_is_that_of_the_formula():
    """softmax over features of the queries, times (softmax over cells of the keys)ᵀ times the values."""
    torch.manual_seed(0)
    attention, x = _LinearAttention(8, 5).double(), torch.randn(2, 8, 3, 4, 2, dtype=torch.float64)
    h = F.group_norm(x, 1).flatten(2).transpose(1, 2)  # (n, cells, C)
    q, k, v = (h @ m.weight.T for m in (attention.queries, attention.keys, attention.values))
    read = q.softmax(dim=2) @ (k.softmax(dim=1).transpose(1, 2) @ v)
    expected = x + F.group_norm(read.transpose(1, 2).reshape(x.shape), 1)
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize("changed", [1, 2, 3], ids=["level", "conditions", "layers"])
def test_everything_told_is_used(changed):
    given = inputs()
    other = [tensor + (i == changed) for i, tensor in enumerate(given)]
    unet = awake()
    assert (run(unet, *given) - run(unet, *other)).abs().amax(dim=(1, 2, 3)).min() > 1e-3


def test_a_later_level_starts_without_effect():
    x, level, conditions, layers = inputs(levels=2)
    unet = awake(levels=2)
    other = level * torch.tensor([1.0, 3.0])
    assert torch.equal(run(unet, x, level, conditions, layers), run(unet, x, other, conditions, layers))


def test_showers_do_not_depend_on_each_other():
    given = inputs(n=4)
    other = [torch.cat([tensor[:1], tensor[1:] + 1]) for tensor in given]
    unet = awake()
    assert torch.equal(run(unet, *given)[0], run(unet, *other)[0])
    torch.testing.assert_close(run(unet, *given)[:1], run(unet, *(tensor[:1] for tensor in given)))


def test_bfloat16_agrees_to_its_rounding():
    given = inputs()
    unet = awake()
    exact = run(unet, *given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = run(unet, *given)
    assert (rounded - exact).std() < 0.03 * exact.std()


def test_a_few_steps_teach_it_place_and_conditions():
    """From noise to the product of a condition and a place, which neither gives alone."""
    unet, generator = awake(channels=(8, 8), blocks=1), torch.Generator().manual_seed(2)
    optimiser = torch.optim.Adam(unet.parameters(), 1e-2)
    depth = torch.linspace(-1, 1, MESH.shape[0])[:, None, None].expand(MESH.shape)
    losses = []
    for _ in range(60):
        condition = torch.randn(16, 3, generator=generator)
        noise = torch.randn(16, *MESH.shape, generator=generator)
        prepared = unet.prepare(condition, torch.zeros(16, MESH.shape[0], 2))
        error = unet(noise, torch.zeros(16, 1), prepared) - condition[:, :1, None, None] * depth
        loss = error.square().mean() / depth.square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < 0.3  # 1 for a network that knows only one of them


def test_channels_must_be_whole_groups():
    with pytest.raises(ValidationError, match=r"multiples of 8, got \(16, 20\)"):
        UNetSettings(channels=(16, 20))
