"""Laws of L2LFlows and convolutional L2LFlows."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from caloforge.data import Conditions, Showers
from caloforge.detector import BoxMesh, CylinderMesh
from caloforge.errors import DataError, MeshError, RecipeError
from caloforge.models.base import Batch, ConditionTensors
from caloforge.models.flow.causal import CausalLayerFlow
from caloforge.models.flow.l2lflows import ConvL2LFlows, L2LFlows
from caloforge.training.recipe import Recipe

CYLINDER = CylinderMesh.regular(n_z=4, n_phi=8, n_r=3)
BOX = BoxMesh.regular((3, 4, 6), (3.0, 5.0, 5.0))
ENERGIES = {"kind": "inductive", "hidden": 8, "depth": 1, "bins": 4}
COMMON = {"energies": ENERGIES, "history": 2, "blocks": 3, "bins": 4, "context": 4, "bf16": False}
CONV = COMMON | {"unet_width": 4, "levels": 1, "depth": 1}
MAF = COMMON | {"hidden": 16}
MODELS = {
    "conv-shared": (ConvL2LFlows, CYLINDER, CONV | {"shared": True, "squeeze": (2, 3), "norm": False}),
    "conv-layers": (ConvL2LFlows, CYLINDER, CONV),
    "conv-published": (ConvL2LFlows, BOX, CONV | {"coordinates": "layer-max", "smear": 0.0, "bound": 15.0}),
    "conv-fine": (ConvL2LFlows, CYLINDER, CONV | {"shared": True, "grouping": (2, 4, 1)}),
    "maf-shared": (L2LFlows, CYLINDER, MAF | {"shared": True}),
    "maf-layers": (L2LFlows, BOX, MAF),
}


def random_parameters(module: torch.nn.Module, scale: float = 0.1) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


def showers_on(mesh: CylinderMesh | BoxMesh, n: int = 60, seed: int = 0) -> Showers:
    rng = np.random.default_rng(seed)
    energy = np.exp(rng.uniform(np.log(1000), np.log(10000), n))
    shares = rng.gamma(0.5, size=(n, mesh.n_voxels))
    energies = energy[:, None] * 0.9 * shares / shares.sum(axis=1, keepdims=True)
    energies[energies < 15] = 0
    return Showers(energies.reshape(n, *mesh.shape), Conditions(energy, particle="e-", detector="toy"), mesh)


def trained(name: str, **settings: object) -> tuple[CausalLayerFlow, Showers]:
    """A fitted model with random weights, and the showers that it was fitted on."""
    cls, mesh, default = MODELS[name]
    torch.manual_seed(0)
    model, showers = cls(mesh, default | settings), showers_on(mesh)
    model.fit(showers)
    random_parameters(model)
    return model.eval(), showers


def conditions_for(model: CausalLayerFlow, showers: Showers, n: int) -> Batch:
    batch = Batch.with_energies(showers.energies[:n], showers.conditions[:n])
    batch.given = model._coarse(batch)
    return batch


def decode(model: CausalLayerFlow, noise: dict[str, Tensor], conditions: ConditionTensors) -> Tensor:
    with torch.no_grad():
        return model.decode(noise, conditions)


@pytest.mark.parametrize("name", MODELS)
def test_decoded_showers_are_legal_and_depend_on_their_own_noise_alone(name: str) -> None:
    model, showers = trained(name)
    conditions = conditions_for(model, showers, 20)
    noise = model.noise(20, torch.Generator().manual_seed(5))
    energies = decode(model, noise, conditions)
    with torch.no_grad():
        layers = model.energy_flow.sample(
            noise["layers"], conditions.energy, model.incident(conditions), float(model.threshold)
        )
    assert energies.shape == (20, *model.mesh.shape)
    assert torch.equal(energies, decode(model, noise, conditions))
    assert torch.allclose(energies.sum(dim=(2, 3)), layers, rtol=1e-4, atol=1e-3)
    assert (energies[energies > 0] >= float(model.threshold) * (1 - 1e-4)).all()
    assert (energies > 0).any()

    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    shuffled = decode(model, {k: v[order] for k, v in noise.items()}, conditions[order])
    assert torch.allclose(shuffled, energies[order], rtol=1e-3, atol=1e-2)
    other = {k: v.clone() for k, v in noise.items()}
    other["cells"][7:] = 0
    assert torch.equal(decode(model, other, conditions)[:7], energies[:7])


@pytest.mark.parametrize("name", MODELS)
def test_a_layer_knows_only_those_before_it(name: str) -> None:
    model, showers = trained(name)
    conditions = conditions_for(model, showers, 10)
    noise = model.noise(10, torch.Generator().manual_seed(6))
    changed = {"layers": noise["layers"], "cells": noise["cells"].clone()}
    changed["cells"][:, 1] = -changed["cells"][:, 1]
    first, second = decode(model, noise, conditions), decode(model, changed, conditions)
    assert torch.equal(first[:, 0], second[:, 0])
    assert not torch.allclose(first[:, 1], second[:, 1], rtol=1e-2)
    assert not torch.equal(first[:, 2:], second[:, 2:])


@pytest.mark.parametrize("name", MODELS)
def test_given_layer_energies_are_kept(name: str) -> None:
    model, showers = trained(name)
    conditions = conditions_for(model, showers, 10)
    conditions.layer_energies = 2 * conditions.energies.sum(dim=(2, 3))
    energies = decode(model, model.noise(10, torch.Generator().manual_seed(7)), conditions)
    assert torch.allclose(energies.sum(dim=(2, 3)), conditions.layer_energies, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_losses_are_finite_and_reach_every_parameter(name: str) -> None:
    model, showers = trained(name)
    batch = Batch.with_energies(showers.energies, showers.conditions)
    parts = model.parts()
    assert sum(p.numel() for group in parts.values() for p in group) == model.n_parameters
    for part, parameters in parts.items():
        loss = model.losses(batch, part, torch.Generator().manual_seed(8))["loss"]
        assert torch.isfinite(loss)
        loss.backward()
        silent = [p.shape for p in parameters if p.grad is None or not p.grad.abs().sum() > 0]
        assert not silent, f"no gradient reaches parameters of shapes {silent} of {part}"


@pytest.mark.parametrize("name", ["conv-shared", "conv-layers", "maf-shared", "maf-layers"])
def test_training_and_sampling_see_the_same_context(name: str) -> None:
    """The noise that a shower's density was computed with decodes to that shower."""
    model, showers = trained(name, smear=0.0, spectrum=False)
    model = model.double()
    batch = Batch.with_energies(showers.energies[:12], showers.conditions[:12])
    batch = batch._map(lambda column: column.double() if column.is_floating_point() else column)
    seen: dict[str, Tensor] = {}

    def remember(y: Tensor, maps: Tensor, vector: Tensor, bf16: bool) -> Tensor:
        seen.update(y=y, maps=maps, vector=vector)
        return y.sum(dim=(2, 3))

    original, model.cell_log_prob = model.cell_log_prob, remember  # type: ignore[method-assign]
    with torch.no_grad():
        model.losses(batch, "cells", torch.Generator().manual_seed(9))
        flow = model.cell_flow
        if isinstance(model, ConvL2LFlows):
            given = flow.given(seen["maps"], seen["vector"], slice(None), False)
            z = flow.to_noise(seen["y"], given)[0]
        else:
            z = torch.stack(
                [
                    layer.flow.to_noise(
                        seen["y"][:, i].flatten(1), layer.given(seen["maps"][:, i], seen["vector"][:, i])
                    )[0].view_as(seen["y"][:, i])
                    for i, layer in enumerate(flow)
                ],
                dim=1,
            )
        model.cell_log_prob = original  # type: ignore[method-assign]
        lit = batch.energies.sum(dim=(2, 3)) > 0
        cells = torch.zeros_like(batch.energies)
        cells[lit] = z[:, 0] if model.settings.shared else z[lit]
        batch.layer_energies = batch.energies.sum(dim=(2, 3))
        back = model.decode({"layers": model.noise(12)["layers"], "cells": cells}, batch)
    assert torch.allclose(back, batch.energies, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["conv-shared", "conv-fine", "maf-shared"])
