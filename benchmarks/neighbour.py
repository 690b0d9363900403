"""Default settings beside one thread, with the machine to itself and with a busy neighbour, in one run.

    python benchmarks/neighbour.py showers.h5 [--seconds 30] [--only generation]

Shared batch nodes are where people run: another process (an endless loop) then has one of the cores. Given
are the milliseconds of a shower or of a training step, or the seconds of an evaluation, with ``--threads 1``
and with the defaults, one after the other, and their ratio: the default must never be slower, and alone on
two cores faster where there is work enough. The environment must not set ``OMP_NUM_THREADS``. Each number is
of a process of its own; generation includes what starting its processes costs. ``showers.h5`` (some hundred
electrons in par04-siw, from `caloforge simulate`) is trained on and evaluated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from caloforge.runtime.cores import usable_cores, wait_passively

MODELS = ("conv-l2lflows-siw", "supercalo-siw", "showertransformer-siw")
RECIPES = ("quickstart", "supercalo-b-small")
TRAINING_STEPS = 40
NEIGHBOUR = [sys.executable, "-c", "while True: pass"]


def generation(model: str, threads: int | None, showers: Path, seconds: float) -> float:
    """ms a shower, of a production to a file that takes one thread ``seconds``."""
    from caloforge import generate

    def production(n: int, threads: int | None) -> float:
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "a.h5"
            generate(model, energy="10GeV", n=n, seed=1, out=out, threads=threads, progress=False)
        return 1e3 * (time.perf_counter() - begin) / n

    blocks = 4 * 256
    production(blocks, 1)
    n = blocks * max(1, round(1e3 * seconds / production(blocks, 1) / blocks))
    return production(n, threads)


def training(recipe: str, threads: int | None, showers: Path, seconds: float) -> float:
    """ms a step."""
    from caloforge import train

    times = []
    for steps in (TRAINING_STEPS // 4, TRAINING_STEPS + TRAINING_STEPS // 4):
        with tempfile.TemporaryDirectory() as folder:
            changes = {"training.steps": steps, "training.epochs": None}
            begin = time.perf_counter()
            train(recipe, showers, out=folder, threads=threads, overrides=changes, progress=False)
            times.append(time.perf_counter() - begin)
    return 1e3 * (times[1] - times[0]) / TRAINING_STEPS


def evaluation(which: str, threads: int | None, showers: Path, seconds: float) -> float:
    """Seconds."""
    from caloforge import open_showers
    from caloforge.evaluation import evaluate

    first, second = open_showers(showers).split(0.5)
    begin = time.perf_counter()
    evaluate(first, second, which=[which], progress=False)
    return time.perf_counter() - begin


TASKS: dict[str, tuple[Any, tuple[str, ...], str]] = {
    "generation": (generation, MODELS, "ms a shower"),
    "training": (training, RECIPES, "ms a step"),
    "evaluation": (evaluation, ("low", "resnet"), "s"),
}


@contextmanager
def neighbour(busy: bool) -> Iterator[None]:
    """Another process that wants a core all the time."""
    if not busy:
        yield
        return
    process = subprocess.Popen(NEIGHBOUR)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def measure(task: str, what: str, threads: int | None, showers: Path, seconds: float) -> float:
    """One number, by this file in a process of its own."""
    job = json.dumps({"task": task, "what": what, "threads": threads, "seconds": seconds})
    environment = dict(os.environ)
    if threads == 1:
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(showers), "--job", job]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("showers", type=Path)
    parser.add_argument("--seconds", type=float, default=30.0, help="of a production by one thread")
    parser.add_argument("--only", choices=TASKS, help="one task")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    wait_passively()  # as the command line does
    if options.job:
        job = json.loads(options.job)
        function = TASKS[job["task"]][0]
        print(function(job["what"], job["threads"], options.showers, job["seconds"]))
        return
    print(f"{usable_cores()} cores, load {os.getloadavg()[0]:.1f} before the start\n")
    print("| task | unit | neighbour | one thread | default | one thread / default |")
    print("|---|---|---|---|---|---|", flush=True)
    for task, (_, names, unit) in TASKS.items():
        for name in names if options.only in (None, task) else ():
            for busy in (False, True):
                with neighbour(busy):
                    settings = (options.showers, options.seconds)
                    one, default = (measure(task, name, threads, *settings) for threads in (1, None))
                row = (f"{task}, {name}", unit, "busy" if busy else "none", f"{one:.3g}", f"{default:.3g}")
                print(f"| {' | '.join(row)} | {one / default:.2f} |", flush=True)


if __name__ == "__main__":
    main()
