"""``caloforge simulate``: showers from Geant4."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from caloforge.cli.options import (
    ENERGY_HELP,
    AllowCode,
    Overwrite,
    Phi,
    Resume,
    Seed,
    Spectrum,
    Theta,
    Workers,
)
from caloforge.cli.output import file_name, say

__all__ = ["simulate"]


def simulate(
    detector: Annotated[str, typer.Argument(help="Name (see caloforge detectors) or a TOML file.")],
    n: Annotated[int, typer.Option("-n", help="Number of showers.", min=1)],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="HDF5 file to make; by default named after what is asked for."),
    ] = None,
    particle: Annotated[
        str, typer.Option(help="e-, e+, gamma; hadrons with Geant4's official data sets.")
    ] = "e-",
    energy: Annotated[str, typer.Option(help=ENERGY_HELP)] = "1-10GeV",
    spectrum: Spectrum = "log-uniform",
    theta: Theta = None,
    phi: Phi = None,
    impact: Annotated[str | None, typer.Option(help="Impact point on a box's face: 0mm,-20..20mm.")] = None,
    seed: Seed = 0,
    workers: Workers = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Go beyond the detector's valid range.")
    ] = False,
    reduced_data: Annotated[
        bool, typer.Option("--reduced-data", help="Reduced EM data even where official data are found.")
    ] = False,
    allow_code: AllowCode = None,
) -> None:
    """Make showers with Geant4."""
    from caloforge.geant4 import simulate as run

    target = out or file_name(
        "geant4",
        detector.removesuffix(".toml").rpartition("/")[2],
        particle,
        energy,
        theta and f"theta{theta}",
        phi and f"phi{phi}",
        impact and f"impact{impact}",
        f"n{n}",
        f"seed{seed}",
    )
    showers = run(
        detector,
        out=target,
        n=n,
        particle=particle,
        energy=energy,
        spectrum=spectrum,
        theta=theta,
        phi=phi,
        impact=impact,
        seed=seed,
        workers=workers,
        resume=resume,
        overwrite=overwrite,
        allow_outside=allow_outside,
        reduced_data=reduced_data,
    )
    say(f"{len(showers)} showers on a {showers.mesh} → {target}")
