"""What a build adds to the files of the repository: the commit, and compiled kernels where they are wanted.

``CALOFORGE_BUILD_KERNELS=1`` asks for kernels, and there has to be a compiler ($CC or cc). There is one
library of each kernel for each kind of processor (`caloforge.runtime.kernel_files.VARIANTS`); the best is
chosen at run time. None is compiled for the machine that builds. Without them the wheel is pure Python, and
kernels are compiled where they are used.
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


class Added(BuildHookInterface):
    """Puts ``caloforge/runtime/COMMIT`` into wheels and source distributions, and kernels into a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self.folder = Path(tempfile.mkdtemp())
        if version == "editable":
            return
        sys.path.insert(0, str(Path(self.root) / "src"))
        package = "src/caloforge" if self.target_name == "sdist" else "caloforge"
        self.add_commit(package, build_data)
        if self.target_name == "wheel" and os.environ.get("CALOFORGE_BUILD_KERNELS", "0") not in ("", "0"):
            self.add_kernels(package, build_data)

    def add_commit(self, package: str, build_data: dict[str, Any]) -> None:
        """Where there is no git, as in a source distribution, what was written there before is packed."""
        from caloforge.runtime.provenance import COMMIT, commit_of

        commit = commit_of(Path(self.root))
        if commit:
            (self.folder / COMMIT.name).write_text(commit + "\n", encoding="utf-8")
            build_data["force_include"][str(self.folder / COMMIT.name)] = f"{package}/runtime/{COMMIT.name}"

    def add_kernels(self, package: str, build_data: dict[str, Any]) -> None:
        """Or a warning that says why there are none."""
        compiler = shlex.split(os.environ.get("CC", "cc"))
        if shutil.which(compiler[0]) is None:
            self.app.display_warning(f"no C compiler {compiler[0]!r}: the wheel is pure Python")
            return
        kernels = self.folder / "prebuilt"
        kernels.mkdir()
        if not build(Path(self.root) / "src", kernels, compiler):
            self.app.display_warning(f"no kernels for {sysconfig.get_platform()}: the wheel is pure Python")
            return
        build_data["force_include"][str(kernels)] = f"{package}/runtime/prebuilt"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        shutil.rmtree(self.folder)


def build(sources: Path, folder: Path, compiler: list[str]) -> int:
    """Compile all kernels for this kind of machine into a folder; returns how many libraries there are."""
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
