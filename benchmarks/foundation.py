"""A model for every calorimeter: curves of adaptation and quality by slice: docs/how-to/foundation.md.

    python benchmarks/foundation.py curve FOUNDATION new.h5 -o curve [--sizes 0,30,100,250] \\
        [--scratch 250] [--test 400] [--steps 250] [--longer 4]
    python benchmarks/foundation.py slices MODEL test.h5... -o slices
    python benchmarks/foundation.py detectors --few few/*.h5 --many many/*.h5 -n 2940 --judge new.h5... \\
        -o detectors [--test 2500] [--steps 8000]

Showers are those of foundation_data.py. ``curve`` takes the last of new.h5 as the test; the model is adapted
to the first n of the others, 0 for none, and trained from scratch on as many, in as many steps and in more.
For each, for GFlash, and for the first showers of new.h5 where there are as many, the table has the exact
likelihood of the test showers, the AUC of boosted trees and of the network ``high`` of the preset ``strong``,
the sliced Wasserstein distance of high-level features, the response, how far the mean profiles along and
across are off, and the largest relative deviation of the means of neighbourhoods.py. ``slices`` says how good
a model is by particle, angle and energy; each file has showers of one detector. ``detectors`` trains a model
on n showers of few detectors and one on n of many, and judges both, as they are, by the last showers of other
detectors, those of the training's energies. What is trained is kept. One thread.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import torch
from neighbourhoods import ROWS, observe
from numpy.typing import NDArray

from caloforge.checkpoint import Checkpoint
from caloforge.checkpoint.introduced import with_detector
from caloforge.data import Showers, open_showers
from caloforge.data.described import described_detectors
from caloforge.data.particles import pdg_name
from caloforge.detector import Detector
from caloforge.evaluation import PRESETS, Features, compute_features, feature_matrix, train_classifier
from caloforge.evaluation.distances import sliced_distances
from caloforge.generation import generate
from caloforge.models.base import Batch
from caloforge.training import adapt, train


def nats(checkpoint: Checkpoint, showers: Showers) -> tuple[float, float, float]:
    """Negative log-likelihood of a shower, of the energies of layers and of cells, and the error of both."""
    model = checkpoint.model()
    generator, found = torch.Generator(), []
    with torch.no_grad():
        for cells, conditions in showers.batches(1):
            batch = Batch.with_energies(cells, conditions, model.detectors)
            found.append([float(model.losses(batch, p, generator)["loss"]) for p in ("energies", "cells")])
    each = np.array(found)
    return *each.mean(axis=0), float(each.sum(axis=1).std() / len(each) ** 0.5)


def profile_error(made: Showers, true: Showers) -> float:
    """Half the sum of differences of mean shares, of layers and of rings, the larger of both."""
    shares = []
    for showers in (made, true):
        cells = showers.energies.sum(axis=0, dtype=np.float64)
        shares.append([cells.sum(axis=axes) / cells.sum() for axes in ((1, 2), (0, 1))])
    return max(float(np.abs(a - b).sum() / 2) for a, b in zip(*shares, strict=True))


Sample = tuple[Showers, Features]


def measured(showers: Showers) -> Sample:
    return showers, compute_features(showers)


def auc(which: str, true: Sample, made: Sample) -> str:
    """Of boosted trees or of a network of the preset ``strong``, trained once."""
    preset = PRESETS["boosted" if which == "boosted" else "strong"]
    judged = train_classifier(which, true, made, preset.replace(repeats=1, curve=0))
    return f"{judged.auc:.3f} ± {judged.auc_noise:.3f}"


class Judge:
    """Compares showers with those of a test, number by number."""

    heads = ("boosted AUC", "strong AUC, high", "sliced Wasserstein", "of chance", "ΣE, made over true")
    heads += ("profiles off by", "neighbours off by", "most")

    def __init__(self, test: Showers) -> None:
        self.true, self.near = measured(test), self._near(test)

    def __call__(self, showers: Showers) -> list[str]:
        made, (test, true) = measured(showers), self.true
        apart = sliced_distances(feature_matrix(true), feature_matrix(made[1]))["sliced_wasserstein"]
        off = {row: abs(mean / self.near[row] - 1) for row, mean in self._near(showers).items()}
        most = max(off, key=lambda row: off[row])
        return [
            auc("boosted", self.true, made),
            auc("high", self.true, made),
            f"{apart.value:.3f} ± {apart.error:.3f}",
            f"{apart.floor:.3f} ± {apart.floor_error:.3f}",
            f"{made[1].e_ratio.mean() / true.e_ratio.mean():.3f}",
            f"{profile_error(showers, test):.3f}",
            f"{off[most]:.2f}",
            most,
        ]

    @staticmethod
    def _near(showers: Showers) -> dict[str, float]:
        columns = observe(showers)
        return {row: float(np.nanmean(columns[row])) for row in ROWS}


def models(given: argparse.Namespace, foundation: Checkpoint, known: Showers) -> Iterator[tuple]:
    """Name, showers, steps, processor seconds, checkpoint."""
    (detector,) = described_detectors(known).values()
    yield "GFlash", 0, 0, 0.0, Checkpoint.of_detector(detector)
    plan = [(True, n, given.steps) for n in given.sizes]
    longer = [given.steps * k for k in (1, given.longer) if k]
    plan += [(False, n, steps) for n in given.scratch for steps in longer]
    for adapted, n, steps in plan:
        if not n:
            yield "zero-shot", 0, 0, 0.0, with_detector(foundation, detector)
            continue
        kind, begin = "adapted" if adapted else "from scratch", time.process_time()
        out = given.out / f"{kind.replace(' ', '-')}-{n}-{steps}"
        common = {"out": out, "seed": 1, "threads": 1, "resume": True, "progress": False}
        if (out / "checkpoint.json").exists() and not (out / "resume").exists():
            model = Checkpoint.load(out)
        elif adapted:
            model = adapt(foundation, known[:n], steps=steps, **common)
        else:
            changes = {"training.steps": steps, "training.validation_fraction": 0.2}
            model = train(foundation.recipe, known[:n], overrides=changes, **common)
        yield kind, n, model.metrics["steps"], time.process_time() - begin, model


class Table:
    """A table in a file, written anew with each row."""

    def __init__(self, path: Path, heads: tuple[str, ...]) -> None:
        self.path, self.rows = path, [list(heads), ["---"] * len(heads)]
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, row: list[str]) -> None:
        self.rows.append(row)
        lines = ["| " + " | ".join(cells) + " |" for cells in self.rows]
        self.path.write_text("\n".join(lines) + "\n")
        print(lines[-1], flush=True)


def run_curve(given: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    showers = open_showers(given.showers)
    known, test = showers[: len(showers) - given.test], showers[len(showers) - given.test :].load()
    judge = Judge(test)
    heads = ("model", "showers", "steps", "processor s", "nats of layers", "of cells", "±", *judge.heads)
    table = Table(given.out / "curve.md", heads)
    if len(known) >= len(test):
        table.add(["Geant4 again", *[""] * 6, *judge(known[: len(test)].load())])
    for kind, n, steps, seconds, model in models(given, Checkpoint.load(given.foundation), known):
        made = generate(model, like=test, seed=2, threads=1, allow_extrapolation=True, progress=False)
        likely = [f"{number:.1f}" for number in nats(model, test)] if model.trained else [""] * 3
        table.add([kind, str(n), str(steps), f"{seconds:.0f}", *likely, *judge(made)])


SLICES = (1.0, 5.0, 20.0, 100.0, 1000.0)
"""Edges in energy, GeV."""
INCLINED = 20
"""Degrees from normal incidence."""
FEW = 100
"""Showers below which classifiers are not asked."""


def slices(showers: Showers, detector: Detector) -> Iterator[tuple[tuple[str, str, str], NDArray[np.bool_]]]:
    """Particle, angle, energy, and the showers of the slice, (N,); all, of one of the three, and of each.

    Showers of a single energy are one slice, which is called by its values.
    """
    c = showers.conditions
    if np.ptp(c.energy) == 0:
        particle, theta = pdg_name(int(c.particle[0])), np.degrees(c.theta[0])
        yield (particle, f"θ {theta:g}°", f"{c.energy[0] / 1000:g} GeV"), np.ones(len(c), dtype=bool)
        return
    inclined = np.abs(c.theta - detector.normal_theta) > np.radians(INCLINED)
    gev, everything = c.energy / 1000, np.ones(len(c), dtype=bool)
    choices = [
        {pdg_name(int(code)): c.particle == code for code in np.unique(c.particle)},
        {f"≤ {INCLINED}°": ~inclined, f"> {INCLINED}°": inclined},
        {f"{a:g}-{b:g} GeV": (gev >= a) & (gev < b) for a, b in pairwise(SLICES)},
    ]
    for names in product(*(("all", *choice) for choice in choices)):
        masks = [choice[name] for name, choice in zip(names, choices, strict=True) if name != "all"]
        if len(masks) != 2:
            yield names, np.logical_and.reduce([everything, *masks])


def moments(features: Features) -> dict[str, NDArray[np.float64]]:
    """Mean depth and length, in layers, and mean radius, mm, of each shower, (n,)."""
    shares = features.e_layer / features.e_layer.sum(axis=1, keepdims=True)
    layers = np.arange(shares.shape[1]) + 0.5
    depth = shares @ layers
    length = np.sqrt(np.maximum(shares @ layers**2 - depth**2, 0))
    return {"depth": depth, "length": length, "radius": (shares * features.centre["r"]).sum(axis=1)}


def latest(depth: NDArray[np.float64]) -> NDArray[np.float64]:
    """What one in twenty exceeds of depths (n,) in layers, and the same of 100 draws of them, (101,)."""
    drawn = np.random.default_rng(1).integers(len(depth), size=(100, len(depth)))
    return np.append(np.quantile(depth, 0.95), np.quantile(depth[drawn], 0.95, axis=1))


def over(made: NDArray[np.float64], true: NDArray[np.float64]) -> str:
    """Ratio of two means, and its error."""
    ratio = made.mean() / true.mean()
    errors = [x.std() / x.mean() / len(x) ** 0.5 for x in (made, true)]
    return f"{ratio:.3f} ± {ratio * np.hypot(*errors):.3f}"


def sliced_row(true: Sample, made: Sample) -> list[str]:
    """Response and its width, and moments, made over true, with errors; profiles; AUC."""
    n, each = len(true[0]), [features.e_ratio for _, features in (made, true)]
    width = each[0].std() / each[1].std()
    chance = profile_error(true[0][::2], true[0][1::2]) / 2**0.5
    row = [str(n), over(*each), f"{width:.2f} ± {width / n**0.5:.2f}"]
    there, here = (moments(features) for _, features in (true, made))
    row += [over(here[name], there[name]) for name in there]
    late = latest(here["depth"]) / latest(there["depth"])
    row.append(f"{late[0]:.3f} ± {late[1:].std():.3f}")
    row.append(" / ".join(f"{(features.e_layer[:, 0] == 0).mean():.1%}" for _, features in (made, true)))
    row += [f"{profile_error(made[0], true[0]):.3f}", f"{chance:.3f}"]
    return [*row, auc("boosted", true, made) if n >= FEW else ""]


def run_slices(given: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    heads = ("detector", "particle", "angle", "energy", "n", "ΣE, made over true", "its width")
    heads += (
        "depth",
        "length",
        "radius",
        "of the deepest twentieth",
        "nothing in layer 0",
        "profiles off by",
        "of chance",
        "boosted AUC",
    )
    table, checkpoint = Table(given.out / "slices.md", heads), Checkpoint.load(given.model)
    for path in given.showers:
        test = open_showers(path).load()
        (detector,) = described_detectors(test).values()
        model = checkpoint if detector.name in checkpoint.detectors else with_detector(checkpoint, detector)
        seed = zlib.crc32(detector.name.encode())  # with one for all, all would share their chance
        made = generate(model, like=test, seed=seed, threads=1, allow_extrapolation=True, progress=False)
        for names, chosen in slices(test, detector):
            if chosen.sum() > 1:
                pair = (measured(showers[np.flatnonzero(chosen)]) for showers in (test, made))
                table.add([detector.name, *names, *sliced_row(*pair)])


def run_detectors(given: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    heads = ("detectors", "showers", "judged in", "by", "nats of layers", "of cells", "±", *Judge.heads)
    table, trained = Table(given.out / "detectors.md", heads), list[tuple[int, Checkpoint]]()
    for paths in (given.few, given.many):
        showers = Showers.join([open_showers(path)[: given.n // len(paths)] for path in paths])
        model = train(
            "foundation",
            showers,
            out=given.out / f"{len(paths)}",
            seed=1,
            threads=1,
            resume=True,
            overrides={"training.steps": given.steps},
        )
        trained.append((len(paths), model))
    span = trained[-1][1].valid_range["energy"]
    for path in given.judge:
        showers = open_showers(path)
        test = showers[max(len(showers) - given.test, 0) :].load().filter(energy=span)
        (detector,) = described_detectors(test).values()
        judge = Judge(test)
        for n, checkpoint in trained:
            model = with_detector(checkpoint, detector)
            made = generate(model, like=test, seed=2, threads=1, allow_extrapolation=True, progress=False)
            likely = [f"{number:.1f}" for number in nats(model, test)]
            row = [str(n), str(model.provenance["n_showers"]), detector.name, str(len(test))]
            table.add([*row, *likely, *judge(made)])


def numbers(text: str) -> list[int]:
    return [int(n) for n in text.split(",") if n]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("curve")
    one.add_argument("foundation")
    one.add_argument("showers", type=Path)
    one.add_argument("-o", "--out", type=Path, required=True)
    one.add_argument("--sizes", type=numbers, default=[0, 30, 100, 250])
    one.add_argument("--scratch", type=numbers, default=[250])
    one.add_argument("--steps", type=int, default=250)
    one.add_argument("--longer", type=int, default=4, help="times as many steps from scratch, too")
    one.add_argument("--test", type=int, default=400)
    one.set_defaults(run=run_curve)
    one = commands.add_parser("slices")
    one.add_argument("model")
    one.add_argument("showers", nargs="+", type=Path)
    one.add_argument("-o", "--out", type=Path, required=True)
    one.set_defaults(run=run_slices)
    one = commands.add_parser("detectors")
    one.add_argument("--few", nargs="+", type=Path, required=True)
    one.add_argument("--many", nargs="+", type=Path, required=True)
    one.add_argument("-n", type=int, required=True, help="showers of each training")
    one.add_argument("--judge", nargs="+", type=Path, required=True)
    one.add_argument("-o", "--out", type=Path, required=True)
    one.add_argument("--steps", type=int, default=8000)
    one.add_argument("--test", type=int, default=2500)
    one.set_defaults(run=run_detectors)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
