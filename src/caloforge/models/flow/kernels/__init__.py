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
from functools import cache
from pathlib import Path

__all__ = ["compiled", "kernel_name", "multiplies_bf16"]

FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
log = logging.getLogger(__name__)


def kernel_name() -> str:
    """How autoregressive flows are computed on a CPU, for provenance: "compiled" or "plain"."""
    return "plain" if compiled("autoregressive.c", "-DREAL=float", "-DBF16=0") is None else "compiled"


@cache
def compiled(source: str, *definitions: str) -> ctypes.CDLL | None:
    """The shared library of ``source``, a file of this folder; None where it cannot be had."""
    compiler = _compiler()
    if compiler is None:
        return None
    path = Path(__file__).with_name(source)
    command = [*compiler, *FLAGS, *definitions]
    key = "\n".join([path.read_text(), " ".join(command), _processor()])
    name = f"{path.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    try:
        library = _cache_folder() / name
        if not library.exists():
            _compile([*command, str(path), "-lm"], library)
        return ctypes.CDLL(str(library))
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or b""
        log.warning(
            "%s could not be compiled; plain torch does the same, slower: %s %s",
            source, error, said.decode(errors="replace")[-2000:],
        )  # fmt: skip
        return None


def multiplies_bf16() -> bool:
    """True where kernels can multiply bfloat16 natively."""
    return "__AVX512BF16__" in _processor()


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
