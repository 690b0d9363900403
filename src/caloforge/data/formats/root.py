"""ROOT files, through uproot: a TTree or an RNTuple of voxels, or of hits.

One entry is one shower. ``incident_energy`` (MeV), and where they are known ``incident_theta``,
``incident_phi`` (rad), ``incident_pdg``, ``incident_detector`` (a place in the list "detectors"),
``impact_x``, ``impact_y`` (mm); then either

* ``energies`` (V,), MeV, in the order of the mesh, or
* ``energy`` of each hit, MeV, with its ``cell``, a number in the order of the mesh, or its place ``x``,
  ``y``, ``z``, mm, as the mesh has them,

and further numbers of a shower, such as its place ``event``, which is not read. The object "cells" has the
centres of the cells, mm, for other readers. The objects "mesh", "provenance" and "detectors" are texts, JSON.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from caloforge.data.conditions import Conditions
from caloforge.data.formats.base import FORMATS, FileFormat
from caloforge.data.formats.hdf5 import keep_open
from caloforge.data.formats.sliced import SlicedSource, on_cells
from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh, mesh_from_dict
from caloforge.errors import CaloforgeError, DataError, MeshError, MissingDependencyError
from caloforge.runtime.structured import parse_json

__all__ = ["CELLS", "KNOWN", "NAME", "RootFile", "load_uproot"]

NAME, CELLS = "showers", "cells"
"""Objects in a file: what is read, and the centres of the cells for other readers."""
INCIDENT = ("incident_energy", "incident_theta", "incident_phi", "incident_pdg", "incident_detector")
PLACES = ("x", "y", "z")
KNOWN = {"event", *INCIDENT, "impact_x", "impact_y", "energies", "energy", "cell", *PLACES}


def load_uproot() -> Any:
    try:
        import awkward  # noqa: F401
        import uproot
    except ImportError as error:
        raise MissingDependencyError("uproot", "root") from error
    return uproot


@FORMATS.add("ROOT")
class RootFile(FileFormat):
    """Files of ROOT."""

    name: ClassVar[str] = "ROOT"
    order: ClassVar[int] = 60
    magic: ClassVar[bytes] = b"root"

    @contextmanager
    def open(self, path: Path) -> Iterator[Any]:
        """The file; DataError where it cannot be read."""
        uproot = load_uproot()
        try:
            with uproot.open(path) as file:
                yield file
        except CaloforgeError:
            raise
        except Exception as error:  # of uproot: whatever a damaged file makes of its parser
            raise DataError(f"{path}: not a readable ROOT file ({_first_line(error)})") from error

    def matches(self, file: Any) -> bool:
        """True: which object has the showers is found when they are read."""
        return True

    def variant(self, file: Any) -> str:
        """What the file has, a TTree or an RNTuple, of voxels or hits."""
        stored = _stored(file)
        kind = "TTree" if stored.classname == "TTree" else "RNTuple"
        return f"ROOT {kind} of {'voxels' if 'energies' in stored.keys() else 'hits'}"  # noqa: SIM118

    def read(self, path: Path, file: Any, mesh: Mesh | None, ignore: tuple[str, ...]) -> Showers:
        """Showers of a TTree or RNTuple."""
        stored, texts = _stored(file), _texts(path, file)
        names, n = _names(stored), int(stored.num_entries)
        columns = {
            name: _column(path, stored, name) for name in names if name in {*INCIDENT, "impact_x", "impact_y"}
        }
        mesh = _mesh(path, texts, mesh)
        told: dict[str, Any] = {}
        for name, key in (("incident_theta", "theta"), ("incident_phi", "phi"), ("incident_pdg", "particle")):
            if name in columns:
                told[key] = columns[name]
        if "incident_detector" in columns:
            told["detector"] = _detectors(path, texts, columns["incident_detector"])
        if "impact_x" in columns and "impact_y" in columns:
            told["impact"] = np.stack([columns["impact_x"], columns["impact_y"]], axis=1)
        defaults = {"theta": np.pi / 2, "phi": 0.0}
        conditions = Conditions(columns["incident_energy"], **(defaults | told))
        source = RootSource(path, n, stored.name, mesh, names)
        extra = {
            name: _column(path, stored, name) for name in names if name not in KNOWN and name not in ignore
        }
        provenance = texts.get("provenance") or {"file": path.name, "layout": self.variant(file)}
        if assumed := {key: value for key, value in defaults.items() if key not in told}:
            provenance = {**provenance, "assumed": assumed}
        return Showers(source, conditions, mesh, provenance, extra)


class RootSource(SlicedSource):
    """Energies in a TTree or RNTuple, put on the cells of a mesh.

    Args:
        path: the file.
        n: number of showers.
        name: of the object in the file.
        mesh: the cells.
        names: of the columns that there are.
    """

    def __init__(self, path: Path, n: int, name: str, mesh: Mesh, names: list[str]) -> None:
        super().__init__(path, n)
        self._name, self._mesh = name, mesh
        wanted = ("energies",), ("energy", "cell"), ("energy", *PLACES)
        found = next((columns for columns in wanted if set(columns) <= set(names)), None)
        if found is None:
            raise DataError(
                f"{path}: {name!r} has the columns {', '.join(names)}; energies, or energy with cell or with "
                "x, y and z, are needed"
            )
        self._columns = found

    def _stored(self) -> Any:
        if self._opened is None or self._opened[0] != os.getpid():
            file = load_uproot().open(self.path)
            self._opened = os.getpid(), file, file[self._name]
        keep_open(self)
        return self._opened[2]

    def _slice(self, start: int, stop: int) -> NDArray[np.float32]:
        import awkward

        try:
            rows = self._stored().arrays(list(self._columns), entry_start=start, entry_stop=stop)
            columns = {name: rows[name] for name in self._columns}
            if "energies" in columns:
                return np.asarray(awkward.to_numpy(columns["energies"])).reshape(
                    stop - start, self._mesh.n_voxels
                )
            row = np.repeat(np.arange(stop - start), awkward.to_numpy(awkward.num(columns["energy"])))
            flat = {name: awkward.to_numpy(awkward.flatten(column)) for name, column in columns.items()}
        except DataError:
            raise
        except Exception as error:  # of uproot and awkward
            raise DataError(
                f"{self.path}: showers {start} to {stop - 1} are unreadable ({_first_line(error)})"
            ) from error
        cell = flat.get("cell")
        if cell is None:
            cell = self._mesh.index(np.stack([flat[name] for name in PLACES], axis=1))
            row, cell, energy = (x[cell >= 0] for x in (row, cell, flat["energy"]))
        else:
            energy = flat["energy"]
        return on_cells(self.path, row, cell, energy, (stop - start, self._mesh.n_voxels))


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def _stored(file: Any) -> Any:
    """The TTree or RNTuple with the showers: the one of our name, or the only one."""
    kinds = file.classnames()
    found = [key for key, kind in kinds.items() if kind == "TTree" or kind.endswith("RNTuple")]
    ours = [key for key in found if key.partition(";")[0] == NAME]
    if not ours and len({key.partition(";")[0] for key in found}) != 1:
        raise DataError(
            f"{file.file_path}: no TTree or RNTuple {NAME!r}; it has {', '.join(kinds) or 'nothing'}"
        )
    stored = file[(ours or found)[0]]
    if "incident_energy" not in _names(stored):
        raise DataError(
            f"{file.file_path}: {stored.name!r} has no incident_energy (MeV), but {', '.join(_names(stored))}"
        )
    return stored


def _names(stored: Any) -> list[str]:
    """Names of columns, but for those that uproot adds to count what others hold."""
    names = list(stored.keys())
    return [name for name in names if not (name.startswith("n") and name[1:] in names)]


def _column(path: Path, stored: Any, name: str) -> NDArray[Any]:
    column = np.asarray(stored.arrays([name])[name])
    if column.ndim != 1 or column.dtype.kind not in "fiub":
        raise DataError(
            f"{path}: {name!r} must be one number a shower; to leave it out pass ignore=[{name!r}] "
            f"(--ignore {name})"
        )
    return column


def _texts(path: Path, file: Any) -> dict[str, Any]:
    texts = {}
    for key, kind in file.classnames().items():
        name = key.partition(";")[0]
        if kind == "TObjString" and name in ("mesh", "detectors", "provenance"):
            try:
                texts[name] = parse_json(str(file[key]))
            except ValueError as error:
                raise DataError(
                    f"{path}: the text {name!r} is damaged ({error}); get the file again"
                ) from error
    return texts


def _mesh(path: Path, texts: Mapping[str, Any], given: Mesh | None) -> Mesh:
    if "mesh" not in texts:
        if given is None:
            raise DataError(f"{path}: it does not say what its cells are; give the mesh (mesh=..., --mesh)")
        return given
    try:
        stored = mesh_from_dict(texts["mesh"])
    except MeshError as error:
        raise DataError(f"{path}, 'mesh': {error}") from error
    if given is not None and given != stored:
        raise DataError(f"{path} holds showers on the {stored}, not on the {given}; leave the mesh out")
    return stored


def _detectors(path: Path, texts: Mapping[str, Any], column: NDArray[Any]) -> NDArray[np.str_]:
    names = np.array([str(name) for name in texts.get("detectors", [])], dtype=np.str_)
    if len(column) and not (column.min() >= 0 and column.max() < len(names)):
        raise DataError(
            f"{path}: incident_detector has places beyond the list 'detectors' ({len(names)} names)"
        )
    return names[column.astype(np.int64)] if len(column) else np.array([], dtype=np.str_)
