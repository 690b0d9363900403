"""Clients that do what the programs of contracts do with a file, and fail where they would.

They know nothing of caloforge's metadata, as those programs do not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.errors import ExportError
from caloforge.exports.exported import Exported, loaded

__all__ = ["DDML", "FastCaloSim", "Par04", "run_inference"]

Floats = NDArray[np.float32]
LEAST_MEV = 5e-4
"""Par04 drops cells below."""


def _session(data: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Par04:
    """Geant4's example Par04: one input, one shower a call, the first output read as r·φ·z numbers.

    Attributes:
        data: the ONNX file.
        shape: cells along r, φ, z, from the macro, as are
        dr, dz: their sizes, mm.
        latent: random numbers, of the type VAE.
    """

    data: bytes
    shape: tuple[int, int, int]
    dr: float
    dz: float
    latent: int = 0

    def energies(self, energy: float, theta: float, phi: float, gauss: Callable[[], float]) -> Floats:
        """Energies (r, φ, z), MeV, of a particle; random numbers are those of Geant4's engine."""
        if self.latent:  # type VAE
            noise = [gauss() for _ in range(self.latent)]
            vector = [*noise, energy / 1.024e6, theta / (np.pi / 2), 0.0, 1.0]
            return energy * self._read(vector)
        wrapped = np.arctan2(np.sin(phi), np.cos(phi))
        return 1000 * self._read([energy / 1000, float(wrapped), theta, 1.0, 0.0, 0.0, 0.0, 0.0])

    def hits(self, energies: Floats) -> NDArray[np.float64]:
        """Hits (x, y, z, energy) of cells (r, φ, z), by their centres about the shower axis."""
        r, phi, z = np.nonzero(energies >= LEAST_MEV)
        radius = (r + 0.5) * self.dr
        angle = (phi + 0.5) * 2 * np.pi / self.shape[1] - np.pi
        columns = [radius * np.cos(angle), radius * np.sin(angle), (z + 0.5) * self.dz, energies[r, phi, z]]
        return np.stack(columns, axis=1)

    def _read(self, vector: Sequence[float]) -> Floats:
        session = _session(self.data)
        if len(session.get_inputs()) != 1:
            raise ExportError(f"Par04 fills one input; the file has {len(session.get_inputs())}")
        row = np.array([vector], dtype=np.float32)
        made = np.ravel(session.run(None, {session.get_inputs()[0].name: row})[0])
        if made.size < np.prod(self.shape):
            raise ExportError(f"Par04 reads beyond the {made.size} numbers of the output")
        found: Floats = made[: int(np.prod(self.shape))].reshape(self.shape)
        return found


@dataclass(frozen=True)
class DDML:
    """Key4hep's DDFastShowerML: inputs by their order, with shapes of the model class.

    Attributes:
        data: the file.
        kind: "onnx" or "torchscript".
    """

    data: bytes
    kind: str = "onnx"

    def par04(self, energy: float, theta: float, gauss: Callable[[], float]) -> Floats:
        """Energies, MeV, flat, in the order r, φ, z, of Par04ExampleVAE."""
        vector = [*(gauss() for _ in range(10)), energy / 1.024e6, theta / (np.pi / 2), 0.0, 1.0]
        return energy * self._run([np.array([vector], dtype=np.float32)])

    def regular_grid(self, energy: float, flat: Callable[[], float]) -> Floats:
        """Energies, MeV, (z, x, y) of RegularGridGAN; random numbers are uniform in (0, 1)."""
        noise = np.array([2 * flat() - 1 for _ in range(100)], dtype=np.float32).reshape(1, 100, 1, 1, 1)
        told = np.full((1, 1, 1, 1, 1), energy / 1000, dtype=np.float32)
        return self._run([noise, told]).reshape(30, 30, 30)

    def l2lflows(self, energy: float, direction: Sequence[float]) -> Floats:
        """Energies, MeV, (z, x, y) of L2LFlows."""
        row = np.array([[energy / 1000, *direction]], dtype=np.float32)
        return 1000 * self._run([row]).reshape(30, 90, 90)

    def _run(self, inputs: Sequence[Floats]) -> Floats:
        made: Floats
        if self.kind == "torchscript":
            module = loaded(self.data, self.kind)
            with torch.no_grad():
                made = module(*(torch.from_numpy(x) for x in inputs)).numpy().ravel()
            return made
        session = _session(self.data)
        names = [i.name for i in session.get_inputs()]
        made = np.ravel(session.run(None, dict(zip(names, inputs, strict=True)))[0])
        return made


@dataclass(frozen=True)
class FastCaloSim:
    """FastCaloSim's simulator: four inputs by name, flat output, drawn again where it is not finite.

    Attributes:
        data: the ONNX file.
        voxels, layers: how many numbers are drawn.
    """

    data: bytes
    voxels: int
    layers: int

    def energies(self, energy: float, eta: float, gauss: Callable[[], float]) -> Floats:
        """Energies of voxels, MeV."""
        session = _session(self.data)
        for _ in range(10):
            inputs = {
                "inn_eta_in": [[10 * abs(eta)]],
                "inn_einc_in": [[energy]],
                "cfm_z_shape": [[gauss() for _ in range(self.voxels)]],
                "inn_z_energy": [[gauss() for _ in range(self.layers)]],
            }
            given = {name: np.array(x, dtype=np.float32) for name, x in inputs.items()}
            made: Floats = np.ravel(session.run(None, given)[0])
            if np.isfinite(made).all():
                return made
        raise ExportError("FastCaloSim finds no finite shower in ten")


_held: dict[str, Exported] = {}


def run_inference(inputs: Sequence[Floats]) -> Floats:
    """The hook of ddml's embedded Python: showers, MeV, flat, of the inputs in the file's order.

    ``DDML_MODEL_PATH`` is an exported file; name this module where ddml asks for one:
    ``caloforge.exports.contracts.client``.
    """
    path = os.environ.get("DDML_MODEL_PATH", "")
    if not path:
        raise ExportError("DDML_MODEL_PATH is not set; it has to be a file of caloforge export")
    if path not in _held:
        _held[path] = Exported.load(Path(path))
    exported = _held[path]
    names = [i["name"] for i in exported.about["inputs"]]
    if len(inputs) != len(names):
        raise ExportError(f"{path} has the inputs {', '.join(names)}; got {len(inputs)} arrays")
    given: Mapping[str, Floats] = dict(zip(names, inputs, strict=True))
    made: Floats = exported.run(given).ravel()
    return made
