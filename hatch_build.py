"""Kernels for a wheel, where ``CALOFORGE_BUILD_KERNELS=1`` asks for them and there is a compiler ($CC or cc).

There is one library of each kernel for each kind of processor; the best is chosen at run time. Without them
the wheel is pure Python, and kernels are compiled where they are used.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODELS = Path("caloforge/models")
FLOW, TREE = MODELS / "networks/autoregressive/autoregressive.c", MODELS / "tree/tree.c"
KERNELS = {
    FLOW: ("-DREAL=float -DBF16=0", "-DREAL=double -DBF16=0"),
    MODELS / "networks/splines/splines.c": ("-DREAL=float", "-DREAL=double"),
    TREE: ("-DREAL=float -DBF16=0",),
}
KERNELS_BF16 = {FLOW: ("-DREAL=float -DBF16=1",), TREE: ("-DREAL=float -DBF16=1",)}
HEADERS = MODELS / "networks/splines"


class Kernels(BuildHookInterface):
    """Puts kernels into ``caloforge/runtime/prebuilt``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self.folder = ""
        if version == "editable" or os.environ.get("CALOFORGE_BUILD_KERNELS", "0") in ("", "0"):
            return
        compiler = shlex.split(os.environ.get("CC", "cc"))
        if shutil.which(compiler[0]) is None:
            self.app.display_warning(f"no C compiler {compiler[0]!r}: the wheel is pure Python")
            return
        self.folder = tempfile.mkdtemp()
        if not build(Path(self.root) / "src", Path(self.folder), compiler):
            self.app.display_warning(f"no kernels for {sysconfig.get_platform()}: the wheel is pure Python")
            return
        build_data["force_include"][self.folder] = "caloforge/runtime/prebuilt"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self.folder:
            shutil.rmtree(self.folder)


def build(sources: Path, folder: Path, compiler: list[str]) -> int:
    """Compile all kernels for this kind of machine into a folder; returns how many libraries there are."""
    sys.path.insert(0, str(sources))
    from caloforge.runtime.kernel_files import VARIANTS, library_name, make_library

    made = 0
    for variant in VARIANTS:
        if sysconfig.get_platform() == f"linux-{variant.machine}":
            for kernel, kinds in (KERNELS_BF16 if variant.bf16 else KERNELS).items():
                for definitions in kinds:
                    flags = (*variant.flags, *definitions.split())
                    where = sources / kernel, sources / HEADERS
                    make_library(folder, library_name(*where, *flags), compiler, flags, *where)
                    made += 1
    (folder / "lock").unlink(missing_ok=True)
    return made
