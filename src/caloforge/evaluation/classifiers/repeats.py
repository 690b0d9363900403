"""Independent trainings side by side, each on one core."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch

from caloforge.evaluation.classifiers.inputs import Table
from caloforge.runtime.cores import usable_threads
from caloforge.runtime.memory import free_memory

__all__ = ["side_by_side"]

Result = TypeVar("Result")
COPIES = 3
"""Sizes of the table that a training may hold: standardised inputs, and what it does with them."""


def side_by_side(
    one: Callable[[int], Result], repeats: int, table: Table, device: torch.device
) -> list[Result]:
    """``one(i)`` for each of the repeats, in order; on a CPU as many at once as there are cores and memory.

    Each keeps to as many threads as torch is set to: several on one small operation would wait for each
    other.

    Args:
        one: a training whose random numbers are its own.
        repeats: how many.
        table: inputs of the trainings, (N, D).
        device: where they run.
    """
    threads = torch.get_num_threads()
    fit = free_memory() // (COPIES * table.nbytes + 1)
    at_once = max(1, min(repeats, usable_threads() // threads, fit)) if device.type == "cpu" else 1
    if at_once == 1:
        return [one(i) for i in range(repeats)]
    with ThreadPoolExecutor(at_once, initializer=partial(torch.set_num_threads, threads)) as pool:
        return list(pool.map(one, range(repeats)))
