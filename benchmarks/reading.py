"""Time and peak memory of reading showers lazily, against loading everything with h5py.

    python benchmarks/reading.py FILE [--batch 1000]

Each way runs in its own process, on the same file, one after the other; the operating system has the file in
its cache, since it is read once before. The peak is that of the process above what the imports took.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(way: str, path: str, batch: int) -> dict[str, float]:
    """Do one of the ways in this process."""
    import h5py
    import numpy as np

    from caloforge.data import open_showers

    before, start = peak_mb(), time.perf_counter()
    n = 0
    if way == "h5py [:]":
        with h5py.File(path) as file:
            n = len(file["showers"][:])
    else:
        showers = open_showers(path)
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
    return {"showers": n, "seconds": time.perf_counter() - start, "mb": peak_mb() - before}


WAYS = (
    "h5py [:]",
    "open",
    "one shower",
    "100 in a row",
    "500 anywhere",
    "batches",
    "shuffled batches of the whole",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path")
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(measure(arguments.way, arguments.path, arguments.batch)))
        return
    with open(arguments.path, "rb") as file:  # noqa: PTH123
        while file.read(1 << 24):
            pass
    print(f"{'':32}{'showers':>9}{'seconds':>10}{'peak MB':>10}")
    for way in WAYS:
        command = [sys.executable, __file__, arguments.path, "--batch", str(arguments.batch), "--way", way]
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"{way:32}{result['showers']:9.0f}{result['seconds']:10.3f}{result['mb']:10.1f}")


if __name__ == "__main__":
    main()
