"""All families in one table, with the picture of quality against speed; docs/explanation/families.md.

    python benchmarks/families.py TRAIN.h5 TEST.h5 -o families [--models FOLDER] [--only gflash,vae-flow]
        [--judges low,high,boosted] [--minutes 10] [--earlier docs/results/families.json] [--write docs]

Electrons of 1-50 GeV in par04-siw. What stands in FOLDER under a family's name, trained anywhere, is taken as
it is; parametrisations and the models that come with caloforge need no training; all others are trained from
their recipes on one thread, with ``--minutes`` for so long. Each makes showers at the conditions of TEST.h5,
is timed beside Geant4 by `caloforge bench` on one thread, and judged: by quick classifiers, distances,
histograms and neighbourhoods, then by one training of each of the strong judges. "Geant4 again" are the first
showers of TRAIN.h5, as many. Every step of a family is kept: an interrupted run goes on. ``--write`` puts
numbers and picture beside the docs.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from family_table import RIGHT, table
from minutes import about_here, changes_for, how_trained, is_trained, place_of
from neighbourhoods import ROWS, observe
from systems import System, trained, used

from caloforge.checkpoint import Checkpoint
from caloforge.data import Showers, open_showers
from caloforge.evaluation import PRESETS, compute_features, evaluate, train_classifier

SEED = 1
BATCHES = (1, 100, 1000)
GEANT4 = 40
"""Showers of Geant4 that are timed beside each family."""
JUDGES = ("low", "high", "boosted")
"""Of the preset "strong", but for boosted trees, which look at neighbours; one training each."""


@dataclass(frozen=True)
class Family:
    """What it is, and a recipe, or the name of a model that is ready."""

    kind: str
    source: System | str


FAMILIES = {
    "gflash": Family("parametrisation", "gflash:par04-siw"),
    "fastcalosim": Family("parametrisation", System("fastcalosim")),
    "fastcalogan": Family("GAN", System("fastcalogan")),
    "caloshowergan": Family("GAN", System("caloshowergan-small")),
    "par04-vae": Family("VAE", System("par04-vae")),
    "vae-flow": Family("VAE", System("vae-flow")),
    "icaloflow": Family("flow", System("icaloflow-small")),
    "icaloflow-student": Family("student", System("icaloflow-student-small", teacher="icaloflow")),
    "l2lflows": Family("flow", System("l2lflows-small")),
    "conv-l2lflows": Family("flow", "conv-l2lflows-siw"),
    "supercalo": Family("flow", "supercalo-siw"),
    "calodream": Family("diffusion", System("calodream-small")),
    "calodiffusion": Family("diffusion", System("calodiffusion-small")),
    "calodit2": Family("diffusion", System("calodit2-small")),
    "showertransformer": Family("student", "showertransformer-siw"),
    "showertree": Family("tree", "showertree-siw"),
    "showertree-narrow": Family("tree", "fast-siw"),
}


class Kept:
    """Results in a folder, one JSON file each, made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, make: Any, *arguments: Any) -> Any:
        file = self.folder / f"{name}.json"
        if not file.exists():
            file.write_text(json.dumps(make(*arguments)))
        return json.loads(file.read_text())


def model_of(name: str, given: argparse.Namespace) -> str:
    """The model of a family: as it was found, by its name, or trained."""
    model, source = place_of(name, given.out, given.models), FAMILIES[name].source
    if is_trained(model):
        return str(model)
    if isinstance(source, str):
        return source
    if given.minutes is not None:
        teacher = None if source.teacher is None else given.out / source.teacher
        plan = given.out / f"{name}.steps"
        changes = changes_for(given.minutes, source.recipe, given.train, plan, teacher=teacher)
        source = replace(source, changes=tuple(f"{key}={value}" for key, value in changes.items()))
    return str(trained(name, source, given.train, given.out))


def about(model: str) -> dict[str, Any]:
    """Parameters, and what the training took."""
    checkpoint = Checkpoint.load(model)
    return {
        "parameters": checkpoint.model("cpu").n_parameters,
        "fingerprint": checkpoint.fingerprint,
        "training": how_trained(checkpoint),
    }


