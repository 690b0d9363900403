"""Libraries of C kernels on disk: how they are named, compiled, kept, and checked before they are mapped.

A library's name says what it was made of, and a file of that name holds the digest under which the library
itself lies. That file is written last: a library that a full disk, a kill or another process cut short is not
mapped, but made again.

Needs the standard library only: the build of a wheel (hatch_build.py) uses it, too.
"""

from __future__ import annotations

import fcntl
import hashlib
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from caloforge.runtime.files import whole_file
from caloforge.runtime.processor import cpu_flags

__all__ = ["PREBUILT", "VARIANTS", "Variant", "find_library", "library_name", "make_library"]

PREBUILT = Path(__file__).with_name("prebuilt")
"""Libraries that came with the wheel; the folder is in no other installation."""
FLAGS = ("-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
SECONDS_TO_WAIT = 60.0
"""For another process that compiles the same; a compiler needs a few."""
V3 = frozenset(["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"])
V4 = V3 | frozenset(["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"])


@dataclass(frozen=True)
class Variant:
    """Kernels for all processors of a kind, as wheels have them.

    Attributes:
        machine: what `platform.machine` calls the kind.
        flags: the compiler's.
        needs: flags of /proc/cpuinfo without which they are not run.
        bf16: they multiply bfloat16.
    """

    machine: str
    flags: tuple[str, ...]
    needs: frozenset[str] = frozenset()
    bf16: bool = False

    def runs_here(self) -> bool:
        """True where this processor can run them."""
        return self.machine == platform.machine() and self.needs <= cpu_flags()


VARIANTS = (
    Variant("x86_64", ("-march=x86-64-v4", "-mavx512bf16"), V4 | {"avx512_bf16"}, bf16=True),
    Variant("x86_64", ("-march=x86-64-v4",), V4),
    Variant("x86_64", ("-march=x86-64-v3",), V3),
    Variant("aarch64", ("-march=armv8-a",)),
)
"""The best first."""


def library_name(source: Path, headers: Path, *made_by: str) -> str:
    """The C file's name and a digest of it, of the headers in a folder, and of further texts."""
    texts = [
        source.read_text("utf-8"),
        *(header.read_text("utf-8") for header in sorted(headers.glob("*.h"))),
        *FLAGS,
        *made_by,
    ]
    return f"{source.stem}-{hashlib.sha256(chr(0).join(texts).encode()).hexdigest()[:16]}"


def find_library(folder: Path, name: str) -> Path | None:
    """The library called ``name``, if it is whole."""
    try:
        digest = (folder / f"{name}.sha256").read_text("ascii").strip()
        if not re.fullmatch("[0-9a-f]{64}", digest):
            return None
        library = _place(folder, name, digest)
        return library if hashlib.sha256(library.read_bytes()).hexdigest() == digest else None
    except (OSError, UnicodeDecodeError):
        return None


def make_library(
    folder: Path, name: str, compiler: Sequence[str], flags: Iterable[str], source: Path, headers: Path
) -> Path:
    """Compile a library into a folder, unless another process does so meanwhile.

    Raises:
        OSError: there is no such compiler, or the folder cannot be written.
        CalledProcessError: the compiler fails; its ``stderr`` says why.
    """
    with _alone(folder):
        found = find_library(folder, name)
        if found is not None:
            return found
        with tempfile.TemporaryDirectory(dir=folder) as here:
            made = Path(here) / "made.so"
            command = [*compiler, *FLAGS, *flags, f"-I{headers}", str(source), "-lm", "-o", str(made)]
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
            data = made.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        library = _place(folder, name, digest)
        for path, content in ((library, data), (folder / f"{name}.sha256", digest.encode())):
            with whole_file(path) as file:
                file.write(content)
        return library


def _place(folder: Path, name: str, digest: str) -> Path:
    return folder / f"{name.rpartition('-')[0]}-{digest[:16]}.so"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which only saves time: without locks, or if another process keeps it, go on."""
    with (folder / "lock").open("ab") as lock:
        end = time.monotonic() + SECONDS_TO_WAIT
        while time.monotonic() < end:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                break
        yield
