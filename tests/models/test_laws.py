"""The laws that every model class of the package obeys; a new family is tested by existing.

Classes are found by walking `caloforge.models`. Each is trained for a moment, as `caloforge train` does, with
its ``example`` settings on a mesh of 6 × 4 × 3 cells, a student from a teacher of its ``teacher_class``; then
all laws are tried on every device of the machine.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor

import caloforge.models
from caloforge.checkpoint import Checkpoint
from caloforge.data import Conditions, Showers
from caloforge.detector import (
    BoxMesh,
    CylinderMesh,
    Mesh,
    RaggedBoxLayer,
    RaggedBoxMesh,
    RaggedCylinderMesh,
    RaggedLayer,
)
from caloforge.errors import CheckpointError, MeshError, RecipeError
from caloforge.generation import generate
from caloforge.models.base import Batch, ConditionTensors, GeneratorModel
from caloforge.models.student import Student
from caloforge.models.supercalo.chain import coarse_showers
from caloforge.models.trainable import Trainable
from caloforge.training import adapt, train

MESH = CylinderMesh.regular(n_z=6, n_phi=4, n_r=3)
MESHES: list[Mesh] = [
    MESH,
    BoxMesh.regular((6, 4, 3), (3.0, 5.0, 5.0)),
    RaggedCylinderMesh(
        tuple(RaggedLayer(i, 1 + i % 3, (0.0, 5.0, 20.0), (3.0 * i, 3.0 * i + 3)) for i in range(6))
    ),
    RaggedBoxMesh(
        tuple(
            RaggedBoxLayer(i, (-5.0, 0.0, 5.0), (-5.0, 0.0, 5.0)[: 2 + i % 2], (3.0 * i, 3.0 * i + 3))
            for i in range(6)
        )
    ),
]
THRESHOLD = 0.5
ENERGY, THETA, PHI = (1e3, 5e4), (1.0, 2.0), (0.0, 6.28)
ROUNDING = 1e-4
T = TypeVar("T", bound=Trainable)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def model_classes() -> list[type[GeneratorModel]]:
    """Every model class of the package that is not abstract."""
    for module in pkgutil.walk_packages(caloforge.models.__path__, "caloforge.models."):
        importlib.import_module(module.name)
    found, todo = set(), [GeneratorModel]
    while todo:
        todo += (subclasses := todo.pop().__subclasses__())
        found |= {cls for cls in subclasses if cls.__module__.startswith("caloforge.models.")}
    return sorted((cls for cls in found if not inspect.isabstract(cls)), key=name_of)


def name_of(cls: type[Trainable]) -> str:
    """The name of a class in recipes."""
    return f"{cls.__module__.removeprefix('caloforge.models.')}:{cls.__name__}"


CLASSES = model_classes()
WITHOUT_EFFECT = {("supercalo.chain:CoarseToFine", "coarse.layers")}
"""Noise that is drawn and not used: a chain tells its coarse model the layer energies."""


def showers_of(mesh: Mesh = MESH, detector: str = "toy", n: int = 120, response: float = 0.8) -> Showers:
    """Showers of which many cells, and now and then a whole layer, are empty."""
    rng = np.random.default_rng(7)
    energy = np.exp(rng.uniform(*np.log(ENERGY), n))
    energy[:2] = ENERGY
    layers = rng.gamma([2.0, 6.0, 8.0, 5.0, 2.0, 1.0], size=(n, mesh.n_layers))
    layers[rng.random(n) < 0.2, -1] = 0
    cells = rng.gamma(0.5, size=(n, mesh.n_voxels)) * layers[:, mesh.voxel_layers]
    energies = response * energy[:, None] * cells / cells.sum(axis=1, keepdims=True)
    energies[energies < THRESHOLD] = 0
    theta, phi = (rng.uniform(*span, n) for span in (THETA, PHI))
    theta[:2], phi[:2] = THETA, PHI
    conditions = Conditions(energy, theta, phi, particle="e-", detector=detector)
    return Showers(energies.reshape(n, *mesh.shape), conditions, mesh, {"action": "test"})


SHOWERS = showers_of()


def least_energy(showers: Showers = SHOWERS) -> float:
    """Least cell energy of showers, MeV: where a model without a setting of its own cuts."""
    return float(showers.energies[showers.energies > 0].min())


def recipe_of(cls: type[Trainable]) -> dict[str, Any]:
    """A training of ten steps."""
    training = {
        "steps": 10,
        "batch_size": 20,
        "learning_rate": 1e-3,
        "validation_fraction": 0.2,
        "precision": "float32",
    }
    return {"model": name_of(cls), "settings": dict(cls.example), "training": training}


def fitted(cls: type[T], showers: Showers) -> T:
    """A model that knows the statistics of its training showers, and nothing else."""
    torch.manual_seed(0)
    model = cls(showers.mesh, cls.example)
    model.detectors, model.meshes = tuple(showers.meshes), showers.meshes
    if issubclass(cls, Student):
        model.use_teacher(fitted(cls.teacher_class, showers))
    model.fit(showers)
    return model


def moved_at_random(model: GeneratorModel) -> GeneratorModel:
    """The model with noise added to all its parameters."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise.to(parameter.device), alpha=0.1)
    return model


