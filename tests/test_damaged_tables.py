"""Damaged checkpoints, recipes and detectors: each works or is a CaloforgeError, soon and cheaply."""

from __future__ import annotations

import hashlib
import json
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from damaged_tables import WRONG, damaged_bytes, damaged_json, damaged_toml, damaged_values, places

from caloforge.checkpoint import Checkpoint
from caloforge.data import Conditions, Showers
from caloforge.detector import CylinderMesh
from caloforge.detector.detector import FILES, Detector
from caloforge.detector.mesh import mesh_from_dict
from caloforge.errors import CaloforgeError
from caloforge.geant4.beam import make_beam
from caloforge.generation import generate
from caloforge.models.base import load_model_class
from caloforge.runtime.memory import _field, read_text
from caloforge.training import Recipe
from caloforge.training.recipe import RECIPES

SECONDS = 60
MIB = 600
MODELS = [
    "toy_models:LayerGaussian",
    "flow.inductive:InductiveLayerFlow",
    "flow.icaloflow:ICaloFlow",
    "flow.l2lflows:L2LFlows",
    "flow.caloflow:CaloFlow",
    "diffusion.model:DiffusionModel",
    "supercalo.coarse:SuperCaloCoarse",
]


def seeds(quick: int, long: int) -> list[Any]:
    """A few seeds, and many for those who wait."""
    marked = [pytest.param(seed, marks=pytest.mark.slow) for seed in range(quick, long)]
    return [*range(quick), *marked]


@contextmanager
def limited() -> Iterator[None]:
    """Neither hours nor gigabytes."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"not finished after {SECONDS} s")

    Path("/proc/self/clear_refs").write_text("5")  # the peak is what it is now
    before = _field(read_text(Path("/proc/self/status")), "VmHWM:") or 0
    handler = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
    peak = _field(read_text(Path("/proc/self/status")), "VmHWM:") or 0
    assert (peak - before) / 1024 < MIB


def works_or_is_refused(use: Callable[[], object]) -> bool:
    """True where it works; any other exception than ours is a failure of the test."""
    with limited():
        try:
            use()
        except CaloforgeError:
            return False
    return True


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A small checkpoint of each of some families, fitted but not trained."""
    folder, mesh = tmp_path_factory.mktemp("damage"), CylinderMesh.regular(n_z=6, n_phi=4, n_r=3)
    rng = np.random.default_rng(0)
    energies = rng.gamma(0.5, 200.0, (60, *mesh.shape))
    energies[energies < 10] = 0
    showers = Showers(energies, Conditions(np.full(60, 1e4), particle="e-", detector="toy"), mesh)
    for number, name in enumerate(MODELS):
        model_class = load_model_class(name)
        model = model_class(mesh, model_class.example)
        model.detectors = ("toy",)
        model.fit(showers)
        recipe = {"model": name, "settings": dict(model_class.example), "training": {"epochs": 1}}
        about: dict[str, Any] = {"recipe": recipe, "provenance": {"action": "test"}, "metrics": {"steps": 3}}
        made = Checkpoint.from_model(model, name, showers.conditions.ranges(), **about)
        made.save(folder / str(number))
    return sorted(folder.iterdir())


def use_checkpoint(folder: Path) -> None:
    """All that is done with a checkpoint."""
    checkpoint = Checkpoint.load(folder)
    Recipe.load(checkpoint.recipe)
    generate(checkpoint, energy="10GeV", n=2, progress=False)


@pytest.mark.parametrize("seed", seeds(8, 150))
def test_damaged_descriptions_of_checkpoints(seed: int, checkpoints: list[Path], tmp_path: Path) -> None:
    source, whole = random.Random(seed), checkpoints[seed % len(checkpoints)]
    about = json.loads((whole / "checkpoint.json").read_bytes())
    (tmp_path / "model.safetensors").hardlink_to(whole / "model.safetensors")
    for _ in range(5):
        (tmp_path / "checkpoint.json").write_bytes(damaged_json(source, about))
        works_or_is_refused(lambda: use_checkpoint(tmp_path))
        # one that was changed on purpose has the mesh that it says it has, and settings of a model
        table = about | {"settings": damaged_values(source, about["settings"] or {"a": 1})}
        with suppress(CaloforgeError):
            table |= {"mesh": damaged_values(source, about["mesh"])}
            table |= {"mesh_fingerprint": mesh_from_dict(table["mesh"]).fingerprint}
        (tmp_path / "checkpoint.json").write_text(json.dumps(table))
        works_or_is_refused(lambda: use_checkpoint(tmp_path))


@pytest.mark.parametrize("seed", seeds(4, 100))
def test_damaged_weights(seed: int, checkpoints: list[Path], tmp_path: Path) -> None:
    """Also where the description has been changed to fit them."""
    source, whole = random.Random(seed), checkpoints[seed % len(checkpoints)]
    about = json.loads((whole / "checkpoint.json").read_bytes())
    weights = (whole / "model.safetensors").read_bytes()
    for _ in range(4):
        data = damaged_bytes(source, weights)
        (tmp_path / "model.safetensors").write_bytes(data)
        told = about | {"weights_sha256": hashlib.sha256(data).hexdigest()}
        (tmp_path / "checkpoint.json").write_text(json.dumps(told))
        works_or_is_refused(lambda: use_checkpoint(tmp_path))


@pytest.mark.parametrize("seed", seeds(15, 300))
def test_damaged_recipes(seed: int, tmp_path: Path) -> None:
    source, paths = random.Random(seed), sorted(RECIPES.glob("*.toml"))
    path = tmp_path / "recipe.toml"
    for _ in range(5):
        path.write_bytes(damaged_toml(source, source.choice(paths).read_text(encoding="utf-8")))
        works_or_is_refused(lambda: Recipe.load(path).to_dict())
    table = Recipe.load(source.choice(paths).stem).to_dict()
    for _ in range(5):
        changed = damaged_values(source, table)
        works_or_is_refused(lambda changed=changed: Recipe.load(changed).to_dict())
        override = {".".join(map(str, source.choice(list(places(table))))): source.choice(WRONG)}
        works_or_is_refused(lambda override=override: Recipe.load(table, override).to_dict())


def use_detector(path: Path) -> None:
    """All that is done with a detector but what Geant4 does."""
    detector = Detector.load(path)
    assert Detector.from_dict(detector.to_dict()) == detector
    assert detector.mesh.n_voxels > 0
    assert detector.depth_mm > 0
    assert detector.heaviest_sensitive_z > 0
    make_beam(detector)
    assert detector.radiation_length_mm > 0
    assert detector.moliere_radius_mm > 0


@pytest.mark.parametrize("seed", seeds(15, 300))
def test_damaged_detectors(seed: int, tmp_path: Path) -> None:
    source, paths = random.Random(seed), sorted(FILES.glob("*.toml"))
    path = tmp_path / "detector.toml"
    for _ in range(5):
        path.write_bytes(damaged_toml(source, source.choice(paths).read_text(encoding="utf-8")))
        works_or_is_refused(lambda: use_detector(path))
