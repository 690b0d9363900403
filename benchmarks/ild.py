"""Photons in the ILD, the table of "Getting High" and its successors: systems with equal time to train.

    caloforge simulate ild-ecal -n 12000 --particle gamma --energy 10-100GeV -o train.h5
    caloforge simulate ild-ecal -n 2000 --particle gamma --energy 10-100GeV --seed 1 -o test.h5
    python benchmarks/ild.py train.h5 test.h5 -o ild [--minutes 30] [--only bib-ae] [--write docs]
        [--earlier docs/results/ild.json]

Each system is trained from its recipe for so many minutes of one thread (a few steps are timed first, so that
its schedule ends there), unless FOLDER has it, generates showers at the conditions of test.h5, and is timed
beside Geant4 by `caloforge bench`; the first showers of train.h5, as many, are a second sample of Geant4.
Given are AUC and JSD of a classifier of the ten features of the study (preset ``quick``), what its figures
show: mean and width of visible energy, most probable energy of a cell (the MIP), depth of the centre of
gravity; ms at batch 1 and 100, parameters. What is there is kept: an interrupted run goes on.
``--write`` puts numbers and picture beside the docs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from minutes import about_here, changes_for, how_trained, is_trained, place_of, told
from numpy.typing import NDArray

from caloforge import generate, train
from caloforge.checkpoint import Checkpoint
from caloforge.data import Showers, open_showers
from caloforge.evaluation import PRESETS, Features, compute_features, train_classifier
from caloforge.evaluation.classifiers import INPUTS, ClassifierInputs, Layout

SEED = 1
Floats = NDArray[np.float64]
Sample = tuple[Showers, Features, Floats, Floats]
FEATURES = (
    *("visible energy", "cells with energy"),
    *(f"{moment} {axis}" for moment in ("centre", "width") for axis in "xyz"),
    *("first third", "last third"),
)
TURNED = {"training.augment": ["turn_square"]}
BOX = {"data.meshes": ["box"], "data.particles": ["gamma"]} | TURNED


@dataclass(frozen=True)
class System:
    """A recipe and what is changed in it for boxes of 30 × 30 × 30 cells."""

    recipe: str
    changes: Mapping[str, Any] = field(default_factory=dict)


SYSTEMS = {
    "wgan": System("wgan-ild-small"),
    "bib-ae": System("bib-ae-small", {"training.precision": "bf16"}),
    "l2lflows": System("l2lflows-small", BOX),
    "conv-l2lflows": System(
        "conv-l2lflows-small", BOX | {"settings.squeeze": [5, 5], "training.batch_size": 32}
    ),
    "vae-flow": System("vae-flow", TURNED),
    "showertransformer": System("showertransformer", BOX | {"settings.backbone.patch": [1, 15, 15]}),
    "showertree": System("showertree", TURNED),
}


def make(name: str, minutes: float, learning: Showers, truth: Showers, folder: Path, model: Path) -> Showers:
    """Train a system, time it and generate showers; steps that are done are left out."""
    made, system = folder / f"{name}.h5", SYSTEMS[name]
    if not is_trained(model):
        changes = changes_for(minutes, system.recipe, learning, folder / f"{name}.steps", system.changes)
        train(system.recipe, learning, out=model, seed=SEED, overrides=changes, resume=True, threads=1)
    if not (folder / f"{name}.json").exists():
        words = ["--batches", "1,100", "--threads", "1", "--devices", "cpu", "--repetitions", "3"]
        command = [sys.executable, "-m", "caloforge", "bench", str(model), *words]
        command += ["--energy", "10-100GeV", "--geant4", "20", "-o", str(folder / f"{name}.json")]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if not made.exists():
        generate(model, like=truth, seed=SEED, threads=1, out=made)
    return open_showers(made)


class TenFeatures(ClassifierInputs):
    """log₁₀ E_inc and the ten features of the study; of samples that `observe` has seen."""

    known: dict[int, Floats]

    def __init__(self) -> None:
        self.known = {}

    def layout(self, features: Features, *, sums: bool = False) -> Layout:
        columns = {name: np.array([i + 1]) for i, name in enumerate(FEATURES)}
        return Layout(width=1 + len(FEATURES), features=columns, energies=np.array([0]))

    def batches(
        self, showers: Showers, features: Features, rows: NDArray[np.int64], *, sums: bool = False
    ) -> Iterator[NDArray[np.float32]]:
        energy = np.log10(features.incident_energy[rows])[:, None]
        yield np.concatenate([energy, self.known[id(features)][rows]], axis=1).astype(np.float32)


TEN = INPUTS.add("ild")(TenFeatures())


def observe(showers: Showers) -> Sample:
    """Showers with their features, the ten of the study (N, 10), and energies of cells, MeV."""
    mesh, rows, cells = showers.mesh, [], []
    x, y, z = (mesh.centres()[axis] for axis in "xyz")
    layers = np.asarray(mesh.voxel_layers)
    thirds = [layers < mesh.n_layers // 3, layers >= mesh.n_layers - mesh.n_layers // 3]

    def visit(_: int, flat: NDArray[np.float32], conditions: Any) -> None:
        energies = flat.astype(np.float64)
        total = energies.sum(axis=1)
        weights = energies / np.maximum(total, 1e-12)[:, None]
        centres = np.stack([weights @ axis for axis in (x, y, z)], axis=1)
        squares = np.stack([weights @ axis**2 for axis in (x, y, z)], axis=1)
        widths = np.sqrt(np.maximum(squares - centres**2, 0))
        parts = np.stack([weights[:, third].sum(axis=1) for third in thirds], axis=1)
        of_all = np.stack([total / conditions.energy, (energies > 0).sum(axis=1)], axis=1)
        rows.append(np.concatenate([of_all, centres, widths, parts], axis=1))
        cells.append(energies[energies > 0])

    features = compute_features(showers, visitors=[visit])
    TEN.known[id(features)] = np.concatenate(rows)
    return showers, features, TEN.known[id(features)], np.concatenate(cells)


def most_probable(cells: Floats) -> float:
    """Energy per logarithm at which most cells are, MeV: that of a minimally ionising particle."""
    counts, edges = np.histogram(np.log(cells), bins=60, range=(0, np.log(1000)))
    top = int(counts.argmax())
    return float(np.exp(edges[top : top + 2].mean()))


def row(name: str, sample: Sample, reference: Sample, folder: Path, model: Path | None) -> list[str]:
    """The cells of a row."""
    result = train_classifier("ild", reference[:2], sample[:2], PRESETS["quick"])
    ten, cells = sample[2:]
    columns = [
        name,
        f"{result.auc:.3f} ± {max(result.auc_std, result.auc_noise):.3f}",
        f"{result.jsd:.3f}",
        f"{ten[:, 0].mean():.4f}, {ten[:, 0].std() / ten[:, 0].mean():.4f}",
        f"{ten[:, 1].mean():.1f}",
        f"{most_probable(cells):.2f}",
        f"{ten[:, 4].mean():.2f}, {ten[:, 4].std():.2f}",
    ]
    if model is not None:
        about = json.loads((folder / f"{name}.json").read_text())
        ms = {r["batch_size"]: r["processor_ms"] for r in about["rows"]}
        columns += [f"{ms[1]:.3g} / {ms[100]:.3g}", f"{about['parameters'] / 1e6:.2f} M"]
        columns.append(told(how_trained(Checkpoint.load(model))))
    else:
        columns += ["", "", ""]
    return columns


def draw(samples: Mapping[str, Sample], path: Path) -> None:
    """Spectra of visible energy and of cells, and the centre of gravity."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for name, (_, _, ten, cells) in samples.items():
        style: dict[str, Any] = {"histtype": "step", "density": True, "label": name}
        axes[0].hist(ten[:, 0], bins=50, range=(0.8, 1.2), **style)
        axes[1].hist(cells, bins=np.geomspace(0.5, 1000, 80), log=True, **style)
        axes[2].hist(ten[:, 4], bins=50, **style)
    axes[1].set_xscale("log")
    for axis, label in zip(
        axes, ("ΣE / E", "energy of a cell, MeV", "centre of gravity, z, mm"), strict=True
    ):
        axis.set_xlabel(label)
    axes[0].legend()
    figure.savefig(path, metadata={"Date": None})


