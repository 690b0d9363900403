"""The arrows of docs/structure.md: what may import what, and what importing costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import caloforge

PACKAGE = Path(caloforge.__file__).parent
ORDER = [
    "runtime",
    "detector",
    "data",
    "geant4",
    "models",
    "checkpoint",
    "training",
    "generation",
    "evaluation",
    "report",
]
SHARED = {"errors", "registry", "settings"}
OUTSIDE = {"bench", "cli", "quickstart", "__main__", "__init__"}


def rooms_imported(path: Path) -> set[str]:
    """Rooms and shared modules that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("caloforge.")}
    return found & (set(ORDER) | SHARED | OUTSIDE)


@pytest.mark.parametrize("room", ORDER)
def test_arrows_point_one_way(room: str) -> None:
    allowed = {*ORDER[: ORDER.index(room) + 1], *SHARED}
    for path in (PACKAGE / room).rglob("*.py"):
        strange = rooms_imported(path) - allowed
        assert not strange, f"{path.relative_to(PACKAGE)} imports {sorted(strange)}, which lies downstream"


def test_shared_modules_import_no_room() -> None:
    for name in SHARED:
        assert rooms_imported(PACKAGE / f"{name}.py") <= SHARED


def test_judging_needs_neither_geant4_nor_a_model() -> None:
    for room in ("evaluation", "report"):
        for path in (PACKAGE / room).rglob("*.py"):
            strange = rooms_imported(path) & {"geant4", "models", "checkpoint", "training", "generation"}
            assert not strange, f"{path.relative_to(PACKAGE)} imports {sorted(strange)}"


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import caloforge", ["torch", "h5py", "matplotlib", "geant4_pybind", "onnxruntime"]),
        ("import caloforge; caloforge.open_showers", ["torch", "matplotlib", "geant4_pybind", "sklearn"]),
        ("import caloforge; caloforge.Detector", ["torch", "h5py", "geant4_pybind"]),
        ("import caloforge; caloforge.simulate", ["torch", "geant4_pybind"]),
        ("import caloforge; caloforge.evaluate", ["torch", "matplotlib", "sklearn"]),
        ("import caloforge; caloforge.write_report", ["matplotlib", "plotly"]),
        ("import caloforge.cli", ["torch", "matplotlib", "geant4_pybind", "sklearn"]),
    ],
)
def test_importing_loads_only_what_is_needed(statement: str, absent: list[str]) -> None:
    code = f"import sys; {statement}; print(*[m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_public_name_exists() -> None:
    for name in caloforge.__all__:
        assert getattr(caloforge, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        caloforge.nonsense  # noqa: B018
