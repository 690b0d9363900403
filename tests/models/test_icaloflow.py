"""Laws of iCaloFlow and its student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caloforge import generate, train
from caloforge.data import Conditions, Showers
from caloforge.detector import BoxMesh, CylinderMesh
from caloforge.errors import DataError, MeshError, RecipeError
from caloforge.models.base import Batch, ConditionTensors, GeneratorModel
from caloforge.models.flow.icaloflow import ICaloFlow, ICaloFlowStudent

CYLINDER = CylinderMesh.regular(n_z=4, n_phi=3, n_r=2)
BOX = BoxMesh.regular((3, 2, 3), (3.0, 5.0, 5.0))
IMAGE = BoxMesh.regular((1, 2, 3), (3.0, 20.0, 20.0))
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


def showers_on(mesh: CylinderMesh | BoxMesh, n: int = 40) -> Showers:
    """Sparse showers; the first has no energy in its first layer, the second none but there."""
    rng = np.random.default_rng(0)
    energy = np.exp(rng.uniform(np.log(1000), np.log(10000), n))
    shares = rng.gamma(0.5, size=(n, mesh.n_voxels))
    energies = energy[:, None] * 0.9 * shares / shares.sum(axis=1, keepdims=True)
    energies[energies < THRESHOLD] = 0
    energies = energies.reshape(n, *mesh.shape)
    if len(energies[0]) > 1:
        energies[0, 0] = 0
        energies[1, 1:] = 0
    return Showers(energies, Conditions(energy, particle="e-", detector="toy"), mesh)


def fitted(
    mesh: CylinderMesh | BoxMesh,
    settings: dict[str, Any],
    cls: type[ICaloFlow] = ICaloFlow,
    scale: float = 0.1,
) -> ICaloFlow:
    """A model with the statistics of `showers_on` and random weights."""
    model = cls(mesh, settings)
    if isinstance(model, ICaloFlowStudent):
        model.use_teacher(fitted(mesh, settings).eval())
    model.fit(showers_on(mesh))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part in model.parts().values():
            for parameter in part:
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def batch_of(showers: Showers, n: int | None = None) -> Batch:
    taken = showers[: n or len(showers)]
    return Batch.with_energies(taken.energies, taken.conditions)


CASES = [
    pytest.param(cls, mesh, settings, id=f"{cls.__name__}-{mesh.kind}{mesh.n_layers}-{name}")
    for cls in (ICaloFlow, ICaloFlowStudent)
    for mesh, name, settings in ((CYLINDER, "log", SMALL), (BOX, "logit", LOGIT), (IMAGE, "log", SMALL))
]


@pytest.mark.parametrize(("cls", "mesh", "settings"), CASES)
def test_layers_have_their_energies_and_no_cell_lies_under_the_threshold(
    cls: type[ICaloFlow], mesh: CylinderMesh | BoxMesh, settings: dict[str, Any]
) -> None:
    model = fitted(mesh, settings | {"threshold_mev": THRESHOLD}, cls)
    showers = showers_on(mesh)
    conditions = ConditionTensors.of(showers.conditions)
    noise = model.noise(len(showers), torch.Generator().manual_seed(0))
    wanted = torch.from_numpy(showers.energies).flatten(2).sum(dim=2)
    conditions.layer_energies = wanted
    with torch.no_grad():
        made = model.decode(noise, conditions)
        conditions.layer_energies = None
        free = model.decode(noise, conditions)
        incident = model.incident(conditions)
        sampled = model.energy_flow.sample(noise["energies"], conditions.energy, incident, THRESHOLD)
    assert made.shape == (len(showers), *mesh.shape)
    assert torch.allclose(made.flatten(2).sum(dim=2), wanted, rtol=1e-5, atol=1e-3)
    assert torch.allclose(free.flatten(2).sum(dim=2), sampled, rtol=1e-5, atol=1e-3)
    for cells in (made, free):
        assert not ((cells > 0) & (cells < THRESHOLD * (1 - 1e-5))).any()
        assert torch.isfinite(cells).all()
    assert not made[wanted == 0].any()


def test_a_layer_is_an_example_of_its_own_given_the_one_before() -> None:
    """The loss of "next" is the mean over layers with energy of −log p(layer | layer before, energies)."""
    model = fitted(CYLINDER, SMALL | {"smear": 0.0})
    batch = batch_of(showers_on(CYLINDER))
    x, context, lit = model.examples(batch, "next", torch.Generator().manual_seed(0))
    assert torch.equal(lit, (batch.energies.flatten(2).sum(dim=2) > 0)[:, 1:].flatten())
    assert not lit.all()
    log_p = model.flow("next").log_prob(x[lit], context[lit])
    loss = model.losses(batch, "next", torch.Generator().manual_seed(0))["loss"]
    assert torch.allclose(loss, -log_p.mean(), rtol=1e-5)

    changed = batch_of(showers_on(CYLINDER))
    changed.energies[:, 1] = changed.energies[:, 1].flip(1)  # the same energy, elsewhere in layer 1

    def contexts(of: Batch) -> torch.Tensor:
        given = model.examples(of, "next", torch.Generator().manual_seed(0))[1]
        return given.view(len(of), -1, given.shape[1])[5, :3]

    same = (contexts(batch) == contexts(changed)).all(dim=1)
    assert same.tolist() == [True, False, True]  # only layer 2 sees layer 1


def test_first_layers_sample_the_density_that_is_trained() -> None:
    """Decoding noise and reading the cells again gives the noise back, layer after layer."""
    settings = SMALL | {"smear": 0.0, "threshold_mev": 1e-6}
    model = fitted(CYLINDER, settings, scale=0.03)
    n, layers, cells = 30, 4, 6
    conditions = ConditionTensors.of(showers_on(CYLINDER, n).conditions)
    noise = model.noise(n, torch.Generator().manual_seed(0))
    incident = model.incident(conditions)
    energies = torch.full((n, layers), 100.0)
    with torch.no_grad():
        first, rest = model._contexts(incident, energies)
        y = model.flow("first").sample(noise["cells"][:, 0].flatten(1), first)
        z, _ = model.flow("first").to_noise(y, first)
    assert first.shape == (n, incident.shape[1] + 1)
    assert rest.shape == (n, layers - 1, incident.shape[1] + 2 + layers - 1)
    assert y.shape == (n, cells)
    assert torch.allclose(z, noise["cells"][:, 0].flatten(1), atol=1e-3)


@pytest.mark.parametrize(("cls", "mesh", "settings"), CASES)
def test_gradients_reach_every_parameter(
    cls: type[ICaloFlow], mesh: CylinderMesh | BoxMesh, settings: dict[str, Any]
) -> None:
    model = fitted(mesh, settings, cls).train()
    batch = batch_of(showers_on(mesh))
    for part, parameters in model.parts().items():
        if part == "energies" and mesh.n_layers == 1:
            continue  # a single dimension sees the context alone
        model.zero_grad()
        loss = model.losses(batch, part, torch.Generator().manual_seed(0))["loss"]
        assert torch.isfinite(loss)
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.any()) for p in parameters), part
    everyone = {id(p) for part in model.parts().values() for p in part}
    trained = {id(p) for p in model.parameters()} - {id(p) for p in model.energy_flow.parameters()}
    assert everyone - {id(p) for p in model.energy_flow.parameters()} == trained


def test_batches_without_energy_teach_nothing_and_do_no_harm() -> None:
    model = fitted(CYLINDER, SMALL).train()
    batch = batch_of(showers_on(CYLINDER))
    batch.energies.zero_()
    for part in ("first", "next"):
        loss = model.losses(batch, part, torch.Generator().manual_seed(0))["loss"]
        loss.backward()
        assert float(loss.detach()) == 0
    empty = Showers(np.zeros((3, *CYLINDER.shape)), Conditions(np.full(3, 1e3), particle="e-"), CYLINDER)
    with pytest.raises(DataError, match="empty"):
        ICaloFlow(CYLINDER, SMALL).fit(empty)


def test_a_student_takes_what_it_shares_from_its_teacher_and_leaves_it_as_it_is() -> None:
    teacher, showers = fitted(CYLINDER, SMALL), showers_on(CYLINDER)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    student = ICaloFlowStudent(CYLINDER, SMALL | {"hidden": 20, "depth": 2})
    student.use_teacher(teacher)
    student.fit(showers)
    optimiser = torch.optim.Adam([p for part in student.parts().values() for p in part], 1e-2)
    for part in student.parts():
        student.losses(batch_of(showers), part, torch.Generator().manual_seed(0))["loss"].backward()
    optimiser.step()
    after, own = teacher.state_dict(), student.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    shared = [name for name in before if not name.startswith("flows.") or name.endswith(".orders")]
    assert "threshold" in shared
    assert "incident.mean" in shared
    assert any(name.startswith("energy_flow.") for name in shared)
    assert all(torch.equal(own[name], before[name]) for name in shared)
    assert set(student.parts()) == {"first", "next"}
    assert not any("teacher" in name for name in own)


class _Other(GeneratorModel):
    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        return {}

    def losses(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, torch.Tensor]:
        return {}

    def decode(self, noise: Any, conditions: ConditionTensors) -> torch.Tensor:
        return torch.zeros(())


def test_a_student_says_which_teacher_it_needs() -> None:
    student = ICaloFlowStudent(CYLINDER, SMALL)
    with pytest.raises(RecipeError, match="--teacher FOLDER"):
        student.fit(showers_on(CYLINDER))
    with pytest.raises(RecipeError, match="ICaloFlow, got a _Other"):
        student.use_teacher(_Other(CYLINDER))
    with pytest.raises(RecipeError, match="got a ICaloFlowStudent"):
        student.use_teacher(ICaloFlowStudent(CYLINDER, SMALL))
    with pytest.raises(RecipeError, match=r"settings\.bins.*got 4, the teacher has 5"):
        student.use_teacher(ICaloFlow(CYLINDER, SMALL | {"bins": 5}))
    with pytest.raises(MeshError, match="teacher's mesh"):
        student.use_teacher(ICaloFlow(BOX, SMALL))
    with pytest.raises(RecipeError, match="without a teacher"):
        ICaloFlow(CYLINDER, SMALL).use_teacher(fitted(CYLINDER, SMALL))


def test_teacher_and_student_from_recipes_and_back_from_disk(tmp_path: Path) -> None:
    showers = showers_on(CYLINDER, 60)
    recipe: dict[str, Any] = {
        "model": "flow.icaloflow:ICaloFlow",
        "settings": SMALL,
        "training": {"epochs": 2, "batch_size": 20},
    }
    train(recipe, showers, out=tmp_path / "teacher", progress=False)
    recipe["model"] = "flow.icaloflow:ICaloFlowStudent"
    train(recipe, showers, out=tmp_path / "student", teacher=tmp_path / "teacher", progress=False)
    (tmp_path / "teacher").rename(tmp_path / "gone")
    made = generate(tmp_path / "student", like=showers[:9], seed=3)
    again = generate(tmp_path / "student", like=showers[:4], seed=3)
    assert np.array_equal(made.energies[:4], again.energies)
    assert made.energies.any()
    with pytest.raises(RecipeError, match="--teacher FOLDER"):
        train(recipe, showers, out=tmp_path / "orphan", progress=False)
