"""Exporting a model: its graph is written, run, and compared with the model before the file is made."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from caloforge.checkpoint.before import weights_for
from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.errors import ExportError
from caloforge.exports.about import archived, described, sealed, texts
from caloforge.exports.contracts.carried import Carried
from caloforge.exports.contracts.contract import Contract
from caloforge.exports.exported import KINDS, Exported, To
from caloforge.exports.formats.onnx import onnx_model
from caloforge.exports.formats.torchscript import scripted
from caloforge.exports.graph import Graph, traced
from caloforge.exports.pixels import export_events
from caloforge.runtime.files import output_file, write_bytes

__all__ = ["export", "require_known"]

CLOSE = 1e-3
"""Part of a shower's energy that may be elsewhere, in the median of `TRIED` showers."""
TRIED, ROUGHLY = 5, 0.5


def export(
    checkpoint: Checkpoint | str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    to: To | None = None,
    contract: str | None = None,
    detector: str | None = None,
    particle: str | None = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a trained model as a file that other programs run.

    Args:
        checkpoint: the model, its folder, or the name of one that comes with caloforge.
        out: file to write; by default named after the model.
        to: "onnx", "torchscript" or torch's exported "program"; by default what the file's name ends in
            (.onnx, .pt, .pt2), else ONNX. Events of pixel detectors are TorchScript, see `export_events`.
        contract: of the program that reads the file, see `Contract`; by default inputs are the model's own.
        detector, particle: of which showers are made, where it was trained on several; inputs by default.
        settings: other values of settings that leave the weights as they are, by dotted key.
        overwrite: replace an existing file.

    Returns:
        The file.

    Raises:
        CheckpointError: the checkpoint is unusable, or makes no showers.
        ExportError: the model cannot be exported so, its graph gives other showers, or there is such a file.
        MissingDependencyError: the packages for ONNX are not installed.
    """
    held = Checkpoint.load(checkpoint).with_settings(settings or {})
    events = held.mesh.kind == "pixel"
    usual: To = "torchscript" if events else "onnx"
    to = to or KINDS.get(Path(out or "").suffix, usual)
    if to not in get_args(To):
        raise ExportError(f"unknown format {to!r}; choose one of {', '.join(get_args(To))}")
    ending = next(suffix for suffix, kind in KINDS.items() if kind == to)
    path = output_file(out or f"{held.name.replace(':', '-')}{ending}", error=ExportError)
    if path.suffix != ending:
        raise ExportError(f"{path}: a file of {to} ends in {ending}")
    if path.exists() and not overwrite:
        raise ExportError(f"{path} exists; choose another name or allow overwriting (--overwrite)")
    if events:
        if (to, contract, detector, particle) != (usual, None, None, None):
            raise ExportError(
                "events of pixel detectors are exported to torchscript alone, without a contract, a detector "
                "or a particle"
            )
        export_events(held, path)
        return path
    held.require_makes()
    require_known(held, detector, particle)
    if detector is not None:
        held = weights_for(held, detector)
    if contract is None:
        graph = Graph(held, detector=detector, particle=particle)
        carried: Graph | Carried = graph
        output = {"name": "energies", "shape": list(held.mesh.shape), "unit": "MeV"}
        more = {"contract": "caloforge"}
    else:
        promised = Contract.load(contract)
        promised.require(held, to, detector, particle)
        graph = Graph(held, detector=detector, particle=particle)
        carried = Carried(graph, promised)
        output = carried.output
        macro = promised.macro(graph.model.mesh, carried.noise_size, path.name)
        more = {"contract": contract, "program": promised.program, "lines": macro}
    about = described(held, graph, carried.inputs, output, more)
    data = written(carried, to, about)
    require_same(carried, Exported(data, to))
    write_bytes(path, data, error=ExportError)
    return path


def require_known(checkpoint: Checkpoint, detector: str | None, particle: str | None) -> None:
    """ExportError for a detector or particle that the model was not trained on."""
    for kind, name, known in (
        ("detector", detector, list(checkpoint.detectors)),
        ("particle", particle, checkpoint.valid_range["particle"]),
    ):
        if name is not None and name not in known:
            raise ExportError(f"{checkpoint.name} was trained on {kind} {', '.join(known)}, not {name!r}")


def written(graph: Graph | Carried, to: To, about: Mapping[str, Any]) -> bytes:
    """The file of a graph, and what it says of itself."""
    found = traced(graph, graph.examples(), loops=to != "program")
    names, said = [i.name for i in graph.inputs], texts(about)
    if to == "onnx":
        return sealed(onnx_model(found, names, about["output"]["name"], said))
    if to == "torchscript":
        return archived(scripted(found, names), said)
    file = io.BytesIO()
    torch.export.save(found.program, file)
    return archived(file.getvalue(), said)


def require_same(graph: Graph | Carried, exported: Exported) -> None:
    """ExportError unless the exported graph gives the showers that the model gives of the same noise.

    Rounding may lift a cell over the threshold, and a split then goes another way: so only the median counts.
    Of noise that is drawn in the graph only the energies are compared, and roughly.
    """
    inputs = graph.examples(seed=1, n=TRIED)
    with torch.no_grad():
        expected = graph(*inputs).flatten(1).numpy()
    names = [i.name for i in graph.inputs]
    made = exported.run({name: x.numpy() for name, x in zip(names, inputs, strict=True)}).reshape(TRIED, -1)
    difference, close = np.abs(made - expected).sum(axis=1), CLOSE
    if isinstance(graph, Carried) and graph.contract.noise == "graph":
        difference, close = np.abs((made - expected).sum(axis=1)), ROUGHLY
    apart = float(np.median(difference / np.maximum(expected.sum(axis=1), 1e-6)))
    if not apart <= close:
        raise ExportError(
            f"the exported graph gives other showers than the model: {apart:.1e} of the energy is in other "
            "cells; this is a fault of caloforge or of a package that it uses, and nothing was written"
        )
