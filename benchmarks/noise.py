"""How long the noise of a shower takes, and what the alternatives would cost.

    python benchmarks/noise.py --numbers 6480 --threads 1

"keyed" is what caloforge uses: a number is a function of (seed, shower number, name). "generator per
shower" keeps the guarantee with torch's own generator, seeded anew for each shower. "torch.randn" is the
limit without any guarantee. With one thread on a CPU the times are processor time, so that other programs
disturb them less.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from caloforge.generation.noise import torch_normals
from caloforge.runtime import streams


def seconds(
    make: Callable[[], object], repeats: int, device: torch.device, clock: Callable[[], float]
) -> float:
    """Best time of a call."""
    best = float("inf")
    for _ in range(repeats + 1):  # the first is a warm-up, and counts only where it is the fastest
        start = clock()
        make()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, clock() - start)
    return best


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--numbers", type=int, default=6480, help="normal numbers of a shower")
    parser.add_argument("--showers", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device, n, k = torch.device(options.device), options.showers, options.numbers
    showers = np.arange(n)
    alone = device.type == "cpu" and options.threads == 1
    clock = time.process_time if alone else time.perf_counter

    def generator_per_shower() -> torch.Tensor:
        generator = torch.Generator(device=device)
        return torch.stack(
            [
                torch.randn(k, generator=generator.manual_seed(7 * 1_000_003 + int(i)), device=device)
                for i in showers
            ]
        )

    ways: dict[str, Callable[[], object]] = {
        "keyed, numpy (used on a CPU)": lambda: streams.normals(7, showers, "x", k),
        "keyed, torch (used on a GPU)": lambda: torch_normals(
            7, torch.tensor(showers, device=device), {"x": k}
        ),
        "generator per shower": generator_per_shower,
        "torch.randn (no guarantee)": lambda: torch.randn(n, k, device=device),
    }
    print(f"{n} showers of {k} numbers, {options.threads} thread(s), {device}")
    print(f"{'':30s} {'ms/shower':>10s} {'ns/number':>10s}")
    for name, make in ways.items():
        if "numpy" in name and device.type != "cpu":
            continue
        total = seconds(make, options.repeats, device, clock)
        print(f"{name:30s} {1e3 * total / n:10.4f} {1e9 * total / (n * k):10.2f}")


if __name__ == "__main__":
    main()
