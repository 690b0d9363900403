"""ONNX Runtime for browsers, as npm's registry has it: checked, kept, and put beside the page."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
from importlib.resources import files
from pathlib import Path

from caloforge.data.download import BASE_VARIABLE, Progress, ResumingDownloader, UnreachableError
from caloforge.errors import DataError, ExportError
from caloforge.runtime.files import read_bytes
from caloforge.runtime.locks import file_lock
from caloforge.runtime.private_folder import private_folders

__all__ = ["LICENCE", "RUNTIME", "VERSION", "runtime_files"]

VERSION = "1.30.0"
ARCHIVE = f"onnxruntime-web-{VERSION}.tgz"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""As the registry has it."""
REGISTRY = "https://registry.npmjs.org/onnxruntime-web/-"
RUNTIME = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""Of all that the package holds, what runs graphs by WebAssembly."""
LICENCE = "LICENSE"
BY_HAND = (
    f"Where there is one: npm pack onnxruntime-web@{VERSION} && tar xf {ARCHIVE}; bring the folder package "
    "here, and name it: --runtime package"
)


def runtime_files(
    folder: str | os.PathLike[str] | None = None, *, progress: Progress | None = None
) -> dict[str, bytes]:
    """The files of `RUNTIME` and the licence, by name.

    Args:
        folder: npm's package unpacked, or its folder ``dist``; by default the package is downloaded once and
            kept in the user's cache. The variable ``CALOFORGE_DOWNLOAD_BASE`` names a mirror.
        progress: called as bytes arrive.

    Raises:
        ExportError: there is no network, what came is not what was published, or the folder lacks a file.
    """
    found = _unpacked(Path(folder)) if folder is not None else _downloaded(progress)
    return found | {LICENCE: (files("caloforge.demo") / "assets" / "onnxruntime-license.txt").read_bytes()}


def _unpacked(folder: Path) -> dict[str, bytes]:
    places = (folder, folder / "dist", folder / "package" / "dist")
    place = next((place for place in places if (place / RUNTIME[0]).is_file()), None)
    if place is None:
        raise ExportError(f"{folder} has no {RUNTIME[0]}, nor its folder dist. {BY_HAND}")
    return {name: read_bytes(place / name, error=ExportError) for name in RUNTIME}


def _downloaded(progress: Progress | None) -> dict[str, bytes]:
    target = next(private_folders("onnxruntime-web")) / ARCHIVE
    if not _is_whole(target):
        with file_lock(target, error=ExportError):
            _download(target, progress)
    with tarfile.open(fileobj=io.BytesIO(read_bytes(target, error=ExportError))) as archive:
        members = {name: archive.extractfile(f"package/dist/{name}") for name in RUNTIME}
        return {name: member.read() for name, member in members.items() if member is not None}


def _is_whole(archive: Path) -> bool:
    if not archive.is_file():
        return False
    digest = hashlib.sha512(read_bytes(archive, error=ExportError)).digest()
    return f"sha512-{base64.b64encode(digest).decode('ascii')}" == INTEGRITY


def _download(target: Path, progress: Progress | None) -> None:
    url = f"{os.environ.get(BASE_VARIABLE, REGISTRY).rstrip('/')}/{ARCHIVE}"
    part = target.with_name(f"{ARCHIVE}.part")
    try:
        ResumingDownloader(part, attempts=2, progress=progress)(url, target, None)
    except (UnreachableError, DataError) as error:
        raise ExportError(
            f"the page needs ONNX Runtime for browsers, which no network here has ({error}). {BY_HAND}"
        ) from error
    if not _is_whole(target):
        target.unlink()
        raise ExportError(f"{url} is not what was published, and was not kept. Try again; or: {BY_HAND}")
