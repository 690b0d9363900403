"""Quality, network calls and time of a diffusion model and its students.

See docs/explanation/diffusion-samplers.md.

    python benchmarks/steps.py TEST.h5 teacher=MODEL few=STUDENT ... -o steps [--only midpoint-4,few-2]

Every row generates showers at the conditions of TEST.h5 on one CPU thread, is timed in batches of 100 and
judged by two classifiers. What is there is kept, so that the run may be interrupted and go on.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from caloforge import generate
from caloforge.bench import bench
from caloforge.checkpoint import Checkpoint
from caloforge.data import open_showers
from caloforge.evaluation import METRICS_FILE, Evaluation
from caloforge.report import evaluate

SEED = 1
SAMPLERS = {  # kind: steps
    "euler": (1, 2, 4, 8),
    "ddim": (4, 8),
    "midpoint": (1, 2, 4, 8, 16),
    "heun": (2, 4),
    "dpm-solver++": (4, 8),
}
CALLS = {"midpoint": lambda steps: 2 * steps, "heun": lambda steps: 2 * steps - 1}


@dataclass(frozen=True)
class Row:
    """A model with some settings, and how often it calls its network."""

    name: str
    model: str
    settings: dict[str, Any]
    calls: int


def rows_of(name: str, folder: str) -> list[Row]:
    """A student at all its steps, another model with all samplers."""
    if "steps" in Checkpoint.load(folder).settings:
        return [Row(f"{name}-{k}", folder, {"steps": k}, k) for k in (1, 2, 4)]
    return [
        Row(f"{name}-{kind}-{k}", folder, {"sampler.kind": kind, "sampler.steps": k}, CALLS.get(kind, int)(k))
        for kind, all_steps in SAMPLERS.items()
        for k in all_steps
    ]


def measured(row: Row, test: Path, out: Path) -> str:
    """A line of the table; steps that are done are left out."""
    folder, showers, times = out / row.name, out / f"{row.name}.h5", out / f"{row.name}.json"
    common = {"settings": row.settings, "seed": SEED}
    generate(row.model, like=test, out=showers, resume=True, threads=1, progress=False, **common)
    timed = bench(
        row.model,
        like=test,
        out=times,
        resume=True,
        batch_sizes=(100,),
        threads=(1,),
        devices=("cpu",),
        geant4=0,
        repetitions=3,
        progress=False,
        **common,
    )
    if not (folder / METRICS_FILE).exists():
        evaluate(open_showers(test), open_showers(showers), out=folder, distances=False, progress=False)
    found = Evaluation.read(folder / METRICS_FILE).classifiers
    quality = [f"{found[name].auc:.3f} ± {found[name].auc_std:.3f}" for name in ("low", "high")]
    return f"| {' | '.join([row.name, str(row.calls), *quality, f'{timed.rows[0].processor_ms:.1f}'])} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("test", type=Path)
    parser.add_argument("models", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--only", default="", help="rows whose names end in one of these, by commas")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    lines = ["| sampler | calls | AUC low | AUC high | ms a shower |", "|---|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    for word in given.models:
        name, _, folder = word.partition("=")
        for row in rows_of(name, folder):
            if row.name.endswith(tuple(given.only.split(","))):
                lines.append(measured(row, given.test, given.out))
                print(lines[-1], flush=True)
    (given.out / "table.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
