"""Laws of SuperCalo's flows and of the chain: closure at every step, open slots, independence of showers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from caloforge.data import Conditions, Showers
from caloforge.detector import BoxMesh, CylinderMesh
from caloforge.errors import MeshError, RecipeError
from caloforge.models.base import Batch, ConditionTensors
from caloforge.models.supercalo.chain import CoarseToFine
from caloforge.models.supercalo.coarse import SuperCaloCoarse
from caloforge.models.supercalo.fine import SuperCaloFine

THRESHOLD = 15.0
CYLINDER = CylinderMesh.regular(n_z=4, n_phi=8, n_r=3)
BOX = BoxMesh.regular((4, 4, 6), (3.0, 5.0, 5.0))
ENERGIES = {"kind": "inductive", "hidden": 8, "depth": 1, "bins": 4}
FLOW = {"blocks": 2, "hidden": 12, "bins": 4, "bf16": False}
FINE = FLOW | {"layers": ENERGIES, "chunk": 64}
CHAIN = {
    "grouping": (2, 2, 1),
    "energies": ENERGIES,
    "coarse": {"model": "flow.supercalo:SuperCaloCoarse", "settings": FLOW | {"energies": ENERGIES}},
    "fine": {"model": "flow.supercalo_fine:SuperCaloFine", "settings": FINE},
    "leave_out": ("coarse.layers",),
}
INDUCTIVE = {
    "model": "flow.inductive:InductiveLayerFlow",
    "settings": {"blocks": 2, "hidden": 8, "depth": 1, "bins": 4, "energy_hidden": 8, "bf16": False},
}


def showers_on(mesh, n=40, seed=0):
    rng = np.random.default_rng(seed)
    energy = np.exp(rng.uniform(np.log(1000), np.log(10000), n))
    shares = rng.gamma(0.3, size=(n, mesh.n_voxels))
    energies = energy[:, None] * 0.9 * shares / shares.sum(axis=1, keepdims=True)
    energies[energies < THRESHOLD] = 0
    return Showers(energies.reshape(n, *mesh.shape), Conditions(energy, particle="e-", detector="toy"), mesh)


def built(cls, mesh, settings, scale=0.2):
    """A fitted model with random weights in eval mode, and the showers it was fitted on."""
    torch.manual_seed(0)
    model, showers = cls(mesh, settings), showers_on(mesh)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape))
    model.fit(showers)
    return model.eval(), showers


def fine_model(grouping=(2, 2, 1), mesh=CYLINDER, scale=0.2, **changes):
    """A super-resolution flow, conditions with coarse showers and the energies of their fine layers."""
    model, showers = built(SuperCaloFine, mesh, {"grouping": grouping} | FINE | changes, scale)
    conditions = ConditionTensors.of(showers.conditions)
    energies = torch.from_numpy(showers.energies)
    conditions.given = torch.from_numpy(model.grouping.estimate(showers.energies)).float()
    conditions.layer_energies = energies.sum(dim=(2, 3))
    return model, conditions, showers


@torch.no_grad()
def decode(model, noise, conditions):
    return model.decode(noise, conditions)


def assert_legal(fine):
    assert torch.isfinite(fine).all()
    assert not ((fine > 0) & (fine < THRESHOLD * (1 - 1e-4))).any()


CASES = {
    "several layers": ((2, 2, 1), CYLINDER, {}),
    "one layer": ((1, 4, 3), CYLINDER, {}),
    "published": ((2, 2, 1), CYLINDER, {"coordinates": "logit", "bound": 14.0, "layer_passes": 0}),
    "box": ((2, 2, 3), BOX, {"knee_mev": 30.0}),
    "not nested": (None, CYLINDER, {"coarse_shape": (4, 3, 3)}),
    "not nested, empty slots": (None, CYLINDER, {"coarse_shape": (2, 5, 1)}),
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def fine_case(request):
    grouping, mesh, changes = request.param
    return fine_model(grouping, mesh, **changes)


def test_coarse_cells_have_their_energies_exactly(fine_case):
    model, conditions, _ = fine_case
    conditions.given = torch.where(conditions.given < THRESHOLD, 0.0, conditions.given)
    noise = model.noise(len(conditions), torch.Generator().manual_seed(1))
    for asked in (conditions, replace(conditions, layer_energies=None)):
        fine = decode(model, noise, asked)
        assert fine.shape == (len(conditions), *model.mesh.shape)
        assert_legal(fine)
        if model.grouping.nested:
            sums = torch.from_numpy(model.grouping.sum(fine.numpy()))
        else:  # any split of straddling cells that gives the coarse energies proves that there is one
            parts = model.grouping.gather(fine.double().numpy(), conditions.given.double().numpy())
            sums = torch.from_numpy(parts.sum(axis=2)).reshape(conditions.given.shape)
        torch.testing.assert_close(sums.float(), conditions.given, rtol=1e-4, atol=1e-2)


def test_empty_coarse_showers_stay_empty(fine_case):
    model, conditions, _ = fine_case
    noise = model.noise(len(conditions))
    empty = replace(conditions, given=torch.zeros_like(conditions.given), layer_energies=None)
    assert (decode(model, noise, empty) == 0).all()


def test_a_refined_shower_does_not_depend_on_the_others(fine_case):
    model, conditions, _ = fine_case
    noise = model.noise(len(conditions), torch.Generator().manual_seed(2))
    whole = decode(model, noise, conditions)
    for index in (slice(7, 19), slice(3, 4)):
        part = decode(model, {name: z[index] for name, z in noise.items()}, conditions[index])
        torch.testing.assert_close(part, whole[index], rtol=1e-5, atol=1e-3)
    others = torch.randperm(len(conditions), generator=torch.Generator().manual_seed(3))
    others[5] = 5
    same = decode(
        model,
        {
            name: torch.where(torch.arange(len(z)).view(-1, *[1] * (z.dim() - 1)) == 5, z, z[others])
            for name, z in noise.items()
        },
        conditions[others],
    )
    torch.testing.assert_close(same[5], whole[5], rtol=0, atol=0)


@pytest.mark.parametrize("training", [True, False])
def test_turning_a_coarse_shower_turns_the_fine_one(training):
    """The flow is the same at all angles: turned noise and coarse showers give turned fine showers."""
    model, conditions, showers = fine_model()
    if training:
        batch = Batch.with_energies(showers.energies, showers.conditions)
        turned = replace(batch, energies=batch.energies.roll(4, dims=2))
        model.coordinates.smear, model.coordinates.width = 0.0, 1e-6  # hardly any noise
        losses = [model.losses(b, "cells", torch.Generator().manual_seed(0))["loss"] for b in (batch, turned)]
        torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-3)
        return
    noise = model.noise(len(conditions), torch.Generator().manual_seed(1))
    shape = (-1, *model.grouping.coarse.shape, model.grouping.slots)
    turned_noise = noise | {"cells": noise["cells"].view(shape).roll(1, dims=2).view_as(noise["cells"])}
    turned = replace(conditions, given=conditions.given.roll(1, dims=2))
    fine = decode(model, noise, conditions)
    torch.testing.assert_close(
        decode(model, turned_noise, turned), fine.roll(2, dims=2), rtol=1e-4, atol=1e-2
    )


def test_passes_bring_the_fine_layers_to_their_energies():
    misses = []
    for passes in (0, 6):
        model, conditions, _ = fine_model((4, 2, 1), scale=0.0, layer_passes=passes)
        noise = model.noise(len(conditions), torch.Generator().manual_seed(1))
        layers = decode(model, noise, conditions).sum(dim=(2, 3))
        misses.append((layers - conditions.layer_energies).abs().sum() / layers.sum())
    assert misses[1] < 0.2 * misses[0]


def test_fine_layers_that_are_not_given_are_sampled_to_the_coarse_sums():
    model, conditions, _ = fine_model()
    noise = model.noise(len(conditions), torch.Generator().manual_seed(1))
    blind = replace(conditions, layer_energies=None)
    given = conditions.given.flatten(1)
    with torch.no_grad():
        layers = model._layers(noise, blind, model.incident(blind), given)
    sums = layers.view(len(layers), -1, 2).sum(dim=2)
    torch.testing.assert_close(sums, conditions.given.sum(dim=(2, 3)), rtol=1e-5, atol=1e-3)
    assert torch.equal(
        model._layers(noise, conditions, model.incident(blind), given), conditions.layer_energies
    )


def assert_gradients_reach_all(model, batch):
    model.train()
    for part, parameters in model.parts().items():
        model.zero_grad()
        losses = model.losses(batch, part, torch.Generator().manual_seed(0))
        assert torch.isfinite(losses["loss"])
        losses["loss"].backward()
        without = [i for i, p in enumerate(parameters) if p.grad is None or not p.grad.isfinite().all()]
        assert not without, (part, without)
        assert any((p.grad != 0).any() for p in parameters)


def test_gradients_reach_every_parameter(fine_case):
    model, conditions, showers = fine_case
    batch = Batch.with_energies(showers.energies, showers.conditions)
    assert_gradients_reach_all(model, replace(batch, given=conditions.given))


def test_what_cannot_be_refined_is_refused():
    model, conditions, _ = fine_model()
    noise = model.noise(len(conditions))
    with pytest.raises(MeshError, match="none are given"):
        decode(model, noise, replace(conditions, given=None))
    with pytest.raises(MeshError, match=r"have shape \(4, 4, 3\)"):
        decode(model, noise, replace(conditions, given=torch.zeros(len(conditions), 4, 4, 3)))
    for settings in ({}, {"grouping": (2, 2, 1), "coarse_shape": (2, 4, 3)}):
        with pytest.raises(ValueError, match="exactly one of grouping and coarse_shape"):
            SuperCaloFine(CYLINDER, settings)
    with pytest.raises(MeshError, match="does not divide"):
        SuperCaloFine(CYLINDER, {"grouping": (3, 1, 1)})


@pytest.mark.parametrize("coordinates", ["log-threshold", "log"])
@pytest.mark.parametrize("given_layers", [True, False])
def test_coarse_showers_have_their_layer_energies(coordinates, given_layers):
    model, showers = built(
        SuperCaloCoarse, CYLINDER, FLOW | {"energies": ENERGIES, "coordinates": coordinates}
    )
    conditions = ConditionTensors.of(showers.conditions)
    noise = model.noise(len(conditions), torch.Generator().manual_seed(1))
    incident = model.incident(conditions)
    layers = model.energy_flow.sample(noise["layers"], conditions.energy, incident, float(model.threshold))
    layers = layers.detach()
    if given_layers:
        layers = torch.from_numpy(showers.energies.sum(axis=(2, 3)))
        conditions.layer_energies = layers
    made = decode(model, noise, conditions)
    assert_legal(made)
    torch.testing.assert_close(made.sum(dim=(2, 3)), layers, rtol=1e-5, atol=1e-2)
    assert_gradients_reach_all(model, Batch.with_energies(showers.energies, showers.conditions))


@pytest.fixture(params=["own", "inductive"])
def chain(request):
    changes = {"coarse": INDUCTIVE} if request.param == "inductive" else {}
    return built(CoarseToFine, CYLINDER, CHAIN | changes)


def test_a_chain_closes_at_every_step(chain):
    model, showers = chain
    conditions = ConditionTensors.of(showers.conditions)
    noise = model.noise(len(conditions), torch.Generator().manual_seed(1))
    made = {}
    for name, slot in (("coarse", model.coarse), ("fine", model.fine)):
        slot.decode = lambda z, c, n=name, d=slot.decode: made.setdefault(n, (c, d(z, c)))[1]
    fine = decode(model, noise, conditions)
    layers, sums = made["fine"][0].layer_energies, made["coarse"][0].layer_energies
    torch.testing.assert_close(sums, layers.view(len(layers), 2, 2).sum(dim=2))
    given = made["fine"][0].given
    torch.testing.assert_close(given.sum(dim=(2, 3)), sums, rtol=1e-5, atol=1e-2)
    torch.testing.assert_close(
        torch.from_numpy(model.grouping.sum(fine.numpy())), given, rtol=1e-5, atol=1e-2
    )
    assert_legal(fine)


def test_parts_and_noise_of_a_chain_are_those_of_its_slots(chain):
    model, showers = chain
    assert list(model.parts()) == ["energies", "coarse.cells", "fine.layers", "fine.cells"]
    assert set(model.noise_shapes()) == {
        "energies",
        "coarse.layers",
        "coarse.cells",
        "fine.layers",
        "fine.cells",
    }
    assert_gradients_reach_all(model, Batch.with_energies(showers.energies, showers.conditions))


def test_a_chain_refines_what_is_given(chain):
    model, showers = chain
    conditions = ConditionTensors.of(showers.conditions)
    conditions.given = torch.from_numpy(model.grouping.sum(showers.energies))
    noise = model.noise(len(conditions), torch.Generator().manual_seed(1))
    fine = decode(model, noise, conditions)
    torch.testing.assert_close(
        torch.from_numpy(model.grouping.sum(fine.numpy())), conditions.given, rtol=1e-5, atol=1e-2
    )
    other = model.noise(len(conditions), torch.Generator().manual_seed(2))
    steps = {name: z if name.startswith("fine.") else other[name] for name, z in noise.items()}
    assert torch.equal(decode(model, steps, conditions), fine)


def test_wrong_slots_are_refused():
    with pytest.raises(ValueError, match="inductive has no Nothing"):
        CoarseToFine(CYLINDER, CHAIN | {"coarse": {"model": "flow.inductive:Nothing"}})
    with pytest.raises(ValueError, match="hiden"):
        CoarseToFine(CYLINDER, CHAIN | {"coarse": INDUCTIVE | {"settings": {"hiden": 3}}})
    with pytest.raises(ValueError, match="blox"):
        CoarseToFine(CYLINDER, CHAIN | {"fine": CHAIN["fine"] | {"settings": {"blox": 3}}})
    with pytest.raises(RecipeError, match="the parts are energies, coarse"):
        CoarseToFine(CYLINDER, CHAIN | {"leave_out": ("coarse.energies",)})


def test_a_mesh_is_not_refined_into_itself():
    with pytest.raises(MeshError, match="nothing to refine"):
        SuperCaloFine(CYLINDER, {"coarse_shape": CYLINDER.shape} | FINE)
