"""C kernels, compiled at first use by the system's compiler and kept in the user's cache folder.

Set ``CALOFORGE_KERNELS=0`` to do without: everything that has a kernel also has a plain torch version. That
is also used where no compiler is found, with one warning.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch

__all__ = ["REALS", "compiled", "in_threads", "multiplies_bf16", "traced"]

FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
REALS = {torch.float32: "-DREAL=float", torch.float64: "-DREAL=double"}
"""What kernels can calculate in."""
log = logging.getLogger(__name__)


@cache
def compiled(source: Path, headers: Path, *definitions: str) -> ctypes.CDLL | None:
    """The library of a C file that includes files of the folder ``headers``; None where it cannot be had."""
    compiler = _compiler()
    if compiler is None:
        return None
    command = [*compiler, *FLAGS, *definitions]
    sources = [source.read_text(), *(header.read_text() for header in sorted(headers.glob("*.h")))]
    key = "\n".join([*sources, " ".join(command), _processor()])
    name = f"{source.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    try:
        library = _cache_folder() / name
        if not library.exists():
            _compile([*command, f"-I{headers}", str(source), "-lm"], library)
        return ctypes.CDLL(str(library))
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or b""
        log.warning(
            "%s could not be compiled; plain torch does the same, slower: %s %s",
            source.name,
            error,
            said.decode(errors="replace")[-2000:],
        )
        return None


def multiplies_bf16() -> bool:
    """True where kernels can multiply bfloat16 natively."""
    return "__AVX512BF16__" in _processor()


def traced() -> bool:
    """True while torch records operations, for a compiler or an export: kernels would be missed."""
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return bool(tracing) or torch.compiler.is_compiling()


@cache
def _compiler() -> tuple[str, ...] | None:
    if os.environ.get("CALOFORGE_KERNELS", "1") == "0":
        return None
    chosen = shlex.split(os.environ.get("CC", ""))
    found = chosen or [name for name in ("cc", "gcc", "clang") if shutil.which(name)][:1]
    if not found:
        log.warning("no C compiler (cc, gcc, clang or $CC) was found; plain torch does the same, slower")
    return tuple(found) or None


@cache
def _processor() -> str:
    """The macros that the compiler defines for this processor; they also tell its own version."""
    compiler = _compiler()
    if compiler is None:
        return ""
    command = [*compiler, "-march=native", "-dM", "-E", "-x", "c", os.devnull]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


def in_threads(part: Callable[[int, int], None], n: int, few: int) -> None:
    """Call ``part(begin, end)`` for pieces of 0 … n in as many threads as torch uses, none for ``few``."""
    pieces = max(1, min(torch.get_num_threads(), n // few))
    bounds = [n * i // pieces for i in range(pieces + 1)]
    threads = [threading.Thread(target=part, args=pair) for pair in pairwise(bounds[1:])]
    for thread in threads:
        thread.start()
    part(*bounds[:2])
    for thread in threads:
        thread.join()


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "caloforge" / "kernels"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _compile(command: list[str], library: Path) -> None:
    """Compile beside ``library`` and rename, so that several processes may do it at once."""
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / library.name
        subprocess.run([*command, "-o", str(made)], capture_output=True, check=True)
        made.replace(library)
