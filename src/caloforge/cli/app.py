"""The ``caloforge`` command: simulate, train, generate, evaluate, and the quickstart that does it all."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from caloforge.cli import adapt as cli_adapt
from caloforge.cli import bench as cli_bench
from caloforge.cli import compare as cli_compare
from caloforge.cli import data as cli_data
from caloforge.cli import evaluate as cli_evaluate
from caloforge.cli import upsample as cli_upsample
from caloforge.cli.options import (
    ENERGY_HELP,
    AllowExtrapolation,
    BatchSize,
    Changes,
    ChangesOfRecipe,
    Device,
    Energy,
    Like,
    Overwrite,
    Phi,
    Resume,
    Seed,
    Spectrum,
    Theta,
    Threads,
    Workers,
    overrides,
)
from caloforge.errors import CaloforgeError, ConditionError
from caloforge.runtime.provenance import code_version

__all__ = ["app", "main"]

errors = Console(stderr=True)


class _Commands(TyperGroup):
    """Says on Ctrl-C what was kept, which typer itself passes over."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            errors.print(f"interrupted. {escape(str(stop))}".strip(), highlight=False, soft_wrap=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    help="Fast simulation of calorimeter showers with generative models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cli_data.app, name="data")
console = Console()


def _version(wanted: bool) -> None:
    if wanted:
        print(f"caloforge {code_version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def simulate(
    detector: Annotated[str, typer.Argument(help="Name (see caloforge detectors) or a TOML file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="HDF5 file to make.")],
    n: Annotated[int, typer.Option("-n", help="Number of showers.", min=1)],
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
) -> None:
    """Make showers with Geant4."""
    from caloforge.geant4 import simulate as run

    showers = run(
        detector,
        out=out,
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
    _say(f"{len(showers)} showers on a {showers.mesh} → {out}")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="Name (see caloforge recipes) or a TOML file.")],
    showers: Annotated[list[Path], typer.Argument(help="Files of showers to train on.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the checkpoint to make.")],
    seed: Seed = 0,
    resume: Resume = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    teacher: Annotated[
        Path | None, typer.Option(help="Folder of a checkpoint to learn from, for recipes of students.")
    ] = None,
    given: Annotated[
        Path | None, typer.Option(help="The same showers on a coarser mesh, for recipes that refine those.")
    ] = None,
    settings: ChangesOfRecipe = None,
) -> None:
    """Train a generator from a recipe."""
    from caloforge.data import Showers, open_showers
    from caloforge.training import train as run

    sample = Showers.join([open_showers(path) for path in showers])
    checkpoint = run(
        recipe,
        sample,
        out=out,
        seed=seed,
        resume=resume,
        overwrite=overwrite,
        device=device,
        overrides=overrides(settings),
        teacher=teacher,
        given=given,
    )
    losses = {name: part["validation_loss"] for name, part in checkpoint.metrics.get("parts", {}).items()}
    told = ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items() if loss is not None)
    _say(f"checkpoint → {out}" + (f" (validation losses: {told})" if told else ""))


