"""``caloforge generate`` and ``caloforge upsample``: showers from a trained generator."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caloforge.cli.options import (
    AllowCode,
    AllowExternal,
    AllowExtrapolation,
    BatchSize,
    Changes,
    Device,
    Energy,
    First,
    Ignore,
    Kernels,
    Like,
    MeshName,
    Overwrite,
    Phi,
    Precision,
    Resume,
    Seed,
    ShardOption,
    Spectrum,
    Theta,
    Threads,
    overrides,
)
from caloforge.cli.output import execution, file_name, say
from caloforge.cli.pixels import require_background
from caloforge.errors import ConditionError

if TYPE_CHECKING:
    from caloforge.checkpoint import Checkpoint

__all__ = ["generate", "upsample"]


def generate(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            help="Folder of a checkpoint, or a name (see caloforge models); by default the detector's model."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="HDF5 file to make; by default named after what is asked for."),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            help="Name or file: whose model is taken, or, with a checkpoint, one of those it knows."
        ),
    ] = None,
    particle: Annotated[
        str | None, typer.Option(help="Particle, such as e-, where the model knows several.")
    ] = None,
    like: Like = None,
    energy: Energy = None,
    spectrum: Spectrum = None,
    theta: Theta = None,
    phi: Phi = None,
    rate: Annotated[
        str | None, typer.Option(help="Of a pixel detector: factor of the nominal background: 1, 0.5-2.")
    ] = None,
    n: Annotated[
        int | None, typer.Option("-n", help="Number of showers, or of events of a pixel detector.", min=1)
    ] = None,
    seed: Seed = 0,
    first: First = 0,
    shard: ShardOption = None,
    settings: Changes = None,
    batch_size: BatchSize = None,
    threads: Threads = None,
    device: Device = "auto",
    precision: Precision = "auto",
    kernels: Kernels = "auto",
    allow_extrapolation: AllowExtrapolation = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    mesh: MeshName = None,
    ignore: Ignore = None,
    allow_external: AllowExternal = False,
    allow_code: AllowCode = None,
) -> None:
    """Generate showers: with a checkpoint, or the trained model or parametrisation of a detector.

    With a model of a pixel detector: events of beam background.
    """
    from caloforge.detector import Detector
    from caloforge.generation import generate as run
    from caloforge.generation import resolve_checkpoint
    from caloforge.runtime.shards import Shard

    part = Shard.parse(shard)
    model = resolve_checkpoint(checkpoint, detector, overrides(settings), particle)
    if model.mesh.kind == "pixel":
        told = {
            "energy": energy,
            "spectrum": spectrum,
            "theta": theta,
            "phi": phi,
            "particle": particle,
            "batch_size": batch_size,
            "allow_extrapolation": allow_extrapolation or None,
            "mesh": mesh,
            "ignore": ignore or None,
        }
        _events(
            model,
            [name for name, value in told.items() if value is not None],
            out,
            detector=detector,
            n=n,
            rate=rate,
            like=like,
            seed=seed,
            first=first,
            shard=part,
            threads=threads,
            device=device,
            precision=precision,
            kernels=kernels,
            resume=resume,
            overwrite=overwrite,
        )
        return
    if rate is not None:
        raise ConditionError(f"{model.name} makes showers, not events of a pixel detector, and has no --rate")
    if (like is None) == (energy is None):
        raise ConditionError("give either --like FILE or --energy, for example --energy 10GeV -n 1000")
    valid = model.valid_range
    target = out or file_name(
        Detector.name_of(detector) if detector else "+".join(valid["detector"]),
        particle or valid.get("usual", {}).get("particle") or "+".join(valid["particle"]),
        energy or f"like-{like.stem if like else ''}",
        theta and f"theta{theta}",
        phi and f"phi{phi}",
        n and f"n{n}",
        first and f"from{first}",
        f"seed{seed}",
        part.word,
    )
    showers = run(
        model,
        detector=detector,
        particle=particle,
        out=target,
        like=like,
        energy=energy,
        spectrum="log-uniform" if spectrum is None else spectrum,
        theta=theta,
        phi=phi,
        n=n,
        seed=seed,
        first=first,
        shard=part,
        batch_size=batch_size or "auto",
        threads=threads,
        device=device,
        precision=precision,
        kernels=kernels,
        allow_extrapolation=allow_extrapolation,
        resume=resume,
        overwrite=overwrite,
    )
    speed = showers.provenance.get("performance", {})
    say(
        f"{len(showers)} showers by {model.name} → "
        f"{target} ({speed.get('showers_per_second', 0):.1f} showers/s, "
        f"{speed.get('ms_per_shower', 0):.2f} ms each, {execution(speed)}, "
        f"peak memory {speed.get('peak_memory_mib', 0):.0f} MiB)"
    )


def _events(model: Checkpoint, given: Iterable[str], out: Path | None, **how: Any) -> None:
    """Generate events of a pixel detector; ``given`` are options that only showers have."""
    from caloforge.generation import generate_events

    require_background(given, f"{model.name} makes events of a pixel detector, which")
    rate, like, first = how["rate"], how["like"], how["first"]
    target = out or file_name(
        model.detectors[0],
        f"like-{like.stem}" if like else f"rate{rate or 1}",
        how["n"] and f"n{how['n']}",
        first and f"from{first}",
        f"seed{how['seed']}",
        how["shard"].word,
    )
    events = generate_events(model, out=target, **how)
    speed = events.provenance.get("performance", {})
    say(
        f"{len(events)} events by {model.name} → {target} "
        f"({speed.get('ms_per_event', 0):.1f} ms each, {execution(speed)})"
    )


def upsample(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a checkpoint that refines coarse showers.")],
    coarse: Annotated[Path, typer.Argument(help="File of coarse showers, from Geant4 or any generator.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="HDF5 file of fine showers to make; by default named after the coarse ones."
        ),
    ] = None,
    copies: Annotated[int, typer.Option(help="Fine showers to make of each coarse one.", min=1)] = 1,
    n: Annotated[
        int | None, typer.Option("-n", help="Make only the first n; all coarse showers come in turn.", min=1)
    ] = None,
    seed: Seed = 0,
    first: First = 0,
    settings: Changes = None,
    batch_size: BatchSize = None,
    threads: Threads = None,
    device: Device = "auto",
    precision: Precision = "auto",
    kernels: Kernels = "auto",
    allow_extrapolation: AllowExtrapolation = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    mesh: MeshName = None,
    ignore: Ignore = None,
    allow_external: AllowExternal = False,
    allow_code: AllowCode = None,
) -> None:
    """Refine coarse showers, each one or several times."""
    from caloforge.generation import generate as run

    target = out or file_name(
        coarse.stem,
        "fine",
        copies > 1 and f"copies{copies}",
        n and f"n{n}",
        first and f"from{first}",
        f"seed{seed}",
    )
    showers = run(
        checkpoint,
        out=target,
        given=coarse,
        copies=copies,
        settings=overrides(settings),
        n=n,
        seed=seed,
        first=first,
        batch_size=batch_size or "auto",
        threads=threads,
        device=device,
        precision=precision,
        kernels=kernels,
        allow_extrapolation=allow_extrapolation,
        resume=resume,
        overwrite=overwrite,
    )
    speed = showers.provenance.get("performance", {})
    say(
        f"{len(showers)} showers on a {showers.mesh} → {target} "
        f"({speed.get('ms_per_shower', 0):.2f} ms each, {execution(speed)})"
    )
