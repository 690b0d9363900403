"""Kernels in C: those that came with the wheel, or else compiled at first use by a compiler and kept.

Those for CUDA devices are in Triton, which comes with torch there and compiles them at first use.

Set ``CALOFORGE_KERNELS=0`` to do without: everything that has a kernel also has a plain torch version. That
is also used where no compiler is found, with one warning.
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import os
import platform
import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch

from caloforge.runtime.kernel_files import PREBUILT, VARIANTS, find_library, library_name, make_library
from caloforge.runtime.private_folder import private_folders
from caloforge.runtime.processor import cpu_flags

__all__ = ["REALS", "compiled", "in_threads", "kernel_origin", "launches", "multiplies_bf16", "traced"]

NATIVE = "-march=native"
REALS = {torch.float32: "-DREAL=float", torch.float64: "-DREAL=double"}
"""What kernels can calculate in."""
log = logging.getLogger(__name__)


@cache
def compiled(source: Path, headers: Path, *definitions: str) -> ctypes.CDLL | None:
    """The library of a C file that includes files of the folder ``headers``; None where it cannot be had."""
    if not _wanted():
        return None
    return _prebuilt(source, headers, definitions) or _compiled_here(source, headers, definitions)


def _prebuilt(source: Path, headers: Path, definitions: tuple[str, ...]) -> ctypes.CDLL | None:
    if PREBUILT.is_dir():
        for variant in VARIANTS:
            if variant.runs_here():
                found = find_library(PREBUILT, library_name(source, headers, *variant.flags, *definitions))
                try:
                    if found is not None:
                        return ctypes.CDLL(str(found))
                except OSError as error:  # of another C library
                    log.info("%s: %s", found, error)
    return None


def _compiled_here(source: Path, headers: Path, definitions: tuple[str, ...]) -> ctypes.CDLL | None:
    compiler = _compiler()
    if compiler is None:
        return None
    flags = (NATIVE, *definitions)
    host = (platform.machine(), " ".join(sorted(cpu_flags())), _processor())
    name = library_name(source, headers, *compiler, *flags, *host)
    problem: OSError | subprocess.CalledProcessError = OSError("no folder to keep it in")
    for folder in private_folders("kernels"):
        try:
            found = find_library(folder, name)
            return ctypes.CDLL(str(found or make_library(folder, name, compiler, flags, source, headers)))
        except FileNotFoundError as error:  # the compiler
            problem = error
            break
        except OSError as error:  # the folder cannot be written, or what is in it not be run
            problem = error
        except subprocess.CalledProcessError as error:
            problem = error
            break
    said = getattr(problem, "stderr", None) or b""
    log.warning(
        "%s could not be compiled; plain torch does the same, slower: %s %s",
        source.name,
        problem,
        said.decode(errors="replace")[-2000:],
    )
    return None


def kernel_origin() -> tuple[Literal["wheel", "compiler", "plain"], str]:
    """Where kernels for this CPU come from, with their flags; or that there are none, and why.

    No kernel is made; whether the compiler can make one is tried on a line of C.
    """
    if not _wanted():
        return "plain", "CALOFORGE_KERNELS=0"
    best = next((variant for variant in VARIANTS if variant.runs_here()), None)
    if PREBUILT.is_dir() and best is not None:
        return "wheel", " ".join(best.flags)
    compiler = _compiler()
    if compiler is None:
        return "plain", "no C compiler (cc, gcc, clang or $CC) was found"
    try:
        with TemporaryDirectory() as folder:
            probe = Path(folder) / "probe.c"
            probe.write_text("#include <math.h>\ndouble probe(double x) { return exp(x); }\n")
            ctypes.CDLL(str(make_library(probe.parent, "probe-1", compiler, (NATIVE,), probe, probe.parent)))
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
        return "plain", f"{' '.join(compiler)} makes no library that can be run: {said or error}"
    return "compiler", f"{' '.join(compiler)} {NATIVE}"


def multiplies_bf16() -> bool:
    """True where kernels can multiply bfloat16 natively: the processor, and who compiles or compiled them."""
    return (
        _wanted()
        and any(variant.bf16 and variant.runs_here() for variant in VARIANTS)
        and (PREBUILT.is_dir() or "__AVX512BF16__" in _processor())
    )


def traced() -> bool:
    """True while torch records operations, for a compiler or an export: kernels would be missed."""
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return bool(tracing) or torch.compiler.is_compiling()


@cache
def launches(device: torch.device) -> bool:
    """True for devices on which kernels in Triton can be launched."""
    there = importlib.util.find_spec("triton") is not None
    return _wanted() and device.type == "cuda" and torch.version.hip is None and there


def _wanted() -> bool:
    return os.environ.get("CALOFORGE_KERNELS", "1") != "0"


@cache
def _compiler() -> tuple[str, ...] | None:
    try:
        chosen = shlex.split(os.environ.get("CC", ""))
    except ValueError:  # a quotation mark without its other
        chosen = [os.environ["CC"]]
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
    command = [*compiler, NATIVE, "-dM", "-E", "-x", "c", os.devnull]
    try:
        return subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=False
        ).stdout
    except OSError:
        return ""


def in_threads(part: Callable[[int, int], None], n: int, few: int) -> None:
    """Call ``part(begin, end)`` for pieces of 0 … n in as many threads as torch uses, none for ``few``.

    All have ended when this returns or raises; the first exception of any of them is raised.
    """
    pieces = max(1, min(torch.get_num_threads(), n // few))
    bounds = [n * i // pieces for i in range(pieces + 1)]
    failures: list[BaseException] = []

    def guarded(begin: int, end: int) -> None:
        try:
            part(begin, end)
        except BaseException as error:
            failures.append(error)

    threads: list[threading.Thread] = []
    try:
        for pair in pairwise(bounds[1:]):
            thread = threading.Thread(target=guarded, args=pair)
            thread.start()
            threads.append(thread)
        part(*bounds[:2])
    finally:
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