@app.command()
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
        typer.Option(help="Whose default model is taken, or, with a checkpoint, one of those it knows."),
    ] = None,
    particle: Annotated[
        str | None, typer.Option(help="Particle, such as e-, where the model knows several.")
    ] = None,
    like: Like = None,
    energy: Energy = None,
    spectrum: Spectrum = "log-uniform",
    theta: Theta = None,
    phi: Phi = None,
    n: Annotated[int | None, typer.Option("-n", help="Number of showers.", min=1)] = None,
    seed: Seed = 0,
    first: Annotated[int, typer.Option(help="Number of the first shower.", min=0)] = 0,
    settings: Changes = None,
    batch_size: BatchSize = None,
    threads: Threads = None,
    device: Device = "auto",
    allow_extrapolation: AllowExtrapolation = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Generate showers: with a checkpoint, or with the model that comes with caloforge for a detector."""
    from caloforge.generation import generate as run
    from caloforge.generation import resolve_checkpoint

    if (like is None) == (energy is None):
        raise ConditionError("give either --like FILE or --energy, for example --energy 10GeV -n 1000")
    model = resolve_checkpoint(checkpoint, detector, overrides(settings))
    valid = model.valid_range
    words = [
        detector or "+".join(valid["detector"]),
        particle or "+".join(valid["particle"]),
        energy or f"like-{like.stem if like else ''}",
        theta and f"theta{theta}",
        phi and f"phi{phi}",
        n and f"n{n}",
        first and f"from{first}",
        f"seed{seed}",
    ]
    target = out or _file_name(words)
    showers = run(
        model,
        detector=detector,
        particle=particle,
        out=target,
        like=like,
        energy=energy,
        spectrum=spectrum,
        theta=theta,
        phi=phi,
        n=n,
        seed=seed,
        first=first,
        batch_size=batch_size or "auto",
        threads=threads,
        device=device,
        allow_extrapolation=allow_extrapolation,
        resume=resume,
        overwrite=overwrite,
    )
    speed = showers.provenance.get("performance", {})
    _say(
        f"{len(showers)} showers by {model.path.name if model.path else 'the model'} → "
        f"{target} ({speed.get('showers_per_second', 0):.1f} showers/s, "
        f"{speed.get('ms_per_shower', 0):.2f} ms each, threads: {speed.get('threads')}, "
        f"peak memory {speed.get('peak_memory_mib', 0):.0f} MiB)"
    )


def _file_name(words: list[Any]) -> Path:
    """A file named after what is in it, ``par04-siw_e-_10GeV_n1000_seed0.h5``."""
    return Path("_".join(re.sub(r"[^\w.+-]+", "-", str(word)) for word in words if word) + ".h5")


app.command()(cli_adapt.adapt)
app.command()(cli_upsample.upsample)
app.command()(cli_evaluate.evaluate)
app.command()(cli_compare.compare)
app.command()(cli_bench.bench)
app.command()(cli_bench.amplify)


@app.command()
def quickstart(
    folder: Annotated[Path, typer.Argument(help="Where everything is kept.")] = Path("quickstart"),
    n: Annotated[int, typer.Option("-n", help="Showers to simulate.", min=100)] = 1500,
    seed: Seed = 1,
    workers: Workers = None,
    settings: ChangesOfRecipe = None,
) -> None:
    """Simulate, train, generate, judge and draw, in a quarter of an hour. Run it again to go on."""
    from caloforge.quickstart import quickstart as run

    run(folder, n=n, seed=seed, workers=workers, overrides=overrides(settings))


@app.command()
def detectors() -> None:
    """List the detectors that come with caloforge."""
    from caloforge.detector.detector import Detector

    table = Table("name", "cells", "particles", "energies", "what it is")
    for name in Detector.names():
        detector = Detector.load(name)
        low, high = detector.energy_range_mev
        table.add_row(
            name,
            " × ".join(map(str, detector.mesh.shape)),
            ", ".join(detector.particles),
            f"{low / 1000:g}-{high / 1000:g} GeV",
            escape(detector.description),
        )
    console.print(table)


@app.command()
def recipes() -> None:
    """List the recipes that come with caloforge."""
    from caloforge.training import Recipe

    table = Table()
    table.add_column("name", min_width=max(map(len, Recipe.names())))
    for heading in ("model", "what it is"):
        table.add_column(heading)
    for name in Recipe.names():
        recipe = Recipe.load(name)
        table.add_row(name, recipe.model, escape(recipe.description))
    console.print(table)


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="Show the model card of this one.")] = None,
) -> None:
    """List the trained models that come with caloforge, or show a model card."""
    from rich.markdown import Markdown

    from caloforge.checkpoint import Checkpoint
    from caloforge.checkpoint.pretrained import default_models, model_card, pretrained_names

    if name is not None:
        console.print(Markdown(model_card(name)))
        return
    taken = ", ".join(f"{name} for {detector}" for detector, name in default_models().items())
    table = Table(caption=f"caloforge generate --detector takes {taken}")
    for heading in ("name", "detector", "particles", "energies", "cells", "parameters"):
        table.add_column(heading, no_wrap=heading == "name")
    for known in pretrained_names():
        checkpoint = Checkpoint.load(known)
        valid, model = checkpoint.valid_range, checkpoint.model()
        low, high = valid["energy"]
        table.add_row(
            known,
            ", ".join(checkpoint.detectors),
            ", ".join(valid["particle"]),
            f"{low / 1000:.3g}-{high / 1000:.3g} GeV",
            " × ".join(map(str, checkpoint.mesh.shape)),
            f"{model.n_parameters:,}",
        )
    console.print(table)


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Run the command line; errors that a user can mend are one message without a traceback."""
    try:
        app()
    except CaloforgeError as error:
        errors.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(141)


if __name__ == "__main__":
    main()