def test_a_loop_over_layers_gives_the_same_cells(name: str) -> None:
    """As exported graphs hold it."""
    model, showers = trained(name)
    batch = conditions_for(model, showers, 5)
    energies, generator = batch.energies.sum(dim=(2, 3)), torch.Generator().manual_seed(4)
    with torch.no_grad():
        given = model._given_maps(batch.given)
        vectors = model._vector(model.incident(batch), energies, slice(None))
        noise = torch.randn(5, *model.shape, generator=generator)
        expected = model._sampled(noise, energies, vectors, given)
        looped = model._loop()(energies, vectors, noise, *([] if given is None else [given]))
    torch.testing.assert_close(looped.reshape_as(expected), expected, rtol=1e-4, atol=1e-3)


def test_a_shower_turns_with_its_noise() -> None:
    """By squeeze · 2^levels bins in φ."""
    model, showers = trained("conv-shared")
    conditions = conditions_for(model, showers, 10)
    noise = model.noise(10, torch.Generator().manual_seed(10))
    plain = decode(model, noise, conditions)
    turned = decode(model, noise | {"cells": noise["cells"].roll(4, 2)}, conditions)
    by_one = decode(model, noise | {"cells": noise["cells"].roll(1, 2)}, conditions)
    assert torch.allclose(turned, plain.roll(4, 2), rtol=1e-3, atol=1e-2)
    assert not torch.allclose(by_one, plain.roll(1, 2), rtol=1e-1, atol=1)