def quick(test: Showers, showers: Showers) -> dict[str, Any]:
    """Quick classifiers, distances, histograms, response and resolution against the energy."""
    found = evaluate(
        test, showers, which=("low", "high"), slices={"energy": 1}, seed=SEED, device="cpu", progress=False
    )
    groups = found.group_separation().values()
    curve = next(c for c in found.responses if c.condition == "energy")
    resolutions = np.array(curve.generated_resolution) / np.array(curve.reference_resolution)
    responses = np.array(curve.generated_response) / np.array(curve.reference_response)
    return {
        "auc": {name: [c.auc, max(c.auc_std, c.auc_noise)] for name, c in found.classifiers.items()},
        "jsd": {name: c.jsd for name, c in found.classifiers.items()},
        **{key: [e.value, e.error, e.floor] for key, e in found.distances.items()},
        "separation": [float(np.mean([getattr(s, k) for s in groups])) for k in ("value", "floor")],
        "response": [float(np.nanmin(responses)), float(np.nanmax(responses))],
        "resolution": [float(np.nanmin(resolutions)), float(np.nanmax(resolutions))],
    }


def neighbours(showers: Showers) -> dict[str, list[float]]:
    """Means of the rows of the neighbourhood table, and their errors."""
    columns = observe(showers)
    known = {row: columns[row][np.isfinite(columns[row])] for row in ROWS}
    return {row: [float(v.mean()), float(v.std() / math.sqrt(len(v)))] for row, v in known.items()}


def strong(judge: str, test: Showers, showers: Showers) -> dict[str, Any]:
    """One training of a strong judge, and what it would say with more showers."""
    settings = PRESETS["boosted" if judge == "boosted" else "strong"].replace(repeats=1)
    pair = [(sample, compute_features(sample)) for sample in (test, showers)]
    result = train_classifier(judge, pair[0], pair[1], settings, device="cpu")
    assert result.curve is not None
    expected = result.curve.expected
    return {"auc": [result.auc, result.auc_noise], "expected": [expected.value, expected.error]}


def measured(name: str, given: argparse.Namespace, test: Showers, kept: Kept) -> dict[str, Any]:
    """The row of a family; what is there is kept."""
    row: dict[str, Any] = {"kind": "Geant4", "showers": len(test)}
    if name == RIGHT:
        showers = open_showers(given.train)[: len(test)]
    else:
        model = model_of(name, given)
        times = used(
            name, model, given.test, given.out, batches=",".join(map(str, BATCHES)), geant4=given.geant4
        )
        showers = open_showers(given.out / f"{name}.h5")
        rows = {r["batch_size"]: r for r in times["rows"]}
        row |= {"kind": FAMILIES[name].kind, **kept(f"{name}.about", about, model)}
        row |= {
            "ms": {size: rows[size]["processor_ms"] for size in BATCHES},
            "memory_mib": rows[100]["peak_memory_mib"],
            "geant4_ms": times["geant4"]["ms"],
        }
    row |= kept(f"{name}.quick", quick, test, showers)
    row["neighbours"] = kept(f"{name}.neighbours", neighbours, showers)
    row["strong"] = {
        judge: kept(f"{name}.{judge}", strong, judge, test, showers) for judge in given.judges.split(",")
    }
    return row


