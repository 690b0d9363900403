"""From how few coarse Geant4 showers can a model make how many fine ones before a classifier sees it?

    python benchmarks/upsampling.py CHECKPOINT GEANT4.h5 [--reference OTHER.h5] [--counts 50,200,800]

The showers of GEANT4.h5, summed into the coarse cells of the model, are refined so often that N_c of them
become as many fine showers as the reference has, for each N_c. Without another reference half of GEANT4.h5 is
it. Each sample is judged against the reference by the quick classifiers on high-level and on low-level
features, and so are the N_c fine Geant4 showers repeated as often, which is what plain copying would give.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from rich.console import Console

from caloforge.checkpoint import Checkpoint
from caloforge.data import Showers, open_showers
from caloforge.evaluation.upsampling import UpsamplingResult, upsampling_curve
from caloforge.generation import generate
from caloforge.models.supercalo.chain import coarse_showers
from caloforge.report import summary

COUNTS = (50, 100, 200, 400, 800)


def curve(
    checkpoint: Checkpoint,
    showers: Showers,
    reference: Showers,
    counts: list[int],
    which: list[str],
    seed: int,
) -> UpsamplingResult:
    """The curve for the first N_c of ``showers``, for each N_c of ``counts``."""
    given = coarse_showers(checkpoint.model(), showers)
    samples = {}
    for n_coarse in counts:
        began, copies = time.process_time(), -(-len(reference) // n_coarse)
        samples[n_coarse] = generate(
            checkpoint, given=given[:n_coarse], copies=copies, n=len(reference), seed=seed, progress=False
        )
        seconds = time.process_time() - began
        print(
            f"{n_coarse} coarse showers × {copies} copies: {1e3 * seconds / len(reference):.2f} ms a shower"
        )
    return upsampling_curve(reference, samples, copies=showers, which=which, seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("geant4", type=Path, help="fine Geant4 showers that the model has not seen")
    parser.add_argument("--reference", type=Path, help="other fine Geant4 showers")
    parser.add_argument("--counts", default=",".join(map(str, COUNTS)), help="N_c, comma-separated")
    parser.add_argument("--which", default="low,high", help="classifiers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    arguments = parser.parse_args()
    showers = open_showers(arguments.geant4).load()
    if arguments.reference is None:
        showers, reference = showers.split(0.5, 0.5)
    else:
        reference = open_showers(arguments.reference).load()
    counts = [n for n in map(int, arguments.counts.split(",")) if n <= len(showers)]
    result = curve(
        Checkpoint.load(arguments.checkpoint),
        showers,
        reference,
        counts,
        arguments.which.split(","),
        arguments.seed,
    )
    Console().print(summary(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result.to_dict(), indent=1) + "\n")


if __name__ == "__main__":
    main()
