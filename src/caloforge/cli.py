"""The ``caloforge`` command: simulate, train, generate, evaluate, and the quickstart that does it all."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from caloforge import cli_bench, cli_compare, cli_data, cli_evaluate, cli_upsample
from caloforge.errors import CaloforgeError, ConditionError, RecipeError
from caloforge.provenance import code_version

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

EnergyHelp = "Kinetic energy with its unit: 10GeV, a range 1-50GeV, or a list 1GeV,10GeV taken in turn."
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what an interrupted run left.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]


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
    energy: Annotated[str, typer.Option(help=EnergyHelp)] = "1-10GeV",
    spectrum: Annotated[str, typer.Option(help="log-uniform or uniform, for ranges.")] = "log-uniform",
    theta: Annotated[str | None, typer.Option(help="Polar angle: 90deg or 60-90deg.")] = None,
    phi: Annotated[str | None, typer.Option(help="Azimuth: 0rad or 0-6.28rad.")] = None,
    impact: Annotated[str | None, typer.Option(help="Impact point on a box's face: 0mm,-20..20mm.")] = None,
    seed: Seed = 0,
    workers: Annotated[int | None, typer.Option(help="Processes; all cores by default.", min=1)] = None,
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
        detector, out=out, n=n, particle=particle, energy=energy, spectrum=spectrum, theta=theta, phi=phi,
        impact=impact, seed=seed, workers=workers, resume=resume, overwrite=overwrite,
        allow_outside=allow_outside, reduced_data=reduced_data,
    )  # fmt: skip
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
        Path | None,
        typer.Option(help="The same showers on a coarser mesh, for recipes that refine those."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change the recipe: training.epochs=5. May be repeated."),
    ] = None,
) -> None:
    """Train a generator from a recipe."""
    from caloforge.data import Showers, open_showers
    from caloforge.training import train as run

    sample = Showers.concatenate([open_showers(path) for path in showers])
    overrides = dict(_override(text) for text in settings or [])
    checkpoint = run(
        recipe,
        sample,
        out=out,
        seed=seed,
        resume=resume,
        overwrite=overwrite,
        device=device,
        overrides=overrides,
        teacher=teacher,
        given=given,
    )
    losses = {name: part["validation_loss"] for name, part in checkpoint.metrics.get("parts", {}).items()}
    told = ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items() if loss is not None)
    _say(f"checkpoint → {out}" + (f" (validation losses: {told})" if told else ""))


@app.command()
def generate(
    checkpoint: Annotated[
        Path, typer.Argument(help="Folder of a checkpoint, or a name (see caloforge models).")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="HDF5 file to make.")],
    like: Annotated[
        Path | None, typer.Option(help="Take the incident conditions of the showers in this file.")
    ] = None,
    energy: Annotated[str | None, typer.Option(help=EnergyHelp)] = None,
    spectrum: Annotated[str, typer.Option(help="log-uniform or uniform, for ranges.")] = "log-uniform",
    theta: Annotated[str | None, typer.Option(help="Polar angle: 90deg or 60-90deg.")] = None,
    phi: Annotated[str | None, typer.Option(help="Azimuth: 0rad or 0-6.28rad.")] = None,
    n: Annotated[int | None, typer.Option("-n", help="Number of showers.", min=1)] = None,
    seed: Seed = 0,
    first: Annotated[int, typer.Option(help="Number of the first shower.", min=0)] = 0,
    batch_size: Annotated[
        int | None, typer.Option(help="Showers held in memory at once; does not change them.", min=1)
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; all cores by default.", min=1)] = None,
    device: Device = "auto",
    allow_extrapolation: Annotated[
        bool, typer.Option("--allow-extrapolation", help="Allow conditions outside the trained range.")
    ] = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Generate showers with a trained generator."""
    from caloforge.generation import generate as run
    from caloforge.training import Checkpoint

    if (like is None) == (energy is None):
        raise ConditionError("give either --like FILE or --energy, for example --energy 10GeV -n 1000")
    loaded = Checkpoint.load(checkpoint)
    conditions = None
    if energy is not None:
        conditions = _conditions(loaded.valid_range, energy, spectrum, theta, phi, n or 1, seed, first)
    showers = run(
        loaded, out=out, like=like, conditions=conditions, n=n, seed=seed, first=first,
        batch_size=batch_size or "auto", threads=threads, device=device,
        allow_extrapolation=allow_extrapolation, resume=resume, overwrite=overwrite,
    )  # fmt: skip
    speed = showers.provenance.get("performance", {})
    _say(
        f"{len(showers)} showers → {out} ({speed.get('showers_per_second', 0):.1f} showers/s, "
        f"{speed.get('ms_per_shower', 0):.2f} ms each, threads: {speed.get('threads')}, "
        f"peak memory {speed.get('peak_memory_mib', 0):.0f} MiB)"
    )


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
    workers: Annotated[
        int | None, typer.Option(help="Geant4 processes; all cores by default.", min=1)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change the recipe: training.epochs=5. May be repeated."),
    ] = None,
) -> None:
    """Simulate, train, generate, judge and draw, in a quarter of an hour. Run it again to go on."""
    from caloforge.quickstart import quickstart as run

    run(folder, n=n, seed=seed, workers=workers, overrides=dict(_override(text) for text in settings or []))


