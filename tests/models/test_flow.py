"""Laws of the inductive layer flow and its pieces."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from caloforge.data import Conditions, Showers
from caloforge.detector import BoxMesh, CylinderMesh
from caloforge.errors import DataError, RecipeError
from caloforge.models.base import Batch, ConditionTensors
from caloforge.models.energies.inductive import InductiveSettings, LongitudinalFlow
from caloforge.models.flow.inductive import InductiveLayerFlow
from caloforge.models.networks.coupling import CouplingFlow
from caloforge.models.networks.splines import splines
from caloforge.models.networks.splines.splines import (
    n_spline_parameters,
    rational_quadratic,
    rational_quadratic_image,
)

MESHES = [
    CylinderMesh.regular(n_z=5, n_phi=4, n_r=3),
    CylinderMesh.regular(n_z=3, n_phi=5, n_r=2),
    BoxMesh.regular((4, 5, 6), (3.0, 5.0, 5.0)),
    BoxMesh.regular((1, 6, 6), (3.0, 20.0, 20.0)),
]
SMALL = {
    "blocks": 4,
    "hidden": 8,
    "depth": 1,
    "bins": 4,
    "energy_hidden": 8,
    "energy_depth": 1,
    "bf16": False,
}


SMALL_ENERGIES = InductiveSettings(hidden=8, depth=1, bins=6, bound=5.0, width=1.0)


def random_parameters(module: torch.nn.Module, scale: float = 0.3) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))


def coupling_flow(rows: int = 4, columns: int = 3, periodic: bool = True) -> CouplingFlow:
    flow = CouplingFlow(
        rows, columns, maps=2, context=3, blocks=5, hidden=6, depth=2, bins=5, bound=4.0, periodic=periodic
    ).double()
    random_parameters(flow)
    return flow


def showers_on(mesh: CylinderMesh | BoxMesh, n: int = 60, seed: int = 0) -> Showers:
    rng = np.random.default_rng(seed)
    energy = np.exp(rng.uniform(np.log(1000), np.log(10000), n))
    shares = rng.gamma(0.5, size=(n, mesh.n_voxels))
    energies = energy[:, None] * 0.9 * shares / shares.sum(axis=1, keepdims=True)
    energies[energies < 15] = 0
    return Showers(energies.reshape(n, *mesh.shape), Conditions(energy, particle="e-", detector="toy"), mesh)


@pytest.mark.parametrize("inverse", [False, True])
def test_autocast_does_not_round_splines(inverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there is no compiled kernel, so on every GPU."""
    monkeypatch.setattr(splines, "has_kernel", lambda *_: False)
    generator = torch.Generator().manual_seed(0)
    x = 4 * torch.randn(200, generator=generator)
    parameters = torch.randn(n_spline_parameters(8), 200, generator=generator)
    exact = rational_quadratic(x, parameters, bound=6.0, inverse=inverse)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = rational_quadratic(x, parameters, bound=6.0, inverse=inverse)
    for ours, others in zip(rounded, exact, strict=True):
        assert torch.equal(ours, others)


