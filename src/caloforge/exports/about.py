"""What an exported file says of itself, and the digest by which it is known to be unchanged.

ONNX holds it in ``metadata_props``; TorchScript and exported programs are archives, of which it is a member.
Each value is JSON.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.errors import ExportError
from caloforge.exports.graph import Graph, Input
from caloforge.runtime.provenance import code_version
from caloforge.runtime.structured import json_text, parse_json

__all__ = ["archived", "described", "sealed", "texts", "unsealed", "values"]

FORMAT = "caloforge-export"
FORMAT_VERSION = 1
DIGEST = "digest"
EMPTY = "0" * 64
MEMBER = "caloforge.json"
AXES = {"cylinder": ["z", "phi", "r"], "box": ["z", "y", "x"]}
ORIGINS = {
    "shower": "z from the face along the particle's direction, r, x and y from its line, φ from −π",
    "detector": "z from the face, x and y from the middle of the detector",
}


def described(
    checkpoint: Checkpoint,
    graph: Graph,
    inputs: Sequence[Input],
    output: Mapping[str, Any],
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """What the file of a graph says; ``more`` is its contract."""
    detectors = list(checkpoint.detectors)
    threshold = getattr(graph.model, "threshold", None)
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        **more,
        "caloforge": code_version(),
        "checkpoint": checkpoint.name,
        "fingerprint": checkpoint.fingerprint,
        "model": checkpoint.model_name,
        "detectors": detectors,
        "particles": list(checkpoint.valid_range["particle"]),
        "inputs": [asdict(i) | {"shape": list(i.shape)} for i in inputs],
        "output": dict(output),
        "noise": {name: list(shape) for name, shape in graph.model.noise_shapes().items()},
        "mesh": checkpoint.mesh.to_dict(),
        "mesh_fingerprint": checkpoint.mesh.fingerprint,
        "axes": AXES.get(checkpoint.mesh.kind, ["cell"]),
        "origin": ORIGINS[checkpoint.mesh.frame],
        "units": {"energy": "MeV", "length": "mm", "angle": "rad"},
        "threshold_mev": None if threshold is None else float(threshold.min()),
        "valid_range": checkpoint.valid_range,
    }


def texts(about: Mapping[str, Any]) -> dict[str, str]:
    """Values as JSON, with room for the digest."""
    return {DIGEST: EMPTY, **{key: json_text(value) for key, value in about.items()}}


def values(texts: Mapping[str, str], where: str) -> dict[str, Any]:
    """Values of JSON; ExportError unless they are those of an export of ours."""
    if "format" not in texts:
        raise ExportError(
            f"{where} was not made by caloforge export: it says nothing of its mesh, units and noise; export "
            "the checkpoint (caloforge export CHECKPOINT -o FILE)"
        )
    try:
        about = {key: parse_json(text) for key, text in texts.items() if key != DIGEST}
    except ValueError as error:
        raise ExportError(f"{where}: what it says of itself is damaged ({error})") from error
    if about["format"] != FORMAT or about.get("version") != FORMAT_VERSION:
        raise ExportError(
            f"{where} has format {about['format']!r}, version {about.get('version')!r}; {FORMAT!r}, version "
            f"{FORMAT_VERSION}, is expected: export the checkpoint again with this version of caloforge"
        )
    return about


def sealed(data: bytes) -> bytes:
    """The file with its digest, which is that of the file without."""
    if data.count(EMPTY.encode()) != 1:
        raise ExportError("the place of the digest is not to be found in what was exported")
    return data.replace(EMPTY.encode(), hashlib.sha256(data).hexdigest().encode())


def unsealed(data: bytes, digest: str, where: str) -> None:
    """ExportError unless a file is as it was written."""
    found = hashlib.sha256(data.replace(digest.encode(), EMPTY.encode())).hexdigest()
    if len(digest) != len(EMPTY) or found != digest:
        raise ExportError(
            f"{where} was changed after it was exported, by hand or by a tool, or is damaged; export the "
            "checkpoint again"
        )


def archived(data: bytes, texts: Mapping[str, str]) -> bytes:
    """An archive of torch with what it says of itself as one more member, and the digest of the others."""
    file = io.BytesIO(data)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        root = archive.namelist()[0].partition("/")[0]
        whole = dict(texts) | {DIGEST: members_digest(archive)}
        archive.writestr(zipfile.ZipInfo(f"{root}/extra/{MEMBER}"), json_text(whole))
    return file.getvalue()


def members_digest(archive: zipfile.ZipFile) -> str:
    """Digest of all members but what the archive says of itself."""
    state = hashlib.sha256()
    for name in sorted(archive.namelist()):
        if not name.endswith(f"/extra/{MEMBER}"):
            state.update(f"{name}\n".encode())
            state.update(hashlib.sha256(archive.read(name)).digest())
    return state.hexdigest()


def from_archive(data: bytes, where: str) -> dict[str, str]:
    """What an archive says of itself.

    Raises:
        ExportError: it is none of ours, or was changed.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/extra/{MEMBER}")]
            if not names:
                return {}
            texts: dict[str, str] = parse_json(archive.read(names[0]))
            if members_digest(archive) != texts.get(DIGEST):
                raise ExportError(
                    f"{where} was changed after it was exported, or is damaged; export the checkpoint again"
                )
            return texts
    except (zipfile.BadZipFile, ValueError, KeyError) as error:
        if isinstance(error, ExportError):
            raise
        raise ExportError(f"{where}: not an archive of torch, or a damaged one ({error})") from error
