"""The survey of CaloGAN and CaloFlow on our own showers and one CPU thread.

See docs/explanation/adversarial.md.

    python benchmarks/survey.py TRAIN.h5 TEST.h5 -o survey [--minutes 10] [--models FOLDER]
        [--classifiers strong]

CaloFlow's teacher, its student and CaloGAN are trained from their small recipes for as many minutes of a
processor each (how many steps that is, is measured first), unless FOLDER has them by these names; they
generate showers at the conditions of TEST.h5, are timed beside Geant4 and judged with it; the showers in
TRAIN.h5 stand for a generator that is right. ShowerTree is for regular meshes, which calogan-ecal has not.
What is there is kept, so that the run may be interrupted and go on. Published are Geant4 on a CPU and the
others on a GPU (arXiv:2106.05285, 2110.11377).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from minutes import changes_for, how_trained, is_trained, place_of, told
from systems import System, caloforge, trained, used

from caloforge import read_comparison
from caloforge.checkpoint import Checkpoint

SYSTEMS = {
    "caloflow": System("caloflow-small"),
    "caloflow-student": System("caloflow-student-small", teacher="caloflow"),
    "calogan": System("calogan-small"),
}
RIGHT = "Geant4 again"
"""What is right, as a sample; Geant4 itself cannot name one."""
PUBLISHED = {  # ms a shower, minutes of training
    RIGHT: ("1772", "–"),
    "caloflow": ("36.2", "22 + 82"),
    "caloflow-student": (".08", "+ 480"),
    "calogan": (".07", "210"),
}
BATCHES = (1, 64, 100)
TIMED_GEANT4 = 20
"""Showers of Geant4 that are timed beside each system."""
METRICS = ("auc_low", "auc_high", "recall", "coverage")


def model_of(name: str, minutes: float, showers: Path, folder: Path, models: Path | None) -> Path:
    """The model of a system, which is trained unless it was before."""
    model, system = place_of(name, folder, models), SYSTEMS[name]
    if is_trained(model):
        return model
    teacher = place_of(system.teacher, folder, models) if system.teacher else None
    changes = changes_for(minutes, system.recipe, showers, folder / f"{name}.steps", teacher=teacher)
    told_changes = tuple(f"{key}={value}" for key, value in changes.items())
    return trained(name, replace(system, changes=told_changes), showers, folder)


def table(models: Mapping[str, Path], folder: Path) -> str:
    """Markdown: training, times, metrics with their errors, C2ST error of the classifier of cells."""
    comparison = read_comparison(folder / "comparison")
    judged = {model.name: model.metrics for model in comparison.models}
    times = {name: json.loads((folder / f"{name}.json").read_text()) for name in models}
    heads = ["", "training, min", "published", f"ms at {' / '.join(map(str, BATCHES))}", "published"]
    heads += ["AUC low", "AUC high", "recall", "coverage", "error of C2ST"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name in (RIGHT, *models):
        if name == RIGHT:
            of_geant4 = [timed["geant4"]["ms"] for timed in times.values()]
            training, ms = "–", f"{sum(of_geant4) / len(of_geant4):.0f}"
        else:
            training = told(how_trained(Checkpoint.load(models[name])))
            rows = {row["batch_size"]: row["processor_ms"] for row in times[name]["rows"]}
            ms = " / ".join(f"{rows[size]:.3g}" for size in BATCHES)
        error_rate = comparison.evaluations[name].classifiers["low"].error_rate
        metrics = [f"{e.value:.3f} ± {e.error or 0:.3f}" for e in (judged[name][key] for key in METRICS)]
        published_ms, published_training = PUBLISHED[name]
        cells = [name, training, published_training, ms, published_ms, *metrics, f"{error_rate:.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0, help="processor time of each training")
    parser.add_argument("--models", type=Path, help="folder of trained models under these names")
    parser.add_argument("--only", default=",".join(SYSTEMS), help="systems, by their names")
    parser.add_argument("--classifiers", default="quick", help="quick or strong")
    given = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for name in SYSTEMS if name in given.only.split(",")]
    given.out.mkdir(parents=True, exist_ok=True)
    models = {name: model_of(name, given.minutes, given.train, given.out, given.models) for name in names}
    for name, model in models.items():
        used(name, str(model), given.test, given.out, ",".join(map(str, BATCHES)), TIMED_GEANT4)
    samples = [f"{RIGHT}={given.train}", *(f"{name}={given.out / name}.h5" for name in names)]
    words = ["-o", given.out / "comparison", "--classifiers", given.classifiers, "--which", "low,high"]
    caloforge("compare", given.test, *samples, *words, "--resume")
    text = table(models, given.out)
    (given.out / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