def joined(rows: list[list[str]], earlier: list[list[str]]) -> list[list[str]]:
    """Rows of both, new ones in the place of old ones; an error where Geant4 had made other showers."""
    if earlier[0] != rows[0]:
        raise SystemExit(f"the earlier rows are of other showers: {earlier[0]}, now {rows[0]}")
    found = {row[0]: row for row in (*earlier, *rows)}
    return [found[name] for name in (rows[0][0], *SYSTEMS) if name in found]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--models", type=Path, help="folder of trained models under the systems' names")
    parser.add_argument("--only", default=",".join(SYSTEMS), help="systems, by their names")
    parser.add_argument("--earlier", type=Path, help="ild.json with the other rows, of the same showers")
    parser.add_argument("--write", type=Path, metavar="DOCS", help="put numbers, and picture of all, there")
    given = parser.parse_args()
    unknown = set(given.only.split(",")) - set(SYSTEMS)
    if unknown:
        parser.error(f"unknown systems {', '.join(sorted(unknown))}; known are {', '.join(SYSTEMS)}")
    learning, truth = open_showers(given.train), open_showers(given.test)
    given.out.mkdir(parents=True, exist_ok=True)
    names = [name for name in SYSTEMS if name in given.only.split(",")]
    models = {name: place_of(name, given.out, given.models) for name in names}
    samples = {"Geant4 again": learning[: len(truth)]}
    for name, model in models.items():
        samples[name] = make(name, given.minutes, learning, truth, given.out, model)
    observed = {name: observe(sample) for name, sample in ({"Geant4": truth} | samples).items()}
    draw(observed, given.out / "ild.svg")
    reference = observed.pop("Geant4")
    heads = ["system", "AUC of ten features", "JSD", "ΣE/E, σ/mean", "cells", "MIP, MeV", "centre z, σ, mm"]
    heads += ["ms at 1 / 100", "parameters", "minutes of training"]
    rows = [row(name, sample, reference, given.out, models.get(name)) for name, sample in observed.items()]
    if given.earlier:
        rows = joined(rows, json.loads(given.earlier.read_text())["rows"])
    numbers, picture = given.out / "ild.json", given.out / "ild.svg"
    about = about_here() | {"minutes": given.minutes, "learned from": len(learning), "judged on": len(truth)}
    numbers.write_text(json.dumps({"about": about, "heads": heads, "rows": rows}, indent=1) + "\n")
    print(numbers.read_text())
    if given.write:
        shutil.copyfile(numbers, given.write / "results" / numbers.name)
        if not given.earlier:
            shutil.copyfile(picture, given.write / "images" / picture.name)


if __name__ == "__main__":
    main()
