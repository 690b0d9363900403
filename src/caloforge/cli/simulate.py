"""``caloforge simulate``: showers from Geant4."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from caloforge.cli.options import (
    ENERGY_HELP,
    AllowCode,
    Overwrite,
    Phi,
    Resume,
    Seed,
    ShardOption,
    Spectrum,
    Theta,
    Workers,
)
from caloforge.cli.output import file_name, say
from caloforge.cli.pixels import require_background
from caloforge.errors import ConditionError

__all__ = ["simulate"]


def simulate(
    detector: Annotated[str, typer.Argument(help="Name (see caloforge detectors) or a TOML file.")],
    n: Annotated[int, typer.Option("-n", help="Number of showers, or of events of a pixel detector.", min=1)],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="HDF5 file to make; by default named after what is asked for."),
    ] = None,
    particle: Annotated[
        str | None,
        typer.Option(help="e- (the default), e+, gamma; hadrons with Geant4's official data sets."),
    ] = None,
    energy: Annotated[str | None, typer.Option(help=f"{ENERGY_HELP} By default 1-10GeV.")] = None,
    spectrum: Spectrum = None,
    theta: Theta = None,
    phi: Phi = None,
    impact: Annotated[str | None, typer.Option(help="Impact point on a box's face: 0mm,-20..20mm.")] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            help="Of a pixel detector: factor of the nominal background, or its range: 0.5-2; of single "
            "sources: two_photon=1,single_beam=0.5-2. By default 1."
        ),
    ] = None,
    fast: Annotated[
        str | None,
        typer.Option(
            help="Let a model make the showers of e-, e+ and gamma: a checkpoint's folder or name, auto for "
            "the model of the detector, or the socket of caloforge serve. Full simulation without it."
        ),
    ] = None,
    fast_above: Annotated[
        str | None, typer.Option(help="Energy from which the model takes over: 2GeV; by default its lowest.")
    ] = None,
    seed: Seed = 0,
    shard: ShardOption = None,
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
    """Make showers with Geant4, or events of beam background in a pixel detector."""
    from caloforge.detector.description import kind_of
    from caloforge.runtime.shards import Shard

    what: dict[str, Any] = {
        "particle": particle,
        "energy": energy,
        "spectrum": spectrum,
        "theta": theta,
        "phi": phi,
        "impact": impact,
        "allow_outside": allow_outside or None,
        "fast": fast,
        "fast_above": fast_above,
    }
    given = {name: value for name, value in what.items() if value is not None}
    common: dict[str, Any] = {
        "n": n,
        "seed": seed,
        "shard": Shard.parse(shard),
        "workers": workers,
        "resume": resume,
        "overwrite": overwrite,
        "reduced_data": reduced_data,
    }
    name = detector.removesuffix(".toml").rpartition("/")[2]
    if kind_of(detector) == "pixel":
        from caloforge.geant4 import simulate_events

        require_background(given, f"{detector} is a pixel detector, whose events")
        target = out or file_name(
            "geant4", name, rate and f"rate{rate}", f"n{n}", f"seed{seed}", common["shard"].word
        )
        events = simulate_events(detector, out=target, rate=rate or 1.0, **common)
        say(f"{len(events)} events of {events.detector.name} → {target}")
        return
    if rate is not None:
        raise ConditionError(f"{detector} is no pixel detector and has no --rate of background")
    if fast_above is not None and fast is None:
        raise ConditionError(
            "--fast-above says from which energy on a model takes over; say which: --fast MODEL"
        )
    model, above = given.pop("fast", None), given.pop("fast_above", None)
    target = out or file_name(
        "geant4",
        name,
        particle or "e-",
        energy or "1-10GeV",
        theta and f"theta{theta}",
        phi and f"phi{phi}",
        impact and f"impact{impact}",
        model and f"fast-{Path(model).stem}",
        f"n{n}",
        f"seed{seed}",
        common["shard"].word,
    )
    if model is None:
        from caloforge.geant4 import simulate as run

        showers = run(detector, out=target, **given, **common)
        say(f"{len(showers)} showers on a {showers.mesh} → {target}")
        return
    from caloforge.fast.simulate import simulate_fast, told_of_fast

    showers = simulate_fast(
        detector, None if model == "auto" else model, out=target, above=above, **given, **common
    )
    say(f"{len(showers)} showers on a {showers.mesh} → {target}; {told_of_fast(showers)}")
