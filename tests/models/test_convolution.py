"""Laws of the pieces of convolutional flows."""

import copy
import math

import pytest
import torch
from torch import Tensor

from caloforge.models.networks.convolution import (
    ActNorm,
    ConvolutionFlow,
    LUConvolution,
    UNetCoupling,
    squeeze,
    unsqueeze,
)
from caloforge.models.networks.layer_unet import GroupedConvolution, LayerUNet

ALL = slice(None)
SIZES = [(4, 3), (5, 1), (1, 4), (3, 3)]
NET = {"width": 4, "levels": 1, "depth": 1, "norm": True, "bins": 5, "bound": 4.0}


def random_parameters(module: torch.nn.Module, scale: float = 0.3) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def flow(
    rows: int = 4,
    columns: int = 6,
    factors: tuple[int, int] = (2, 3),
    *,
    groups: int = 1,
    periodic: bool = True,
    scale: float = 0.3,
    **net: object,
) -> ConvolutionFlow:
    made = ConvolutionFlow(
        groups,
        rows,
        columns,
        factors,
        maps=2,
        vector=3,
        context=2,
        periodic=periodic,
        blocks=5,
        **(NET | net),  # type: ignore[arg-type]
    ).double()
    random_parameters(made, scale)
    return made


@pytest.mark.parametrize("factors", [(1, 1), (2, 1), (2, 3), (4, 2)])
def test_squeezing_and_back_changes_nothing(factors: tuple[int, int]) -> None:
    x = normal(2, 3, 8, 6)
    squeezed = squeeze(x, factors)
    assert squeezed.shape == (2, 3, math.prod(factors), 8 // factors[0], 6 // factors[1])
    assert torch.equal(unsqueeze(squeezed, factors), x)
    for row in range(factors[0]):
        for column in range(factors[1]):
            channel = squeezed[:, :, row * factors[1] + column]
            assert torch.equal(channel, x[..., row :: factors[0], column :: factors[1]])


@pytest.mark.parametrize("step", [ActNorm(2, 5), LUConvolution(2, torch.tensor([3, 0, 4, 1, 2]))])
def test_linear_steps_are_inverted_with_the_right_determinant(step: ActNorm | LUConvolution) -> None:
    step = step.double()
    random_parameters(step)
    x = normal(2, 5, 7)
    y, log_det = step(x)
    back, inverse_log_det = step(y, inverse=True)
    assert torch.allclose(back, x, atol=1e-10)
    assert torch.allclose(inverse_log_det, -log_det)
    for group in range(2):
        of = slice(group, group + 1)
        alone, alone_det = step(x[of], of)
        assert torch.allclose(alone, y[of], atol=1e-12)
        one = x[group, :, 0]
        jacobian = torch.autograd.functional.jacobian(
            lambda v, of=of: step(v.view(1, 5, 1), of)[0].flatten(), one
        )
        assert torch.allclose(jacobian.det().abs().log(), alone_det[0], atol=1e-10)


def test_an_act_norm_standardises_what_it_starts_from() -> None:
    norm, x = ActNorm(1, 3).double(), 5 + 3 * normal(1, 3, 400)
    norm.start(x[0].mean(dim=1), x[0].std(dim=1))
    y, _ = norm(x)
    assert y.mean(dim=2).abs().max() < 1e-6
    assert (y.std(dim=2) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("periodic", [True, False])
def test_convolutions_agree_with_their_definition(size: tuple[int, int], periodic: bool) -> None:
    layer = GroupedConvolution(2, 3, 4, size, periodic=periodic).double()
    random_parameters(layer)
    x = normal(2, 6, *size)
    (rows, columns), kernel = size, layer.kernel
    expected = torch.zeros(2, 8, *size, dtype=torch.float64)
    for g in range(2):
        for i in range(rows):
            for j in range(columns):
                total = layer.bias[g].expand(2, -1).clone()
                for a in range(kernel[0]):
                    for b in range(kernel[1]):
                        row, column = i + a - kernel[0] // 2, j + b - kernel[1] // 2
                        row = row % rows if periodic else row
                        if 0 <= row < rows and 0 <= column < columns:
                            total += x[:, 3 * g : 3 * g + 3, row, column] @ layer.weight[g, :, :, a, b].T
                expected[:, 4 * g : 4 * g + 4, i, j] = total
    with torch.no_grad():
        assert torch.allclose(layer(x, ALL), expected, atol=1e-10)
        for g in range(2):  # a group alone may take another way to the same numbers
            alone = layer(x[:, 3 * g : 3 * g + 3], slice(g, g + 1))
            assert torch.allclose(alone, expected[:, 4 * g : 4 * g + 4], atol=1e-10)


@pytest.mark.parametrize("size", [*SIZES, (7, 5)])
def test_a_unet_keeps_the_size_and_its_groups_apart(size: tuple[int, int]) -> None:
    net = LayerUNet(2, 3, size, width=4, levels=2, depth=1, periodic=True, norm=True).double()
    random_parameters(net)
    x = normal(2, 6, *size)
    y = net(x, ALL)
    assert y.shape == (2, 8, *size)
    changed = x.clone()
    changed[:, 3:] += 1
    other = net(changed, ALL)
    assert torch.allclose(other[:, :4], y[:, :4], atol=1e-12)
    assert not torch.allclose(other[:, 4:], y[:, 4:], atol=1e-3)
    assert torch.allclose(net(x[:, 3:], slice(1, 2)), y[:, 4:], atol=1e-10)
    with torch.no_grad():  # where other ways to the same numbers are faster
        assert torch.allclose(net(x[:, 3:], slice(1, 2)), y[:, 4:], atol=1e-10)


@pytest.mark.parametrize("size", [(4, 3), (5, 1)])
@pytest.mark.parametrize("periodic", [True, False])
def test_a_coupling_is_invertible_with_the_right_slopes(size: tuple[int, int], periodic: bool) -> None:
    n, positions = 2, math.prod(size)
    coupling = UNetCoupling(1, 5, 2, 3, size, periodic=periodic, **NET).double()  # type: ignore[arg-type]
    random_parameters(coupling)
    x, context = normal(1, 5, n * positions), normal(n, 3, *size, seed=1)
    y, slopes = coupling(x, context)
    back, back_slopes = coupling(y, context, inverse=True)
    assert torch.allclose(back, x, atol=1e-8)
    assert torch.allclose(back_slopes, -slopes, atol=1e-6)
    assert torch.equal(y[:, 2:], x[:, 2:])
    assert not torch.allclose(y[:, :2], x[:, :2], atol=1e-3)
    first, one = x[:, :, :positions], context[:1]
    jacobian = torch.autograd.functional.jacobian(
        lambda v: coupling(v.view_as(first), one)[0].flatten(), first.flatten()
    )
    assert torch.allclose(jacobian.det().abs().log(), slopes[..., :positions].sum(), atol=1e-7)


def test_a_fresh_coupling_is_the_identity() -> None:
    coupling = UNetCoupling(1, 4, 2, 1, (4, 3), periodic=True, **NET)  # type: ignore[arg-type]
    x = normal(1, 4, 24).float()
    y, slopes = coupling(x, torch.ones(2, 1, 4, 3))
    assert torch.allclose(y, x, atol=1e-5)
    assert slopes.abs().max() < 1e-4


@pytest.mark.parametrize(
    ("rows", "columns", "factors", "periodic"),
    [(4, 6, (2, 3), True), (4, 3, (2, 1), True), (3, 4, (1, 4), False), (6, 2, (3, 2), False)],
)
@pytest.mark.parametrize("groups", [1, 2])
def test_the_flow_is_invertible_with_the_right_determinant(
    rows: int, columns: int, factors: tuple[int, int], periodic: bool, groups: int
) -> None:
    model = flow(rows, columns, factors, groups=groups, periodic=periodic)
    y, maps = normal(2, groups, rows, columns), normal(2, groups, 2, rows, columns, seed=1)
    vector = normal(2, groups, 3, seed=2)
    with torch.no_grad():
        z, log_det = model.to_noise(y, model.given(maps, vector, ALL, False))
        log_p = model.log_prob(y, maps, vector)
        assert torch.allclose(model.sample(z, maps, vector), y, atol=1e-7)
    for g in range(groups):
        of = slice(g, g + 1)
        with torch.no_grad():  # one layer alone, as in sampling
            alone = model.sample(z[:, of], maps[:, of], vector[:, of], of)
            assert torch.allclose(alone, y[:, of], atol=1e-7)
            given = model.given(maps[:1, of], vector[:1, of], of, False)
        jacobian = torch.autograd.functional.jacobian(
            lambda v, given=given, of=of: model.to_noise(v.view(1, 1, rows, columns), given, of)[0].flatten(),
            y[0, g].flatten(),
        )
        assert torch.allclose(jacobian.det().abs().log(), log_det[0, g], atol=1e-7)
        gauss = -0.5 * z[0, g].square().sum() - 0.5 * math.log(2 * math.pi) * rows * columns
        assert torch.allclose(log_p[0, g], gauss + log_det[0, g], atol=1e-9)


def test_the_density_integrates_to_one() -> None:
    model = flow(2, 1, (2, 1), scale=0.15)
    axis = torch.linspace(-9, 9, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis).view(-1, 1, 2, 1)
    maps, vector = normal(1, 1, 2, 2, 1, seed=3), normal(1, 1, 3, seed=4)
    n = len(grid)
    with torch.no_grad():
        density = model.log_prob(grid, maps.expand(n, -1, -1, -1, -1), vector.expand(n, -1, -1)).exp()
    assert float(density.sum()) * float(axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=3e-3)


@pytest.mark.parametrize(("rows", "levels", "turn"), [(8, 1, 4), (8, 0, 2), (16, 2, 8)])
def test_a_cyclic_flow_does_not_care_where_phi_starts(rows: int, levels: int, turn: int) -> None:
    """By squeeze · 2^levels rows, that is; a turn by fewer changes which rows are moved first."""
    model = flow(rows, 3, (2, 3), levels=levels)
    z, maps, vector = normal(3, 1, rows, 3), normal(3, 1, 2, rows, 3, seed=1), normal(3, 1, 3, seed=2)
    with torch.no_grad():
        y = model.sample(z, maps, vector)
        turned = model.sample(z.roll(turn, 2), maps.roll(turn, 3), vector)
        by_one = model.sample(z.roll(1, 2), maps.roll(1, 3), vector)
        box = flow(rows, 3, (2, 3), levels=levels, periodic=False)
        uncyclic = box.sample(z.roll(turn, 2), maps.roll(turn, 3), vector)
        plain = box.sample(z, maps, vector)
    assert torch.allclose(turned, y.roll(turn, 2), atol=1e-8)
    assert not torch.allclose(by_one, y.roll(1, 2), atol=1e-3)
    assert not torch.allclose(uncyclic, plain.roll(turn, 2), atol=1e-3)


def test_gradients_reach_every_parameter() -> None:
    model = flow(4, 3, (2, 3), groups=2)
    y, maps, vector = normal(5, 2, 4, 3), normal(5, 2, 2, 4, 3, seed=1), normal(5, 2, 3, seed=2)
    model.log_prob(y, maps, vector).mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert all(float(part.abs().sum()) > 0 for part in parameter.grad.flatten(1) if part.numel()), name


def test_networks_in_bfloat16_stay_near() -> None:
    model = flow(scale=0.1).float()
    y, maps, vector = (
        v.float() for v in (normal(6, 1, 4, 6), normal(6, 1, 2, 4, 6, seed=1), normal(6, 1, 3, seed=2))
    )
    with torch.no_grad():
        exact, rounded = (model.log_prob(y, maps, vector, low) for low in (False, True))
    assert torch.allclose(rounded, exact, rtol=2e-2, atol=0.5)
    assert not torch.equal(rounded, exact)


def test_changed_weights_are_noticed_by_what_was_kept() -> None:
    model = flow()
    z, maps, vector = normal(2, 1, 4, 6), normal(2, 1, 2, 4, 6, seed=1), normal(2, 1, 3, seed=2)
    with torch.no_grad():
        before = model.sample(z, maps, vector)
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        for parameter in model.parameters():
            parameter.mul_(0.5)
        changed = model.sample(z, maps, vector)
        fresh = flow()
        fresh.load_state_dict(model.state_dict())
        assert torch.equal(fresh.sample(z, maps, vector), changed)
        assert not torch.allclose(changed, before, atol=1e-3)
        model.load_state_dict(state)
        assert torch.equal(model.sample(z, maps, vector), before)
    assert torch.equal(copy.deepcopy(model).sample(z, maps, vector), model.sample(z, maps, vector))
