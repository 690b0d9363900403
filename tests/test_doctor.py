"""``caloforge doctor`` says what is there, what is missing and what is broken, and changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import caloforge
from caloforge import doctor
from caloforge.checkpoint import pretrained
from caloforge.cli import app
from caloforge.runtime import provenance

ROOT = str(Path(caloforge.__file__).parents[1])
PARTS = {"installation", "machine", "devices", "kernels", "models", "caches", "optional parts", "Geant4"}


def examined(folder: Path, **environment: str) -> dict[str, dict[str, dict[str, Any]]]:
    """What the command finds where home and temporary files are in a folder, which it leaves as it is."""
    before = sorted(folder.rglob("*"))
    variables = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME", "GEANT4_DATA_DIR")}
    variables |= {"HOME": str(folder), "TMPDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"} | environment
    variables["PYTHONPATH"] = os.pathsep.join([str(folder), ROOT])
    command = [sys.executable, "-m", "caloforge", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert sorted(folder.rglob("*")) == before
    found = json.loads(done.stdout)
    assert set(found) == PARTS
    return dict(found)


def test_a_machine_on_which_all_works() -> None:
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert provenance.code_version() in result.output
    assert "default for par04-siw" in result.output
    assert all(f"\n{part}\n" in f"\n{result.output}" for part in PARTS)
    assert "broken" not in result.output.replace("\n  broken  required", "")  # of an old development install


def test_broken_parts_are_findings(tmp_path: Path) -> None:
    (tmp_path / "geant4_pybind.py").write_text("import os; os.write(2, b'free(): invalid'); os.abort()")
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.12: cannot open shared object file')")
    cache = tmp_path / ".cache/caloforge/kernels"
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    found = examined(tmp_path, G4LEDATA=str(tmp_path / "G4EMLOW1.0"), GEANT4_DATA_DIR=str(tmp_path))
    for part in ("devices", "kernels", "models"):
        assert found[part]["examined"]["state"] == "broken"
        assert "OSError: libcudart.so.12" in found[part]["examined"]["value"]
    assert found["Geant4"]["geant4-pybind"]["state"] == "broken"
    assert "free(): invalid" in found["Geant4"]["geant4-pybind"]["value"]
    assert found["Geant4"]["data"]["state"] == "broken"
    assert "lacks G4EMLOW" in found["Geant4"]["data"]["value"]
    assert "others may write into it" in found["caches"][str(cache)]["value"]
    assert found["installation"]["caloforge"]["value"] == provenance.code_version()
    assert found["machine"]["processor"]["state"] == "ok"


def test_a_machine_with_little(tmp_path: Path) -> None:
    """No compiler, one thread, no Geant4's data."""
    found = examined(tmp_path, CC="no-such-compiler", OMP_NUM_THREADS="1")
    assert found["kernels"]["on a CPU"]["state"] == "note"
    assert "no-such-compiler" in found["kernels"]["on a CPU"]["value"]
    assert "install a C compiler" in found["kernels"]["on a CPU"]["remedy"]
    assert "OMP_NUM_THREADS=1" in found["machine"]["threads"]["value"]
    assert "CC=no-such-compiler" in found["installation"]["environment"]["value"]
    assert found["caches"] == {"kept": {"state": "ok", "value": "nothing yet", "remedy": ""}}
    if found["Geant4"]["geant4-pybind"]["state"] != "missing":
        assert "written at first use" in found["Geant4"]["data"]["value"]


def test_what_is_missing_or_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [
        "numpy>=999.1",
        "h5py>=1.0",
        "caloforge[evaluate]; extra == 'report'",
        "no-such-package>=1; extra == 'train'",
        "nor-this>=1; python_version < '3.0' and extra == 'geant4'",
        "pytest>=1; extra == 'test'",
    ]
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: wanted)
    found = doctor._optional()
    assert set(found) == {"required", "train"}
    assert found["required"].state == "broken"
    assert "at least 999.1 is needed" in found["required"].value
    missing = doctor.Finding("missing", "without no-such-package", "pip install 'caloforge[train]'")
    assert found["train"] == missing


def test_versions_are_compared_as_numbers() -> None:
    versions = ["0.9", "1", "1.0.0", "1.9.5", "1.10", "1.10.0+cpu", "2.0rc1", "10.0.1.post1"]
    numbers = [doctor._numbers(version) for version in versions]
    assert numbers == sorted(numbers)
    assert numbers[1] == numbers[2]
    assert numbers[4] == numbers[5]


def test_models_that_are_not_what_was_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "PRETRAINED", tmp_path)
    (tmp_path / "defaults.toml").write_text('mine = "one"\n')
    for name, weights in (("one", b"weights"), ("two", b"version https://git-lfs"), ("three", None)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "CARD.md").touch()
        digest = doctor.hashlib.sha256(b"weights").hexdigest()
        (tmp_path / name / "checkpoint.json").write_text(json.dumps({"weights_sha256": digest}))
        if weights is not None:
            (tmp_path / name / "model.safetensors").write_bytes(weights)
    found = doctor._models()
    assert found["one"] == doctor.Finding("ok", "default for mine")
    assert {found[name].state for name in ("two", "three")} == {"broken"}


def test_the_commit_of_an_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written when it was built; a checkout says its own."""
    (tmp_path / "COMMIT").write_text("0123456789ab\n")
    monkeypatch.setattr(provenance, "COMMIT", tmp_path / "COMMIT")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "a/b/c/d.py"))
    assert provenance.code_version.__wrapped__().endswith(" (0123456789ab)")
    (tmp_path / "COMMIT").unlink()
    assert "(" not in provenance.code_version.__wrapped__()
