"""Small calorimeters that differ in their physics, and showers that look as if made there."""

from __future__ import annotations

from typing import Any

import numpy as np

from caloforge.data import Conditions, Showers
from caloforge.detector import Detector

SHAPE = (6, 4, 3)


def small_detector(name: str, absorber_mm: float = 3.0, **more: Any) -> Detector:
    """Twelve layers of tungsten and silicon, two in each layer of its mesh."""
    described: dict[str, Any] = {
        "name": name,
        "description": "small",
        "simplifications": "all",
        "shape": "cylinder",
        "inner_radius_mm": 1000.0,
        "length_mm": 4000.0,
        "sampling_fraction": 0.02,
        "threshold_mev": 0.02,
        "particles": ["e-", "gamma"],
        "energy_range_mev": [1000.0, 20000.0],
        "theta_range_rad": [0.87, 2.27],
        "stack": [
            {
                "repeat": 12,
                "layers": [
                    {"material": "G4_W", "thickness_mm": absorber_mm},
                    {"material": "G4_Si", "thickness_mm": 0.5, "sensitive": True},
                ],
            }
        ],
        "mesh": {
            "n_z": SHAPE[0],
            "dz_mm": 2 * (absorber_mm + 0.5),
            "n_phi": SHAPE[1],
            "n_r": SHAPE[2],
            "dr_mm": 5.0,
        },
    }
    return Detector.from_dict(described | more)


def showers_in(detector: Detector, n: int = 60, seed: int = 0, response: float = 0.9) -> Showers:
    """Showers of which many cells are empty, with the description of their detector."""
    rng = np.random.default_rng(seed)
    energy = np.exp(rng.uniform(*np.log([1000.0, 20000.0]), n))
    cells = rng.gamma(0.5, size=(n, *SHAPE)) * np.array([2.0, 6, 8, 5, 2, 1])[:, None, None]
    energies = response * energy[:, None, None, None] * cells / cells.sum(axis=(1, 2, 3), keepdims=True)
    energies[energies < detector.threshold_mev / detector.sampling_fraction] = 0
    theta = rng.uniform(*detector.theta_range_rad, n)
    conditions = Conditions(energy, theta, 0.0, particle="e-", detector=detector.name)
    provenance = {"action": "test", "detector": detector.to_dict()}
    return Showers(energies.astype(np.float32), conditions, detector.mesh, provenance)
