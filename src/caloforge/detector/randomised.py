"""Detectors drawn at random: stacks of other materials and thicknesses, read out in cells of other sizes.

Models for many detectors learn from them what a detector's physics does to showers.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.detector.detector import Detector
from caloforge.detector.materials import NIST, radiation_length_mm
from caloforge.errors import DetectorError
from caloforge.runtime.files import write_text

__all__ = ["random_detector", "to_toml", "write_random_detectors"]

ABSORBERS = {"G4_W": 3, "G4_Pb": 3, "G4_Cu": 1, "G4_Fe": 1}
"""Materials and how often they are drawn."""
ACTIVE = {
    "G4_Si": (3, (0.15, 0.8)),
    "G4_POLYSTYRENE": (2, (1.0, 6.0)),
    "G4_lAr": (2, (1.0, 6.0)),
    "G4_lKr": (1, (1.0, 6.0)),
}
"""The same, and thicknesses, mm."""
CRYSTALS = ("G4_PbWO4", "G4_BGO", "G4_CESIUM_IODIDE")
SPACERS = ("G4_AIR", "G4_POLYSTYRENE", "G4_Al")
HOMOGENEOUS, SPACED = 0.1, 0.4
"""Shares of detectors that are one crystal, and of those with layers that have a third material in them."""
ABSORBER_X0, SPACER_MM = (0.15, 1.2), (0.3, 3.0)
DEPTH_X0 = (22.0, 36.0)
CELL_DEPTH, CELL_RADIUS = 0.8, 0.43
"""Of the mesh's cells, in radiation lengths and Molière radii, and by what they vary."""
DEPTH_VARIES, RADIUS_VARIES = 1.2, 1.35
THRESHOLD_MEV, THRESHOLDS = 5e-4, (1e-4, 2e-2)
"""That of most detectors; half of them have another."""


def random_detector(seed: int, number: int) -> Detector:
    """The detector with this number of a series: a barrel of equal layers around the beam, or of one crystal.

    Its mesh has 45 × 16 × 9 cells (z, φ, r). The sampling fraction is estimated from energy losses, to some
    30 %: measure it where absolute energies matter (docs/how-to/detectors.md).
    """
    random = np.random.default_rng([seed, number])

    def logarithmic(low: float, high: float) -> float:
        return float(np.exp(random.uniform(math.log(low), math.log(high))))

    def one_of(weights: Mapping[str, float]) -> str:
        shares = np.array(list(weights.values()), dtype=float)
        return str(random.choice(list(weights), p=shares / shares.sum()))

    layers: list[dict[str, Any]] = []
    if random.random() < HOMOGENEOUS:
        material = str(random.choice(CRYSTALS))
        layers.append({"material": material, "thickness_mm": 1.0, "sensitive": True})
        what = material
    else:
        absorber, active = one_of(ABSORBERS), one_of({name: share for name, (share, _) in ACTIVE.items()})
        thickness = logarithmic(*ABSORBER_X0) * radiation_length_mm(*NIST[absorber])
        layers.append({"material": absorber, "thickness_mm": thickness})
        layers.append(
            {"material": active, "thickness_mm": logarithmic(*ACTIVE[active][1]), "sensitive": True}
        )
        what = f"{absorber} and {active}"
        if random.random() < SPACED:
            spacer = str(random.choice(SPACERS))
            layers.append({"material": spacer, "thickness_mm": logarithmic(*SPACER_MM)})
            what += f", {spacer} between"
    layers = [layer | {"thickness_mm": _rounded(layer["thickness_mm"])} for layer in layers]
    described: dict[str, Any] = {
        "name": f"random-{seed}-{number}",
        "description": f"Calorimeter drawn at random: {what}",
        "simplifications": "It is not built; the sampling fraction is estimated, not measured.",
        "shape": "cylinder",
        "inner_radius_mm": _rounded(logarithmic(600.0, 2400.0)),
        "length_mm": 40_000.0,
        "sampling_fraction": 1.0,
        "threshold_mev": THRESHOLD_MEV if random.random() < 0.5 else _rounded(logarithmic(*THRESHOLDS)),
        "particles": ["e-", "e+", "gamma"],
        "energy_range_mev": [1000.0, 1_000_000.0],
        "theta_range_rad": [0.87, 2.27],
        "stack": [{"layers": layers}],
        "mesh": {"kind": "cylinder", "n_z": 45, "dz_mm": 1.0, "n_phi": 16, "n_r": 9, "dr_mm": 1.0},
    }
    period = Detector.from_dict(described)
    x0, repeat = period.radiation_length_mm, 1
    depth = random.uniform(*DEPTH_X0) * x0
    if len(layers) == 1:
        layers[0]["thickness_mm"] = _rounded(depth)
    else:
        repeat = max(1, round(depth / period.depth_mm))
    dz = CELL_DEPTH * x0 * logarithmic(1 / DEPTH_VARIES, DEPTH_VARIES)
    if len(layers) > 1 and random.random() < 0.5:  # a cell is a whole number of layers
        dz = max(1, round(dz / period.depth_mm)) * period.depth_mm
    dr = CELL_RADIUS * period.moliere_radius_mm * logarithmic(1 / RADIUS_VARIES, RADIUS_VARIES)
    described["stack"] = [{"repeat": repeat, "layers": layers}]
    described["mesh"] |= {"dz_mm": _rounded(dz), "dr_mm": _rounded(dr)}
    described["sampling_fraction"] = _rounded(period.estimated_sampling_fraction)
    return Detector.from_dict(described)


def write_random_detectors(folder: str | os.PathLike[str], n: int, seed: int = 0) -> list[Path]:
    """Write the first n detectors of a series into files ``random-SEED-NUMBER.toml`` of a folder.

    Raises:
        DetectorError: one of the files is there already and is another detector.
        DataError: the folder cannot be written.
    """
    made = []
    for number in range(n):
        detector = random_detector(seed, number)
        path = Path(folder) / f"{detector.name}.toml"
        if path.exists():
            if Detector.load(path) != detector:
                raise DetectorError(f"{path} is another detector; choose another folder")
        else:
            write_text(path, to_toml(detector.to_dict()))
        made.append(path)
    return made


def _rounded(x: float) -> float:
    return float(f"{x:.3g}")


def to_toml(described: Mapping[str, Any]) -> str:
    """A detector file: what is simple first, then stacks and mesh. JSON's values are TOML's."""
    lines = [
        f"{key} = {json.dumps(value)}"
        for key, value in described.items()
        if key not in ("stack", "mesh", "materials")
    ]
    for stack in described["stack"]:
        lines += ["", "[[stack]]", f"repeat = {stack['repeat']}", "layers = ["]
        for layer in stack["layers"]:
            lines.append("  { " + ", ".join(f"{k} = {json.dumps(v)}" for k, v in layer.items()) + " },")
        lines.append("]")
    lines += ["", "[mesh]", *(f"{key} = {json.dumps(value)}" for key, value in described["mesh"].items())]
    return "\n".join(lines) + "\n"