def draw(rows: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """AUC of each judge, one panel below the other, against ms a shower at batch 100; as wide as a phone.

    Every family has a line through all panels, with its name at the top.
    """
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    timed = {name: row for name, row in rows.items() if "ms" in row}
    order = sorted(timed, key=lambda name: timed[name]["ms"]["100"])
    judges = list(next(iter(rows.values()))["strong"])
    there = {row["kind"] for row in timed.values()}
    kinds = [kind for kind in dict.fromkeys(f.kind for f in FAMILIES.values()) if kind in there]
    colours = {kind: f"C{i}" for i, kind in enumerate(kinds)}
    told = {"low": "cells", "high": "high-level features", "boosted": "boosted trees: neighbours"}
    geant4 = float(np.mean([row["geant4_ms"] for row in timed.values()]))
    ms = [timed[name]["ms"]["100"] for name in order] + [geant4]
    # text stays text, in the reader's font
    with plt.rc_context({"svg.fonttype": "none", "font.size": 10, "font.family": "sans-serif"}):
        figure, panels = plt.subplots(
            len(judges), 1, figsize=(5, 2.9 + 1.75 * len(judges)), sharex=True, squeeze=False
        )
        tall = figure.get_figheight()
        figure.subplots_adjust(left=0.13, right=0.98, top=1 - 1.55 / tall, bottom=1.15 / tall)
        axes = panels[:, 0]
        axes[0].set(xscale="log", xlim=(0.5 * min(ms), 1.6 * max(ms)))
        for axis, judge in zip(axes, judges, strict=True):
            axis.axhline(0.5, color="grey", lw=0.8, ls=":")
            axis.axvline(geant4, color="black", lw=0.8)
            for name in order:
                x, (y, error) = timed[name]["ms"]["100"], timed[name]["strong"][judge]["auc"]
                axis.axvline(x, color="0.85", lw=0.6, zorder=0)
                axis.errorbar(x, y, error, fmt="o", ms=5, color=colours[timed[name]["kind"]])
            axis.set(ylim=(0.42, 1.06), ylabel="AUC")
            axis.text(0.98, 0.06, told.get(judge, judge), ha="right", transform=axis.transAxes)
        names = {**dict(zip(order, ms, strict=False)), "Geant4": geant4}
        places = spread(
            axes[0]
            .transAxes.inverted()
            .transform(axes[0].transData.transform([(x, 1) for x in names.values()]))[:, 0],
            0.055,
        )
        for (name, x), place in zip(names.items(), places, strict=True):
            colour = "black" if name == "Geant4" else colours[timed[name]["kind"]]
            axes[0].annotate(
                name,
                (x, 1),
                (place, 1.12),
                xycoords=axes[0].get_xaxis_transform(),
                textcoords="axes fraction",
                rotation=65,
                ha="left",
                va="bottom",
                rotation_mode="anchor",
                color=colour,
                arrowprops={"arrowstyle": "-", "lw": 0.6, "color": "0.7", "shrinkA": 0, "shrinkB": 0},
            )
        axes[-1].set_xlabel("ms a shower, one thread, batch 100")
        points = [axes[0].plot([], [], "o", ms=5, color=colour)[0] for colour in colours.values()]
        figure.legend(
            points, colours, loc="lower center", ncols=4, frameon=False, handletextpad=0, columnspacing=1
        )
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def spread(places: Sequence[float], least: float) -> list[float]:
    """Ascending places, moved apart to ``least``: to the right, and back where that passes the end, 0.9."""
    moved = list(places)
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + least)
    shift = max(0.0, moved[-1] - 0.9) if moved else 0.0
    moved[-1] -= shift
    for i in range(len(moved) - 2, -1, -1):
        moved[i] = min(moved[i], moved[i + 1] - least)
    return moved


def earlier(path: Path, truth: Mapping[str, Any]) -> dict[str, Any]:
    """Rows of a table that is there; an error where its showers of Geant4 were others."""
    there = json.loads(path.read_text())
    if there["neighbours of Geant4"] != truth:
        raise SystemExit(f"the rows of {path} were judged on other showers than these; leave out --earlier")
    rows: dict[str, Any] = there["rows"]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--models", type=Path, help="folder of trained models under the families' names")
    parser.add_argument("--only", default=",".join(FAMILIES), help="families, by their names")
    parser.add_argument("--judges", default=",".join(JUDGES), help="strong ones")
    parser.add_argument("--minutes", type=float, help="of the processor, for each training")
    parser.add_argument("--earlier", type=Path, help="families.json with the other rows, on the same test")
    parser.add_argument("--geant4", type=int, default=GEANT4, help="showers that are timed")
    parser.add_argument("--write", type=Path, metavar="DOCS", help="put numbers and picture there")
    given = parser.parse_args()
    torch.set_num_threads(1)
    unknown = set(given.only.split(",")) - set(FAMILIES)
    if unknown:
        parser.error(f"unknown families {', '.join(sorted(unknown))}; known are {', '.join(FAMILIES)}")
    given.out.mkdir(parents=True, exist_ok=True)
    test, kept = open_showers(given.test), Kept(given.out)
    truth = kept("Geant4.neighbours", neighbours, test)
    rows = earlier(given.earlier, truth) if given.earlier else {}
    wanted = [name for name in FAMILIES if name in given.only.split(",")]
    for name in wanted if RIGHT in rows else [RIGHT, *wanted]:
        rows[name] = json.loads(json.dumps(measured(name, given, test, kept))) | {"about": about_here()}
        numbers, picture = given.out / "families.json", given.out / "families.svg"
        results = {"rows": rows, "neighbours of Geant4": truth}
        numbers.write_text(json.dumps(results, indent=1) + "\n")
        (given.out / "table.md").write_text(table(rows, truth))
        print(f"{name} done", flush=True)
    if len(rows) > 1:
        draw(rows, picture)
    print(table(rows, truth))
    if given.write:
        for file, folder in ((numbers, given.write / "results"), (picture, given.write / "images")):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / file.name)


if __name__ == "__main__":
    main()
