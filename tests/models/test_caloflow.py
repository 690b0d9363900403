"""Laws of CaloFlow and its student, on meshes with ragged layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caloforge import generate, train
from caloforge.data import Conditions, Showers
from caloforge.detector import BoxMesh, Mesh, RaggedBoxLayer, RaggedBoxMesh, RaggedCylinderMesh, RaggedLayer
from caloforge.errors import RecipeError
from caloforge.models.base import Batch, ConditionTensors
from caloforge.models.coordinates import Whole
from caloforge.models.flow.caloflow import CaloFlow, CaloFlowStudent
from caloforge.models.flow.icaloflow import ICaloFlow

RAGGED = RaggedCylinderMesh(
    (RaggedLayer(0, 1, (0, 5, 10)), RaggedLayer(1, 4, (0, 2, 4, 9)), RaggedLayer(12, 1, (0, 50)))
)
RAGGED_BOX = RaggedBoxMesh((RaggedBoxLayer(0, (0, 1, 2), (0, 3)), RaggedBoxLayer(1, (0, 1), (0, 1, 2, 3))))
REGULAR = BoxMesh.regular((2, 2, 3), (3.0, 5.0, 5.0))
SMALL: dict[str, Any] = {
    "blocks": 2,
    "hidden": 12,
    "depth": 1,
    "bins": 4,
    "bf16": False,
    "energies": {"blocks": 2, "hidden": 8, "bins": 4},
}
LOGIT = SMALL | {"coordinates": "logit", "bound": 14.0, "noise_mev": 0.5}
THRESHOLD = 15.0
CASES = [
    pytest.param(cls, mesh, settings, id=f"{cls.__name__}-{mesh.kind}-{name}")
    for cls in (CaloFlow, CaloFlowStudent)
    for mesh, name, settings in (
        (RAGGED, "log", SMALL),
        (RAGGED, "logit", LOGIT),
        (RAGGED_BOX, "log", SMALL),
        (REGULAR, "logit", LOGIT),
    )
]


def showers_on(mesh: Mesh, n: int = 40) -> Showers:
    """Sparse showers; the first has no energy in its last layer, the second no energy at all."""
    rng = np.random.default_rng(0)
    energy = np.exp(rng.uniform(np.log(1000), np.log(10000), n))
    shares = rng.gamma(0.5, size=(n, mesh.n_voxels))
    energies = energy[:, None] * 0.9 * shares / shares.sum(axis=1, keepdims=True)
    energies[energies < THRESHOLD] = 0
    energies[0, mesh.layer_offsets[-2] :] = 0
    energies[1] = 0
    return Showers(
        energies.reshape(n, *mesh.shape), Conditions(energy, particle="gamma", detector="toy"), mesh
    )


def fitted(
    mesh: Mesh, settings: dict[str, Any], cls: type[CaloFlow] = CaloFlow, scale: float = 0.1
) -> CaloFlow:
    """A model with the statistics of `showers_on` and random weights."""
    model = cls(mesh, settings)
    if isinstance(model, CaloFlowStudent):
        model.use_teacher(fitted(mesh, settings).eval())
    model.fit(showers_on(mesh))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part in model.parts().values():
            for parameter in part:
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def layer_sums(mesh: Mesh, energies: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(mesh.layer_energies(energies.numpy())).float()


@pytest.mark.parametrize(("cls", "mesh", "settings"), CASES)
def test_layers_have_their_energies_and_no_cell_lies_under_the_threshold(
    cls: type[CaloFlow], mesh: Mesh, settings: dict[str, Any]
) -> None:
    model = fitted(mesh, settings | {"threshold_mev": THRESHOLD}, cls)
    showers = showers_on(mesh)
    conditions = ConditionTensors.of(showers.conditions)
    noise = model.noise(len(showers), torch.Generator().manual_seed(0))
    wanted = layer_sums(mesh, torch.from_numpy(showers.energies))
    conditions.layer_energies = wanted
    with torch.no_grad():
        made = model.decode(noise, conditions)
        conditions.layer_energies = None
        free = model.decode(noise, conditions)
        incident = model.incident(conditions)
        sampled = model.energy_flow.sample(noise["energies"], conditions.energy, incident, THRESHOLD)
    assert made.shape == (len(showers), *mesh.shape)
    assert torch.allclose(layer_sums(mesh, made), wanted, rtol=1e-5, atol=1e-3)
    assert torch.allclose(layer_sums(mesh, free), sampled, rtol=1e-5, atol=1e-3)
    for cells in (made, free):
        assert not ((cells > 0) & (cells < THRESHOLD * (1 - 1e-5))).any()
    assert not made[1].any()


@pytest.mark.parametrize(("cls", "mesh", "settings"), CASES)
def test_gradients_reach_every_parameter(cls: type[CaloFlow], mesh: Mesh, settings: dict[str, Any]) -> None:
    model = fitted(mesh, settings, cls).train()
    showers = showers_on(mesh)
    batch = Batch.with_energies(showers.energies, showers.conditions)
    for part, parameters in model.parts().items():
        model.zero_grad()
        loss = model.losses(batch, part, torch.Generator().manual_seed(0))["loss"]
        assert torch.isfinite(loss)
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.any()) for p in parameters), part


def test_coordinates_are_shares_of_the_layers_and_come_back() -> None:
    model = fitted(RAGGED, LOGIT | {"noise_mev": 1e-3})
    showers = showers_on(RAGGED)
    batch = Batch.with_energies(showers.energies, showers.conditions)
    x, context, _ = model.examples(batch, "cells", torch.Generator().manual_seed(0))
    shares = torch.zeros(40, 3).index_add_(1, model.layers.owner, torch.sigmoid(x))
    sums = model.layers.sum(batch.energies)
    assert torch.allclose(shares[sums > 0], torch.ones(()), atol=1e-3)
    whole = Whole(model.layers.spread(sums), model.sizes)
    back = model.coordinates.inverse(x, float(model.threshold), whole)
    assert torch.allclose(back, batch.energies, rtol=1e-3, atol=1e-2)
    assert context.shape == (40, model.incident.size + 3)


def test_the_density_of_cells_given_layer_energies_integrates_to_one() -> None:
    pair = RaggedCylinderMesh((RaggedLayer(0, 1, (0, 5)), RaggedLayer(1, 1, (0, 5))))
    model = fitted(pair, SMALL, scale=0.3)
    axis = torch.linspace(-9, 9, 361)
    grid = torch.cartesian_prod(axis, axis)
    context = torch.tensor([0.3, -0.5, 0.0, 0.0, 1.0, 0.0, 0.2, 0.4, -0.7]).expand(len(grid), -1)
    with torch.no_grad():
        density = model.flow("cells").log_prob(grid, context).exp()
    assert float(density.sum()) * float(axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=5e-3)


def test_a_students_teacher_must_be_a_caloflow() -> None:
    student = CaloFlowStudent(REGULAR, SMALL)
    with pytest.raises(RecipeError, match="trained CaloFlow, got a ICaloFlow"):
        student.use_teacher(ICaloFlow(REGULAR, SMALL))


def test_teacher_and_student_from_recipes_and_back_from_disk(tmp_path: Path) -> None:
    showers = showers_on(RAGGED, 60)
    recipe: dict[str, Any] = {
        "model": "flow.caloflow:CaloFlow",
        "settings": SMALL,
        "training": {"epochs": 2, "batch_size": 20},
    }
    train(recipe, showers, out=tmp_path / "teacher", progress=False)
    recipe["model"] = "flow.caloflow:CaloFlowStudent"
    train(recipe, showers, out=tmp_path / "student", teacher=tmp_path / "teacher", progress=False)
    for name in ("teacher", "student"):
        made = generate(tmp_path / name, like=showers[:9], seed=3)
        again = generate(tmp_path / name, like=showers[:4], seed=3)
        assert np.array_equal(made.energies[:4], again.energies)
        assert made.energies.any()
