"""Meshes by name, for the command line: a CaloChallenge set, a detector, a binning XML or a detector file."""

from __future__ import annotations

from pathlib import Path

from caloforge.data.formats.calogan import calogan_mesh
from caloforge.detector.binning_xml import read_binning_xml
from caloforge.detector.calochallenge import calochallenge_mesh
from caloforge.detector.mesh import Mesh
from caloforge.errors import DetectorError, MeshError

__all__ = ["named_mesh"]

_CHALLENGE = ("1-photons", "1-pions", "2", "3")


def named_mesh(name: str) -> Mesh:
    """The mesh called ``name``.

    Args:
        name: ``1-photons``, ``1-pions``, ``2`` or ``3`` (CaloChallenge), ``calogan``, the name of a detector
            such as ``par04-siw``, or the path of a binning XML or of a detector's TOML file. A particle may
            follow the path of an XML that has several: ``binning.xml:pion``.

    Raises:
        MeshError: there is no such mesh, or the file is malformed.
    """
    if name in _CHALLENGE:
        return calochallenge_mesh(name)
    if name == "calogan":
        return calogan_mesh()
    path, _, particle = name.partition(":")
    if path.lower().endswith(".xml"):
        if not Path(path).is_file():
            raise MeshError(f"no such binning XML: {path}")
        return read_binning_xml(path, particle or None)
    from caloforge.detector.detector import Detector  # reads TOML with pydantic; only here is it needed

    try:
        return Detector.load(name).mesh
    except DetectorError as error:
        raise MeshError(
            f"no mesh {name!r}: {error}. Meshes are {', '.join(_CHALLENGE)}, calogan, a detector's name, "
            "a binning XML or a detector file"
        ) from error
