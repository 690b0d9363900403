"""A model for every calorimeter: simulated showers, curves of adaptation: docs/how-to/foundation.md.

    python benchmarks/foundation.py simulate DETECTOR... -n 50 -o data [--most MEV] [--seed 1]
    python benchmarks/foundation.py curve FOUNDATION new.h5 -o curve [--sizes 0,30,100,250] \\
        [--scratch 250] [--test 400] [--steps 250] [--longer 4]

``simulate`` shoots electrons and photons of all energies and directions at each detector, many of few GeV and
few of many. ``curve`` takes the last showers of new.h5 as the test; the model is adapted to the first n of
the others, 0 for none, and trained from scratch on as many, in as many steps and in more. For each, and for
GFlash, the table has the exact likelihood of the test showers, the AUC of boosted trees, the response, and
how far the mean profiles along and across are off. What is there is kept. One thread.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from caloforge.checkpoint import Checkpoint
from caloforge.checkpoint.introduced import with_detector
from caloforge.data import Showers, open_showers
from caloforge.data.conditions import Conditions
from caloforge.data.described import described_detectors
from caloforge.detector import Detector
from caloforge.evaluation import PRESETS, compute_features, train_classifier
from caloforge.geant4 import simulate
from caloforge.generation import generate
from caloforge.models.base import Batch
from caloforge.training import adapt, train

KNEE, LEAST = 5000.0, 1000.0
"""Up to 5 GeV as many showers in each octave; above, as many as cost as much time."""


def energies(n: int, most: float, random: np.random.Generator) -> np.ndarray:
    """n energies, MeV."""
    knee = min(KNEE, most)
    below, above = np.log(knee / LEAST), 1 - knee / most
    u = random.random(n) * (below + above)
    high = knee / np.maximum(1 - (u - below), knee / most)
    return np.where(u < below, LEAST * np.exp(u), high)


def planned(detector: Detector, n: int, most: float, seed: int) -> list[Conditions]:
    """Electrons and photons in turn, of all directions."""
    random = np.random.default_rng([seed, zlib.crc32(detector.name.encode())])
    low, high = detector.theta_range_rad
    energy, theta, phi = energies(n, most, random), random.uniform(low, high, n), random.uniform(0, 6.28, n)
    return [
        Conditions(energy[i : i + 1], theta[i : i + 1], phi[i : i + 1], ("e-", "gamma")[i % 2], detector.name)
        for i in range(n)
    ]


def run_simulate(given: argparse.Namespace) -> None:
    for name in given.detectors:
        detector = Detector.load(name)
        out = given.out / f"{detector.name}.h5"
        if out.exists():
            continue
        begin = time.time()
        events = planned(detector, given.n, given.most, given.seed)
        simulate(detector, out=out, events=events, seed=given.seed, workers=1, resume=True, progress=False)
        total = sum(float(c.energy[0]) for c in events) / 1000
        print(f"{detector.name}: {given.n} showers, {total:.0f} GeV, {time.time() - begin:.1f} s", flush=True)


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


def run_curve(given: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    showers = open_showers(given.showers)
    known, test = showers[: len(showers) - given.test], showers[len(showers) - given.test :]
    truth, rows = compute_features(test), []
    heads = ("model", "showers", "steps", "processor s", "nats of layers", "of cells", "±", "boosted AUC")
    heads += ("ΣE, made over true", "profiles off by")
    for kind, n, steps, seconds, model in models(given, Checkpoint.load(given.foundation), known):
        made = generate(model, like=test, seed=2, threads=1, allow_extrapolation=True, progress=False)
        judged = train_classifier(
            "boosted", (test, truth), (made, compute_features(made)), PRESETS["boosted"].replace(repeats=1)
        )
        ratio = made.energies.sum(dtype=float) / test.energies.sum(dtype=float)
        likely = ["", "", ""]
        if model.trained:
            likely = [f"{number:.1f}" for number in nats(model, test)]
        row = [kind, str(n), str(steps), f"{seconds:.0f}", *likely]
        row += [f"{judged.auc:.3f} ± {judged.auc_noise:.3f}", f"{ratio:.3f}"]
        rows.append([*row, f"{profile_error(made, test):.3f}"])
        lines = ["| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows)]
        (given.out / "curve.md").write_text("\n".join(lines) + "\n")
        print(lines[-1], flush=True)


def numbers(text: str) -> list[int]:
    return [int(n) for n in text.split(",") if n]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("simulate")
    one.add_argument("detectors", nargs="+")
    one.add_argument("-n", type=int, default=60)
    one.add_argument("--most", type=float, default=1e6, help="largest energy, MeV")
    one.add_argument("--seed", type=int, default=1)
    one.add_argument("-o", "--out", type=Path, required=True)
    one.set_defaults(run=run_simulate)
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
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
