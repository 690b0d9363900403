"""Time and peak memory of reading showers lazily, against loading everything with h5py.

    python benchmarks/reading.py FILE [--batch 1000] [--times 1]

Each way runs in its own process, on the same file, one after the other; the operating system has the file in
its cache, since it is read once before. With ``--times`` the file is joined with itself, for a sample larger
than memory. Processor time is of all threads; the peak is that of the process above what the imports took. An
epoch of a training is what its loader does with showers that are not kept in memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

from measure import peak_mib


def measure(way: str, path: str, batch: int, times: int) -> dict[str, float]:
    """Do one of the ways in this process."""
    import h5py
    import numpy as np

    from caloforge.data import Showers, open_showers

    if way == EPOCH:
        import torch

        from caloforge.training.loader import ShowerLoader, hold_out

    before, start, processor = peak_mib(), time.perf_counter(), time.process_time()
    n = 0
    if way == "h5py [:]":
        with h5py.File(path) as file:
            n = len(file["showers"][:])
    else:
        showers = Showers.join([open_showers(path)] * times)
        rng = np.random.default_rng(0)
        if way == "open":
            n = 0
        elif way == "one shower":
            n = len(showers[len(showers) // 2 :][:1].energies)
        elif way == "100 in a row":
            n = len(showers[200:300].energies)
        elif way == "batches":
            n = sum(len(energies) for energies, _ in showers.batches(batch))
        elif way == "shuffled batches of the whole":
            order = rng.permutation(len(showers))
            n = sum(
                len(showers[np.sort(part)].energies)
                for part in np.array_split(order, -(-len(order) // batch))
            )
        elif way == "500 anywhere":
            n = len(showers[rng.permutation(len(showers))[:500]].energies)
        elif way == EPOCH:
            cpu, names = torch.device("cpu"), list(showers.meshes)
            training, _ = hold_out(showers, 0.1, seed=0)
            loader = ShowerLoader(training, 128, detectors=names, device=cpu, in_memory=False, prefetch=True)
            n = sum(len(some) for some in loader.epoch(0))
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    return {"showers": n, "seconds": seconds, "processor": processor, "mib": peak_mib() - before}


EPOCH = "epoch of a training"
WAYS = (
    "h5py [:]",
    "open",
    "one shower",
    "100 in a row",
    "500 anywhere",
    "batches",
    "shuffled batches of the whole",
    EPOCH,
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path")
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--way", choices=WAYS, help="only this one")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(measure(arguments.way, arguments.path, arguments.batch, arguments.times)))
        return
    with open(arguments.path, "rb") as file:  # noqa: PTH123
        while file.read(1 << 24):
            pass
    print(f"{'':32}{'showers':>9}{'seconds':>10}{'processor':>11}{'peak MiB':>10}")
    for way in [arguments.way] if arguments.way else WAYS:
        options = ["--batch", str(arguments.batch), "--times", str(arguments.times), "--way", way, "--here"]
        command = [sys.executable, __file__, arguments.path, *options]
        told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        seconds = f"{told['seconds']:10.3f}{told['processor']:11.3f}"
        print(f"{way:32}{told['showers']:9.0f}{seconds}{told['mib']:10.1f}", flush=True)


if __name__ == "__main__":
    main()
