"""Reduced electromagnetic data: what Geant4 needs for e-, e+ and gamma without its official data sets.

Written once into the user's cache folder, for Z = 1..98, in about a second. Whenever they are used they are
compared with the checksums in ``manifest.json``, which is written last:

* ``brem_SB/br{Z}``: bremsstrahlung below 1 GeV, as χ(κ, T) = (β²/Z²) k dσ/dk in millibarn;
* ``epics2017/phot/pe-{cs,high,low}-{Z}.dat``: photo-electric effect;
* ``epics2017/rayl/re-cs-{Z}.dat``: Rayleigh scattering.

Sources. Bremsstrahlung: Y.-S. Tsai, Rev. Mod. Phys. 46, 815 (1974), Eqs. 3.9 and 3.38-3.41 with the
Coulomb correction of Davies, Bethe and Maximon as quoted in the Review of Particle Physics, scaled to the
published integrals ∫χ dκ of S. M. Seltzer and M. J. Berger, At. Data Nucl. Data Tables 35, 345 (1986) and
F. Tessier and I. Kawrakow, NIM B 266, 625 (2008). Photo-electric and Rayleigh: the xraylib package up to
0.8 MeV; above, the relativistic K-shell formula of F. Sauter, Ann. Phys. 403, 454 (1931), and 1/E².

Legend: ``Y`` electron kinetic energies, ``X`` reduced photon energies, ``N`` photon energies.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.errors import DataError, MissingDependencyError, SimulationError
from caloforge.runtime.files import read_json, write_json
from caloforge.runtime.private_folder import kept_folders, private_folders

__all__ = [
    "FORMAT_VERSION",
    "Z_MAX",
    "bremsstrahlung",
    "kept_em_data",
    "photo_electric",
    "rayleigh",
    "reduced_em_data",
]

Floats = NDArray[np.float64]

FORMAT_VERSION = 1  # raise when any number written below changes
Z_MAX = 98
NAME = f"em-reduced-v{FORMAT_VERSION}"
MANIFEST = "manifest.json"
TRIES = 10
log = logging.getLogger(__name__)

ALPHA = 7.2973525693e-3  # fine-structure constant, CODATA 2018
ELECTRON_MASS = 0.51099895  # MeV, CODATA 2018
ELECTRON_RADIUS_2 = 79.407877  # r_e², mb, CODATA 2018

# ∫₀¹ χ dκ in mb, rows Z, columns T: Seltzer-Berger / Tessier-Kawrakow (see the module's docstring).
INTEGRAL_Z = np.array([6.0, 14.0, 74.0, 82.0])
INTEGRAL_T = np.array([0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 500.0])
INTEGRAL_MB = np.array(
    [
        [6.62, 6.09, 5.66, 4.88, 5.15, 5.85, 7.22, 8.35, 9.41, 10.59, 11.30, 12.34],
        [6.61, 6.47, 5.96, 4.85, 4.96, 5.49, 6.57, 7.45, 8.27, 9.17, 9.70, 10.46],
        [4.20, 6.35, 6.81, 6.08, 5.70, 5.63, 5.90, 6.27, 6.69, 7.22, 7.55, 8.00],
        [3.99, 6.26, 6.82, 6.24, 5.82, 5.67, 5.83, 6.14, 6.53, 7.04, 7.36, 7.79],
    ]
)

# χ at κ = 1 in mb of hydrogen and tungsten, rounded (Seltzer and Berger 1986); only shapes the spectrum.
TIP_T = np.array([0.01, 0.05, 0.1, 0.5, 1.0, 10.0])
TIP_MB = np.array([[1.44, 0.55, 0.35, 0.095, 0.066, 0.05], [4.55, 5.6, 5.3, 3.0, 2.2, 1.3]])

KAPPA = np.array(
    [
        0.0,
        0.01,
        0.025,
        0.05,
        0.075,
        *np.round(np.arange(0.1, 0.9001, 0.05), 2),
        0.925,
        0.95,
        0.97,
        0.99,
        0.999,
        1.0,
    ]
)
KINETIC = np.geomspace(1e-3, 1e4, 85)  # MeV, twelve a decade
XRAYLIB_MAX = 0.8  # MeV, where xraylib's tables end
PHOTON_MIN = 1e-4  # MeV, where xraylib's tables start
PHOTON_MAX = 1e5  # MeV


def coulomb_correction(z: float) -> float:
    """Davies-Bethe-Maximon f(Z) in the form of the Review of Particle Physics (4 digits up to uranium)."""
    a2 = (ALPHA * z) ** 2
    return a2 * (1.0 / (1.0 + a2) + 0.20206 - 0.0369 * a2 + 0.0083 * a2**2 - 0.002 * a2**3)


def _tsai(z: int, kinetic: Floats, kappa: Floats) -> Floats:
    """χ (Y, X) in mb by Tsai's complete formula with Thomas-Fermi screening, before any correction."""
    total = kinetic[:, None] + ELECTRON_MASS  # (Y, 1)
    photon = kinetic[:, None] * kappa  # (Y, X)
    y = photon / total
    transfer = 100.0 * ELECTRON_MASS * y / (total - photon)
    gamma, eps = transfer / z ** (1 / 3), transfer / z ** (2 / 3)
    # Tsai Eqs. 3.38-3.41
    phi1 = (
        16.863 - 2 * np.log(1 + 0.311877 * gamma**2) + 2.4 * np.exp(-0.9 * gamma) + 1.6 * np.exp(-1.5 * gamma)
    )
    phi1_phi2 = 2 / (3 + 19.5 * gamma + 18 * gamma**2)
    psi1 = 24.34 - 2 * np.log(1 + 13.111641 * eps**2) + 2.8 * np.exp(-8 * eps) + 1.2 * np.exp(-29.2 * eps)
    psi1_psi2 = 2 / (3 + 120 * eps + 1200 * eps**2)
    # Tsai Eq. 3.9, divided by Z²
    log_z = np.log(z)
    shape = 4 / 3 - 4 / 3 * y + y**2
    nucleus = phi1 - 4 / 3 * log_z - 4 * coulomb_correction(z)
    electrons = psi1 - 8 / 3 * log_z
    bracket = shape * (nucleus + electrons / z) + 2 / 3 * (1 - y) * (phi1_phi2 + psi1_psi2 / z)
    beta2 = 1 - (ELECTRON_MASS / total) ** 2
    return np.asarray(ALPHA * ELECTRON_RADIUS_2 * beta2 * bracket)