@dataclass
class Trained:
    """A model class that was trained on a device.

    Attributes:
        cls, device: which, and where.
        folder: of its checkpoints.
        teacher: what a student learnt from.
        checkpoint: the result.
    """

    cls: type[Trainable]
    device: str
    folder: Path
    teacher: Checkpoint | None = None
    checkpoint: Checkpoint = field(init=False)

    def __post_init__(self) -> None:
        if issubclass(self.cls, Student):
            self.teacher = Trained(self.cls.teacher_class, self.device, self.folder / "teacher").checkpoint
        self.checkpoint = self.train("model")

    def train(self, out: str, **options: Any) -> Checkpoint:
        """The training that made the checkpoint, again."""
        return train(
            recipe_of(self.cls),
            SHOWERS,
            out=self.folder / out,
            device=self.device,
            teacher=self.teacher,
            progress=False,
            **options,
        )

    def model(self) -> GeneratorModel:
        """The trained model."""
        return self.checkpoint.model(self.device)

    def rough(self) -> GeneratorModel:
        """The model with all parameters moved at random, so that nothing in it is zero or the identity."""
        model = self.model()
        if self.teacher is not None:
            model.use_teacher(self.teacher.network(self.device).requires_grad_(False))
        return moved_at_random(model)

    def conditions(self, model: GeneratorModel, n: int) -> list[ConditionTensors]:
        """Conditions of the first n showers, in all ways in which the model takes them."""
        known = ConditionTensors.of(SHOWERS.conditions[:n], model.detectors, self.device)
        if model.given_mesh is None:
            return [known]
        given = torch.from_numpy(coarse_showers(model, SHOWERS).energies[:n]).to(self.device)
        ways = [replace(known, given=given)]
        try:
            model.decode(self.noise(model, n), known)
        except MeshError:  # it makes no shower without
            return ways
        return [known, *ways]

    def batch(self, model: GeneratorModel, n: int) -> Batch:
        """The first n showers to train on."""
        return Batch.with_energies(SHOWERS.energies[:n], SHOWERS.conditions[:n], model.detectors, self.device)

    def require_same(self, ours: Tensor, others: Tensor) -> None:
        """Equal showers: to the last bit on a CPU, up to rounding where a device adds in any order."""
        if self.device == "cpu":
            assert torch.equal(ours, others)
        else:
            require_close(ours, others)

    def noise(self, model: GeneratorModel, n: int, seed: int = 0) -> dict[str, Tensor]:
        """Noise of n showers, the same on every device."""
        noise = model.noise(n, torch.Generator().manual_seed(seed))
        return {name: z.to(self.device) for name, z in noise.items()}


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """Each device of the machine in turn."""
    return str(request.param)