@given(st.integers(2, 12), st.floats(0, 4), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_splines_are_inverted_exactly(bins: int, strength: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = 3 * torch.randn(200, generator=generator, dtype=torch.float64)
    parameters = strength * torch.randn(
        n_spline_parameters(bins), 200, generator=generator, dtype=torch.float64
    )
    y, slope = rational_quadratic(x, parameters, bound=5.0)
    back, back_slope = rational_quadratic(y, parameters, bound=5.0, inverse=True)
    assert torch.allclose(back, x, atol=1e-7)
    assert torch.allclose(back_slope, -slope, atol=1e-6)


def test_spline_slope_is_its_derivative_and_it_rises() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.linspace(-6, 6, 401, dtype=torch.float64, requires_grad=True)
    one = 2 * torch.randn(n_spline_parameters(7), 1, generator=generator, dtype=torch.float64)
    y, slope = rational_quadratic(x, one.expand(-1, 401), bound=5.0)
    (derivative,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(derivative.log(), slope, atol=1e-8)
    assert (y.diff() > 0).all()
    outside = x.detach().abs() >= 5
    assert torch.equal(y[outside], x[outside])


def test_spline_of_zero_parameters_is_the_identity() -> None:
    x = torch.linspace(-7, 7, 99)
    y, slope = rational_quadratic(x, torch.zeros(n_spline_parameters(8), 99), bound=5.0)
    assert torch.allclose(y, x, atol=1e-5)
    assert slope.abs().max() < 1e-4


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("inverse", [False, True])
def test_a_spline_alone_is_the_same_to_the_last_bit_and_few_operations(inverse: bool, compiled: bool) -> None:
    generator = torch.Generator().manual_seed(4)
    x = 4 * torch.randn(3, 50, generator=generator)
    parameters = 2 * torch.randn(n_spline_parameters(8), 3, 50, generator=generator)
    image, _ = rational_quadratic(x, parameters, bound=5.0, inverse=inverse, compiled=compiled)
    with Kernels() as kernels:
        alone = rational_quadratic_image(x, parameters, bound=5.0, inverse=inverse, compiled=compiled)
    assert torch.equal(alone, image)
    assert kernels.n <= 42


class Kernels(TorchDispatchMode):
    """Counts operations that are no views."""

    n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aliases = [argument.alias_info for argument in func._schema.arguments]
        self.n += not any(alias is not None and not alias.is_write for alias in aliases)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("rows", "columns"), [(4, 3), (5, 1), (1, 6), (7, 2)])
@pytest.mark.parametrize("periodic", [True, False])
def test_coupling_flow_is_invertible_with_the_right_determinant(
    rows: int, columns: int, periodic: bool
) -> None:
    flow = coupling_flow(rows, columns, periodic)
    generator = torch.Generator().manual_seed(2)
    z, maps = (torch.randn(3, rows, m, generator=generator, dtype=torch.float64) for m in (columns, 2))
    context = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    y = flow.sample(z, maps, context)

    def to_noise(values: torch.Tensor, i: int) -> torch.Tensor:
        values = values.view(1, rows, columns)
        windows, given = flow.given(maps[i : i + 1], context[i : i + 1], False)
        for block in flow.blocks:
            values, _ = block(values, windows, given)
        return values.flatten()

    log_p = flow.log_prob(y, maps, context)
    for i in range(3):
        assert torch.allclose(to_noise(y[i].flatten(), i), z[i].flatten(), atol=1e-8)
        jacobian = torch.autograd.functional.jacobian(lambda v, i=i: to_noise(v, i), y[i].flatten())
        normal = -0.5 * z[i].square().sum() - 0.5 * math.log(2 * math.pi) * z[i].numel()
        assert torch.allclose(log_p[i], normal + jacobian.det().abs().log(), atol=1e-7)


def test_coupling_density_integrates_to_one() -> None:
    flow = coupling_flow(rows=2, columns=1)
    random_parameters(flow, 0.15)
    axis = torch.linspace(-8, 8, 501, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis).view(-1, 2, 1)
    maps = torch.full((1, 2, 2), 0.3, dtype=torch.float64).expand(len(grid), -1, -1)
    context = torch.tensor([[0.1, -0.4, 0.7]], dtype=torch.float64).expand(len(grid), -1)
    with torch.no_grad():
        density = flow.log_prob(grid, maps, context).exp().view(501, 501)
    step = float(axis[1] - axis[0])
    assert float(density.sum()) * step**2 == pytest.approx(1, abs=3e-3)


def test_periodic_flow_does_not_care_where_phi_starts() -> None:
    """Even and odd rows are treated differently, hence a turn by two bins."""
    flow = coupling_flow(rows=6)
    generator = torch.Generator().manual_seed(3)
    y, maps = (torch.randn(4, 6, m, generator=generator, dtype=torch.float64) for m in (3, 2))
    context = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    turned = flow.log_prob(y.roll(2, 1), maps.roll(2, 1), context)
    assert torch.allclose(turned, flow.log_prob(y, maps, context), atol=1e-9)
    assert not torch.allclose(flow.log_prob(y.roll(2, 1), maps, context), turned)


def test_layer_energies_sum_to_the_total_and_invert_the_density() -> None:
    flow = LongitudinalFlow(SMALL_ENERGIES, 6, 2)
    random_parameters(flow)
    generator = torch.Generator().manual_seed(4)
    noise = torch.randn(200, 7, generator=generator)
    incident, context = torch.full((200,), 5000.0), torch.randn(200, 2, generator=generator)
    energies = flow.sample(noise, incident, context, threshold=15.0)
    total = (flow.total.sample(noise[:, 0], context) * flow.total_std + flow.total_mean).exp() * incident
    lit = energies.sum(dim=1) > 0
    assert lit.float().mean() > 0.5
    assert torch.allclose(energies.sum(dim=1)[lit], total[lit], rtol=1e-5)
    log_p = flow.log_prob(energies, incident, context, 15.0, torch.full((200, 6), 0.5))
    assert torch.isfinite(log_p).all()


def test_the_factor_of_one_layer_integrates_to_one() -> None:
    flow = LongitudinalFlow(SMALL_ENERGIES, 1, 2).double()
    random_parameters(flow, 0.3)
    v = torch.linspace(-60, 60, 20001, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    one = torch.randn(1, flow.layer.enter.in_features, generator=generator, dtype=torch.float64)
    features = one.expand(len(v), -1)
    with torch.no_grad():
        density = flow.layer.log_prob(v, features).exp()
    assert float(torch.trapezoid(density, v)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_decoded_showers_are_legal(mesh: CylinderMesh | BoxMesh) -> None:
    """Every layer has its energy, and no cell lies between zero and the threshold."""
    model = InductiveLayerFlow(mesh, SMALL)
    showers = showers_on(mesh)
    model.fit(showers)
    random_parameters(model)
    conditions = ConditionTensors.of(showers.conditions[:20])
    noise = model.noise(20, torch.Generator().manual_seed(5))
    with torch.no_grad():
        energies = model.decode(noise, conditions)
        layers = model.energy_flow.sample(
            noise["layers"], conditions.energy, model.incident(conditions), float(model.threshold)
        )
        again = model.decode(noise, conditions)
        half = model.decode({k: v[:7] for k, v in noise.items()}, conditions[slice(0, 7)])
    assert energies.shape == (20, *mesh.shape)
    assert torch.isfinite(energies).all()
    assert torch.equal(energies, again)
    assert torch.allclose(energies[:7], half, rtol=1e-3, atol=1e-2)
    assert torch.allclose(energies.sum(dim=(2, 3)), layers, rtol=1e-4, atol=1e-3)
    lit = energies[energies > 0]
    assert (lit >= float(model.threshold) * (1 - 1e-4)).all()
    assert float(model.threshold) >= 15 * (1 - 1e-5)


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_losses_are_finite_and_reach_every_parameter(mesh: CylinderMesh | BoxMesh) -> None:
    showers = showers_on(mesh)
    model = InductiveLayerFlow(mesh, SMALL)
    model.fit(showers)
    random_parameters(model, 0.1)
    batch = Batch.with_energies(showers.energies, showers.conditions)
    for part, parameters in model.parts().items():
        loss = model.losses(batch, part, torch.Generator().manual_seed(6))["loss"]
        assert torch.isfinite(loss)
        model.zero_grad()
        loss.backward()
        silent = [p.shape for p in parameters if p.grad is None or not p.grad.abs().sum() > 0]
        # a kernel has weights for neighbours that a mesh of one row has not; a layer 0 has nothing before it
        assert not silent, f"no gradient reaches parameters of shapes {silent} of {part}"


def test_empty_showers_are_legal_training_data() -> None:
    mesh = MESHES[0]
    showers = showers_on(mesh)
    energies = showers.energies.copy()
    energies[:5] = 0
    energies[5:10, 2:] = 0
    sample = Showers(energies, showers.conditions, mesh)
    model = InductiveLayerFlow(mesh, SMALL)
    model.fit(sample)
    batch = Batch.with_energies(sample.energies[:10], sample.conditions[:10])
    for part in model.parts():
        assert torch.isfinite(model.losses(batch, part, torch.Generator().manual_seed(7))["loss"])
    with pytest.raises(DataError, match="nothing to learn"):
        InductiveLayerFlow(mesh, SMALL).fit(Showers(np.zeros_like(energies), showers.conditions, mesh))


def test_bf16_networks_stay_close_to_float32() -> None:
    mesh = MESHES[0]
    showers = showers_on(mesh)
    models = [InductiveLayerFlow(mesh, SMALL | {"bf16": flag}) for flag in (False, True)]
    models[0].fit(showers)
    random_parameters(models[0], 0.1)
    models[1].load_state_dict(models[0].state_dict())
    batch = Batch.with_energies(showers.energies, showers.conditions)
    losses = [
        float(m.losses(batch, "cells", torch.Generator().manual_seed(9))["loss"].detach()) for m in models
    ]
    assert losses[1] == pytest.approx(losses[0], rel=5e-3)
    assert losses[1] != losses[0]


def test_cells_beyond_the_end_of_the_splines_are_refused() -> None:
    showers = showers_on(MESHES[0])
    with pytest.raises(RecipeError, match=r"set settings\.scale to at least"):
        InductiveLayerFlow(MESHES[0], {"scale": 0.5}).fit(showers)
