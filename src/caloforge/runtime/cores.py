"""How many processor cores this process may use, and how its threads wait for each other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

from caloforge.errors import ConditionError
from caloforge.runtime.cgroups import ROOT, own_groups, read_text

__all__ = ["checked_threads", "usable_cores", "usable_threads", "wait_passively", "wanted_threads"]

MOST_THREADS = 4096
SLURM = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")


def usable_cores(environment: Mapping[str, str] = os.environ, root: Path = ROOT) -> int:
    """Cores that this process may use, at least 1.

    The fewest of: the cores it may run on (affinity), whole cores of the quota of its cgroups, and what Slurm
    gave the task, or else the job on this node.

    Args:
        environment: environment variables.
        root: where the file system with the cgroups begins.
    """
    limits = [_affinity(), *_quotas(root), *_slurm(environment)]
    return max(1, min(limits))


def usable_threads(environment: Mapping[str, str] = os.environ, root: Path = ROOT) -> int:
    """`usable_cores`, but at most ``OMP_NUM_THREADS`` where that is set."""
    cores = usable_cores(environment, root)
    asked = _count(environment.get("OMP_NUM_THREADS", ""))
    return min(cores, asked) if asked else cores


def wanted_threads(environment: Mapping[str, str] = os.environ) -> int:
    """``OMP_NUM_THREADS`` where that is set, otherwise 1: threads in one operation of a network.

    They wait for the slowest of them at the end of each operation. Of operations as small as ours two gain
    little on two idle cores, and where another program has one of the cores they take several times as long
    as one.
    """
    return _count(environment.get("OMP_NUM_THREADS", "")) or 1


def checked_threads(n: int) -> int:
    """``n`` threads or processes; ConditionError where there cannot be so many."""
    if not 1 <= n <= MOST_THREADS:
        raise ConditionError(f"threads must be at least 1 and at most {MOST_THREADS}, got {n}")
    return n


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let OpenMP's threads sleep while they wait, instead of keeping other programs from the cores.

    Works before torch is loaded, and for processes started afterwards; what a user has set is left.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & environment.keys():
        environment["OMP_WAIT_POLICY"] = "PASSIVE"


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[int]:
    """Whole cores of the processor time that each cgroup gets in a period."""
    for group in own_groups("cpu", root):
        words = read_text(group / "cpu.max").split()  # version 2: "150000 100000" or "max 100000"
        if not words:
            words = [read_text(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
        quota, period = (_count(word) for word in (*words, "", "")[:2])
        if quota and period:
            yield quota // period


def _slurm(environment: Mapping[str, str]) -> Iterator[int]:
    for name in SLURM:
        count = _count(environment.get(name, ""))
        if count:
            yield count
            return


def _count(text: str) -> int:
    """A positive whole number, or 0 where the text is none."""
    return int(text) if text.isascii() and text.isdigit() else 0
