"""Kernels on disk: whole or made again, of this user and processor alone; their failures reach Python."""

from __future__ import annotations

import logging
import os
import platform
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from caloforge.models.networks.autoregressive.flow import AutoregressiveFlow
from caloforge.models.networks.autoregressive.kernel import _Packed, flow_library
from caloforge.runtime import compiled as kernels
from caloforge.runtime import kernel_files
from caloforge.runtime.compiled import compiled, in_threads
from caloforge.runtime.kernel_files import V3, V4, VARIANTS, find_library, library_name, make_library

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
KERNEL = """
#include "number.h"
int answer(void) { return NUMBER; }
int kind(void) {
#if defined(__AVX512BF16__)
    return 5;
#elif defined(__AVX512F__)
    return 4;
#elif defined(__AVX2__)
    return 3;
#endif
    return 0;
}
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small kernel, and a home and a folder for temporary files that are empty."""
    (tmp_path / "kernel.c").write_text(KERNEL)
    (tmp_path / "number.h").write_text("#define NUMBER 42\n")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(kernels, "PREBUILT", tmp_path / "none")
    compiled.cache_clear()
    yield tmp_path / "kernel.c"
    compiled.cache_clear()


def answer(source: Path, what: str = "answer") -> int | None:
    compiled.cache_clear()
    library = compiled(source, source.parent)
    return None if library is None else int(getattr(library, what)())


def digests(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.sha256"))


@needs_compiler
def test_kernels_are_kept_where_only_this_user_may_go(source: Path) -> None:
    folder = source.parent / "cache/caloforge/kernels"
    folder.mkdir(parents=True, mode=0o755)
    assert answer(source) == 42
    assert folder.stat().st_mode & 0o777 == 0o700
    assert digests(source.parent) == digests(folder)
    assert kernels.kernel_origin() == ("compiler", " ".join([*(kernels._compiler() or ()), "-march=native"]))
    assert digests(source.parent) == digests(folder)  # nothing is kept of what it tries
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "make_library", None)  # is not needed any more
        assert answer(source) == 42


def others_may_write(folder: Path) -> None:
    folder.chmod(0o770)


def belongs_to_another(folder: Path) -> None:
    if os.geteuid():
        pytest.skip("only root gives folders away")
    os.chown(folder, 54321, -1)