def test_calibration_restores_the_spectrum_and_keeps_closure() -> None:
    model, showers = trained("conv-shared")
    noise = model.noise(60, torch.Generator().manual_seed(11))
    conditions = ConditionTensors.of(showers.conditions)
    before = decode(model, noise, conditions)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    model.calibrate(showers, torch.Generator().manual_seed(12))
    changed = [k for k, v in model.state_dict().items() if not torch.equal(v, state[k])]
    assert sorted(changed) == ["spectrum.source", "spectrum.target"]
    after = decode(model, noise, conditions)
    assert torch.allclose(after.sum(dim=(2, 3)), before.sum(dim=(2, 3)), rtol=1e-4, atol=1e-2)
    assert (after[after > 0] >= float(model.threshold) * (1 - 1e-4)).all()

    def distance(cells: Tensor) -> float:
        """Between the quantiles of logarithms of lit cells."""
        levels = torch.linspace(0.02, 0.98, 40)
        ours, theirs = (v[v > 0].log().quantile(levels) for v in (cells, torch.from_numpy(showers.energies)))
        return float((ours - theirs).abs().mean())

    # before layers get their energies again; the weights are random here, so that the two are far apart
    assert distance(model.spectrum(before)) < 0.2 * distance(before)
    model.calibrate(showers, torch.Generator().manual_seed(12))  # starts from the identity again
    assert torch.equal(decode(model, noise, conditions), after)


def test_without_the_spectrum_map_calibration_changes_nothing() -> None:
    model, showers = trained("maf-shared", spectrum=False)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    model.calibrate(showers, torch.Generator())
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_the_fine_step_of_a_chain_needs_and_uses_what_was_given() -> None:
    model, showers = trained("conv-fine")
    conditions = conditions_for(model, showers, 10)
    noise = model.noise(10, torch.Generator().manual_seed(13))
    assert conditions.given is not None
    assert conditions.given.shape == (10, 2, 2, 3)
    assert torch.allclose(conditions.given.sum(dim=(1, 2, 3)), conditions.energies.sum(dim=(1, 2, 3)))
    plain = decode(model, noise, conditions)
    conditions.given = 10 * conditions.given
    assert not torch.allclose(decode(model, noise, conditions), plain, rtol=1e-2)
    conditions.given = None
    with pytest.raises(RecipeError, match=r"conditions\.given"):
        model.decode(noise, conditions)
    with pytest.raises(MeshError, match="does not divide"):
        ConvL2LFlows(CYLINDER, CONV | {"grouping": (3, 4, 1)})


def test_the_first_norm_starts_from_the_training_showers() -> None:
    cls, mesh, settings = MODELS["conv-shared"]
    model, showers = cls(mesh, settings), showers_on(mesh, n=200)
    model.fit(showers)
    batch = Batch.with_energies(showers.energies, showers.conditions)
    y = model.coordinates(batch.energies, float(model.threshold), torch.Generator().manual_seed(1))
    y = y[batch.energies.sum(dim=(2, 3)) > 0][:, None]
    with torch.no_grad():
        z = model.cell_flow.to_noise(y, torch.zeros(len(y), 4, 4, 1))[0]
    assert float(z.mean()) == pytest.approx(0, abs=0.02)
    assert float(z.std()) == pytest.approx(1, abs=0.02)


