"""What importing costs, and that all public names exist.

What may import what is in pyproject.toml, in the contracts that ``make check`` holds the code to.
"""

import subprocess
import sys

import pytest

import caloforge


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
