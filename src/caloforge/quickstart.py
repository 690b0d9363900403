"""The main job end to end: simulate, train, generate, judge, look. Every step goes on where it stopped."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from caloforge.data import open_showers, write_showers
from caloforge.errors import CaloforgeError
from caloforge.evaluation import evaluate
from caloforge.evaluation.results import Evaluation
from caloforge.geant4 import simulate
from caloforge.report import write_report
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
) -> Evaluation:
    """Simulate ``n`` electrons of 1-10 GeV in par04-siw, train on seven tenths, judge on the rest.

    Args:
        folder: where showers, checkpoint and report are kept; what is there already is not made again.
        n: showers to simulate with Geant4.
        seed: of the simulation, the training, the generation and the classifiers.
        workers: Geant4 processes.
        overrides: changes of the recipe by dotted key.
        console: where to print.

    Returns:
        The evaluation; the page is ``folder/report/report.html``.
    """
    folder, console = Path(folder), console or Console()
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()

    with _step(console, 1, f"Geant4: {n} electrons of 1-10 GeV in {DETECTOR}"):
        simulate(
            DETECTOR, out=folder / "geant4.h5", n=n, particle=PARTICLE, energy=ENERGY, seed=seed,
            workers=workers, resume=True,
        )  # fmt: skip
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

    with _step(console, 3, f"Generation: {len(held_out)} showers, one CPU thread"):
        # in a process of its own, so that its peak memory is not that of the training
        options = [
            "--like",
            folder / "test.h5",
            "-o",
            folder / "generated.h5",
            "--seed",
            seed,
            "--threads",
            1,
        ]
        command = ["generate", folder / "model", *options, "--overwrite"]
        done = subprocess.run([sys.executable, "-m", "caloforge", *map(str, command)], check=False)
        if done.returncode:
            raise CaloforgeError("the generation failed, see above; run the quickstart again to go on")
        generated = open_showers(folder / "generated.h5")

    with _step(console, 4, "Evaluation: features, distances, classifiers, memorised showers"):
        result = evaluate(
            held_out, generated, out=folder / "report", training=training, seed=seed, overwrite=True
        )

    with _step(console, 5, "Report: figures and page"):
        page = write_report(result, held_out, generated, folder / "report")

    console.print()
    console.print(result.summary())
    minutes = (time.monotonic() - begin) / 60
    console.print(f"Finished in {minutes:.1f} minutes. Now look at [bold]{page}[/]", soft_wrap=True)
    return result


@contextmanager
def _step(console: Console, number: int, title: str) -> Iterator[None]:
    console.print(f"[bold cyan]{number}/{STEPS}[/] {title}", highlight=False)
    begin = time.monotonic()
    yield
    console.print(f"    [dim]{time.monotonic() - begin:.0f} s[/]", highlight=False)