def _tip(z: int, kinetic: Floats) -> Floats:
    """Approximate χ (Y,) in mb at κ = 1, between Seltzer and Berger's hydrogen and tungsten, a power of Z."""
    h, w = (np.interp(np.log(kinetic), np.log(TIP_T), np.log(row)) for row in TIP_MB)
    return np.asarray(np.exp(h + (w - h) * np.log(z) / np.log(74)))


def _uncorrected(z: int, kinetic: Floats, kappa: Floats) -> Floats:
    """χ (Y, X) up to a factor per energy: Tsai's shape, joined to the value at the tip κ = 1.

    Tsai's screening functions are a first-order Born result, which falls to zero or below at the tip and
    for slow electrons in heavy atoms, where the exact result stays finite.
    """
    chi = np.maximum(_tsai(z, kinetic, kappa), 0.0)
    return np.asarray((chi**1.5 + _tip(z, kinetic)[:, None] ** 1.5) ** (2 / 3))


def _integral(chi: Floats, kappa: Floats) -> Floats:
    """∫χ dκ by trapezia, (Y,); numpy before 2.0 has no function of that name."""
    return np.asarray((np.diff(kappa) * (chi[..., 1:] + chi[..., :-1]) / 2.0).sum(axis=-1))


def _correction(z: int, kinetic: Floats) -> Floats:
    """Factor (Y,) that gives ∫χ dκ its published value: linear in Z and ln T, constant beyond the table."""
    rows = np.array([_integral(_uncorrected(int(i), INTEGRAL_T, KAPPA), KAPPA) for i in INTEGRAL_Z])
    ratios = INTEGRAL_MB / rows  # (4, 12)
    per_energy = [np.interp(z, INTEGRAL_Z, ratios[:, i]) for i in range(len(INTEGRAL_T))]
    return np.asarray(np.interp(np.log(kinetic), np.log(INTEGRAL_T), per_energy), dtype=np.float64)


def bremsstrahlung(z: int, kinetic: ArrayLike = KINETIC, kappa: ArrayLike = KAPPA) -> Floats:
    """χ = (β²/Z²) k dσ/dk in mb of element ``z``, (Y, X), for T (Y,) in MeV and κ = k/T (X,)."""
    t, k = np.asarray(kinetic, dtype=np.float64), np.asarray(kappa, dtype=np.float64)
    return _uncorrected(z, t, k) * _correction(z, t)[:, None]


def sauter(energy: ArrayLike) -> Floats:
    """Shape of the K-shell photo-electric cross section at energies (N,) in MeV (Sauter 1931)."""
    k = np.asarray(energy, dtype=np.float64) / ELECTRON_MASS
    g = 1 + k
    p = np.sqrt(g**2 - 1)
    log_term = 1 - np.log((g + p) / (g - p)) / (2 * g * p)
    return np.asarray(p**3 / k**5 * (4 / 3 + g * (g - 2) / (g + 1) * log_term))


def _xraylib_grid(z: int) -> Floats:
    """Energies in MeV, with two points on either side of every absorption edge."""
    import xraylib

    edges = []
    for shell in range(29):  # K to O7
        try:
            edges.append(xraylib.EdgeEnergy(z, shell) * 1e-3)
        except ValueError:  # this element has no such shell
            continue
    near = [e * f for e in edges for f in (0.9999, 1.0001)]
    grid = np.concatenate([np.geomspace(PHOTON_MIN * 1.001, XRAYLIB_MAX, 200), near])
    return np.unique(grid[(grid > PHOTON_MIN) & (grid <= XRAYLIB_MAX)])