@app.command()
def detectors() -> None:
    """List the detectors that come with caloforge."""
    from caloforge.detector.detector import Detector

    table = Table("name", "cells", "particles", "energies", "what it is")
    for name in Detector.names():
        detector = Detector.load(name)
        low, high = detector.energy_range_mev
        table.add_row(
            name, " × ".join(map(str, detector.mesh.shape)), ", ".join(detector.particles),
            f"{low / 1000:g}-{high / 1000:g} GeV", escape(detector.description),
        )  # fmt: skip
    console.print(table)


@app.command()
def recipes() -> None:
    """List the recipes that come with caloforge."""
    from caloforge.training import Recipe

    table = Table("name", "model", "what it is")
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

    from caloforge.training import Checkpoint
    from caloforge.training.pretrained import model_card, pretrained_names

    if name is not None:
        console.print(Markdown(model_card(name)))
        return
    table = Table()
    for heading in ("name", "detector", "particles", "energies", "cells", "parameters"):
        table.add_column(heading, no_wrap=heading == "name")
    for known in pretrained_names():
        checkpoint = Checkpoint.load(known)
        valid, model = checkpoint.valid_range, checkpoint.model()
        low, high = valid["energy"]
        table.add_row(
            known, ", ".join(checkpoint.detectors), ", ".join(valid["particle"]),
            f"{low / 1000:.3g}-{high / 1000:.3g} GeV", " × ".join(map(str, checkpoint.mesh.shape)),
            f"{model.n_parameters:,}",
        )  # fmt: skip
    console.print(table)


def _conditions(
    valid: dict[str, Any],
    energy: str,
    spectrum: str,
    theta: str | None,
    phi: str | None,
    n: int,
    seed: int,
    first: int,
) -> Any:
    """Conditions drawn for showers first … first + n − 1; what is not given is as in the training showers."""
    import numpy as np

    from caloforge.data.beam import Beam
    from caloforge.data.quantities import parse_energies, parse_range

    if spectrum not in ("log-uniform", "uniform"):
        raise ConditionError(f"--spectrum must be log-uniform or uniform, got {spectrum!r}")
    angles = []
    for name, text in (("theta", theta), ("phi", phi)):
        low, high = valid[name] if text is None else parse_range(text, "angle")
        angles.append((float(low), float(high)))
    x, y = (None, None)
    if "impact" in valid:
        x, y = zip(*valid["impact"], strict=True)
    if len(valid["particle"]) > 1 or len(valid["detector"]) > 1:
        raise ConditionError(
            f"the model was trained on particles {valid['particle']} and detectors {valid['detector']}; "
            "use --like FILE to say which showers are wanted"
        )
    particle = valid["particle"][0]
    beam = Beam(
        particle, tuple(parse_energies(energy)), "uniform" if spectrum == "uniform" else "log-uniform",
        angles[0], angles[1], x, y,
    )  # fmt: skip
    return beam.conditions(valid["detector"][0], seed, np.arange(first, first + n, dtype=np.int64))


def _override(text: str) -> tuple[str, Any]:
    """A dotted key and its value, from ``key=value``; the value is read as JSON where it can be."""
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise RecipeError(f"--set {text!r}: expected key=value, for example training.epochs=5")
    try:
        return key.strip(), json.loads(value)
    except json.JSONDecodeError:
        return key.strip(), value


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
