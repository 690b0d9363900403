"""How long an event of a pixel detector takes, for Geant4 and for all generators in one run.

    python benchmarks/pixel_speed.py EVENTS.h5 pxd-clusters-model iea-gan pe-gan [--devices cpu,cuda] [-n 20]

EVENTS.h5 has Geant4's own processor seconds, scaled here to the nominal rate. The others are folders of
checkpoints (or names of such), or names of recipes, whose networks are then untrained: a dense one takes as
long. Each is timed in a process of its own with one thread, after two events that are not counted: noise,
model and the hits in memory. On a GPU, memory is that of its tensors; that of a process holds Python, too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from measure import peak_mib

from caloforge.checkpoint import Checkpoint
from caloforge.checkpoint.pretrained import pretrained_names
from caloforge.data.pixels import open_events
from caloforge.detector import PixelDetector, PixelMesh
from caloforge.generation.events import make_event
from caloforge.models.pixels import PixelModel
from caloforge.models.trainable import load_trainable_class
from caloforge.runtime.devices import device_name
from caloforge.training import Recipe

WARM = 2
SECONDS = 120.0
"""A slow generator is timed for so long, but for one event at least."""


def model_of(name: str, detector: PixelDetector, device: str) -> tuple[PixelModel, float]:
    """A model, and how many MiB its weights take."""
    if Path(name).is_dir() or name in pretrained_names():
        checkpoint = Checkpoint.load(name)
        weights = sum(t.numel() * t.element_size() for t in checkpoint.tensors.values())
        return checkpoint.pixel_model(device), weights / 2**20
    recipe = Recipe.load(name)
    model = load_trainable_class(recipe.model)(PixelMesh(detector), recipe.settings)
    assert isinstance(model, PixelModel)
    made = model.parts().get("generator", list(model.parameters()))
    weights = sum(p.numel() * p.element_size() for p in made) / 2**20
    return model.eval().execute_on(device), weights


def measure(name: str, events: str, device: str, n: int) -> None:
    """Print, as JSON, what an event of one generator takes on one device."""
    torch.set_num_threads(1)
    detector = open_events(events).detector
    before = peak_mib()
    model, weights = model_of(name, detector, device)
    rates = np.ones(len(detector.sources))
    wall, cpu, pixels = [], [], []
    began = time.perf_counter()
    with torch.inference_mode():
        for number in range(n + WARM):
            start = time.perf_counter(), time.process_time()
            pixels.append(int(make_event(model, 0, number, rates).counts.sum()))
            wall.append(time.perf_counter() - start[0])
            cpu.append(time.process_time() - start[1])
            if time.perf_counter() - began > SECONDS:
                break
    counted = slice(min(WARM, len(wall) - 1), None)
    on_gpu = torch.device(device).type == "cuda"
    found = {
        "on": device_name(torch.device(device)),
        "wall": float(np.median(wall[counted])) * 1e3,
        "cpu": float(np.median(cpu[counted])) * 1e3,
        "events": len(wall[counted]),
        "pixels": float(np.mean(pixels)),
        "weights": weights,
        "memory": torch.cuda.max_memory_allocated() / 2**20 if on_gpu else peak_mib() - before,
    }
    print(json.dumps(found))


def row(name: str, found: dict[str, float], geant4: float) -> str:
    per_event = found["wall"] if "cuda" in str(found["on"]).lower() else found["cpu"]
    return (
        f"| {name} | {found['on']} | {found['wall']:.1f} | {found['cpu']:.1f} | {geant4 / per_event:.0f} | "
        f"{found['memory']:.0f} | {found['weights']:.2f} | {found['pixels']:.0f} | {found['events']} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("events")
    parser.add_argument("generators", nargs="+")
    parser.add_argument("--devices", default="cpu,cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("-n", type=int, default=20)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.generators[0], given.events, given.devices, given.n)
        return
    events = open_events(given.events)
    seconds = events.extra["geant4_cpu_seconds"] / events.conditions.rates.mean(axis=1)
    geant4 = float(np.mean(seconds)) * 1e3
    print("| generator | on | ms, wall | ms, CPU | Geant4's times | MiB | weights, MiB | pixels | events |")
    print("|---|---|---|---|---|---|---|---|---|")
    print(f"| Geant4 | cpu | | {geant4:.0f} | 1 | | | | {len(events)} |")
    for name in given.generators:
        for device in given.devices.split(","):
            command = [sys.executable, __file__, given.events, name, "--devices", device, "-n", str(given.n)]
            done = subprocess.run([*command, "--measure"], capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"| {name} | {device} | {done.stderr.strip().splitlines()[-1]} |")
                continue
            print(row(Path(name).name, json.loads(done.stdout.splitlines()[-1]), geant4), flush=True)


if __name__ == "__main__":
    main()
