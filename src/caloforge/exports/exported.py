"""Exported files, run by the programs that they are for: ONNX Runtime and torch.

Legend: ``n`` showers, ``shape`` the mesh's shape. Energies are MeV, angles rad, lengths mm.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from caloforge.data.conditions import Conditions
from caloforge.data.particles import UNKNOWN, pdg_name
from caloforge.detector.mesh import Mesh, mesh_from_dict
from caloforge.errors import ConditionError, ExportError, MissingDependencyError
from caloforge.exports.about import DIGEST, from_archive, unsealed, values
from caloforge.exports.formats.onnx import OLDEST_RUNTIME
from caloforge.exports.graph import noise_input
from caloforge.generation.noise import draw_noise
from caloforge.runtime.files import read_bytes

__all__ = ["KINDS", "Exported", "To", "loaded"]

To = Literal["onnx", "torchscript", "program"]
Arrays = dict[str, NDArray[Any]]
Run = Callable[[Arrays], NDArray[np.float32]]
KINDS: dict[str, To] = {".onnx": "onnx", ".pt": "torchscript", ".pt2": "program"}
"""Names of files end so."""


class Exported:
    """A model that was exported.

    Attributes:
        about: what the file says of itself.
        kind: "onnx", "torchscript" or "program".
        where: the file.
    """

    def __init__(self, data: bytes, kind: str, where: str = "the exported file", threads: int = 1) -> None:
        self.kind, self.where = kind, where
        self._run: Run
        if kind == "onnx":
            self.about, self._run = _onnx(data, where, threads)
        else:
            self.about = values(from_archive(data, where), where)
            self._run = _program(data, kind, [i["name"] for i in self.about["inputs"]])

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, threads: int = 1) -> Exported:
        """Read a file and check that it is as it was written.

        Args:
            path: it ends in .onnx, .pt or .pt2.
            threads: of ONNX Runtime, which would else take all cores.

        Raises:
            ExportError: it is not one of ours, was changed, or cannot be run here.
            MissingDependencyError: ONNX Runtime is not installed.
        """
        kind = KINDS.get(Path(path).suffix)
        if kind is None:
            raise ExportError(f"{path}: exported files end in {', '.join(KINDS)}")
        return cls(read_bytes(path, error=ExportError), kind, os.fspath(path), threads)

    @property
    def mesh(self) -> Mesh:
        """Cells of the showers."""
        return mesh_from_dict(self.about["mesh"])

    def run(self, inputs: Mapping[str, ArrayLike]) -> NDArray[np.float32]:
        """What the graph gives of its inputs (n, …), by name.

        Raises:
            ConditionError: one is missing or strange, of another shape, or not finite.
        """
        wanted = self.about["inputs"]
        names = [i["name"] for i in wanted]
        if sorted(inputs) != sorted(names):
            raise ConditionError(f"{self.where} has the inputs {', '.join(names)}; got {', '.join(inputs)}")
        arrays = {
            i["name"]: np.ascontiguousarray(inputs[i["name"]], dtype=np.int64 if i["whole"] else np.float32)
            for i in wanted
        }
        n = len(next(iter(arrays.values())))
        for i in wanted:
            name, expected = i["name"], (n, *i["shape"])
            if arrays[name].shape != expected:
                raise ConditionError(
                    f"{self.where}: the input {name} has shape {arrays[name].shape}; {expected} is expected"
                )
            if not np.isfinite(arrays[name]).all():
                raise ConditionError(f"{self.where}: the input {name} has numbers that are not finite")
        return self._run(arrays)

    def inputs(self, conditions: Conditions, *, seed: int = 0, first: int = 0) -> Arrays:
        """The inputs for showers first … first + n − 1 of a seed: the same noise as that of `generate`.

        Raises:
            ConditionError: they say too little, or another detector or particle than the model knows.
            ExportError: the file is one of a contract.
        """
        if self.about["contract"] != "caloforge":
            raise ExportError(
                f"{self.where} is for the contract {self.about['contract']}; see docs/how-to/exports.md"
            )
        detectors = self.about["detectors"]
        for what, known, names in (
            ("detector", detectors, np.unique(conditions.detector)),
            ("particle", self.about["particles"], map(pdg_name, np.unique(conditions.particle))),
        ):
            untold = ("", UNKNOWN) if len(known) == 1 else ()
            strange = [str(name) for name in names if str(name) not in (*known, *untold)]
            if known and strange:
                raise ConditionError(
                    f"{self.where} makes showers of {what} {', '.join(known)}, not {', '.join(strange)}"
                )
        columns: dict[str, Any] = {
            "energy": conditions.energy,
            "theta": conditions.theta,
            "phi": conditions.phi,
            "particle": conditions.particle,
            "detector": [detectors.index(d) if d in detectors else -1 for d in conditions.detector],
            "impact": conditions.impact,
            "given": None,
        }
        shapes = {name: tuple(shape) for name, shape in self.about["noise"].items()}
        noise = draw_noise(shapes, seed, np.arange(first, first + len(conditions)))
        made = {noise_input(name): z.numpy() for name, z in noise.items()}
        known = {i["name"]: columns[i["name"]] for i in self.about["inputs"] if i["name"] not in made}
        missing = [name for name, column in known.items() if column is None]
        if missing:
            raise ConditionError(f"{self.where} needs {', '.join(missing)}, which the conditions have not")
        return {**known, **made}


def _onnx(data: bytes, where: str, threads: int) -> tuple[dict[str, Any], Run]:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError("onnxruntime", "export") from error
    have = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    if have < tuple(int(part) for part in OLDEST_RUNTIME.split(".")):
        raise ExportError(
            f"{where} needs ONNX Runtime {OLDEST_RUNTIME} or later, and {onnxruntime.__version__} is here"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base but this
        raise ExportError(f"{where}: ONNX Runtime cannot read it: {error}") from error
    texts = session.get_modelmeta().custom_metadata_map
    about = values(texts, where)
    unsealed(data, texts.get(DIGEST, ""), where)

    def run(arrays: Arrays) -> NDArray[np.float32]:
        made: NDArray[np.float32] = session.run(None, arrays)[0]
        return made

    return about, run


def loaded(data: bytes, kind: str) -> Any:
    """The module in an archive of TorchScript or of a program."""
    file, script = io.BytesIO(data), cast(Callable[[io.BytesIO], Any], torch.jit.load)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it will have other ways
        return script(file) if kind == "torchscript" else torch.export.load(file).module()


def _program(data: bytes, kind: str, names: list[str]) -> Run:
    module = loaded(data, kind)

    def run(arrays: Arrays) -> NDArray[np.float32]:
        with torch.no_grad():
            made = module(*(torch.from_numpy(arrays[name]) for name in names))
        result: NDArray[np.float32] = made.numpy()
        return result

    return run
