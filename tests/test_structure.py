"""What importing costs, and that all public names exist.

What may import what is in pyproject.toml, in the contracts that ``make check`` holds the code to.
"""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import caloforge


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import caloforge", ["torch", "h5py", "matplotlib", "geant4_pybind", "onnxruntime"]),
        ("import caloforge; caloforge.open_showers", ["torch", "matplotlib", "geant4_pybind", "sklearn"]),
        ("import caloforge; caloforge.Detector", ["torch", "h5py", "geant4_pybind"]),
        ("from caloforge.detector import Detector", ["torch", "h5py", "geant4_pybind"]),
        ("import caloforge.detector, caloforge.data", ["torch", "pydantic"]),
        ("import caloforge.models, caloforge.runtime", ["torch"]),
        ("import caloforge; caloforge.simulate", ["torch", "geant4_pybind"]),
        ("import caloforge.fast.worker", ["torch", "geant4_pybind"]),
        ("from caloforge.fast import FastVolume", ["torch", "geant4_pybind"]),
        ("import caloforge; caloforge.evaluate", ["torch", "matplotlib", "sklearn"]),
        ("import caloforge; caloforge.write_report", ["matplotlib", "plotly"]),
        ("import caloforge.cli", ["torch", "matplotlib", "geant4_pybind", "sklearn"]),
    ],
)
def test_importing_loads_only_what_is_needed(statement: str, absent: list[str]) -> None:
    code = f"import sys; {statement}; print(*[m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


TABLE = re.compile(r"^\| (`[^|]+`[^|]*) \| `(\w+)/([^`]*)` \|", re.MULTILINE)


def test_every_noun_comes_from_its_room() -> None:
    text = (Path(__file__).parents[1] / "docs" / "explanation" / "structure.md").read_text(encoding="utf-8")
    nouns = {noun: room for names, room, _ in TABLE.findall(text) for noun in re.findall(r"`(\w+)`", names)}
    assert {"Detector", "BoxMesh", "Beam", "Showers", "GeneratorModel", "Execution", "Student"} <= set(nouns)
    for noun, room in nouns.items():
        module = importlib.import_module(f"caloforge.{room}")
        assert noun in module.__all__, f"from caloforge.{room} import {noun}"
        assert getattr(module, noun).__name__ == noun
        assert noun in dir(module)
    with pytest.raises(ImportError, match="cannot import name 'Nonsense'"):
        from caloforge.detector import Nonsense  # noqa: F401


def test_every_public_name_exists() -> None:
    for name in caloforge.__all__:
        assert getattr(caloforge, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        caloforge.nonsense  # noqa: B018
