"""Wheels are built from the source distribution, and do on a machine without a compiler what they promise."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from caloforge.data import open_showers
from caloforge.runtime.kernel_files import VARIANTS
from caloforge.runtime.provenance import commit_of

ROOT = Path(__file__).parents[1]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler"),
    pytest.mark.skipif(not (ROOT / "hatch_build.py").exists(), reason="not in a source tree"),
]
needs_variant = pytest.mark.skipif(
    not any(variant.runs_here() for variant in VARIANTS), reason="no kernels in wheels for this processor"
)


def build(tree: Path, target: str, folder: Path, kernels: str = "0") -> Path:
    """What hatchling makes of a tree, alone in a folder."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(command, cwd=tree, env=os.environ | {"CALOFORGE_BUILD_KERNELS": kernels}, check=True)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def commit() -> str:
    """Before anything is built."""
    return commit_of(ROOT)


@pytest.fixture(scope="module")
def wheels(commit: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pure one and the one with kernels, by way of a source distribution, which knows no git."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheels")
    with tarfile.open(build(ROOT, "sdist", folder / "sdist")) as archive:
        archive.extractall(folder, filter="data")
    (tree,) = (path.parent for path in folder.glob("*/pyproject.toml"))
    kinds = {"pure": "0", "kernels": "1"}
    return {kind: build(tree, "wheel", folder / kind, asked) for kind, asked in kinds.items()}


@pytest.fixture(scope="module")
def installed(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Clean environments with a wheel each; what it depends on is that of this Python."""
    found = {}
    for kind, wheel in wheels.items():
        found[kind] = tmp_path_factory.mktemp(kind) / "venv"
        venv.create(found[kind])
        python = str(found[kind] / "bin/python")
        options = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
        subprocess.run([sys.executable, "-m", "pip", "--python", python, *options], check=True)
        (site,) = (found[kind] / "lib").glob("python*/site-packages")
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return found


def run(environment: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """The installed command, where there is neither a compiler nor a cache."""
    folder = environment.parent
    variables = {"PATH": str(environment / "bin"), "HOME": str(folder), "TMPDIR": str(folder)}
    command = [environment / "bin/caloforge", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=variables, timeout=600)
    assert done.returncode == 0, done.stderr
    return done


def test_what_is_in_them(wheels: dict[str, Path]) -> None:
    names = {kind: zipfile.ZipFile(wheel).namelist() for kind, wheel in wheels.items()}
    libraries = {kind: [name for name in found if name.endswith(".so")] for kind, found in names.items()}
    assert wheels["pure"].name.endswith("py3-none-any.whl")
    assert libraries["pure"] == []
    for found in names.values():
        assert "caloforge/runtime/COMMIT" in found
        assert "caloforge/pretrained/defaults.toml" in found
        assert {name.partition("/")[0] for name in found if ".dist-info" not in name} == {"caloforge"}
    if any(variant.machine == platform.machine() for variant in VARIANTS) and sys.platform == "linux":
        assert wheels["kernels"].name.endswith(f"py3-none-linux_{platform.machine()}.whl")
        assert all(name.startswith("caloforge/runtime/prebuilt/") for name in libraries["kernels"])
        assert len(libraries["kernels"]) >= 5


@needs_variant
def test_a_wheel_with_kernels_needs_no_compiler(installed: dict[str, Path]) -> None:
    place = installed["kernels"]
    done = run(place, "generate", "--detector", "par04-siw", "--energy", "10GeV", "-n", 1000, "-o", "a.h5")
    showers = open_showers(place.parent / "a.h5")
    assert len(showers) == 1000
    assert showers.provenance["performance"]["kernels"] == "compiled (tree)"
    assert "compile" not in done.stderr
    for model in ("conv-l2lflows-siw", "supercalo-siw"):
        run(
            place,
            "generate",
            model,
            "--energy",
            "10GeV",
            "-n",
            2,
            "--kernels",
            "compiled",
            "-o",
            f"{model}.h5",
        )
    found = json.loads(run(place, "doctor", "--json").stdout)
    assert found["kernels"]["on a CPU"]["value"].startswith("those of the wheel")
    assert str(place) in found["installation"]["folder"]["value"]
    assert not list(place.parent.glob(".cache/caloforge/kernels/*"))


def test_a_pure_wheel_does_the_same_in_plain_torch(installed: dict[str, Path]) -> None:
    place = installed["pure"]
    done = run(place, "generate", "--detector", "par04-siw", "--energy", "10GeV", "-n", 20, "-o", "a.h5")
    assert open_showers(place.parent / "a.h5").provenance["performance"]["kernels"] == "plain (tree)"
    assert "no C compiler" in done.stderr


def test_an_installation_knows_its_commit(commit: str, installed: dict[str, Path]) -> None:
    for place in installed.values():
        said = run(place, "--version").stdout.strip()
        assert said.endswith(f" ({commit})" if commit else "0")
