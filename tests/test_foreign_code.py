"""Files that come from anywhere name code, and none of it is run unless the user has allowed its package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import pytest
from commands import caloforge as run_command
from toy_models import RECIPE, toy_showers

import caloforge
from caloforge.checkpoint import Checkpoint
from caloforge.data import open_showers, write_showers
from caloforge.detector.detector import Detector
from caloforge.detector.mesh import MESHES, BoxMesh, mesh_from_dict
from caloforge.errors import CodeError, MeshError, RecipeError
from caloforge.models.base import load_model_class
from caloforge.registry import ALLOWED, Registry
from caloforge.runtime.processes import Child
from caloforge.training import Recipe, train
from caloforge.training.augmentations import AUGMENTATIONS
from caloforge.training.schedules import SCHEDULES

DIFFUSION = "diffusion.model:DiffusionModel"
EVIL = "import pathlib\npathlib.Path({mark!r}).touch()\n"
CHILD = """
import sys
from caloforge.models.base import load_model_class
from caloforge.runtime.processes import serve

def work(channel):
    for message in channel:
        channel.send({"module": load_model_class(message["name"]).__module__})

if __name__ == "__main__":
    sys.exit(serve(work))
"""


@pytest.fixture(autouse=True)
def _nothing_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWED, "")


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that the package ``evil``, which can be imported, makes where any of it is."""
    package = tmp_path / "modules" / "evil"
    package.mkdir(parents=True)
    for name in ("__init__", "part"):
        (package / f"{name}.py").write_text(EVIL.format(mark=str(tmp_path / "mark")))
    monkeypatch.syspath_prepend(package.parent)
    yield tmp_path / "mark"
    for name in [name for name in sys.modules if name.partition(".")[0] == "evil"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint and its showers."""
    folder = tmp_path_factory.mktemp("trained")
    write_showers(toy_showers(40), folder / "showers.h5")
    recipe = RECIPE | {"training": RECIPE["training"] | {"epochs": 1}}
    train(recipe, toy_showers(40), out=folder / "model", progress=False)
    return folder


def model_of(trained: Path, folder: Path, **about: Any) -> Path:
    """The checkpoint with something else in its JSON."""
    folder.mkdir()
    whole = json.loads((trained / "model" / "checkpoint.json").read_text()) | about
    (folder / "checkpoint.json").write_text(json.dumps(whole))
    (folder / "model.safetensors").write_bytes((trained / "model" / "model.safetensors").read_bytes())
    return folder


def detector_file(folder: Path) -> Path:
    """A detector's description whose cells are of a kind of mesh from elsewhere."""
    text = Detector.load("par04-siw")
    described = text.to_dict() | {"mesh": {"edges": {"kind": "evil.part:Mesh"}}}
    (folder / "detector.json").write_text(json.dumps(described))
    return folder / "detector.json"


def showers_file(trained: Path, folder: Path) -> Path:
    target = folder / "strange.h5"
    target.write_bytes((trained / "showers.h5").read_bytes())
    with h5py.File(target, "a") as file:
        file.attrs["mesh"] = json.dumps({"kind": "evil.part:Mesh"})
    return target


def recipe_of(
    settings: dict[str, Any], model: str = "diffusion.model:DiffusionModel", **training: Any
) -> Any:
    return Recipe.load({"model": model, "settings": settings, "training": {"epochs": 1, **training}})


PLACES: dict[str, Callable[[Path, Path], Any]] = {
    "model of a checkpoint": lambda trained, new: Checkpoint.load(
        model_of(trained, new / "m", model="evil.part:Model")
    ).model(),
    "top of a package": lambda trained, new: Checkpoint.load(
        model_of(trained, new / "m", model="evil:Model")
    ).model(),
    "part of a checkpoint's model": lambda trained, new: Checkpoint.load(
        model_of(trained, new / "m", model=DIFFUSION, settings={"backbone": {"kind": "evil.part:Net"}})
    ).model(),
    "changed settings": lambda trained, new: Checkpoint.load(
        model_of(trained, new / "m", model=DIFFUSION, settings={})
    ).with_settings({"sampler.kind": "evil.part:Sampler"}),
    "mesh of a checkpoint": lambda trained, new: Checkpoint.load(
        model_of(trained, new / "m", mesh={"kind": "evil.part:Mesh"})
    ),
    "showers": lambda trained, new: open_showers(showers_file(trained, new)),
    "detector": lambda trained, new: Detector.from_dict(json.loads(detector_file(new).read_text())),
    "mesh": lambda trained, new: mesh_from_dict({"kind": "evil.part:Mesh"}),
    "model of a recipe": lambda trained, new: recipe_of({}, "evil.part:Model"),
    "slot of a chain": lambda trained, new: recipe_of(
        {"coarse": {"model": "evil.part:Model"}}, "supercalo.chain:CoarseToFine"
    ),
    "part of a slot": lambda trained, new: recipe_of(
        {"coarse": {"model": DIFFUSION, "settings": {"process": {"kind": "evil.part:P"}}}},
        "supercalo.chain:CoarseToFine",
    ),
    "layer energies": lambda trained, new: recipe_of({"energies": {"kind": "evil.part:E"}}),
    "head": lambda trained, new: recipe_of({"energies": {"kind": "transformer", "head": "evil.part:H"}}),
    "coordinates": lambda trained, new: recipe_of({"coordinates": {"kind": "evil.part:C"}}),
    "schedule": lambda trained, new: recipe_of({}, schedule="evil.part:schedule"),
    "augmentation": lambda trained, new: recipe_of({}, augment=["evil.part:Move"]),
}


@pytest.mark.parametrize("place", PLACES)
def test_code_that_a_file_names_is_not_run(
    place: str, mark: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(CodeError, match=r"code of 'evil'.*--allow-code evil.*allow_code\('evil'\)"):
        PLACES[place](trained, tmp_path / "a")
    assert not mark.exists()
    caloforge.allow_code("evil")
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match="has no"):  # it is imported now, and has nothing in it
        PLACES[place](trained, tmp_path / "b")
    assert mark.exists()


@pytest.mark.parametrize(
    "name", ["os:system", "subprocess:Popen", "shutil:rmtree", "torch.hub:load", "builtins:exec"]
)
def test_modules_that_are_imported_already_are_not_allowed_by_that(name: str) -> None:
    for registry in (SCHEDULES, AUGMENTATIONS, MESHES):
        with pytest.raises(CodeError, match="not part of caloforge"):
            registry[name]  # type: ignore[index]


@pytest.mark.parametrize(
    "name",
    [
        "caloforge.__main__:main",  # would begin the command anew
        "caloforge.cli.app:main",
        "caloforge.quickstart:quickstart",
        "caloforge.detector.mesh.base:np",
        "base:abstractmethod",
        "..evil:Mesh",
        "evil/part:Mesh",
        "evil.part:",
        "evil.part:Mesh.from_dict",
    ],
)
def test_of_caloforge_only_what_belongs_to_the_registry(name: str, mark: Path) -> None:
    with pytest.raises(MeshError):
        MESHES[name]
    assert not mark.exists()


def test_a_class_that_the_program_has_imported_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And processes that it starts may import it too, where nothing has imported it before."""
    model = "from toy_models import LayerGaussian\n\nclass Mine(LayerGaussian):\n    pass\n\nnumber = print\n"
    (tmp_path / "my_models.py").write_text(model)
    (tmp_path / "my_child.py").write_text(CHILD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]))
    with pytest.raises(CodeError):
        load_model_class("my_models:Mine")
    import my_models

    with pytest.raises(CodeError):
        SCHEDULES["my_models:number"]
    assert load_model_class("my_models:Mine") is my_models.Mine
    with Child("my_child") as child:
        assert child.ask({"name": "my_models:Mine"}) == {"module": "my_models"}
    del sys.modules["my_models"]


def test_a_part_that_the_program_has_added_is_its_own() -> None:
    registry: Registry[Any] = Registry("mesh kind", "caloforge.detector.mesh", error=MeshError)

    @registry.add("mine")
    class Mine(BoxMesh): ...

    assert registry["mine"] is Mine


@pytest.mark.parametrize("name", ["", "*", "a-b", "a.", "a:b", "../a"])
def test_what_is_allowed_is_the_name_of_a_package(name: str) -> None:
    with pytest.raises(CodeError, match="not the name of a package"):
        caloforge.allow_code(name)


def test_no_command_runs_what_lies_in_the_working_directory(
    trained: Path, tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for name in ("random", "socket", "numpy", "h5py", "torch", "evil", "toy_models", "announced"):
        (here / f"{name}.py").write_text(EVIL.format(mark=str(mark)))
    info = here / "announced-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: announced\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[caloforge.file_format]\nannounced = announced:Format\n")
    model = model_of(trained, tmp_path / "m", model="evil.part:Model")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('model = "evil:Model"\n[training]\nepochs = 1\n')
    showers, out = trained / "showers.h5", tmp_path / "out"
    folders = [
        str(Path(caloforge.__file__).parents[1]),
        str(mark.parent / "modules"),
        os.environ["PYTHONPATH"],
    ]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))

    def says(*words: object) -> str:
        command = [sys.executable, "-m", "caloforge", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=here, timeout=300)
        assert not mark.exists(), words
        assert "Traceback" not in done.stderr, done.stderr
        return " ".join((done.stdout + done.stderr).split())

    foreign = "code of 'evil', which is not part of caloforge; nothing of it was run"
    assert foreign in says("generate", model, "--energy", "10GeV", "-n", 2, "-o", out)
    assert foreign in says("bench", model, "--geant4", 0)
    assert foreign in says("train", recipe, showers, "-o", out)
    assert foreign in says("data", "info", showers_file(trained, tmp_path))
    assert "40" in says("data", "info", showers)


def test_the_command_runs_what_is_allowed(trained: Path, tmp_path: Path) -> None:
    words = ("bench", trained / "model", "--geant4", 0, "--batches", 1, "--threads", 1, "--devices", "cpu")
    refused = run_command(*words)
    assert refused.returncode == 1
    assert "--allow-code toy_models" in " ".join(refused.stderr.split())
    done = run_command(*words, "--allow-code", "toy_models", "--allow-code", "another")  # also its processes
    assert done.returncode == 0, done.stderr
    wrong = run_command("data", "info", trained / "showers.h5", "--allow-code", "toy-models")
    assert wrong.returncode == 1
    assert "not the name of a package" in " ".join(wrong.stderr.split())


def test_recipes_in_python_need_permission_too(mark: Path) -> None:
    with pytest.raises(CodeError):
        Recipe.load({"model": "evil:Model", "training": {"epochs": 1}})
    with pytest.raises(RecipeError, match="there is no module"):
        Recipe.load({"model": "not_there:Model", "training": {"epochs": 1}})
    assert not mark.exists()
