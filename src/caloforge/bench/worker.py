"""A process that times one configuration of `caloforge.bench`: its peak memory and its threads are its own.

A `Child` of `caloforge.bench.run`: a job comes in as a message, one goes out. Timed is what makes the showers
of `caloforge.generate`, `BlockDecoder.decode`.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Any

import torch

from caloforge.data.conditions import Conditions
from caloforge.errors import CaloforgeError
from caloforge.generation.blocks import BlockDecoder
from caloforge.generation.request import GenerationRequest
from caloforge.runtime.memory import free_memory, peak_memory_mib
from caloforge.runtime.processes import Channel, serve

__all__ = ["measure", "work"]


class _Watch:
    """Makes batches, the conditions taken in turn, and knows what each costs."""

    def __init__(self, job: dict[str, Any]) -> None:
        torch.set_num_threads(job["threads"])
        request = GenerationRequest.resolve(
            job["checkpoint"],
            settings=job["settings"],
            conditions=Conditions(**job["conditions"]),
            seed=int(job["seed"]),
            device=job["device"],
            precision=job["precision"],
            kernels=job["kernels"],
            fixed_blocks=False,
            allow_extrapolation=True,
        )
        self.decoder, self.device, self.position = BlockDecoder(request), request.device, 0
        self.execution = str(request.model.execution)
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
        decoder, low = self.decoder, self.position
        before = decoder.seconds, decoder.processor_seconds
        energies = decoder.decode(low, low + n)
        decoder.check(energies, low)
        self.position += n
        return decoder.seconds - before[0], decoder.processor_seconds - before[1]


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Times of the repetitions, or a remark why there are none.

    Batches of 1, 2, 10, 100, … are a warm-up, and tell whether the next one fits the budget and the memory:
    the time for n showers is taken to be a + b n through the last two.
    """
    watch, size, budget = _Watch(job), int(job["batch_size"]), float(job["budget_s"])
    report: dict[str, Any] = {"times": [], "processor_times": [], "remark": ""}
    report["execution"] = watch.execution
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
            if watch.device.type == "cuda":
                seconds, _ = watch(size)  # the second of a size is recorded
            watch.position = 0
            for _ in range(min(int(job["repetitions"]), max(1, int(budget / seconds)))):
                wall, processor = watch(size)
                report["times"].append(1e3 * wall / size)
                report["processor_times"].append(1e3 * processor / size)
    return report | {"peak_memory_mib": watch.peak(), "memory_before_mib": watch.before}


def _duration(seconds: float) -> str:
    if seconds < 600:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 7200 else f"about {seconds / 3600:.0f} h"


def work(channel: Channel) -> None:
    """Serve one job."""
    job = next(iter(channel))
    try:
        reply = measure(job)
    except CaloforgeError as error:
        reply = {"refusal": str(error)}
    except (torch.cuda.OutOfMemoryError, MemoryError) as error:
        reply = {"times": [], "remark": f"not measured: out of memory ({str(error).splitlines()[0]})"}
    channel.send(reply)


if __name__ == "__main__":
    sys.exit(serve(work))
