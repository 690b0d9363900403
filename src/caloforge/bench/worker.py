"""A process that times one configuration of `caloforge.bench`: its peak memory and its threads are its own.

Started as ``python -m caloforge.bench.worker``: a job comes in as JSON, one line of JSON goes out.
"""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.checkpoint import Checkpoint
from caloforge.data.conditions import Conditions
from caloforge.errors import CaloforgeError, CheckpointError
from caloforge.generation import draw_noise
from caloforge.models.base import ConditionTensors, GeneratorModel
from caloforge.runtime.devices import pick_device
from caloforge.runtime.memory import free_memory, peak_memory_mib

__all__ = ["main", "make_batch", "measure"]


def make_batch(
    model: GeneratorModel, pool: Conditions, seed: int, numbers: NDArray[np.int64], device: torch.device
) -> NDArray[np.float32]:
    """Showers (n, \\*mesh.shape), MeV, with these numbers (n,); they take the pool's conditions in turn.

    What `generate` does with ``fixed_blocks=False`` between reading the checkpoint and writing the file.
    """
    conditions = ConditionTensors.of(pool[numbers % len(pool)], model.detectors, device)
    noise = draw_noise(model.noise_shapes(), seed, torch.from_numpy(numbers), device)
    made: NDArray[np.float32] = model.decode(noise, conditions).to("cpu", torch.float32).numpy()
    return made


class _Watch:
    """Makes batches and knows what they cost."""

    def __init__(self, job: dict[str, Any]) -> None:
        torch.set_num_threads(job["threads"])
        self.device = pick_device(job["device"])
        checkpoint = Checkpoint.load(job["checkpoint"]).with_settings(job["settings"])
        self.model = checkpoint.model(self.device)
        self.pool, self.seed, self.made = Conditions(**job["conditions"]), int(job["seed"]), 0
        self.before = self.peak()

    def peak(self) -> float:
        return peak_memory_mib(self.device)

    def free(self) -> float:
        """MiB."""
        if self.device.type == "cuda":
            held = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            return (torch.cuda.mem_get_info(self.device)[0] + held) / 2**20
        return free_memory() / 2**20

    def __call__(self, n: int) -> tuple[float, float]:
        """Seconds and processor seconds for a batch of n; the copy to the CPU waits for the device."""
        numbers = np.arange(self.made, self.made + n, dtype=np.int64)
        wall, processor = time.perf_counter(), time.process_time()
        energies = make_batch(self.model, self.pool, self.seed, numbers, self.device)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        self.made += n
        if not (energies.min() >= 0 and np.isfinite(energies.max())):
            raise CheckpointError(
                "the model gave a negative, infinite or undefined energy; caloforge generate says for which "
                "shower. The checkpoint is not usable for these energies"
            )
        return wall, processor


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Times of the repetitions, or a remark why there are none.

    Batches of 1, 2, 10, 100, … are a warm-up, and tell whether the next one fits the budget and the memory:
    the time for n showers is taken to be a + b n through the last two.
    """
    watch, size, budget = _Watch(job), int(job["batch_size"]), float(job["budget_s"])
    report: dict[str, Any] = {"times": [], "processor_times": [], "remark": ""}
    ladder = [n for n in (1, 2, *(10**k for k in range(1, 20))) if n < size]
    with torch.inference_mode():
        watch(1)  # sets up kernels and caches
        last, before = 0, 0.0
        for n, following in pairwise([*ladder, size]):
            seconds, _ = watch(n)
            slope = max(0.0, (seconds - before) / (n - last))
            growth = (watch.peak() - watch.before) / n
            if seconds + slope * (following - n) > budget:
                estimate = _duration(seconds + slope * (size - n))
                report["remark"] = f"not measured: a batch would take {estimate}, the budget is {budget:g} s"
            elif growth * following > (free := watch.free()):
                report["remark"] = (
                    f"not measured: a batch would need about {growth * size / 1024:.1f} GiB of memory, and "
                    f"{free / 1024:.1f} GiB are free"
                )
            if report["remark"]:
                break
            last, before = n, seconds
        else:
            seconds, _ = watch(size)
            watch.made = 0
            for _ in range(min(int(job["repetitions"]), max(1, int(budget / seconds)))):
                wall, processor = watch(size)
                report["times"].append(1e3 * wall / size)
                report["processor_times"].append(1e3 * processor / size)
    return report | {"peak_memory_mib": watch.peak(), "memory_before_mib": watch.before}


def _duration(seconds: float) -> str:
    if seconds < 600:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 7200 else f"about {seconds / 3600:.0f} h"


def main() -> int:
    """Serve one job; returns the exit status."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a model prints must not mix with the reply
    job = json.load(sys.stdin)
    try:
        reply = measure(job)
    except CaloforgeError as error:
        reply = {"error": str(error)}
    except (torch.cuda.OutOfMemoryError, MemoryError) as error:
        reply = {"times": [], "remark": f"not measured: out of memory ({str(error).splitlines()[0]})"}
    replies.write(json.dumps(reply) + "\n")
    replies.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
