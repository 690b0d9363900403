"""Parts from outside the package, those of docs/how-to/extending.md, used for real; how they are found."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from caloforge.checkpoint import Checkpoint
from caloforge.data import Conditions, Showers, open_showers, write_showers
from caloforge.data.formats import FORMATS
from caloforge.detector import BoxMesh, CylinderMesh, Mesh
from caloforge.detector.detector import Detector
from caloforge.detector.mesh import MESHES, mesh_from_dict
from caloforge.errors import DataError, MeshError, RecipeError
from caloforge.generation import generate
from caloforge.models.base import Batch
from caloforge.models.coordinates.diffusion import COORDINATES
from caloforge.models.diffusion.backbones import BACKBONES
from caloforge.models.diffusion.processes import PROCESSES
from caloforge.models.diffusion.samplers import SAMPLERS
from caloforge.models.energies import ENERGIES
from caloforge.models.energies.heads import HEADS
from caloforge.registry import ALLOWED, Registry
from caloforge.training import Recipe, train
from caloforge.training.augmentations import AUGMENTATIONS, augment
from caloforge.training.schedules import SCHEDULES

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "extending.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the docs are not installed with the package")
REGISTRIES: list[Registry[Any]] = [
    BACKBONES,
    PROCESSES,
    SAMPLERS,
    COORDINATES,
    ENERGIES,
    HEADS,
    SCHEDULES,
    AUGMENTATIONS,
    FORMATS,
    MESHES,
]
BOX = BoxMesh.regular((4, 4, 4), (10.0, 10.0, 10.0))


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the package of the page, which can be imported, and its other files."""
    for name, content in re.findall(r"```\w+\n# (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(ALLOWED, "mylab")
    return tmp_path


def install(folder: Path) -> None:
    """Announce the entry points of the page's pyproject.toml, as an installation does."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    info = folder / "mylab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mylab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def box_showers(n: int = 64) -> Showers:
    rng = np.random.default_rng(1)
    energy = np.exp(rng.uniform(np.log(1e3), np.log(1e4), n))
    shares = rng.gamma(0.5, size=(n, BOX.n_voxels))
    energies = 0.9 * energy[:, None] * shares / shares.sum(axis=1, keepdims=True)
    energies[energies < 5] = 0
    conditions = Conditions(energy, theta=0.0, particle="e-", detector="mylab")
    return Showers(energies.reshape(n, *BOX.shape), conditions, BOX)


def write_file_of_another_lab(path: Path, showers: Showers) -> None:
    with h5py.File(path, "w") as file:
        file["beam_gev"] = showers.conditions.energy / 1000
        file["cells_gev"] = showers.energies.reshape(-1, *BOX.shape).transpose(0, 3, 2, 1) / 1000


def test_a_recipe_of_parts_from_outside_trains_and_generates(page: Path) -> None:
    checkpoint = train(page / "recipe.toml", box_showers(), out=page / "model", progress=False)
    model = checkpoint.model()
    parts = (model.backbone, model.process, model.coordinates, model.energy_flow)
    assert [type(part).__module__ for part in parts] == [
        "mylab.backbone",
        "mylab.process",
        "mylab.coordinates",
        "mylab.energies",
    ]
    log = [json.loads(line) for line in (page / "model" / "log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(row["parts"]["shape"]["loss"]) for row in log)
    assert log[-1]["parts"]["energies"]["validation_loss"] < log[0]["parts"]["energies"]["validation_loss"]
    again = Checkpoint.load(page / "model")
    assert again.settings["sampler"] == {"kind": "mylab.sampler:Ralston", "steps": 3, "power": 1.0}
    assert again.settings["coordinates"] == {"kind": "mylab.coordinates:Root", "power": 0.25}
    showers = generate(again, energy=3000.0, n=10, seed=1, theta=0.0, progress=False)
    assert showers.energies.sum() > 0
    heun = again.with_settings({"sampler.kind": "heun"})
    others = generate(heun, energy=3000.0, n=10, seed=1, theta=0.0, progress=False)
    assert not np.array_equal(showers.energies, others.energies)


def test_a_schedule_and_an_augmentation_are_used(page: Path) -> None:
    recipe = Recipe.load(page / "recipe.toml")
    assert SCHEDULES[recipe.training.schedule](0.03, None) == 0.5
    cylinder = CylinderMesh.regular(n_z=2, n_phi=2, n_r=2)
    with pytest.raises(RecipeError, match="MirrorX is for showers along the axis of a box"):
        recipe.check(Showers(np.ones((1, 8)), Conditions([1e3]), cylinder))
    recipe.check(box_showers(4))
    showers = Showers(np.arange(64.0)[None].repeat(200, 0), Conditions(np.full(200, 1e3), theta=0.0), BOX)
    batch = Batch.with_energies(showers.energies, showers.conditions)
    moved = augment(batch, recipe.training.augment, torch.Generator().manual_seed(0)).energies
    mirrored = (moved == batch.energies.flip(3)).flatten(1).all(dim=1)
    kept = (moved == batch.energies).flatten(1).all(dim=1)
    assert (mirrored ^ kept).all()
    assert 70 < int(mirrored.sum()) < 130


def test_a_mesh_from_outside_is_rebuilt_scored_and_stored(page: Path) -> None:
    description = {"kind": "mylab.mesh:StripMesh", "layers": 2, "n": 4, "pitch": 5.0, "frame": "detector"}
    mesh = mesh_from_dict(description)
    assert mesh.to_dict() == description
    assert mesh_from_dict(mesh.to_dict()) == mesh
    centres = mesh.centres()
    positions = np.stack([centres[axis] for axis in "xyz"], axis=1)
    assert np.array_equal(mesh.index(positions), np.arange(8))
    scored = mesh.score([[-9, 9, 1], [9, -9, 6], [0, 11, 1]], [1.0, 2.0, 4.0])
    assert scored.tolist() == [1, 0, 0, 0, 2, 0, 0, 0]
    with pytest.raises(MeshError, match=r"malformed mylab\.mesh:StripMesh mesh description"):
        mesh_from_dict({"kind": "mylab.mesh:StripMesh", "layers": 2})
    detector = Detector.load("par04-siw").to_dict() | {"mesh": {"edges": description}}
    assert Detector.from_dict(detector).mesh == mesh
    write_showers(Showers(np.ones((3, 8)), Conditions([1e3] * 3), mesh), page / "strips.h5")
    assert open_showers(page / "strips.h5").mesh == mesh


def test_a_format_is_announced_by_a_package_that_is_installed(page: Path) -> None:
    install(page)
    showers = box_showers(8)
    write_file_of_another_lab(page / "other.h5", showers)
    write_showers(showers, page / "ours.h5")
    code = """
from caloforge.data import layout_of, open_showers
print(layout_of("other.h5"), layout_of("ours.h5"), float(open_showers("other.h5").energies.sum()))
from caloforge.models.diffusion.backbones import BACKBONES
print(BACKBONES.settings({"kind": "cellwise", "width": 8}), *BACKBONES.names())
"""
    environment = {"PYTHONPATH": ":".join([str(page), *filter(None, sys.path)]), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=page
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    layout, ours, total = first.split()
    assert (layout, ours) == ("MyLab", "caloforge")
    assert float(total) == pytest.approx(showers.energies.sum(), rel=1e-5)
    assert second == "kind='cellwise' width=8 cellwise transformer unet"


def test_an_entry_point_that_cannot_be_imported_is_named(page: Path) -> None:
    project = page / "pyproject.toml"
    project.write_text(project.read_text().replace("mylab.format:", "mylab.fromat:"))
    install(page)
    registry: Registry[Any] = Registry("file format", "caloforge.data.formats", error=DataError)
    with pytest.raises(DataError, match=r"file format 'mylab', .* as 'mylab\.fromat:MyLabFormat'.*No module"):
        registry["mylab"]


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.what)
def test_an_unknown_name_is_told_with_those_that_are_known(registry: Registry[Any]) -> None:
    first = registry.names()[0]
    with pytest.raises(registry.error) as error:
        registry[first + "x"]
    assert f"unknown {registry.what} {first + 'x'!r} (did you mean {first!r}?)" in str(error.value)
    assert '"yourpackage.module:Name"' in str(error.value)
    with pytest.raises(registry.error, match="or nowhere"):
        registry["nowhere:Thing"]


def test_parts_of_a_package_are_found_and_added() -> None:
    registry: Registry[type[Mesh]] = Registry("mesh kind", "caloforge.detector.mesh", error=MeshError)

    @registry.add("mine")
    class Mine(BoxMesh): ...

    assert registry["mine"] is Mine
    assert registry.names() == ["mine"]  # those of the package are in a registry of their own
    with pytest.raises(ValueError, match="two parts are called mesh kind 'mine'"):
        registry.add("mine")(CylinderMesh)
    assert registry.add("mine")(Mine) is Mine
    assert registry["caloforge.detector.mesh.box:BoxMesh"] is BoxMesh
    with pytest.raises(MeshError, match=r"has no Box \(did you mean 'BoxMesh'\?\)"):
        registry["caloforge.detector.mesh.box:Box"]


def test_settings_of_a_kind_say_what_is_wrong_and_where() -> None:
    assert PROCESSES.settings({}).kind == "flow"
    assert PROCESSES.settings({"kind": "edm", "rho": 5}).rho == 5
    assert PROCESSES.settings(3) == 3
    with pytest.raises(ValidationError) as error:
        PROCESSES.settings({"kind": "emd"})
    assert error.value.errors()[0]["loc"] == ("kind",)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"backbone": {"kind": "unett"}}, "settings.backbone.kind: .*did you mean 'unet'"),
        ({"backbone": {"kind": "unet", "chanels": [8]}}, "settings.backbone.chanels' .*mean 'channels'"),
        ({"sampler": {"steps": 0}}, "settings.sampler.steps: .*greater than or equal to 1, got 0"),
        ({"energies": {"kind": "transformer", "head": "spline"}}, "settings.energies.head: .*'splines'"),
        ({"process": {"kind": "flow", "rho": 5}}, "rho is an option of kind 'edm' and does nothing for"),
    ]
    for given, words in cases:
        recipe = {"model": "diffusion.model:DiffusionModel", "settings": given, "training": {"epochs": 1}}
        with pytest.raises(RecipeError, match=words):
            Recipe.load(recipe)
