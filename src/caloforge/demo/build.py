"""A folder with a model and a page that runs it: whole without a network, behind any file server."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.data import Showers, open_showers
from caloforge.data.particles import pdg_code, pdg_name
from caloforge.demo.means import Means, spread_conditions
from caloforge.demo.runtime import RUNTIME, VERSION, runtime_files
from caloforge.errors import ExportError
from caloforge.exports import Exported, export
from caloforge.exports.export import require_known
from caloforge.exports.graph import Graph, noise_input
from caloforge.generation import generate
from caloforge.generation.noise import noise_stream
from caloforge.report.geometry import layer_cells, split_layers, visible_radius
from caloforge.report.script_data import pack
from caloforge.runtime.files import read_bytes, write_bytes
from caloforge.runtime.locks import folder_lock
from caloforge.runtime.progress import Display
from caloforge.runtime.streams import checked_count, stream_id
from caloforge.runtime.structured import json_text

__all__ = ["PAGE", "write_demo"]

PAGE, MODEL, DATA, SCRIPT, STYLE = "index.html", "model.onnx", "demo.json", "demo.js", "demo.css"
RUNTIME_FOLDER = "onnxruntime"
SCRIPTS = ("numbers.js", "scene.js", "charts.js", "page.js")
"""Of which the script is made."""
SEED = 2**64 - 1
"""Of the showers whose mean the page shows where there are none of Geant4."""


def write_demo(
    checkpoint: Checkpoint | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    detector: str | None = None,
    particle: str | None = None,
    truth: Showers | str | os.PathLike[str] | None = None,
    showers: int = 600,
    runtime: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Write a page that makes a model's showers in the browser, and all that it needs, into a folder.

    It opens from a file server, as ``python -m http.server --directory FOLDER``, and loads nothing from
    elsewhere. Shower k of a seed is that of `generate`.

    Args:
        checkpoint: the model, its folder, or the name of one that comes with caloforge.
        out: folder; it is made where it does not exist.
        detector, particle: of which showers are made, where it was trained on several; a choice by default.
        truth: showers of Geant4, or their file, whose mean is drawn beside.
        showers: without them, how many the model makes now, whose mean is drawn instead.
        runtime: ONNX Runtime for browsers, see `runtime_files`; downloaded once by default.
        settings: other values of settings that leave the weights as they are, by dotted key.
        overwrite: replace the files of a page that is there.
        progress: show how far it is, on a terminal.

    Returns:
        The page.

    Raises:
        CheckpointError: the checkpoint is unusable, or makes no showers.
        DataError, MeshError: the showers cannot be read, or are in other cells.
        ExportError: the model cannot be exported or shown, ONNX Runtime cannot be had, or files are there.
        MissingDependencyError: the packages for ONNX are not installed.
    """
    held = Checkpoint.load(checkpoint).with_settings(settings or {})
    checked_count(showers)
    folder = _free(Path(out), overwrite)
    with folder_lock(folder, error=ExportError):
        held.require_makes()
        require_known(held, detector, particle)
        if any(i.name == "given" for i in Graph(held, detector=detector, particle=particle).inputs):
            raise ExportError(f"{held.name} refines coarse showers, and a page has none; take a whole model")
        particles = [particle] if particle is not None else list(held.valid_range["particle"])
        known = None if truth is None else open_showers(truth)
        codes, number = [pdg_code(p) for p in particles], showers if known is None else len(known)
        means = {
            name: Means(held.mesh_of(name), held.range_of(name), codes, number)
            for name in ([detector] if detector is not None else held.detectors or [""])
        }
        if known is not None:
            _take_truth(held, means, known, "these showers" if isinstance(truth, Showers) else str(truth))
        with Display("B", enabled=progress, transient=True) as show:
            parts = runtime_files(runtime, progress=show)
        with TemporaryDirectory() as temporary:
            made = export(held, Path(temporary) / MODEL, detector=detector, particle=particle, to="onnx")
            about, graph = Exported.load(made).about, read_bytes(made, error=ExportError)
        if known is None:
            for name, mean in means.items():
                conditions = spread_conditions(held.range_of(name), particles, name, showers, SEED)
                mean.add(generate(held, conditions=conditions, seed=SEED, progress=progress))
        data = {
            **_described(about, particles),
            "detectors": [_detector(held, name, mean) for name, mean in means.items()],
            "source": "the model" if known is None else "Geant4",
            "runtime": VERSION if runtime is None else "",
        }
        written = {f"{RUNTIME_FOLDER}/{name}": content for name, content in parts.items()}
        written |= {MODEL: graph, DATA: json_text(data).encode(), **_assets()}
        for name, content in written.items():
            write_bytes(folder / name, content, error=ExportError)
    return folder / PAGE