def photo_electric(z: int) -> tuple[Floats, Floats]:
    """Energies (N,) in MeV and photo-electric cross sections (N,) in barn of element ``z``."""
    import xraylib

    low = _xraylib_grid(z)
    sigma = np.array([xraylib.CSb_Photo(z, float(e)) for e in low * 1e3])
    high = np.geomspace(XRAYLIB_MAX, PHOTON_MAX, 82)[1:]
    tail = sigma[-1] * sauter(high) / sauter(low[-1])
    return np.concatenate([low, high]), np.concatenate([sigma, tail])


def rayleigh(z: int) -> tuple[Floats, Floats]:
    """Energies (N,) in MeV and Rayleigh cross sections (N,) in barn of element ``z``."""
    import xraylib

    low = np.geomspace(PHOTON_MIN * 1.001, XRAYLIB_MAX, 160)
    low[-1] = XRAYLIB_MAX
    sigma = np.array([xraylib.CSb_Rayl(z, float(e)) for e in low * 1e3])
    high = np.geomspace(XRAYLIB_MAX, PHOTON_MAX, 22)[1:]
    return np.concatenate([low, high]), np.concatenate([sigma, sigma[-1] * (low[-1] / high) ** 2])


def _table(energy: Floats, values: Floats) -> str:
    """Geant4's free vector: first and last energy, number of points, number of points, then the points."""
    lines = [f"{energy[0]:.9e} {energy[-1]:.9e} {len(energy)}", str(len(energy))]
    lines += [f"{e:.9e} {v:.9e}" for e, v in zip(energy, values, strict=True)]
    return "\n".join(lines) + "\n"


def _text(path: Path, text: str) -> None:
    path.write_text(text, encoding="ascii")


def _write(folder: Path) -> None:
    try:
        import xraylib  # noqa: F401
    except ImportError:
        raise MissingDependencyError("xraylib", "geant4") from None
    brem, phot, rayl = (folder / name for name in ("brem_SB", "epics2017/phot", "epics2017/rayl"))
    for sub in (brem, phot, rayl, folder / "ensdfstate", folder / "empty"):
        sub.mkdir(parents=True)
    (folder / "ensdfstate" / "ENSDFSTATE.dat").touch()
    head = " ".join(f"{k:.6g}" for k in KAPPA) + "\n" + " ".join(f"{t:.9g}" for t in np.log(KINETIC)) + "\n"
    for z in range(1, Z_MAX + 1):
        rows = "\n".join(" ".join(f"{v:.6g}" for v in row) for row in bremsstrahlung(z))
        _text(brem / f"br{z}", f"0 {len(KAPPA)} {len(KINETIC)}\n{head}{rows}\n")
        energy, sigma = photo_electric(z)
        _text(phot / f"pe-cs-{z}.dat", _table(energy, energy**3 * sigma))
        for name in ("high", "low"):  # one shell of 10 eV, and a parametrisation that no energy reaches
            _text(phot / f"pe-{name}-{z}.dat", "1 1 1e9\n1e-5 1 0 0 0 0 0\n")
        energy, sigma = rayleigh(z)
        _text(rayl / f"re-cs-{z}.dat", _table(energy, energy**2 * sigma * 1e-22))  # barn -> mm²


def reduced_em_data() -> Path:
    """Folder with the reduced data, written now if this version of it is not there yet, or is damaged.

    It is in the user's cache or, where that cannot be written, among the temporary files. Safe when several
    processes ask at once: each writes a folder of its own and renames it; the first wins.
    Raises MissingDependencyError without xraylib and SimulationError where nothing can be written.
    """
    problem: Exception | None = None
    for folder in private_folders("geant4"):
        final = folder / NAME
        if _is_whole(final):
            return final
        try:
            with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as work:
                made = Path(work) / "made"
                _write(made)
                write_json(made / MANIFEST, {"sha256": _digests(made)}, error=SimulationError)
                _put(made, final)
            return final
        except (OSError, SimulationError) as error:
            problem = error
    raise SimulationError(
        f"cannot write Geant4's reduced data anywhere ({problem}); set XDG_CACHE_HOME to a writable folder"
    )


def kept_em_data() -> Path | None:
    """Folder with the reduced data where they are there and whole; nothing is written."""
    places = (folder / NAME for folder, wrong in kept_folders("geant4").items() if not wrong)
    return next(filter(_is_whole, places), None)


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file in a folder and those below it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _is_whole(folder: Path) -> bool:
    """True where all files are there as they were written."""
    if not folder.exists():
        return False
    try:
        whole = (folder / "empty").is_dir() and read_json(folder / MANIFEST)["sha256"] == _digests(folder)
    except (OSError, DataError, KeyError):
        whole = False
    if not whole:
        log.warning("%s is damaged, or of an older version, and is made again", folder)
    return whole


def _put(work: Path, final: Path) -> None:
    """Rename a folder, in the place of a damaged one; OSError where that fails."""
    for _ in range(TRIES):
        try:
            work.rename(final)
            return
        except OSError:
            if _is_whole(final):  # another process was faster
                return
            damaged = work.with_name(f"{work.name}.damaged")
            with suppress(FileNotFoundError):
                final.rename(damaged)
            shutil.rmtree(damaged, ignore_errors=True)
    work.rename(final)
