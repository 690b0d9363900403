"""Cores and memory that containers and batch systems leave to a process: the kernel's files are made here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from caloforge.runtime import cores
from caloforge.runtime.cores import usable_cores, usable_threads, wait_passively, wanted_threads
from caloforge.runtime.memory import UNKNOWN, free_memory

GB = 1 << 30


def machine(root: Path, files: dict[str, str]) -> Path:
    """A file system with the given files."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


CGROUPS = [
    ({}, 8),
    # version 2: of the job, its parent, or nobody
    ({"proc/self/cgroup": "0::/job/step", "sys/fs/cgroup/job/step/cpu.max": "300000 100000"}, 3),
    (
        {
            "proc/self/cgroup": "0::/job/step",
            "sys/fs/cgroup/job/step/cpu.max": "max 100000",
            "sys/fs/cgroup/job/cpu.max": "250000 100000",
        },
        2,
    ),
    ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, 8),
    # a container that knows its name outside, but sees its group as the outermost one
    ({"proc/self/cgroup": "0::/docker/ab12", "sys/fs/cgroup/cpu.max": "400000 100000"}, 4),
    # less than one core is one, and more than there are is what there are
    ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
    ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "6400000 100000"}, 8),
    # version 1
    (
        {
            "proc/self/cgroup": "4:memory:/x\n2:cpu,cpuacct:/slurm/job",
            "sys/fs/cgroup/cpu,cpuacct/slurm/job/cpu.cfs_quota_us": "200000",
            "sys/fs/cgroup/cpu,cpuacct/slurm/job/cpu.cfs_period_us": "100000",
        },
        2,
    ),
    (
        {
            "proc/self/cgroup": "2:cpu:/",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
        8,
    ),
    # another controller's group says nothing
    (
        {
            "proc/self/cgroup": "2:cpuset:/",
            "sys/fs/cgroup/cpuset/cpu.cfs_quota_us": "100000",
            "sys/fs/cgroup/cpuset/cpu.cfs_period_us": "100000",
        },
        8,
    ),
    # damaged
    ({"proc/self/cgroup": "nonsense", "sys/fs/cgroup/cpu.max": "100000 100000"}, 8),
    ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "100000"}, 8),
    ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": ""}, 8),
]


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(("files", "expected"), CGROUPS)
def test_the_quota_of_cgroups(files: dict[str, str], expected: int, tmp_path: Path) -> None:
    assert usable_cores({}, machine(tmp_path, files)) == expected


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "6"}, 4),
        ({"SLURM_CPUS_ON_NODE": "6"}, 6),
        ({"SLURM_CPUS_ON_NODE": "128"}, 8),
        ({"SLURM_CPUS_PER_TASK": "", "SLURM_CPUS_ON_NODE": "many"}, 8),
        ({"SLURM_CPUS_PER_TASK": "0"}, 8),
    ],
)
def test_what_slurm_gives(environment: dict[str, str], expected: int, tmp_path: Path) -> None:
    assert usable_cores(environment, tmp_path) == expected


@pytest.mark.usefixtures("eight_cores")
def test_the_fewest_count(tmp_path: Path) -> None:
    root = machine(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "300000 100000"})
    assert usable_cores({"SLURM_CPUS_PER_TASK": "5"}, root) == 3
    assert usable_cores({"SLURM_CPUS_PER_TASK": "2"}, root) == 2


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(("asked", "expected"), [("3", 3), ("64", 8), ("", 8), ("0", 8), ("2,1", 8)])
def test_threads_are_at_most_those_that_openmp_may_use(asked: str, expected: int, tmp_path: Path) -> None:
    assert usable_threads({"OMP_NUM_THREADS": asked}, tmp_path) == expected


def test_a_system_without_affinity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert usable_cores({}, tmp_path) == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores({}, tmp_path) == 1


def test_this_machine_has_cores_and_memory() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    assert Path("/") == cores.ROOT
    assert free_memory() > 0


MEMORY = [
    ({}, UNKNOWN),
    ({"proc/meminfo": f"MemTotal: 9 kB\nMemAvailable:    {8 * GB // 1024} kB"}, 8 * GB),
    (
        {
            "proc/meminfo": f"MemAvailable: {8 * GB // 1024} kB",
            "proc/self/cgroup": "0::/job",
            "sys/fs/cgroup/job/memory.max": f"{4 * GB}",
            "sys/fs/cgroup/job/memory.current": f"{3 * GB}",
            "sys/fs/cgroup/job/memory.stat": f"anon 5\ninactive_file {GB}",
        },
        2 * GB,
    ),
    (
        {
            "proc/meminfo": f"MemAvailable: {8 * GB // 1024} kB",
            "proc/self/cgroup": "0::/job",
            "sys/fs/cgroup/job/memory.max": "max",
            "sys/fs/cgroup/job/memory.current": f"{3 * GB}",
        },
        8 * GB,
    ),
    (
        {
            "proc/meminfo": f"MemAvailable: {8 * GB // 1024} kB",
            "proc/self/cgroup": "3:memory:/docker/12\n0::/",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GB}",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{3 * GB}",
        },
        0,
    ),
]


@pytest.mark.parametrize(("files", "expected"), MEMORY)
def test_free_memory_stays_within_cgroups(files: dict[str, str], expected: int, tmp_path: Path) -> None:
    assert free_memory(machine(tmp_path, files)) == expected


def test_an_operation_has_one_thread_unless_the_user_says_otherwise() -> None:
    assert wanted_threads({}) == 1
    assert wanted_threads({"OMP_NUM_THREADS": "4"}) == 4


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_threads_wait_passively_unless_the_user_says_otherwise(name: str) -> None:
    environment: dict[str, str] = {}
    wait_passively(environment)
    assert environment == {"OMP_WAIT_POLICY": "PASSIVE"}
    environment = {name: "1"}
    wait_passively(environment)
    assert environment == {name: "1"}


def test_the_command_line_decides_before_torch_is_loaded() -> None:
    code = (
        "import os, sys, caloforge.cli\nassert 'torch' not in sys.modules\n"
        "module = sys.modules['caloforge.cli.app']\n"
        "module.app = lambda: print(os.environ['OMP_WAIT_POLICY'])\nmodule.main()"
    )
    variables = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True
    )
    assert done.stdout == "PASSIVE\n"