@pytest.fixture(scope="module", params=CLASSES, ids=name_of)
def trained(request: pytest.FixtureRequest, device: str, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Each model class in turn, trained."""
    return Trained(request.param, device, tmp_path_factory.mktemp("laws"))


def require_legal(energies: Tensor, like: Showers = SHOWERS) -> None:
    """Showers are float32 on their mesh, and each cell is empty or at least at the threshold."""
    assert energies.shape[1:] == like.mesh.shape
    assert energies.dtype == torch.float32
    assert torch.isfinite(energies).all()
    assert torch.isfinite(energies.flatten(1).sum(dim=1)).all()
    assert (energies >= 0).all()
    lit = energies[energies > 0]
    assert not len(lit) or float(lit.min()) >= least_energy(like) * (1 - ROUNDING)


def coarse_sums(model: GeneratorModel, energies: Tensor) -> Tensor:
    """Energies (n, Zc, Pc, Rc) of the cells that `decode` closes exactly: coarse ones, or whole layers."""
    shape = (MESH.shape[0], 1, 1) if model.given_mesh is None else model.given_mesh.shape
    split = [size for axis in zip(shape, MESH.shape, strict=True) for size in (axis[0], axis[1] // axis[0])]
    return energies.reshape(-1, *split).sum(dim=(2, 4, 6))


def test_every_family_is_found() -> None:
    names = [name_of(cls) for cls in CLASSES]
    assert len(names) == len(set(names))
    assert all(name in names for name in ("diffusion.model:DiffusionModel", "flow.caloflow:CaloFlow"))


@pytest.mark.parametrize("mesh", MESHES, ids=lambda mesh: mesh.kind)
@pytest.mark.parametrize("cls", CLASSES, ids=name_of)
def test_every_mesh_of_its_kinds(cls: type[GeneratorModel], mesh: Mesh) -> None:
    if cls.mesh_kinds and mesh.kind not in cls.mesh_kinds:
        with pytest.raises(MeshError, match=f"works on meshes of kind .*{cls.mesh_kinds[0]}"):
            cls(mesh, cls.example)
        return
    showers = showers_of(mesh, n=40)
    model = fitted(cls, showers)
    conditions = ConditionTensors.of(showers.conditions, model.detectors)
    if model.given_mesh is not None:
        conditions.given = torch.from_numpy(coarse_showers(model, showers).energies)
    with torch.no_grad():
        noise = model.noise(len(showers), torch.Generator().manual_seed(1))
        made = moved_at_random(model).eval().decode(noise, conditions)
    require_legal(made, showers)


def test_noise_is_all_that_is_random_and_all_of_it_counts(trained: Trained) -> None:
    model = trained.rough()
    shapes = model.noise_shapes()
    assert shapes
    assert all(size > 0 for shape in shapes.values() for size in shape)
    noise, other = (trained.noise(model, 4, seed) for seed in (0, 1))
    used = set()
    assert {name: tuple(z.shape[1:]) for name, z in noise.items()} == {k: tuple(v) for k, v in shapes.items()}
    with torch.no_grad():
        for conditions in trained.conditions(model, 4):
            torch.manual_seed(1)
            showers = model.decode(noise, conditions)
            torch.manual_seed(2)
            trained.require_same(model.decode(noise, conditions), showers)
            for name in shapes:
                changed = model.decode(noise | {name: other[name]}, conditions)
                used |= set() if torch.equal(changed, showers) else {name}
    without_effect = {(name_of(trained.cls), name) for name in shapes.keys() - used}
    assert without_effect <= WITHOUT_EFFECT


def test_a_shower_is_the_same_for_any_batch_size(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained.cls, "block_size", 8)
    monkeypatch.setattr(trained.cls, "block_size_gpu", 8)

    def made(first: int, stop: int, batch_size: int) -> Any:
        options: dict[str, Any] = {"conditions": SHOWERS.conditions[first:stop]}
        model = trained.model()
        if model.given_mesh is not None and len(trained.conditions(model, 2)) == 1:
            options = {"given": coarse_showers(model, SHOWERS)[first:stop]}
        return generate(
            trained.checkpoint,
            seed=5,
            first=first,
            batch_size=batch_size,
            device=trained.device,
            progress=False,
            **options,
        ).energies

    whole = made(0, 20, 20)
    for first, batch_size in ((0, 1), (0, 7), (9, 3)):
        energies = made(first, 20, batch_size)
        trained.require_same(torch.from_numpy(energies), torch.from_numpy(whole[first:]))


def test_showers_do_not_depend_on_their_order(trained: Trained) -> None:
    model, n = trained.model(), 12
    noise, order = trained.noise(model, n), torch.randperm(n, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for conditions in trained.conditions(model, n):
            showers = model.decode(noise, conditions)
            index = order.to(showers.device)
            moved = model.decode({name: z[index] for name, z in noise.items()}, conditions[index])
            require_close(moved, showers[index])


def test_a_shower_depends_on_its_own_noise_and_conditions_alone(trained: Trained) -> None:
    model, n, own = trained.rough(), 12, 5
    noise, other = (trained.noise(model, n, seed) for seed in (0, 1))
    mixed = {name: torch.cat([noise[name][:own], other[name][own:]]) for name in noise}
    others = torch.arange(n, device=trained.device).clamp_max(own)
    with torch.no_grad():
        for conditions in trained.conditions(model, n):
            showers, changed = model.decode(noise, conditions), model.decode(mixed, conditions[others])
            trained.require_same(changed[:own], showers[:own])
            assert not torch.equal(changed[own:], showers[own:])


def require_close(ours: Tensor, others: Tensor) -> None:
    """Equal up to rounding, which may cut a cell at the threshold and share its energy out anew."""
    size = others.sum(dim=(1, 2, 3)).clamp_min(1.0)
    distance = (ours - others).abs().sum(dim=(1, 2, 3)) / size
    assert float(distance.median()) < ROUNDING
    assert float(distance.max()) < 0.02


def test_energy_closes(trained: Trained) -> None:
    model, n = trained.rough(), 40
    noise, asked = trained.noise(model, n), torch.from_numpy(SHOWERS.energies[:n]).to(trained.device)
    asked = asked.clone()
    asked[::3, 2] = 0  # empty layers in the midst of showers
    with torch.no_grad():
        for conditions in trained.conditions(model, n):
            free = model.decode(noise, conditions)
            require_legal(free)
            if conditions.given is None:
                wanted = coarse_sums(model, asked).sum(dim=(2, 3))
                layers = replace(conditions, layer_energies=asked.sum(dim=(2, 3)))
                again = replace(conditions, layer_energies=free.sum(dim=(2, 3)))
                close = coarse_sums(model, model.decode(noise, again)).sum(dim=(2, 3))
                torch.testing.assert_close(
                    close, coarse_sums(model, free).sum(dim=(2, 3)), rtol=ROUNDING, atol=1e-2
                )
                bound = model.decode(noise, layers)
                require_legal(bound)
                made = coarse_sums(model, bound).sum(dim=(2, 3))
                torch.testing.assert_close(made, wanted, rtol=ROUNDING, atol=1e-2)
            else:
                torch.testing.assert_close(
                    coarse_sums(model, free), conditions.given, rtol=ROUNDING, atol=1e-2
                )


def test_no_illegal_values_at_the_edges(trained: Trained) -> None:
    edges = [(e, t, p) for e in ENERGY for t in THETA for p in PHI]
    energy, theta, phi = np.array(edges).T
    corners = Conditions(energy, theta, phi, particle="e-", detector="toy")
    for model in (trained.model(), trained.rough()):
        n = len(edges)
        at_edges = ConditionTensors.of(corners, model.detectors, trained.device)
        usual = trained.noise(model, n)
        extreme = [
            {name: torch.full_like(z, value) for name, z in usual.items()} for value in (-6.0, 0.0, 6.0)
        ]
        extreme.append({name: 6 * z.sign() for name, z in usual.items()})
        for way in trained.conditions(model, n):
            conditions = replace(at_edges, given=way.given)
            for noise in (usual, *extreme):
                with torch.no_grad():
                    require_legal(model.decode(noise, conditions))


def test_gradients_reach_every_parameter(trained: Trained) -> None:
    model = trained.rough()
    parts = model.parts()
    trained_ones = [p for group in parts.values() for p in group]
    assert len({id(p) for p in trained_ones}) == len(trained_ones), "a parameter is in two parts"
    generator = torch.Generator(device=trained.device)
    names = {id(p): name for name, p in model.named_parameters()}
    batch = trained.batch(model, 40)
    for part, parameters in parts.items():
        assert parameters, f"part {part!r} has no parameters"
        model.zero_grad()
        losses = model.losses(batch, part, generator.manual_seed(1))
        assert losses["loss"].shape == ()
        assert torch.isfinite(losses["loss"])
        losses["loss"].backward()
        for parameter in parameters:
            name = names[id(parameter)]
            assert parameter.grad is not None, f"{part}: {name} has no gradient"
            assert torch.isfinite(parameter.grad).all(), f"{part}: the gradient of {name} is not finite"
            assert parameter.grad.any(), f"{part}: the gradient of {name} is zero"


def test_losses_in_bfloat16_have_gradients(trained: Trained) -> None:
    model, generator = trained.rough(), torch.Generator(device=trained.device)
    batch = trained.batch(model, 16)
    for part, parameters in model.parts().items():
        model.zero_grad()
        with torch.autocast(trained.device, torch.bfloat16):
            loss = model.losses(batch, part, generator.manual_seed(1))["loss"]
        loss.backward()
        assert torch.isfinite(loss)
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in parameters), part


def test_what_is_not_trained_is_the_teachers(trained: Trained) -> None:
    model = trained.model()
    in_parts = {id(p) for group in model.parts().values() for p in group}
    idle = {name: p for name, p in model.named_parameters() if id(p) not in in_parts}
    if trained.teacher is None:
        assert not idle
        return
    for name, parameter in idle.items():
        assert torch.equal(parameter.cpu(), trained.teacher.tensors[name]), name


def test_losses_depend_on_their_random_numbers_alone(trained: Trained) -> None:
    model, generator = trained.rough().eval(), torch.Generator(device=trained.device)
    batch = trained.batch(model, 16)
    for part in model.parts():
        losses = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            with torch.no_grad():
                losses.append(float(model.losses(batch, part, generator.manual_seed(1))["loss"]))
        assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_a_saved_model_makes_the_same_showers(trained: Trained) -> None:
    fresh = Checkpoint.from_model(trained.rough(), name_of(trained.cls), trained.checkpoint.valid_range)
    saved = Checkpoint.load(fresh.save(trained.folder / "saved", overwrite=True))
    assert saved.fingerprint == fresh.fingerprint
    before, after = trained.rough(), saved.model(trained.device)
    noise = trained.noise(before, 5)
    with torch.no_grad():
        for conditions in trained.conditions(before, 5):
            trained.require_same(after.decode(noise, conditions), before.decode(noise, conditions))
    assert after.describe() == before.describe()


def test_a_resumed_training_is_an_uninterrupted_one(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, real = 0, trained.cls.after_step

    def stops(model: GeneratorModel, part: str) -> None:
        nonlocal count
        count += 1
        if count == 7 * len(model.parts()) - 1:  # in the midst of the seventh step
            os.kill(os.getpid(), signal.SIGINT)
        real(model, part)

    if not trained.model().parts():  # nothing to stop: what is fitted again is the same
        require_same_weights(trained.checkpoint.tensors, trained.train("again").tensors, exactly=True)
        return
    monkeypatch.setattr(trained.cls, "after_step", stops)
    with pytest.raises(KeyboardInterrupt, match="resume=True"):
        trained.train("cut")
    monkeypatch.undo()
    resumed = trained.train("cut", resume=True)
    require_same_weights(trained.checkpoint.tensors, resumed.tensors, exactly=trained.device == "cpu")


def require_same_weights(ours: Mapping[str, Tensor], others: Mapping[str, Tensor], exactly: bool) -> None:
    """Equal tensors; up to rounding where a device adds in any order."""
    assert ours.keys() == others.keys()
    for name, tensor in ours.items():
        if exactly or not tensor.is_floating_point():
            assert torch.equal(tensor, others[name]), name
        else:
            torch.testing.assert_close(tensor, others[name], rtol=1e-2, atol=1e-3)


def test_adaptation_works_or_is_refused(trained: Trained) -> None:
    joint = trained.cls.joint
    mesh = CylinderMesh.regular(n_z=6, n_phi=4, n_r=3, dz=5.0) if joint else MESH
    new = showers_of(mesh, "new", n=40, response=0.4)
    made, refused = None, ""
    try:
        made = adapt(
            trained.checkpoint,
            new,
            out=trained.folder / "new",
            steps=2,
            device=trained.device,
            progress=False,
        )
    except (RecipeError, CheckpointError) as error:
        refused = str(error)
    if made is None:
        assert "cannot be adapted" in refused
        assert not (trained.folder / "new" / "checkpoint.json").exists()
        return
    assert made.detectors == ("toy", "new")
    for name in made.detectors:
        showers = generate(
            made, detector=name, energy=1e4, theta=1.5, phi=1.0, n=3, device=trained.device, progress=False
        )
        assert np.isfinite(showers.energies).all()
