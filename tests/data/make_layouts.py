"""Small synthetic files in every layout, as their publishers would write them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

N = 7
SIZES = {"1-photons": 368, "1-pions": 533, "2": 6480, "3": 40500}


def sparse(shape: tuple[int, ...], seed: int = 0, scale: float = 10.0) -> NDArray[np.float32]:
    """Mostly zero, otherwise exponential energies."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < 0.2, rng.exponential(scale, shape), 0).astype(np.float32)


def calochallenge(path: Path, data_set: str = "2", n: int = N, seed: int = 0) -> NDArray[np.float32]:
    """Two data sets and no metadata; set 1 has its 15 discrete energies."""
    rng = np.random.default_rng(seed)
    if data_set.startswith("1"):
        energy = 2.0 ** (8 + np.arange(n) % 15)
    else:
        energy = np.exp(rng.uniform(np.log(1e3), np.log(1e6), n))
    showers = sparse((n, SIZES[data_set]), seed)
    with h5py.File(path, "w") as file:
        file.create_dataset("incident_energies", data=energy[:, None], compression="gzip")
        file.create_dataset("showers", data=showers, compression="gzip")
    return showers


def getting_high(path: Path, n: int = N) -> NDArray[np.float32]:
    """GeV, (N, layer, y, x)."""
    layers = sparse((n, 30, 30, 30), scale=0.001)
    with h5py.File(path, "w") as file:
        group = file.create_group("30x30")
        group["energy"] = np.linspace(10, 100, n)[:, None].astype(np.float32)
        group.create_dataset("layers", data=layers, chunks=(2, 30, 30, 30), compression="gzip")
    return layers


def calogan(path: Path, n: int = N) -> list[NDArray[np.float32]]:
    """Incident energy GeV, layers MeV, (N, φ, η)."""
    layers = [sparse((n, *shape), i) for i, shape in enumerate(((3, 96), (12, 12), (12, 6)))]
    with h5py.File(path, "w") as file:
        file["energy"] = np.linspace(1, 100, n)[:, None]
        for i, layer in enumerate(layers):
            file[f"layer_{i}"] = layer
        file["overflow"] = np.ones((n, 3))
    return layers


def par04(path: Path, energies: tuple[str, ...] = ("1", "2", "16", "1024"), n: int = 2) -> dict[str, NDArray]:
    """(N, r, φ, z) in MeV by energy in GeV; HDF5 lists the names alphabetically: 1, 1024, 16, 2."""
    showers = {name: sparse((n, 18, 50, 45), int(float(name))) for name in energies}
    with h5py.File(path, "w") as file:
        for name, values in showers.items():
            file.create_dataset(name, data=values, chunks=(1, 18, 50, 45), compression="gzip")
    return showers


def lemurs(path: Path, n: int = N) -> NDArray[np.float32]:
    """(N, r, φ, z) in MeV."""
    rng = np.random.default_rng(1)
    showers = sparse((n, 9, 16, 45))
    with h5py.File(path, "w") as file:
        file["incident_energy"] = np.linspace(1e3, 1e5, n)
        file["incident_theta"] = rng.uniform(0.87, 2.27, n)
        file["incident_phi"] = rng.uniform(0, 2 * np.pi, n)
        file.create_dataset("showers", data=showers, compression="gzip")
    return showers
