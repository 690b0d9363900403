"""LHCb's study: families trained for as long as each other on the same showers.

See docs/explanation/adversarial.md.

    python benchmarks/lhcb.py TRAIN.h5 TEST.h5 -o lhcb [--minutes 5] [--only gan,wgan] [--add NAME=MODEL]

Each family has so many minutes of one thread of the processor; a short trial tells how many steps. The
regressor that guides conditional ones is trained as its recipe says. Showers are generated at the conditions
of TEST.h5, judged, and timed in blocks of 64 beside Geant4. "geant4" is the first of TRAIN.h5, as many.
What is there is kept, so that the run may be interrupted and go on.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from minutes import changes_for, how_trained, is_trained, told
from showertree import ms

from caloforge.checkpoint import Checkpoint
from caloforge.data import Showers, open_showers, write_showers
from caloforge.evaluation import evaluate
from caloforge.evaluation.significance import chance_sigmas
from caloforge.generation import generate
from caloforge.training import train

SEED = 1
BLOCK = 64
TIMED = 9
"""Blocks."""
SLICES: dict[str, int | list[float]] = {
    "energy": [1e3, 5e3, 2e4, 1e5],
    "theta": 3,
    "phi": 3,
    "impact_x": 3,
    "impact_y": 3,
}
CLUSTER = ("asymmetry", "cluster_width", "centroid_shift", "containment_radius", "square", "sparsity")
PUBLISHED = {"conditional-wgan": 0.36, "wgan": 0.12, "gan": 0.10, "conditional-gan": 0.08}
"""Errors of the study's ResNet (arXiv:1812.01319)."""


@dataclass(frozen=True)
class System:
    """A recipe, and the system that teaches it."""

    recipe: str
    teacher: str | None = None


SYSTEMS = {
    "showertree": System("lhcb-showertree"),
    "regressor": System("lhcb-regressor-small"),
    "conditional-wgan": System("lhcb-conditional-wgan-small", teacher="regressor"),
    "conditional-gan": System("lhcb-conditional-gan-small", teacher="regressor"),
    "wgan": System("lhcb-wgan-small"),
    "gan": System("lhcb-gan-small"),
    "calogan": System("calogan-small"),
    "conv-l2lflows": System("conv-l2lflows-small"),
    "showertransformer": System("showertransformer"),
}
TEACHERS = {system.teacher for system in SYSTEMS.values()}


def made(name: str, train_on: Path, minutes: float, folder: Path) -> None:
    """Train a system for so many minutes of the processor, or go on with it."""
    system, model = SYSTEMS[name], folder / name
    if is_trained(model):
        return
    teacher = None if system.teacher is None else folder / system.teacher
    changes: dict[str, Any] = {}
    if name not in TEACHERS:
        changes = changes_for(minutes, system.recipe, train_on, folder / f"{name}.steps", teacher=teacher)
    how: dict[str, Any] = {"seed": SEED, "resume": True, "threads": 1}
    train(system.recipe, train_on, out=model, overrides=changes, teacher=teacher, **how)


def judged(test: Showers, showers: Showers, **about: Any) -> dict[str, Any]:
    """The row of a system; ``about`` are ms and how it was trained, where that is known."""
    found = evaluate(test, showers, which=("low", "high", "c2st"), slices=SLICES, seed=SEED, progress=False)
    groups = found.group_separation()
    worst = {}
    for part in found.slices:
        powers = {name: s for name, s in part.separation.items() if name.startswith(CLUSTER)}
        name = max(powers, key=lambda name: chance_sigmas(powers[name]))
        s = powers[name]
        worst[part.label] = [name, chance_sigmas(s), s.value / s.floor]
    response = found.features["e_ratio"]
    return {
        "c2st error": found.classifiers["c2st"].error_rate,
        "auc": {name: found.classifiers[name].auc for name in ("low", "high")},
        "separation": float(np.mean([s.value for s in groups.values()])),
        "floor": float(np.mean([s.floor for s in groups.values()])),
        "recall": found.distances["recall"].value,
        "correlation of cells": [
            getattr(found.correlations["cells"].distance, k) for k in ("value", "floor")
        ],
        "response": [
            response.generated_mean / response.reference_mean,
            response.generated_std / response.reference_std,
        ],
        "worst": worst,
        **about,
        "geant4 ms": 1e3 * float(np.mean(test.extra["geant4_cpu_seconds"])),
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Markdown, the best first."""
    spans = ["1-5 GeV", "5-20 GeV", "20-100 GeV", "elsewhere"]
    heads = [
        "",
        "C2ST error (published)",
        "AUC low",
        "high",
        "separation (floor)",
        "recall",
        "cells' correlation",
    ]
    heads += ["mean response, spread", *(f"worst, {span}: σ, × floor" for span in spans)]
    heads += ["ms", "× Geant4", "training, min"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["c2st error"]):
        worst = list(row["worst"].values())
        shown = [*worst[:3], max(worst[3:], key=lambda w: w[1])]
        cells = [
            name,
            f"{row['c2st error']:.2f}" + (f" ({PUBLISHED[name]:.2f})" if name in PUBLISHED else ""),
        ]
        cells += [f"{row['auc'][key]:.3f}" for key in ("low", "high")]
        cells += [f"{row['separation']:.4f} ({row['floor']:.4f})", f"{row['recall']:.2f}"]
        cells.append("{:.3f} ({:.3f})".format(*row["correlation of cells"]))
        cells.append("{:.3f}, {:.2f}".format(*row["response"]))
        cells += [f"{group} {sigmas:.1f}, {ratio:.1f}" for group, sigmas, ratio in shown]
        cells += [f"{row['ms']:.2f}", f"{row['geant4 ms'] / row['ms']:.0f}"] if row.get("ms") else ["", ""]
        cells.append(told(row["training"]) if "training" in row else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=5, help="of the processor, for each training")
    parser.add_argument("--only", default=",".join(SYSTEMS), help="systems, by their names")
    parser.add_argument(
        "--add",
        action="append",
        default=[],
        help="NAME=MODEL, a trained one, or its showers, to judge beside",
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    names = [name for name in given.only.split(",") if name]
    wanted = {SYSTEMS[name].teacher for name in names} | set(names)
    test = open_showers(given.test)
    for name in (name for name in SYSTEMS if name in wanted):
        made(name, given.train, given.minutes, given.out)
    models = {name: given.out / name for name in names if name not in TEACHERS}
    models |= {name: Path(model) for name, _, model in (word.partition("=") for word in given.add)}
    again = open_showers(given.train)[: len(test)]
    rows = {}
    for name in ("geant4", *models):
        kept = given.out / f"{name}.json"
        if not kept.exists():
            if name == "geant4":
                row = judged(test, again)
            elif models[name].is_file():
                row = judged(test, open_showers(models[name]))
            else:
                checkpoint, file = Checkpoint.load(models[name]), given.out / f"{name}.h5"
                if not file.exists():
                    write_showers(generate(checkpoint, like=test, seed=SEED, threads=1, progress=False), file)
                spent = ms(checkpoint.model("cpu"), test, BLOCK, TIMED)
                row = judged(test, open_showers(file), ms=spent, training=how_trained(checkpoint))
            kept.write_text(json.dumps(row, indent=1))
        rows[name] = json.loads(kept.read_text())
    text = table(rows)
    (given.out / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
