"""``caloforge bench`` and ``caloforge amplify``: how fast a generator is, and how much more it knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caloforge.cli.options import (
    AllowCode,
    AllowExternal,
    AllowExtrapolation,
    Changes,
    CheckpointFolder,
    Ignore,
    Kernels,
    Like,
    MeshName,
    Overwrite,
    Precision,
    Resume,
    Seed,
    folder,
    overrides,
)
from caloforge.cli.output import console, say
from caloforge.errors import ConditionError, DataError

if TYPE_CHECKING:
    from caloforge.evaluation.amplification import AmplificationResult
    from caloforge.evaluation.upsampling import UpsamplingResult

__all__ = ["amplify", "bench"]

AMPLIFICATION_FILE = "amplification.json"


def bench(
    checkpoint: CheckpointFolder,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="JSON file to make, written after each measurement.")
    ] = None,
    batches: Annotated[str, typer.Option(help="Showers given to the model at once.")] = "1,100,10000",
    threads: Annotated[str, typer.Option(help="CPU threads; all for all cores.")] = "1,all",
    devices: Annotated[
        str | None, typer.Option(help="cpu, cuda, …; by default the CPU and, where there is one, the GPU.")
    ] = None,
    repetitions: Annotated[int, typer.Option(help="Batches timed after a warm-up.", min=1)] = 10,
    budget: Annotated[float, typer.Option(help="Seconds for the repetitions of one configuration.")] = 60.0,
    geant4: Annotated[
        int, typer.Option(help="Showers to simulate with Geant4 at the same energies.", min=0)
    ] = 20,
    no_geant4: Annotated[bool, typer.Option("--no-geant4", help="The same as --geant4 0.")] = False,
    detector: Annotated[
        str | None,
        typer.Option(help="Detector, where the checkpoint knows several, or none: what Geant4 simulates."),
    ] = None,
    particle: Annotated[
        str | None, typer.Option(help="Particle, such as e-, where the checkpoint knows several.")
    ] = None,
    like: Like = None,
    energy: Annotated[
        str | None, typer.Option(help="10GeV, 1-50GeV or 1GeV,10GeV; by default the trained range.")
    ] = None,
    seed: Seed = 0,
    settings: Changes = None,
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
    """Time a generator: ms per shower by batch size, threads and device, beside Geant4."""
    from caloforge.bench import bench as run

    result = run(
        checkpoint,
        batch_sizes=_counts(batches, "--batches"),
        threads=[None if n == "all" else _count(n, "--threads") for n in _items(threads)],
        devices=_items(devices) if devices else None,
        repetitions=repetitions,
        budget_s=budget,
        geant4=0 if no_geant4 else geant4,
        like=like,
        energy=energy,
        detector=detector,
        particle=particle,
        settings=overrides(settings),
        precision=precision,
        kernels=kernels,
        allow_extrapolation=allow_extrapolation,
        seed=seed,
        out=out,
        resume=resume,
        overwrite=overwrite,
    )
    console.print(result.summary())


def amplify(
    truth: Annotated[Path, typer.Argument(help="File of Geant4 showers, independent of the others.")],
    training: Annotated[Path | None, typer.Argument(help="File of the training showers.")] = None,
    generated: Annotated[Path | None, typer.Argument(help="File of showers from the generator.")] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", parser=folder, help="Folder for amplification.json and the figure.")
    ] = Path("amplification"),
    upsampled: Annotated[
        list[str] | None,
        typer.Option(help="1000=a.h5: fine showers made of 1000 coarse ones. To be repeated."),
    ] = None,
    observables: Annotated[
        str | None, typer.Option(help="e_ratio,depth,width; joint ones with +: e_ratio+width.")
    ] = None,
    quantiles: Annotated[str, typer.Option(help="Bins of equal probability: 20 or 10,50.")] = "20",
    classifiers: Annotated[
        str, typer.Option(help="With --upsampled: quick, or calochallenge (published; slow).")
    ] = "quick",
    which: Annotated[str, typer.Option(help="With --upsampled: classifiers to train.")] = "low,high",
    copies: Annotated[
        Path | None,
        typer.Option(help="With --upsampled: Geant4 showers to repeat; part of TRUTH by default."),
    ] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    mesh: MeshName = None,
    ignore: Ignore = None,
    allow_external: AllowExternal = False,
    allow_code: AllowCode = None,
) -> None:
    """Does a generated sample know more than its training showers, or the coarse showers it is made of?"""
    from caloforge.report import in_words, summary
    from caloforge.report.figures.amplification import draw_amplification, draw_upsampling
    from caloforge.report.figures.style import require_drawing_packages
    from caloforge.runtime.files import write_json
    from caloforge.runtime.locks import folder_lock

    target = out / AMPLIFICATION_FILE
    if (training is None or generated is None) == (not upsampled) or (upsampled and training is not None):
        raise ConditionError(
            "give either TRUTH TRAINING GENERATED, or TRUTH and --upsampled 1000=a.h5 --upsampled 10000=b.h5"
        )
    require_drawing_packages()
    with folder_lock(out):
        if target.exists() and not overwrite:
            raise DataError(f"{target} exists; choose another folder or allow overwriting (--overwrite)")
        result: AmplificationResult | UpsamplingResult
        if training is not None and generated is not None:
            from caloforge.evaluation.amplification import OBSERVABLES, amplification

            chosen = [tuple(item.split("+")) for item in _items(observables)] if observables else OBSERVABLES
            result = in_words(
                amplification(
                    truth,
                    training,
                    generated,
                    observables=chosen,
                    quantiles=_counts(quantiles, "--quantiles"),
                    seed=seed,
                )
            )
            drawing = draw_amplification(result, out)
        else:
            from caloforge.evaluation.upsampling import upsampling_curve

            result = in_words(
                upsampling_curve(
                    truth,
                    dict(map(_upsampled, upsampled or [])),
                    copies=True if copies is None else copies,
                    classifiers=classifiers,
                    which=_items(which),
                    seed=seed,
                )
            )
            drawing = draw_upsampling(result, out)
        write_json(target, result.to_dict())
    console.print(summary(result))
    say(f"{target}, {drawing.name}.pdf")


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _count(text: str, option: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ConditionError(f"{option}: expected whole numbers from 1 on, got {text!r}")
    return int(text)


def _counts(text: str, option: str) -> list[int]:
    return [_count(item, option) for item in _items(text)]


def _upsampled(text: str) -> tuple[int, Path]:
    count, sign, path = text.partition("=")
    if not sign or not path:
        raise ConditionError(f"--upsampled {text!r}: expected N_c=FILE, for example 1000=fine.h5")
    return _count(count.strip(), "--upsampled"), Path(path)
