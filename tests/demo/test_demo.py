"""The folder of a page that runs a model: what is in it, where means come from, and what is refused."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from scattered import Refines, scattered, scattered_truth

from caloforge.data import write_showers
from caloforge.demo import write_demo
from caloforge.demo.runtime import ARCHIVE, RUNTIME, runtime_files
from caloforge.detector import CylinderMesh
from caloforge.errors import CaloforgeError, CheckpointError, ConditionError, ExportError
from caloforge.exports.graph import OLDEST_TORCH

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < OLDEST_TORCH, reason="torch is too old to export"
)
MESH = CylinderMesh.regular(n_z=4, n_phi=6, n_r=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scattered(MESH, tmp_path_factory.mktemp("demo") / "toy")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as npm's package has it; nothing of it is run here."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "dist").mkdir()
    for name in RUNTIME:
        (folder / "dist" / name).write_text(f"this is {name}")
    return folder


def test_the_folder_is_whole(model: Path, runtime: Path, tmp_path: Path) -> None:
    page = write_demo(model, tmp_path / "page", runtime=runtime, showers=30, progress=False)
    assert page == tmp_path / "page" / "index.html"
    names = sorted(p.relative_to(page.parent).as_posix() for p in page.parent.rglob("*") if p.is_file())
    beside = [f"onnxruntime/{name}" for name in ("LICENSE", *RUNTIME)]
    assert names == sorted(["demo.css", "demo.js", "demo.json", "index.html", "model.onnx", *beside])
    assert "Permission is hereby granted" in (page.parent / "onnxruntime/LICENSE").read_text()
    for text in (page.read_text(), (page.parent / "demo.css").read_text()):
        assert "http:" not in text
        assert "https:" not in text
    about = json.loads((page.parent / "demo.json").read_text())
    assert about["name"] == "toy"
    assert about["source"] == "the model"
    assert sum(row["n"] for row in about["detectors"][0]["means"]) == 30


def test_means_are_those_of_the_truth(model: Path, runtime: Path, tmp_path: Path) -> None:
    truth = scattered_truth(MESH)
    write_showers(truth, tmp_path / "truth.h5")
    page = write_demo(model, tmp_path / "page", truth=tmp_path / "truth.h5", runtime=runtime, progress=False)
    about = json.loads(page.with_name("demo.json").read_text())
    assert about["source"] == "Geant4"
    energy = truth.conditions.energy
    rows = about["detectors"][0]["means"]
    assert sum(row["n"] for row in rows) == ((energy > 990) & (energy < 50_500)).sum()
    row = rows[1]
    inside = (energy >= row["energy"][0]) & (energy < row["energy"][1])
    share = truth.energies[inside] / energy[inside, None, None, None]
    assert row["n"] == inside.sum() > 0
    np.testing.assert_allclose(row["layers"], share.sum((2, 3)).mean(0), rtol=1e-5)
    np.testing.assert_allclose(row["rings"], share.sum((1, 2)).mean(0), rtol=1e-5)


def test_truth_that_does_not_fit_is_refused(model: Path, runtime: Path, tmp_path: Path) -> None:
    other, far = tmp_path / "other.h5", tmp_path / "far.h5"
    write_showers(scattered_truth(CylinderMesh.regular(n_z=4, n_phi=3, n_r=3)), other)
    write_showers(scattered_truth(MESH)[:2], far)
    for truth, told in ((other, "train on this mesh or use other showers"), (far, "has no showers of")):
        with pytest.raises(CaloforgeError, match=told):
            write_demo(model, tmp_path / "page", truth=truth, runtime=runtime, progress=False)
    assert not (tmp_path / "page").exists()


def test_nothing_is_overwritten_or_left(model: Path, runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "demo.js").write_text("mine")
    with pytest.raises(ExportError, match=r"demo\.js exists; choose another folder"):
        write_demo(model, tmp_path / "page", runtime=runtime)
    assert [p.read_text() for p in (tmp_path / "page").iterdir()] == ["mine"]
    for options, error, told in (
        ({"detector": "ild"}, ExportError, "was trained on detector toy, not 'ild'"),
        ({"particle": "gamma"}, ExportError, "was trained on particle e-, not 'gamma'"),
        ({"showers": 0}, ConditionError, "at least 1"),
        ({"runtime": tmp_path}, ExportError, "has no ort.wasm.min.js.*npm pack onnxruntime-web@"),
        ({"checkpoint": "pxd-clusters"}, CheckpointError, "makes no showers"),
    ):
        with pytest.raises(error, match=told):
            write_demo(**{"checkpoint": model, "out": tmp_path / "new", "runtime": runtime, **options})
    assert [p.name for p in tmp_path.iterdir()] == ["page"]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that a server on this machine has in the place of npm's registry, and a cache of its own."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("CALOFORGE_DOWNLOAD_BASE", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield folder
    server.shutdown()
    server.server_close()


def test_another_package_than_was_published_is_refused(mirror: Path, tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name in RUNTIME:
            member = tarfile.TarInfo(f"package/dist/{name}")
            archive.addfile(member, io.BytesIO())
    (mirror / ARCHIVE).write_bytes(data.getvalue())
    with pytest.raises(ExportError, match="is not what was published, and was not kept"):
        runtime_files()
    assert list((tmp_path / "cache").rglob("*.tgz")) == []


def test_without_the_package_one_error_says_how(mirror: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"404.*npm pack onnxruntime-web@.*--runtime package"):
        write_demo(model, tmp_path / "page", progress=False)
    assert not (tmp_path / "page").exists()


def test_refiners_of_showers_have_no_page(runtime: Path, tmp_path: Path) -> None:
    model = scattered(MESH, tmp_path / "refines", cls=Refines)
    with pytest.raises(ExportError, match="refines refines coarse showers, and a page has none"):
        write_demo(model, tmp_path / "page", runtime=runtime, progress=False)
    assert not (tmp_path / "page").exists()
