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

from caloforge.runtime.cgroups import read_text
from caloforge.runtime.host import host_class

__all__ = ["COMMIT", "code_version", "commit_of", "provenance"]

COMMIT = Path(__file__).with_name("COMMIT")
"""Written when a wheel or a source distribution is built (hatch_build.py); in no checkout."""


@cache
def code_version() -> str:
    """Version of caloforge with its commit: of the checkout it runs from, or that it was built from."""
    release = _version("caloforge")
    commit = commit_of(Path(__file__).resolve().parents[3]) or read_text(COMMIT).strip()
    return f"{release} ({commit})" if commit else release


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def commit_of(checkout: Path) -> str:
    """Git commit of a checkout, with ``+changes`` where files differ from it; empty where it is none."""
    if not (checkout / ".git").exists():
        return ""
    wanted = ["describe", "--always", "--dirty=+changes", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(
            ["git", "-C", str(checkout), *wanted],
            capture_output=True,
            encoding="utf-8",
            timeout=10,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def provenance(action: str, **settings: Any) -> dict[str, Any]:
    """A JSON-able record of ``action`` and the settings that made a result.

    Versions are named only of packages that are already imported, so that asking imports nothing.
    """
    packages = ("numpy", "h5py", "torch", "geant4_pybind")
    versions = {name: _version(name) for name in packages if name in sys.modules}
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
