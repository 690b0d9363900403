"""Dense GANs of pixel events: sizes, a training step, an event, and what memory they take.

    python benchmarks/pixel_gan.py EVENTS.h5 [--recipes iea-gan,pe-gan] [--device cpu] [--precision auto]
        [--steps 1] [--events 1] [--recompute]

Every number is of a process of its own with one thread, so that its memory is its alone; on a GPU it is that
of tensors. A step is one event, both networks updated; on a GPU the first ones, in which they are recorded,
are not counted. Networks are untrained, which takes as long.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from caloforge.data.pixels import open_events
from caloforge.detector import PixelMesh
from caloforge.generation.events import make_event
from caloforge.models.pixels import PixelModel
from caloforge.models.trainable import load_trainable_class
from caloforge.runtime.devices import pick_device
from caloforge.runtime.memory import peak_memory_mib
from caloforge.training import Recipe
from caloforge.training.pixel_task import PixelTask
from caloforge.training.run import TrainingRun
from caloforge.training.team import Team

HEAD = (
    "| recipe | weights, millions: generator, critic | computes in | a step, s | CPU, s | MiB | steps are | "
)
HEAD += "an event, s | CPU, s | MiB |"
FIRST = {"cuda": 5}
"""Steps and events that are not counted; elsewhere none."""


def steps_of(recipe: Recipe, given: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Seconds of the later steps of a training, and the memory of all."""
    task = PixelTask(recipe, open_events(given.events_file), 0)
    task.check()
    accelerator = Accelerator(cpu=device.type == "cpu")
    with tempfile.TemporaryDirectory() as folder:
        team = Team.of(accelerator)
        run = TrainingRun(
            task, Path(folder), accelerator, team, resume=False, prefetch=False, precision=given.precision
        )
        trainer, times = run.trainer, [_now()]
        while not trainer.done:
            for _ in trainer.steps():
                trainer.check()  # waits for the device
                times.append(_now())
            trainer.position.epoch, trainer.position.step = trainer.position.epoch + 1, 0
        sizes = {name: sum(p.numel() for p in group) for name, group in trainer.model.parts().items()}
    seconds, cpu = _means(times, device)
    told = trainer.steps_on_device.told
    return {"seconds": seconds, "cpu": cpu, "sizes": sizes, "on": str(run.execution), "told": told}


@torch.inference_mode()
def event_of(recipe: Recipe, given: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Seconds of the later events."""
    events, cls = open_events(given.events_file), load_trainable_class(recipe.model)
    model = cls(PixelMesh(events.detector), recipe.settings).execute_on(device, given.precision).eval()
    assert isinstance(model, PixelModel)
    times = [_now()]
    for number in range(given.events + FIRST.get(device.type, 0)):
        make_event(model, 0, number, np.ones(len(events.detector.sources)))
        times.append(_now())
    seconds, cpu = _means(times, device)
    return {"seconds": seconds, "cpu": cpu}


def _now() -> tuple[float, float]:
    """Seconds of the clock and of the processor."""
    return time.perf_counter(), time.process_time()


def _means(times: list[tuple[float, float]], device: torch.device) -> tuple[float, float]:
    """Seconds of one of those that are counted."""
    counted = times[FIRST.get(device.type, 0) :]
    seconds, cpu = ((b - a) / (len(counted) - 1) for a, b in zip(counted[0], counted[-1], strict=True))
    return seconds, cpu


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("events_file", type=Path, metavar="EVENTS.h5")
    parser.add_argument("--recipes", default="iea-gan,pe-gan")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--steps", type=int, default=1, help="steps that are counted")
    parser.add_argument("--events", type=int, default=1, help="events that are counted")
    parser.add_argument("--recompute", action="store_true", help="steps with settings.recompute")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    device = pick_device(given.device)
    if given.one is not None:
        name, what = given.one
        torch.set_num_threads(1)
        steps = given.steps + FIRST.get(device.type, 0)
        measure = {"step": steps_of, "event": event_of}[what]
        changes = {"training.steps": steps, "settings.recompute": given.recompute}
        found = measure(Recipe.load(name, changes), given, device)
        print(json.dumps(found | {"mib": peak_memory_mib(device)}))
        return
    print(HEAD + "\n" + "|---" * (HEAD.count("|") - 1) + "|", flush=True)
    for name in given.recipes.split(","):
        rows = {}
        for what in ("step", "event"):
            command = [sys.executable, __file__, *sys.argv[1:], "--one", name, what]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rows[what] = json.loads(done.stdout.splitlines()[-1])
        step, event = rows["step"], rows["event"]
        sizes = ", ".join(f"{step['sizes'][part] / 1e6:.2f}" for part in ("generator", "critic"))
        numbers = [f"{row[key]:.3g}" for row in (step, event) for key in ("seconds", "cpu")]
        numbers = [*numbers[:2], f"{step['mib']:.0f}", step["told"], *numbers[2:], f"{event['mib']:.0f}"]
        print("| " + " | ".join([name, sizes, step["on"], *numbers]) + " |", flush=True)


if __name__ == "__main__":
    main()
