"""The layout of the CaloChallenge (arXiv:2410.21611), with caloforge's additions where they are present.

``incident_energies`` (N, 1) or (N,) and ``showers`` (N, V) or (N, z, φ, r), both MeV, in the order layer, α,
r. What a file does not tell is assumed where the number of voxels is one of the challenge's, and the
provenance says so:

=========  ======  ==========  ======================  ==========
data set   voxels  particle    θ                       detector
=========  ======  ==========  ======================  ==========
1 photons  368     gamma       2 atan(e^-0.225)        atlas
1 pions    533     pi+         2 atan(e^-0.225)        atlas
2          6480    e-          π/2                     par04-siw
3          40500   e-          π/2                     par04-siw
=========  ======  ==========  ======================  ==========

(η = 0.225 is the middle of set 1's bin 0.20-0.25.) With cells that are given, θ is taken as π/2; φ is 0 for
all, and the unit is MeV. The attributes ``particle``, ``detector`` and
``theta_deg`` replace these, and caloforge's own columns replace both.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from caloforge.data.conditions import Conditions
from caloforge.data.formats.base import FORMAT_VERSION, FORMATS, FileFormat
from caloforge.data.formats.hdf5 import (
    HDF5Source,
    file_attributes,
    read_column,
    read_condition,
    require_shape,
)
from caloforge.data.showers import Showers
from caloforge.detector.calochallenge import calochallenge_mesh
from caloforge.detector.mesh import Mesh, mesh_from_dict
from caloforge.errors import DataError, MeshError

__all__ = ["CaloChallenge"]


class _Assumed(NamedTuple):
    data_set: str
    particle: str
    theta: float
    detector: str


_ETA_SET_1 = 2 * math.atan(math.exp(-0.225))
_BY_SIZE = {
    368: _Assumed("1-photons", "gamma", _ETA_SET_1, "atlas"),
    533: _Assumed("1-pions", "pi+", _ETA_SET_1, "atlas"),
    6480: _Assumed("2", "e-", math.pi / 2, "par04-siw"),
    40500: _Assumed("3", "e-", math.pi / 2, "par04-siw"),
}
_OURS = {"incident_theta", "incident_phi", "incident_pdg", "incident_detector", "impact_point"}


@FORMATS.add("CaloChallenge")
class CaloChallenge(FileFormat):
    """Files of the CaloChallenge and of caloforge."""

    name: ClassVar[str] = "CaloChallenge"
    order: ClassVar[int] = 10

    def matches(self, file: h5py.File) -> bool:
        """True for files with ``incident_energies`` and ``showers``."""
        return "incident_energies" in file and "showers" in file

    def variant(self, file: h5py.File) -> str:
        """ "caloforge" for files with our own columns."""
        return "caloforge" if "caloforge_format" in file.attrs else self.name

    def read(self, path: Path, file: h5py.File, mesh: Mesh | None, ignore: tuple[str, ...]) -> Showers:
        """Showers of a CaloChallenge or caloforge file, in MeV."""
        _check_version(path, file)
        shape = getattr(file["showers"], "shape", None)
        if not shape or len(shape) < 2 or 0 in shape[1:]:
            raise DataError(
                f"{path}, data set 'showers': shape {shape}, expected (N, voxels), flattened in the order "
                "layer, φ, r, or the shape of the mesh, (N, z, φ, r)"
            )
        mesh, assumed = _mesh_of(path, file, math.prod(shape[1:]), mesh)
        tail = mesh.shape if shape[1:] == mesh.shape else (mesh.n_voxels,)
        n = require_shape(file, "showers", tail, f"showers, voxels of the {mesh}, or (N, *{mesh.shape})")
        energy = read_condition(file, "incident_energies", n, unit="MeV", positive=True)
        defaults: dict[str, Any] = {"theta": np.pi / 2, "phi": 0.0}
        if assumed is not None:
            defaults |= {key: getattr(assumed, key) for key in ("particle", "detector", "theta")}
        attributes = {key: value for key, value in file_attributes(file).items() if key != "mesh"}
        told: dict[str, Any] = {
            key: str(attributes[key]) for key in ("particle", "detector") if key in attributes
        }
        if "theta_deg" in attributes:
            try:
                told["theta"] = math.radians(float(attributes["theta_deg"]))
            except (TypeError, ValueError) as error:
                raise DataError(f"{path}, attribute 'theta_deg': must be a number ({error})") from error
        columns = _our_columns(path, file, n, ignore)
        conditions = Conditions(energy, **(defaults | told | columns))
        guessed = {key: value for key, value in defaults.items() if key not in told | columns}
        if "caloforge_format" not in attributes:
            guessed["unit"] = "MeV"
        if assumed is not None:
            guessed["data_set"] = assumed.data_set
        if "provenance" in attributes:
            provenance = _parsed(path, "provenance", attributes["provenance"])
        else:
            provenance = {"file": path.name, "layout": self.name, "attributes": attributes}
        if guessed:
            provenance["assumed"] = guessed
        return Showers(HDF5Source(path, "showers", n), conditions, mesh, provenance, _extra(file, n, ignore))


def _mesh_of(path: Path, file: h5py.File, n_voxels: int, given: Mesh | None) -> tuple[Mesh, _Assumed | None]:
    """The mesh, and what a file of the challenge with this number of voxels leaves unsaid."""
    if "caloforge_format" in file.attrs:
        try:
            stored = mesh_from_dict(_parsed(path, "mesh", file_attributes(file).get("mesh", "")))
        except MeshError as error:
            raise DataError(f"{path}, attribute 'mesh': {error}") from error
        if given is not None and given != stored:
            raise DataError(
                f"{path} holds showers on the {stored} [{stored.fingerprint}], not on the {given} "
                f"[{given.fingerprint}]; leave the mesh out to use the file's own"
            )
        return stored, None
    if given is not None:
        if given.n_voxels != n_voxels:
            raise DataError(
                f"{path}, data set 'showers': {n_voxels} voxels a shower, but {given.n_voxels} in the {given}"
            )
        return given, None
    if n_voxels not in _BY_SIZE:
        known = ", ".join(f"{size} (set {a.data_set})" for size, a in _BY_SIZE.items())
        raise DataError(
            f"{path}, data set 'showers': {n_voxels} voxels are none of the CaloChallenge's {known}; "
            "give the mesh (mesh=..., on the command line --mesh NAME or a binning XML)"
        )
    return calochallenge_mesh(_BY_SIZE[n_voxels].data_set), _BY_SIZE[n_voxels]


def _our_columns(path: Path, file: h5py.File, n: int, ignore: tuple[str, ...]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    there = {name for name in _OURS if name in file and name not in ignore}
    for name, key in (("incident_theta", "theta"), ("incident_phi", "phi")):
        if name in there:
            columns[key] = read_condition(file, name, n, unit="rad")
    if "incident_pdg" in there:
        columns["particle"] = _sized(path, file, "incident_pdg", (n,))
    if "incident_detector" in there:
        columns["detector"] = _sized(path, file, "incident_detector", (n,))
        if columns["detector"].dtype.kind != "U":
            raise DataError(
                f"{path}, data set 'incident_detector': must be text, got type {columns['detector'].dtype}"
            )
    if "impact_point" in there:
        columns["impact"] = _sized(path, file, "impact_point", (n, 2))
    return columns


def _sized(path: Path, file: h5py.File, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    found = getattr(file[name], "shape", "of a group")
    if found != shape:
        raise DataError(f"{path}, data set {name!r}: shape {found}, expected {shape} like 'showers'")
    return read_column(file, name)


def _extra(file: h5py.File, n: int, ignore: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Further columns: everything at the top of the file that has a row for each shower."""
    extra = {}
    for name in file:
        if name in _OURS or name in ("incident_energies", "showers") or name in ignore:
            continue
        item = file[name]
        if not isinstance(item, h5py.Dataset) or not item.shape or item.shape[0] != n:
            shape = item.shape if isinstance(item, h5py.Dataset) else "of a group"
            raise DataError(
                f"{file.filename}, data set {name!r}: shape {shape}, but a further column must have a row "
                f"for each of the {n} showers; to leave it out pass ignore=[{name!r}] (--ignore {name})"
            )
        extra[name] = read_column(file, name)
    return extra


def _check_version(path: Path, file: h5py.File) -> None:
    version = file_attributes(file).get("caloforge_format", FORMAT_VERSION)
    if not isinstance(version, int) or version < 1:
        raise DataError(f"{path}, attribute 'caloforge_format': must be a number from 1 on, got {version!r}")
    if version > FORMAT_VERSION:
        raise DataError(
            f"{path}: made by a newer caloforge, in its format {version}; this one knows up to "
            f"{FORMAT_VERSION}. Update it: pip install -U caloforge"
        )


def _parsed(path: Path, attribute: str, text: object) -> dict[str, Any]:
    try:
        value = json.loads(text.decode() if isinstance(text, bytes) else str(text))
    except ValueError as error:
        raise DataError(f"{path}, attribute {attribute!r}: not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}, attribute {attribute!r}: expected a JSON object, got {text!r}")
    return value
