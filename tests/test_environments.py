"""Commands where a terminal, a locale, a home or a system is not what it is for most."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from toy_models import toy_showers

import caloforge
from caloforge.data import Conditions, Showers, write_showers

ROOT = str(Path(caloforge.__file__).parents[1])
RECIPE = """RECIPE = {
    "model": "flow.inductive:InductiveLayerFlow",
    "settings": {"hidden": 8, "scale": 8},
    "training": {"epochs": 1},
}
"""
HOSTILE = "\x1b[2Jname"
PLAIN_C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(scope="module")
def showers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Toy showers whose column, detector and provenance would clear the screen."""
    path = tmp_path_factory.mktemp("environments") / "showers.h5"
    toy = toy_showers(30)
    conditions = Conditions(toy.conditions.energy, particle="e-", detector=HOSTILE)
    told = {HOSTILE: HOSTILE, "number": float("nan")}
    write_showers(Showers(toy.energies, conditions, toy.mesh, told), path)
    with h5py.File(path, "r+") as file:
        file[HOSTILE] = np.zeros(30)
    return path


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    variables = {k: v for k, v in os.environ.items() if k not in ("LC_ALL", "PYTHONUTF8")} | environment
    variables["PYTHONPATH"] = os.pathsep.join([ROOT, os.environ["PYTHONPATH"]])
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, env=variables, timeout=300
    )


def caloforge_command(*words: object, **environment: str) -> bytes:
    done = run("-m", "caloforge", *words, **environment)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout + done.stderr


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "latin-1"}, PLAIN_C])
def test_output_that_the_encoding_lacks_ends_no_command(
    environment: dict[str, str], showers: Path, tmp_path: Path
) -> None:
    told = caloforge_command("data", "convert", showers, tmp_path / "out.h5", **environment)
    assert b"30 of 30 showers" in told
    assert b"\\u2192" in told
    assert b"Usage" in caloforge_command("data", "convert", "--help", **environment)


def test_names_in_files_do_nothing_to_a_terminal(showers: Path, tmp_path: Path) -> None:
    table = caloforge_command("data", "info", showers, FORCE_COLOR="1", COLUMNS="200")
    assert b"\x1b[2J" not in table
    assert table.count(b"\\x1b[2Jname") == 2  # the column and the detector
    assert b"\\u001b[2Jname" in table  # in the JSON of the provenance
    about = json.loads(caloforge_command("data", "info", "--json", showers), parse_constant=pytest.fail)
    assert about["detector"] == [HOSTILE]
    assert about["provenance"]["number"] is None
    done = run("-m", "caloforge", "data", "info", showers, "--mesh", HOSTILE, FORCE_COLOR="1")
    assert done.returncode == 1
    assert b"\x1b[2J" not in done.stderr


def test_text_is_utf8_whatever_the_locale(showers: Path, tmp_path: Path) -> None:
    """Python warns where a file is opened in the encoding of the locale."""
    code = """
import sys, warnings
warnings.filterwarnings("error", category=EncodingWarning, module="caloforge")
from caloforge.checkpoint import Checkpoint
from caloforge.data import named_mesh, open_showers
from caloforge.detector import write_binning_xml
from caloforge.detector.detector import Detector
from caloforge.runtime.cores import usable_cores
from caloforge.runtime.memory import free_memory
from caloforge.training import train
folder, showers = sys.argv[1:]
assert usable_cores() and free_memory() and Detector.names()
Detector.load("par04-siw")
train(RECIPE, showers, out=folder + "/model", progress=False)
write_binning_xml(open_showers(showers).mesh, folder + "/bins.xml")
named_mesh(folder + "/bins.xml")
Checkpoint.load(folder + "/model").model()
"""
    done = run("-X", "warn_default_encoding", "-c", RECIPE + code, tmp_path, showers, **PLAIN_C)
    assert done.returncode == 0, done.stderr.decode(errors="replace")


def test_figures_are_drawn_where_the_backend_of_a_notebook_is_not_there(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from caloforge.report.figures.style import figure_style, require_drawing_packages
require_drawing_packages()
from matplotlib.figure import Figure
with figure_style():
    Figure().savefig(sys.argv[1])
assert os.environ["MPLBACKEND"] == "module://not_there"
"""
    done = run("-c", code, tmp_path / "a.png", MPLBACKEND="module://not_there")
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert (tmp_path / "a.png").stat().st_size > 0


def test_a_system_without_affinity_and_proc(showers: Path, tmp_path: Path) -> None:
    """As on macOS: what only Linux has is not there."""
    code = """
import os, pathlib, sys
del os.sched_getaffinity
opened = pathlib.Path.open
def refuse(path, *arguments, **options):
    if str(path).startswith(("/proc", "/sys")):
        raise FileNotFoundError(2, "no such file", str(path))
    return opened(path, *arguments, **options)
pathlib.Path.open = refuse
from caloforge.training import train
from caloforge.generation import generate
folder, showers = sys.argv[1:]
train(RECIPE, showers, out=folder + "/model", progress=False)
made = generate(folder + "/model", like=showers, out=folder + "/made.h5")
assert made.provenance["performance"]["peak_memory_mib"] > 0
"""
    done = run("-c", RECIPE + code, tmp_path, showers)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
