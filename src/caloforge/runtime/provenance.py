"""Who made a result and how: versions, code, time, command and settings, as a plain dict."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from caloforge.runtime.host import host_class

__all__ = ["code_version", "provenance"]


@cache
def code_version() -> str:
    """Version of caloforge, with the git commit (and ``+changes``) where it runs from a checkout."""
    try:
        release = version("caloforge")
    except PackageNotFoundError:
        release = "unknown"
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return release
    try:
        command = [
            "git",
            "-C",
            str(root),
            "describe",
            "--always",
            "--dirty=+changes",
            "--abbrev=12",
            "--exclude=*",
        ]
        commit = subprocess.run(
            command, capture_output=True, encoding="utf-8", timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return release
    return f"{release} ({commit})"


def provenance(action: str, **settings: Any) -> dict[str, Any]:
    """A JSON-able record of ``action`` and the settings that made a result.

    Versions are named only of packages that are already imported, so that asking imports nothing.
    """
    packages = ("numpy", "h5py", "torch", "geant4_pybind")
    versions = {}
    for name in packages:
        if name in sys.modules:
            try:
                versions[name] = version(name)
            except PackageNotFoundError:
                versions[name] = "unknown"
    return {
        "action": action,
        "caloforge": code_version(),
        "python": platform.python_version(),
        "packages": versions,
        "machine": f"{platform.system()} {platform.machine()}",
        "host": host_class(),
        "time_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": settings,
    }
