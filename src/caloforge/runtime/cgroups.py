"""Limits that containers and batch systems set for a group of processes on Linux (cgroups 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["ROOT", "own_groups", "read_text"]

ROOT = Path("/")


def own_groups(controller: str, root: Path = ROOT) -> Iterator[Path]:
    """Folders of this process' groups, innermost first: of version 2, and of ``controller`` in version 1.

    A container may see its own group as the outermost one and yet know its path outside; hence those that do
    not exist are left out, and the outermost one is always among them.

    Args:
        controller: "cpu" or "memory".
        root: where the file system begins, for tests.
    """
    mounted = root / "sys/fs/cgroup"
    for line in read_text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            tops = (mounted, mounted / "unified")
        elif controller in controllers.split(","):
            tops = (mounted / controller, mounted / controllers)
        else:
            continue
        inner = Path(path.lstrip("/"))
        for top in tops:
            for group in (inner, *inner.parents):
                if (top / group).is_dir():
                    yield top / group


def read_text(path: Path) -> str:
    """What is in a file of the kernel; nothing where it is missing or cannot be read."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