def test_the_density_of_a_single_layer_integrates_to_one() -> None:
    mesh = BoxMesh.regular((1, 2, 1), (3.0, 5.0, 5.0))
    for cls, settings in ((ConvL2LFlows, CONV), (L2LFlows, MAF)):
        torch.manual_seed(0)
        model = cls(mesh, settings | {"history": 1})
        random_parameters(model, 0.05)
        model = model.double()
        axis = torch.linspace(-9, 9, 301, dtype=torch.float64)
        grid = torch.cartesian_prod(axis, axis).view(-1, 1, 2, 1)
        maps = torch.full((len(grid), 1, 2, 2, 1), 0.3, dtype=torch.float64)
        vector = torch.full((len(grid), 1, model.n_vector), -0.2, dtype=torch.float64)
        with torch.no_grad():
            density = model.cell_log_prob(grid, maps, vector, False).exp()
        assert float(density.sum()) * float(axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=3e-3)


def test_meshes_and_showers_that_do_not_fit_are_refused() -> None:
    from caloforge.detector import calochallenge_mesh

    for cls in (ConvL2LFlows, L2LFlows):
        with pytest.raises(MeshError, match="cylinder, box"):
            cls(calochallenge_mesh("1-photons"))
    odd = BoxMesh.regular((2, 3, 5), (3.0, 5.0, 5.0))
    with pytest.raises(MeshError, match="squeeze"):
        ConvL2LFlows(odd, CONV)
    assert ConvL2LFlows(odd, CONV | {"squeeze": (3, 1)}).cell_flow.channels == 3
    with pytest.raises(MeshError, match="divisors"):
        ConvL2LFlows(odd, CONV | {"squeeze": (2, 1)})
    empty = Showers(np.zeros((5, *CYLINDER.shape)), showers_on(CYLINDER).conditions[:5], CYLINDER)
    with pytest.raises(DataError, match="nothing to learn"):
        ConvL2LFlows(CYLINDER, CONV).fit(empty)


def test_empty_showers_and_layers_are_legal_training_data() -> None:
    showers = showers_on(CYLINDER)
    energies = showers.energies.copy()
    energies[:5] = 0
    energies[5:10, 2:] = 0
    sample = Showers(energies, showers.conditions, CYLINDER)
    batch = Batch.with_energies(sample.energies[:10], sample.conditions[:10])
    for name in ("conv-shared", "conv-layers", "maf-shared"):
        cls, mesh, settings = MODELS[name]
        model = cls(mesh, settings)
        model.fit(sample)
        loss = model.losses(batch, "cells", torch.Generator().manual_seed(16))["loss"]
        assert math.isfinite(float(loss.detach()))


@pytest.mark.parametrize(
    ("name", "mesh"),
    [
        ("conv-l2lflows", CylinderMesh.regular(n_z=2, n_phi=50, n_r=18)),
        ("conv-l2lflows-ild", BoxMesh.regular((2, 30, 30), (3.0, 5.0, 5.0))),
        ("l2lflows", BoxMesh.regular((2, 10, 10), (3.0, 5.0, 5.0))),
        ("conv-l2lflows-small", CylinderMesh.regular(n_z=2, n_phi=16, n_r=9)),
        ("l2lflows-small", CylinderMesh.regular(n_z=2, n_phi=16, n_r=9)),
    ],
)
def test_recipes_fit_their_meshes(name: str, mesh: CylinderMesh | BoxMesh) -> None:
    recipe = Recipe.load(name)
    cls = L2LFlows if name.startswith("l2l") else ConvL2LFlows
    model, showers = cls(mesh, recipe.settings), showers_on(mesh, n=4)
    recipe.check(showers)
    model.fit(showers)
    batch = Batch.with_energies(showers.energies, showers.conditions)
    for part in model.parts():
        loss = model.losses(batch, part, torch.Generator().manual_seed(17))["loss"]
        assert math.isfinite(float(loss.detach()))
    assert set(recipe.training.parts) <= set(model.parts())
