"""The main job end to end: simulate, train, generate, judge, look. Every step goes on where it stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from caloforge.checkpoint.pretrained import default_model
from caloforge.data import open_showers, write_showers
from caloforge.errors import CaloforgeError
from caloforge.evaluation import ModelComparison
from caloforge.geant4 import simulate
from caloforge.report import compare, summary, write_report
from caloforge.report.comparison import write_comparison
from caloforge.runtime.locks import folder_lock
from caloforge.runtime.processes import run_module
from caloforge.runtime.signals import stoppable
from caloforge.runtime.streams import checked_seed
from caloforge.training import train

__all__ = ["quickstart"]

DETECTOR, PARTICLE, ENERGY, RECIPE = "par04-siw", "e-", "1-10GeV", "quickstart"
TRAIN_FRACTION = 0.7
STEPS = 5


def quickstart(
    folder: str | os.PathLike[str] = "quickstart",
    *,
    n: int = 1500,
    seed: int = 1,
    workers: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> ModelComparison:
    """Simulate ``n`` electrons of 1-10 GeV in par04-siw, train on seven tenths, judge on the rest.

    The model that comes with caloforge for the detector is judged beside the one just trained.

    Args:
        folder: where everything is kept; showers from Geant4 and a finished training are not made again.
        n: showers to simulate with Geant4.
        seed: of the simulation, the training, the generation and the classifiers.
        workers: Geant4 processes.
        overrides: changes of the recipe by dotted key.
        console: where to print.

    Returns:
        The comparison of both models, with their evaluations; the pages are ``folder/report/report.html``,
        of the model just trained, and ``folder/comparison/compare.html``.
    """
    folder, console, seed = Path(folder), console or Console(), checked_seed(seed)
    begin = time.monotonic()
    again = f"what is finished is kept in {folder}; run the quickstart again to go on"
    with folder_lock(folder), stoppable(lambda: again):
        with _step(console, 1, f"Geant4: {n} electrons of 1-10 GeV in {DETECTOR}"):
            simulate(
                DETECTOR,
                out=folder / "geant4.h5",
                n=n,
                particle=PARTICLE,
                energy=ENERGY,
                seed=seed,
                workers=workers,
                resume=True,
            )
            showers = open_showers(folder / "geant4.h5")
            training, held_out = showers.split(TRAIN_FRACTION)
            write_showers(training, folder / "train.h5", overwrite=True)
            write_showers(held_out, folder / "test.h5", overwrite=True)
            training, held_out = open_showers(folder / "train.h5"), open_showers(folder / "test.h5")

        with _step(console, 2, f"Training: recipe {RECIPE} on {len(training)} showers"):
            train(
                RECIPE,
                training,
                out=folder / "model",
                seed=seed,
                resume=(folder / "model").exists(),
                overrides=overrides,
            )

        pretrained = default_model(DETECTOR)
        models = {RECIPE: str(folder / "model"), pretrained: pretrained}
        files = {RECIPE: folder / "generated.h5", pretrained: folder / f"{pretrained}.h5"}
        with _step(console, 3, f"Generation: {len(held_out)} showers each by this model and {pretrained}"):
            for name, model in models.items():
                _generate(model, folder / "test.h5", files[name], seed)

        with _step(console, 4, "Evaluation of both: features, distances, classifiers, memorised showers"):
            comparison = compare(
                folder / "test.h5",
                files,
                out=folder / "comparison",
                training=training,
                seed=seed,
                overwrite=True,
            )

        with _step(console, 5, "Report: figures and pages"):
            generated = open_showers(files[RECIPE])
            page = write_report(comparison.evaluations[RECIPE], held_out, generated, folder / "report")
            title = f"Trained just now, and {pretrained}, which comes with caloforge"
            both = write_comparison(comparison, folder / "comparison", title=title)

    console.print()
    console.print(summary(comparison.evaluations[RECIPE]))
    console.print(summary(comparison))
    minutes = (time.monotonic() - begin) / 60
    console.print(
        f"Finished in {minutes:.1f} minutes. Now look at [bold]{page}[/], for both models at [bold]{both}[/]",
        soft_wrap=True,
    )
    return comparison


def _generate(model: str, like: Path, out: Path, seed: int) -> None:
    """Generate in a process of its own, so that its peak memory is not that of the training."""
    command = ["generate", model, "--like", like, "-o", out, "--seed", seed, "--threads", 1, "--overwrite"]
    if run_module("caloforge", *command):
        raise CaloforgeError("the generation failed, see above; run the quickstart again to go on")


@contextmanager
def _step(console: Console, number: int, title: str) -> Iterator[None]:
    console.print(f"[bold cyan]{number}/{STEPS}[/] {title}", highlight=False)
    begin = time.monotonic()
    yield
    console.print(f"    [dim]{time.monotonic() - begin:.0f} s[/]", highlight=False)
