"""Systems trained on the same showers, timed on one CPU thread and judged on others.

See docs/explanation/flows.md.

    python benchmarks/systems.py TRAIN.h5 TEST.h5 -o systems [--only icaloflow,supercalo-a] [--which low,high]

Each system is trained from its reduced recipe on one thread (about half an hour each), generates showers at
the conditions of TEST.h5, is timed beside Geant4 by `caloforge bench` and judged by `caloforge compare`. What
is there is kept, so that the run may be interrupted and go on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minutes import is_trained

from caloforge import read_comparison

SEED = 1
METRICS = {  # of `caloforge compare`: heading, factor
    "auc_low": ("AUC low", 1),
    "auc_high": ("AUC high", 1),
    "auc_resnet": ("AUC ResNet", 1),
    "fpd": ("FPD·10³", 1e3),
    "kpd": ("KPD·10³", 1e3),
}


@dataclass(frozen=True)
class System:
    """A recipe, what is changed in it, and for a student the system that teaches it."""

    recipe: str
    changes: tuple[str, ...] = ()
    teacher: str | None = None


SYSTEMS = {
    "layer-flow": System("quickstart", ("training.epochs=9", "training.batch_size=64")),
    "icaloflow": System("icaloflow-small"),
    "icaloflow-student": System("icaloflow-student-small", teacher="icaloflow"),
    "supercalo-a": System("supercalo-a-small"),
    "supercalo-b": System("supercalo-b-small"),
    "supercalo-inductive": System("supercalo-inductive-small"),
    "l2lflows": System("l2lflows-small"),
    "conv-l2lflows": System("conv-l2lflows-small"),
    "showertree": System("showertree"),
    "showertree-fast": System(
        "showertree", tuple(f"settings.{x}" for x in ("width=24", "depth=1", "components=6", "splits=100"))
    ),
    "showertransformer": System("showertransformer"),
    "showertransformer-few": System("showertransformer-few", teacher="showertransformer"),
    "calodream": System("calodream-small"),
    "calodiffusion": System("calodiffusion-small"),
    "calodit2": System("calodit2-small"),
}


def caloforge(*words: object) -> None:
    """Run a command on one thread."""
    command = [sys.executable, "-m", "caloforge", *map(str, words)]
    print("$ caloforge", *words, flush=True)
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def make(
    name: str,
    system: System,
    train: Path,
    test: Path,
    folder: Path,
    batches: str = "1,100,1000",
    geant4: int = 60,
) -> None:
    """Train a system, generate with it and time it; steps that are done are left out."""
    used(name, str(trained(name, system, train, folder)), test, folder, batches, geant4)


def trained(name: str, system: System, train: Path, folder: Path) -> Path:
    """A system's model, which is trained unless it is there."""
    model = folder / name
    if not is_trained(model):
        words: list[object] = [word for change in system.changes for word in ("--set", change)]
        if system.teacher:
            words += ["--teacher", folder / system.teacher]
        begin = os.times()
        try:
            caloforge("train", system.recipe, train, "--seed", SEED, "-o", model, "--resume", *words)
        finally:
            end, spent = os.times(), folder / f"{name}.seconds"
            seconds = end.children_user + end.children_system - begin.children_user - begin.children_system
            spent.write_text(f"{processor_seconds(spent) + seconds:.2f}")
    return model


def used(
    name: str, model: str, test: Path, folder: Path, batches: str = "1,100,1000", geant4: int = 60
) -> dict[str, Any]:
    """Generate with a model at the conditions of ``test`` and time it; what it took."""
    showers, times = folder / f"{name}.h5", folder / f"{name}.json"
    if not showers.exists():
        caloforge(
            "generate", model, "--like", test, "--seed", SEED, "--threads", 1, "--resume", "-o", showers
        )
    if not times.exists():
        words = ["--batches", batches, "--threads", 1, "--devices", "cpu", "--repetitions", 3]
        caloforge("bench", model, "--like", test, *words, "--geant4", geant4, "-o", times)
    measured: dict[str, Any] = json.loads(times.read_text())
    return measured


def processor_seconds(spent: Path) -> float:
    """What a training took so far, 0 before it began; less where it was killed."""
    return float(spent.read_text()) if spent.exists() else 0.0


def table(names: list[str], folder: Path) -> str:
    """Markdown: metrics with their errors, separation, milliseconds, speed-up, size and training time."""
    models = {model.name: model for model in read_comparison(folder / "comparison").models}
    heads = ["system", *(head for head, _ in METRICS.values()), "separation"]
    heads += ["ms at 1 / 100 / 1000", "× Geant4", "parameters", "training, min"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name in names:
        metrics = models[name].metrics
        cells = [name]
        for key, (_, factor) in METRICS.items():
            e = metrics.get(key)
            cells.append("–" if e is None else f"{factor * e.value:.4g} ± {factor * (e.error or 0):.2g}")
        powers = [e.value for key, e in metrics.items() if key.startswith("separation")]
        cells.append(f"{sum(powers) / len(powers):.4f}")
        timed = json.loads((folder / f"{name}.json").read_text())
        rows = {row["batch_size"]: row for row in timed["rows"]}
        about = json.loads((folder / name / "checkpoint.json").read_text())
        cells += [
            " / ".join(f"{rows[size]['processor_ms']:.3g}" for size in sorted(rows)),
            f"{max(row['speed_up'] for row in rows.values()):.0f}",
            f"{timed['parameters'] / 1e6:.2f} M",
            f"{about['metrics']['seconds'] / 60:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(SYSTEMS), help="systems, by their names")
    parser.add_argument("--which", default="low,high,resnet", help="classifiers")
    given = parser.parse_args()
    names = [name for name in SYSTEMS if name in given.only.split(",")]
    given.out.mkdir(parents=True, exist_ok=True)
    for name in names:
        make(name, SYSTEMS[name], given.train, given.test, given.out)
    samples = [f"{name}={given.out / name}.h5" for name in names]
    caloforge(
        "compare", given.test, *samples, "-o", given.out / "comparison", "--which", given.which, "--resume"
    )
    text = table(names, given.out)
    (given.out / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
