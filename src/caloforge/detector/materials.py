"""Elements, and the materials of Geant4's NIST table whose composition is known here."""

from __future__ import annotations

import math
from collections.abc import Mapping

__all__ = ["ATOMIC", "NIST", "minimum_ionisation", "radiation_length", "radiation_length_mm"]

ATOMIC = {
    "H": (1, 1.008),
    "C": (6, 12.011),
    "N": (7, 14.007),
    "O": (8, 15.999),
    "F": (9, 18.998),
    "Na": (11, 22.990),
    "Mg": (12, 24.305),
    "Al": (13, 26.982),
    "Si": (14, 28.085),
    "Cl": (17, 35.45),
    "Ar": (18, 39.948),
    "Ca": (20, 40.078),
    "Ti": (22, 47.867),
    "Cr": (24, 51.996),
    "Mn": (25, 54.938),
    "Fe": (26, 55.845),
    "Ni": (28, 58.693),
    "Cu": (29, 63.546),
    "Zn": (30, 65.38),
    "Ge": (32, 72.63),
    "Kr": (36, 83.798),
    "Y": (39, 88.906),
    "Mo": (42, 95.95),
    "Ag": (47, 107.868),
    "Sn": (50, 118.71),
    "I": (53, 126.904),
    "Xe": (54, 131.293),
    "Cs": (55, 132.905),
    "Ba": (56, 137.327),
    "La": (57, 138.905),
    "Ce": (58, 140.116),
    "Gd": (64, 157.25),
    "Lu": (71, 174.967),
    "W": (74, 183.84),
    "Au": (79, 196.967),
    "Pb": (82, 207.2),
    "Bi": (83, 208.980),
    "U": (92, 238.029),
}
"""Atomic number and weight by symbol."""
NIST: dict[str, tuple[float, dict[str, float]]] = {
    "G4_Galactic": (1e-25, {"H": 1.0}),
    "G4_AIR": (0.00120479, {"C": 0.000124, "N": 0.755268, "O": 0.231781, "Ar": 0.012827}),
    "G4_Al": (2.699, {"Al": 1.0}),
    "G4_Si": (2.33, {"Si": 1.0}),
    "G4_Fe": (7.874, {"Fe": 1.0}),
    "G4_Cu": (8.96, {"Cu": 1.0}),
    "G4_W": (19.3, {"W": 1.0}),
    "G4_Pb": (11.35, {"Pb": 1.0}),
    "G4_U": (18.95, {"U": 1.0}),
    "G4_lAr": (1.396, {"Ar": 1.0}),
    "G4_lKr": (2.418, {"Kr": 1.0}),
    "G4_PbWO4": (8.28, {"O": 0.140637, "W": 0.403999, "Pb": 0.455364}),
    "G4_BGO": (7.13, {"O": 0.154126, "Ge": 0.17482, "Bi": 0.671054}),
    "G4_CESIUM_IODIDE": (4.51, {"I": 0.488451, "Cs": 0.511549}),
    "G4_POLYSTYRENE": (1.06, {"H": 0.077421, "C": 0.922579}),
    "G4_PLASTIC_SC_VINYLTOLUENE": (1.032, {"H": 0.085, "C": 0.915}),
}
"""Density, g/cm³, and mass fractions by element."""


def radiation_length(z: int, a: float) -> float:
    """X0 of an element in g/cm² (Dahl's fit, good to 2.5 %, 5 % for helium)."""
    return 716.4 * a / (z * (z + 1) * math.log(287 / math.sqrt(z)))


def radiation_length_mm(density: float, fractions: Mapping[str, float]) -> float:
    """X0 of a material of this density, g/cm³, and mass fractions by element."""
    inverse = sum(fraction / radiation_length(*ATOMIC[name]) for name, fraction in fractions.items())
    return 10 / (density * inverse)


def minimum_ionisation(density: float, fractions: Mapping[str, float]) -> float:
    """Mean energy loss of a minimum ionising particle, MeV/mm, good to some per cent.

    A straight line in log Z through those of the Review of Particle Physics; hydrogen's has twice as many
    electrons.
    """
    losses = {
        name: 4.1 if name == "H" else 2.17 - 0.238 * math.log(ATOMIC[name][0])  # MeV cm²/g
        for name in fractions
    }
    return density * sum(fraction * losses[name] for name, fraction in fractions.items()) / 10
