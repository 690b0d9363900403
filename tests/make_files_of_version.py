"""Writes one small file of each kind that caloforge writes, for later versions to read.

PYTHONPATH=src:tests/shared python tests/make_files_of_version.py tests/data_of_versions/VERSION

Done once for each version whose files differ, by that version, and never again: later versions only read them
(``tests/test_earlier_versions.py``). ``contents.json`` says what is in them, and ``SHA256SUMS`` that they are
those that were written.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import toy_models
from small_pixels import small_events

import caloforge
from caloforge.bench import bench
from caloforge.campaign import Campaign, run_campaign
from caloforge.checkpoint import Checkpoint
from caloforge.data import Showers, write_showers
from caloforge.data.pixels import write_events
from caloforge.detector import CylinderMesh
from caloforge.detector.detector import FILES
from caloforge.evaluation import Evaluation
from caloforge.runtime.files import write_json
from caloforge.runtime.provenance import code_version

CONTENTS, SUMS = "contents.json", "SHA256SUMS"
PLAIN = {"device": "cpu", "precision": "float32", "kernels": "plain", "progress": False}
RECIPE = """model = "flow.inductive:InductiveLayerFlow"
description = "A small one."

[settings]
blocks = 2
hidden = 8
depth = 1
bins = 4
scale = 4.0
energy_hidden = 8

[training]
epochs = 2
batch_size = 16
learning_rate = 1e-3
"""


def showers(n: int = 120) -> Showers:
    """Of two layers of six cells, a third of them empty."""
    toy = toy_models.toy_showers(n)
    energies = toy.energies[:].reshape(n, 2, 2, 3, 2, 3)[:, 0, :, :, 0, :2]
    mesh = CylinderMesh.regular(n_z=2, n_phi=3, n_r=2)
    return Showers(energies, toy.conditions, mesh, toy.provenance, {"geant4_cpu_seconds": np.full(n, 0.25)})


CAMPAIGN = """n = 40
seed = 1
shard_size = 20
out = "campaign/{shard}.h5"

[generate]
model = "model"
energy = "2-40GeV"
device = "cpu"
precision = "float32"
kernels = "plain"
"""


def make() -> dict[str, Any]:
    """All files, in the working directory, and what later versions have to find in them."""
    folder = Path()
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    shutil.copy(FILES / "par04-siw.toml", folder / "detector.toml")
    shutil.copy(FILES / "pixel/belle2-pxd.toml", folder / "pixel-detector.toml")
    truth = showers()
    write_showers(truth, folder / "showers.h5")
    caloforge.train(folder / "recipe.toml", truth, out=folder / "model", seed=1, device="cpu", progress=False)
    made = caloforge.generate(
        folder / "model", like=truth, out=folder / "generated.h5", n=100, seed=1, **PLAIN
    )
    how = {"seed": 1, "progress": False, "device": "cpu"}
    samples = {"a": folder / "showers.h5", "b": folder / "generated.h5"}
    shutil.rmtree(folder / "model/tensorboard", ignore_errors=True)
    (folder / "campaign.toml").write_text(CAMPAIGN, encoding="utf-8")
    run_campaign(Campaign.load(folder / "campaign.toml"), workers=1, progress=False)
    caloforge.compare(truth, samples, out=folder / "comparison", slices={"energy": 2}, **how)
    metrics = Evaluation.read(folder / "comparison/b/metrics.json")
    events = small_events(40)
    write_events(events, folder / "events.h5")
    judged = caloforge.evaluate_events(events, small_events(30, 1), training=small_events(20, 2), **how)
    judged.write(folder / "pixel-metrics.json")
    once = {"batch_sizes": (8,), "threads": (1,), "devices": ("cpu",), "repetitions": 2, "geant4": 0}
    bench(folder / "model", out=folder / "bench.json", progress=False, **once)
    return {
        "caloforge": code_version(),
        "checkpoint": {"fingerprint": Checkpoint.load(folder / "model").fingerprint},
        "showers": {"n": 120, "energy_mev": float(truth.energies[:].sum(dtype="f8"))},
        "generated": {"n": len(made), "energy_mev": float(made.energies[:].sum(dtype="f8"))},
        "campaign": {"mark": Campaign.load(folder / "campaign.toml").begun().mark},
        "events": {"n": len(events), "charge": int(sum(h.charge.sum() for h, _ in events.batches(40)))},
        "metrics": {"e_layer_0": metrics.histogram("e_layer_0").separation.value, "counts": metrics.counts},
        "pixel-metrics": {"quantities": len(judged.quantities), "fid": judged.distances["fid"].value},
    }


def sums(folder: Path) -> str:
    """Digests of all files, as sha256sum prints them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder)}" for p in files]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True)
    os.chdir(target)
    write_json(Path(CONTENTS), make(), indent=1)
    Path(SUMS).write_text(sums(Path()), encoding="utf-8")
