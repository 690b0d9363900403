"""A user's own folders: the home, where there is one, and caches that nobody else can write into."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["home_folder", "kept_folders", "private_folders"]

log = logging.getLogger(__name__)


def private_folders(name: str) -> Iterator[Path]:
    """Folders called ``name``, the best first: in the user's cache, for temporary files, for this process.

    Each belongs to this user, who alone has access (mode 0700). One that belongs to somebody else, or that
    others may write into, is not used, with a warning. Whether code can be kept and run there is seen later.
    """
    yield from filter(_is_private, _places(name))
    try:
        fresh = tempfile.mkdtemp(prefix=f"caloforge-{name}-")
    except OSError:
        return
    atexit.register(shutil.rmtree, fresh, ignore_errors=True)
    yield Path(fresh)


def kept_folders(name: str) -> dict[Path, str]:
    """Those of them that are there, and why each is not used, "" for one that is; none is made."""
    return {folder: _wrong(folder.lstat()) for folder in _places(name) if os.path.lexists(folder)}


def home_folder() -> Path | None:
    """The user's home, absolute; None for a user without one, as in many containers."""
    try:
        home = Path.home()
    except RuntimeError:  # neither $HOME nor an entry among the users
        return None
    return home if home.is_absolute() else None


def _places(name: str) -> list[Path]:
    cache = _cache()
    temporary = Path(tempfile.gettempdir()) / f"caloforge-{name}-{os.geteuid()}"
    return [temporary] if cache is None else [cache / name, temporary]


def _cache() -> Path | None:
    """The user's cache folder, absolute; None for a user without a home."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():
        return base / "caloforge"
    home = home_folder()
    return None if home is None else home / ".cache" / "caloforge"


def _is_private(folder: Path) -> bool:
    """Make the folder if need be; False, with a warning, where others have a say in what is in it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        wrong = _wrong(found)
        if not wrong and stat.S_IMODE(found.st_mode) != stat.S_IRWXU:
            folder.chmod(stat.S_IRWXU)
    except OSError as error:
        log.info("%s cannot be used: %s", folder, error)
        return False
    if wrong:
        log.warning("%s is not used as a cache: %s", folder, wrong)
    return not wrong


def _wrong(found: os.stat_result) -> str:
    """Why a folder is not this user's alone; empty where it is."""
    if not stat.S_ISDIR(found.st_mode):
        return "it is a link"
    if found.st_uid != os.geteuid():
        return f"it belongs to user {found.st_uid}, not {os.geteuid()}"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write into it (mode {stat.S_IMODE(found.st_mode):o}); remove it"
    return ""