def _free(folder: Path, overwrite: bool) -> Path:
    """The folder, where none of what will be written is there already."""
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"{folder} is a file; name a folder for the page")
    names = [PAGE, MODEL, DATA, SCRIPT, STYLE, *(f"{RUNTIME_FOLDER}/{name}" for name in RUNTIME)]
    there = [name for name in names if (folder / name).exists()]
    if there and not overwrite:
        raise ExportError(
            f"{folder / there[0]} exists; choose another folder or allow overwriting (--overwrite)"
        )
    return folder


def _take_truth(held: Checkpoint, means: Mapping[str, Means], showers: Showers, where: str) -> None:
    """Take the mean of showers; those of a model of one detector may be in one of another name."""
    for name, mean in means.items():
        own = showers if len(held.detectors) < 2 else showers.filter(detector=name)
        for mesh in own.meshes.values():
            held.require_mesh(mesh, where, name)
        mean.add(own)
    if not any(mean.n for mean in means.values()):
        raise ExportError(
            f"{where} has no showers of a particle, energy and direction that {held.name} knows"
        )


def _described(about: Mapping[str, Any], particles: list[str]) -> dict[str, Any]:
    """What the page has to know of the graph."""
    return {
        "name": about["checkpoint"],
        "model": about["model"],
        "fingerprint": about["fingerprint"],
        "caloforge": about["caloforge"],
        "inputs": [i["name"] for i in about["inputs"]],
        "output": about["output"]["name"],
        "noise": [
            {
                "input": noise_input(name),
                "stream": stream_id(noise_stream(name)),
                "shape": shape,
                "size": math.prod(shape),
            }
            for name, shape in about["noise"].items()
        ],
        "particles": [{"name": pdg_name(pdg_code(name)), "code": pdg_code(name)} for name in particles],
        "threshold": about["threshold_mev"],
    }


def _detector(held: Checkpoint, name: str, mean: Means) -> dict[str, Any]:
    """A detector: what the model knows of it, its cells and the mean showers in them."""
    valid, layers = held.range_of(name), layer_cells(mean.mesh)
    spans = {key: valid[key] for key in ("energy", "theta", "phi")}
    if valid.get("impact"):
        spans |= dict(zip(("x", "y"), zip(*valid["impact"], strict=True), strict=True))
    return {
        "name": name,
        "number": held.detectors.index(name) if name else -1,
        "spans": spans,
        "usual": valid.get("usual", {}),
        "frame": mean.mesh.frame,
        "shape": list(mean.mesh.shape),
        "polar": layers[0].polar,
        "numbers": [layer.number for layer in layers],
        "layers": [
            {
                "a": np.round(layer.a, 6).tolist(),
                "b": np.round(layer.b, 4).tolist(),
                "z": None if layer.z is None else [round(z, 4) for z in layer.z],
            }
            for layer in layers
        ],
        "reach": visible_radius(layers, split_layers(mean.mesh, mean.cells)),
        "edges": mean.edges.tolist(),
        "rings": pack(mean.ring_places),
        "means": mean.rows(),
    }


def _assets() -> dict[str, bytes]:
    """The page's own files; it looks as our reports do."""
    own, style = files("caloforge.demo") / "assets", files("caloforge.report") / "assets" / "page.css"
    script = "\n".join((own / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return {
        STYLE: style.read_bytes() + (own / STYLE).read_bytes(),
        SCRIPT: f'"use strict";\n(() => {{\n{script}}})();\n'.encode(),
        PAGE: (own / PAGE).read_bytes(),
    }
