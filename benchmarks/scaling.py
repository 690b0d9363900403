"""Memory and throughput of independent workers that generate: n processes on n cores, and long runs.

    python benchmarks/scaling.py [--model showertree-siw] [--processes 1 2] [--showers 1000 10000]

Each worker is a process of one thread, as a job of a cluster or a shard of a campaign is. It loads the model,
makes a block so that everything is warm, waits until all have, and then makes its own showers into a file.
Given are showers a second of all together, by the clock of the slowest, and over n times that of one process
alone; milliseconds of a shower, by the clock and of processor time; and the largest memory of a process
(VmHWM). Beside other programs only processor time tells: where it does not grow with n, n idle cores make n
times as many showers; where it does, processes share a cache, the memory or the clock of a core.
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

from measure import peak_mib

from caloforge.runtime.cores import usable_cores

WARM = 64


def work(model: str, showers: int, first: int, batch: int, energy: str, out: Path) -> None:
    """Be a worker: say that all is warm, wait, make showers and say what they took."""
    from caloforge import generate
    from caloforge.checkpoint import Checkpoint

    checkpoint = Checkpoint.load(model)
    how: dict[str, Any] = {"energy": energy, "threads": 1, "batch_size": batch, "progress": False}
    generate(checkpoint, n=WARM, **how)
    print("ready", flush=True)
    sys.stdin.readline()
    began, processor = time.perf_counter(), time.process_time()
    generate(checkpoint, n=showers, first=first, out=out, seed=1, **how)
    seconds, processor = time.perf_counter() - began, time.process_time() - processor
    print(json.dumps({"seconds": seconds, "processor": processor, "mib": peak_mib()}), flush=True)


def measure(options: argparse.Namespace, n: int, showers: int) -> list[dict[str, float]]:
    """What each of n workers says, who begin together."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        workers = []
        for i in range(n):
            order = ["--worker", f"{folder}/{i}.h5", "--first", str(i * showers), "--showers", str(showers)]
            of_all = ["--model", options.model, "--batch", str(options.batch), "--energy", options.energy]
            command = [sys.executable, __file__, *order, *of_all]
            workers.append(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
        for worker in workers:
            assert worker.stdout is not None
            if worker.stdout.readline() != "ready\n":
                raise SystemExit("a worker did not start")
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        return [json.loads(worker.communicate()[0]) for worker in workers]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="showertree-siw")
    parser.add_argument("--energy", default="1-50GeV")
    parser.add_argument("--processes", type=int, nargs="+", default=list(range(1, usable_cores() + 1)))
    parser.add_argument("--showers", type=int, nargs="+", default=[1000, 10_000], help="of each process")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--folder", help="for the files, which are removed")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        work(options.model, options.showers[0], options.first, options.batch, options.energy, options.worker)
        return
    head = ("processes", "showers each", "showers/s", "of n times one", "ms", "processor ms", "MiB each")
    print("  ".join(f"{word:>14}" for word in head))
    for showers in options.showers:
        alone = 0.0
        for n in options.processes:
            told = measure(options, n, showers)
            slowest, total = max(t["seconds"] for t in told), n * showers
            rate = total / slowest
            alone = alone or rate / n
            row = (
                f"{n}",
                f"{showers}",
                f"{rate:.0f}",
                f"{rate / n / alone:.2f}",
                f"{1e3 * slowest / showers:.3f}",
                f"{1e3 * sum(t['processor'] for t in told) / total:.3f}",
                f"{max(t['mib'] for t in told):.0f}",
            )
            print("  ".join(f"{word:>14}" for word in row), flush=True)


if __name__ == "__main__":
    main()