def is_a_link(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("elsewhere")


@needs_compiler
@pytest.mark.parametrize("change", [others_may_write, belongs_to_another, is_a_link])
@pytest.mark.parametrize("places", [1, 2])
def test_what_others_may_have_put_there_is_not_loaded(
    change: Callable[[Path], None], places: int, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in the cache nor among temporary files; then it is made in a new folder."""
    assert answer(source) == 42
    ours = source.parent / "cache/caloforge/kernels"
    evil = source.parent / "evil.so"
    subprocess.run(
        ["cc", "-shared", "-x", "c", "-", "-o", evil], input=b"int answer(void){return 666;}", check=True
    )
    (name,) = [path.stem for path in digests(ours)]
    theirs = [ours, source.parent / f"temporary/caloforge-kernels-{os.geteuid()}"][:places]
    for folder in theirs:
        folder.mkdir(exist_ok=True)
        digest = kernel_files.hashlib.sha256(evil.read_bytes()).hexdigest()
        (folder / f"{name}.sha256").write_text(digest)
        (folder / f"kernel-{digest[:16]}.so").write_bytes(evil.read_bytes())
        assert find_library(folder, name) is not None
        change(folder)
    caplog.clear()
    assert answer(source) == 42
    for folder in theirs:
        assert f"{folder} is not used as a cache" in caplog.text


@needs_compiler
@pytest.mark.parametrize("home", ["read-only", "a file", "missing", "relative", "no user"])
def test_homes_that_cannot_be_used(
    home: str, source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is compiled is kept among temporary files, of this user alone, without a warning."""

    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.chdir(source.parent)
    (source.parent / "file").touch()
    places = {"read-only": "/proc/self", "a file": str(source.parent / "file"), "missing": "/proc/no/such"}
    if home in places:
        monkeypatch.setenv("XDG_CACHE_HOME", places[home])
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "cache")  # not absolute: ignored
        monkeypatch.setenv("HOME", "home")
        if home == "no user":
            monkeypatch.delenv("HOME")
            monkeypatch.setattr(pwd, "getpwuid", nobody)
    with caplog.at_level(logging.WARNING):
        assert answer(source) == 42
    assert not caplog.text
    (kept,) = digests(source.parent)
    assert kept.parent == source.parent / f"temporary/caloforge-kernels-{os.geteuid()}"
    assert kept.parent.stat().st_mode & 0o777 == 0o700


@needs_compiler
def test_a_full_disk_or_a_folder_that_cannot_be_written(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = kernel_files.tempfile.TemporaryDirectory

    def read_only(dir: Path) -> tempfile.TemporaryDirectory[str]:
        if "cache" in Path(dir).parts:
            raise OSError(30, "Read-only file system")
        return real(dir=dir)

    monkeypatch.setattr(kernel_files.tempfile, "TemporaryDirectory", read_only)
    assert answer(source) == 42
    assert "temporary" in digests(source.parent)[0].parts


@needs_compiler
@pytest.mark.parametrize(
    "damage", ["truncated", "empty", "missing", "other digest", "no digest", "binary digest"]
)
def test_a_damaged_library_is_made_again(damage: str, source: Path) -> None:
    assert answer(source) == 42
    (digest,) = digests(source.parent)
    library = next(digest.parent.glob("*.so"))
    whole = library.read_bytes()
    library.rename(library.with_suffix(".mapped"))  # whose memory this process has
    library.write_bytes(whole)
    if damage == "truncated":
        library.write_bytes(whole[:4096])
    elif damage == "empty":
        library.write_bytes(b"")
    elif damage == "missing":
        library.unlink()
    else:
        digest.write_bytes({"o": b"0" * 64, "n": b"", "b": b"\xff" * 64}[damage[0]])
    assert find_library(digest.parent, digest.stem) is None
    compiled.cache_clear()
    assert compiled(source, source.parent) is not None
    assert find_library(digest.parent, digest.stem) == library
    assert library.read_bytes() == whole


def test_the_library_of_another_processor_is_not_loaded(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hosts that share a home, also where the compiler's macros do not tell them apart."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    assert answer(source) == 42
    monkeypatch.setattr(kernels, "cpu_flags", lambda: frozenset({"fpu", "sse2"}))
    assert answer(source) == 42
    assert len(digests(source.parent)) == 2
    monkeypatch.setattr(kernels, "_processor", lambda: "#define __another__ 1")
    assert answer(source) == 42
    assert len(digests(source.parent)) == 3


@needs_compiler
@pytest.mark.parametrize("locks", [True, False])
def test_eight_processes_at_once(locks: bool, source: Path) -> None:
    log = source.parent / "log"
    compiler = source.parent / "slow-cc"
    compiler.write_text(f'#!/bin/sh\necho >> {log}\nsleep 0.5\nexec cc "$@"\n')
    compiler.chmod(0o755)
    folder = source.parent / "folder"
    folder.mkdir()
    code = f"""
import ctypes, sys
from pathlib import Path
from caloforge.runtime import kernel_files
if not {locks}:
    kernel_files.SECONDS_TO_WAIT = -1.0
source = Path({str(source)!r})
folder = Path({str(folder)!r})
made = kernel_files.make_library(folder, "kernel-1", [{str(compiler)!r}], [], source, source.parent)
print(ctypes.CDLL(str(made)).answer(), "torch" in sys.modules)
"""
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    assert [process.communicate()[0] for process in processes] == ["42 False\n"] * 8
    assert (len(log.read_text().splitlines()) == 1) == locks
    assert find_library(folder, "kernel-1") is not None
    assert {path.suffix for path in folder.iterdir()} <= {".so", ".sha256", ""}


@pytest.mark.parametrize("compiler", ["no-such-compiler", "'", "false"])
def test_compilers_that_do_not_compile(
    compiler: str, source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CC", compiler)
    for cached in (kernels._compiler, kernels._processor):
        cached.cache_clear()
    try:
        assert kernels.kernel_origin()[0] == "plain"
        assert answer(source) is None
        assert "plain torch does the same" in caplog.text
    finally:
        for cached in (kernels._compiler, kernels._processor):
            cached.cache_clear()


@needs_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="variants of another processor")
def test_the_best_of_the_libraries_of_a_wheel_is_loaded(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prebuilt = source.parent / "prebuilt"
    prebuilt.mkdir()
    for variant in VARIANTS:
        if variant.machine == "x86_64":
            name = library_name(source, source.parent, *variant.flags)
            make_library(prebuilt, name, ["cc"], variant.flags, source, source.parent)
    monkeypatch.setattr(kernels, "PREBUILT", prebuilt)
    monkeypatch.setattr(kernels, "_compiler", lambda: None)
    cases = [(V3, 3), (V4, 4), (V4 | {"avx512_bf16"}, 5), (V3 | {"avx512f"}, 3), (V3 - {"fma"}, None)]
    for flags, kind in cases:
        monkeypatch.setattr(kernel_files, "cpu_flags", lambda flags=flags: flags)
        assert kernels.kernel_origin()[0] == ("plain" if kind is None else "wheel")
        assert answer(source, "kind") == kind
        assert kernels.multiplies_bf16() == (kind == 5)
    assert not digests(source.parent / "cache")
    monkeypatch.setenv("CALOFORGE_KERNELS", "0")
    monkeypatch.setattr(kernel_files, "cpu_flags", lambda: V4)
    assert answer(source) is None
    monkeypatch.delenv("CALOFORGE_KERNELS")
    source.write_text(KERNEL + "/* changed after the build */")
    assert answer(source) is None


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_an_error_in_a_thread_is_raised_when_all_have_ended(
    broken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    ended = []

    def part(begin: int, end: int) -> None:
        if begin == 10 * broken:
            raise MemoryError(f"piece {broken}")
        threading.Event().wait(0.1)
        ended.append(begin)

    with pytest.raises(MemoryError, match=f"piece {broken}"):
        in_threads(part, 30, 1)
    assert sorted(ended) == sorted({0, 10, 20} - {10 * broken})


@pytest.mark.skipif(flow_library(torch.float32, False) is None, reason="no compiled kernels")
@pytest.mark.parametrize("threads", [1, 3])
def test_a_failed_allocation_is_a_memory_error(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a crash: the kernel is told that the network is larger than any memory."""
    flow = AutoregressiveFlow(4, 0, blocks=1, hidden=8, depth=1, bins=4)
    made = _Packed.__init__

    def enormous(self: _Packed, *given: object) -> None:
        made(self, *given)  # type: ignore[arg-type]
        self.sizes.units = 10**13

    monkeypatch.setattr(_Packed, "__init__", enormous)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    with torch.no_grad(), pytest.raises(MemoryError, match="not enough memory for"):
        flow.sample(torch.randn(300, 4))
