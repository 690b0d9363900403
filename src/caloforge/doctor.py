"""What caloforge finds on a machine: what it will compute with, what is missing and how to get it.

Nothing is made, downloaded or changed, and a part that is broken is a finding like the others.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Finding", "Findings", "examine"]

SPACE = 2.0
"""GiB of memory or disk below which a finding is a note."""
SECONDS = 30.0
"""For Geant4's library to be loaded in a process of its own; it takes less than one."""
VARIABLES = re.compile(r"(CALOFORGE|OMP|SLURM_CPUS|GEANT4|XDG_CACHE)_\w+|G4\w+|CUDA_VISIBLE_DEVICES|CC|CXX")
"""Environment variables that change what caloforge does."""
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[[^\]]*\])?\s*(>=\s*(?P<least>[\d.]+))?")
EXTRA = re.compile(r"""extra\s*==\s*["']([\w-]+)["']""")
FOR_DEVELOPERS = ("all", "benchmark", "test", "dev")
FEATURES = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX-512 BF16", "amx_bf16": "AMX"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        state: "ok"; "note" where it works, but less well than it could; "missing" for an optional part;
            "broken".
        value: what was found.
        remedy: what to do about it.
    """

    state: Literal["ok", "note", "missing", "broken"]
    value: str
    remedy: str = ""


Findings = dict[str, Finding]
"""By what was looked at."""


def examine() -> dict[str, Findings]:
    """Findings by part of the installation and of the machine."""
    with _quiet(), _loading_geant4() as geant4:
        parts: dict[str, Callable[[], Findings]] = {
            "installation": _installation,
            "machine": _machine,
            "devices": _devices,
            "kernels": _kernels,
            "models": _models,
            "caches": _caches,
            "optional parts": _optional,
            "Geant4": lambda: _geant4(geant4),
        }
        return {name: _tried(part) for name, part in parts.items()}


def _tried(part: Callable[[], Findings]) -> Findings:
    try:
        return part()
    except Exception as error:  # whatever a broken part raises
        return {"examined": Finding("broken", f"{type(error).__name__}: {error}")}


@contextmanager
def _quiet() -> Iterator[None]:
    """Findings say what would be logged."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _installation() -> Findings:
    from caloforge.runtime.kernel_files import PREBUILT
    from caloforge.runtime.provenance import code_version

    there = {name: value for name, value in sorted(os.environ.items()) if VARIABLES.fullmatch(name)}
    return {
        "caloforge": Finding("ok", code_version()),
        "folder": Finding("ok", str(Path(__file__).parent)),
        "compiled kernels": Finding("ok", "in the wheel" if PREBUILT.is_dir() else "not in the wheel"),
        "python": Finding("ok", f"{platform.python_version()}, {sys.executable}"),
        "environment": Finding("ok", ", ".join(f"{name}={value}" for name, value in there.items()) or "–"),
    }


def _machine() -> Findings:
    from caloforge.runtime.cores import usable_cores, usable_threads, wanted_threads
    from caloforge.runtime.memory import free_memory
    from caloforge.runtime.processor import cpu_flags, processor_name

    has = [name for flag, name in FEATURES.items() if flag in cpu_flags()]
    there, usable = os.cpu_count() or 1, usable_cores()
    fewer = "" if usable == there else f" of {there}: affinity, cgroups or Slurm allow no more"
    inner, asked = wanted_threads(), os.environ.get("OMP_NUM_THREADS", "")
    return {
        "system": Finding("ok", platform.platform()),
        "processor": Finding("ok", ", ".join([processor_name(), *has])),
        "cores": Finding("ok", f"{usable}{fewer}"),
        "threads": Finding(
            "ok",
            f"{inner} in a process, up to {usable_threads()} processes"
            + (f" (OMP_NUM_THREADS={asked})" if asked else ""),
        ),
        "memory": _space(free_memory(), "free within the limits of its cgroups"),
        **{
            f"disk ({what})": _space(shutil.disk_usage(place).free, f"free in {place}")
            for what, place in (("here", os.fspath(Path.cwd())), ("temporary", tempfile.gettempdir()))
        },
    }


def _space(n: int, where: str) -> Finding:
    gib = n / 2**30
    remedy = "make room, or ask for smaller batches and fewer processes" if gib < SPACE else ""
    return Finding("note" if remedy else "ok", f"{gib:.1f} GiB {where}", remedy)


def _devices() -> Findings:
    import torch

    from caloforge.runtime.devices import pick_device
    from caloforge.runtime.precision import native_bf16

    build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for CPUs"
    found = {"torch": Finding("ok", f"{torch.__version__}, a build {build}")}
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        free, total = (n / 2**30 for n in torch.cuda.mem_get_info(index))
        room = f"{free:.1f} of {total:.1f} GiB free"
        text = f"{about.name}, compute capability {about.major}.{about.minor}, {room}"
        found[f"cuda:{index}"] = Finding("ok", text)
    if Path("/dev/nvidia0").exists() and not torch.cuda.is_available():
        remedy = "see pytorch.org for the build that fits the driver (nvidia-smi shows its version)"
        found["GPU"] = Finding("note", "there is an NVIDIA GPU that this torch cannot use", remedy)
    device = pick_device("auto")
    precision = "bfloat16 where a model leaves it open" if native_bf16(device) else "float32"
    return found | {"--device auto": Finding("ok", str(device)), "--precision auto": Finding("ok", precision)}


def _kernels() -> Findings:
    import torch

    from caloforge.runtime.compiled import kernel_origin, launches, multiplies_bf16

    origin, how = kernel_origin()
    remedy = (
        "install a C compiler (apt install gcc libc6-dev), or the wheel with kernels (docs/how-to/install.md)"
    )
    if "CALOFORGE_KERNELS" in how:
        remedy = "unset CALOFORGE_KERNELS"
    on_cpu = {
        "wheel": Finding("ok", f"those of the wheel ({how})"),
        "compiler": Finding("ok", f"compiled at first use by {how}"),
        "plain": Finding("note", f"none, plain torch is slower: {how}", remedy),
    }
    found = {"on a CPU": on_cpu[origin]}
    if origin != "plain":
        found["bfloat16"] = Finding("ok", "multiplied natively" if multiplies_bf16() else "in plain torch")
    for index in range(torch.cuda.device_count()):
        on_gpu = launches(torch.device("cuda", index))
        text = "those of trees, by Triton" if on_gpu else "none, plain torch"
        found[f"on cuda:{index}"] = Finding("ok", text)
    makers = [name for name in ("triton",) if importlib.util.find_spec(name)]
    makers += [name for name in (os.environ.get("CXX", "g++"),) if shutil.which(name)]
    by = f"can be made by {' and '.join(makers)}" if makers else "cannot be had: neither Triton nor g++"
    return found | {"--kernels fused": Finding("ok", by)}


def _models() -> Findings:
    from caloforge.checkpoint.folder import ABOUT, WEIGHTS
    from caloforge.checkpoint.pretrained import PRETRAINED, default_models, pretrained_names
    from caloforge.runtime.files import read_json

    found: Findings = {}
    for name in pretrained_names():
        used = [detector for detector, model in default_models().items() if model == name]
        text = f"default for {', '.join(used)}" if used else "whole"
        state: Literal["ok", "broken"] = "ok"
        try:
            folder = PRETRAINED / name
            digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
            if read_json(folder / ABOUT)["weights_sha256"] != digest:
                state, text = "broken", "its weights are not those that were installed"
        except Exception as error:  # whatever is wrong with the files
            state, text = "broken", str(error)
        found[name] = Finding(state, text, "" if state == "ok" else "install caloforge again")
    return found


def _caches() -> Findings:
    from caloforge.runtime.private_folder import kept_folders

    found: Findings = {}
    for name, what in (("kernels", "compiled kernels"), ("geant4", "Geant4's reduced data")):
        for folder, wrong in kept_folders(name).items():
            found[str(folder)] = Finding("ok", f"{what}, {_mebibytes(folder):.1f} MiB")
            if wrong:
                remedy = "remove it or give it to yourself alone (chmod 700)"
                found[str(folder)] = Finding("note", f"not used: {wrong}", remedy)
    return found or {"kept": Finding("ok", "nothing yet")}


def _mebibytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def _optional() -> Findings:
    """The extras; of each what is not installed, or too old. What is installed is not tried."""
    wanted: dict[str, list[tuple[str, str]]] = {}
    for text in importlib.metadata.requires("caloforge") or []:
        requirement, _, marker = text.partition(";")
        match, extra = REQUIREMENT.match(requirement.strip()), EXTRA.search(marker)
        name = extra[1] if extra else ""
        if match and match["name"] != "caloforge" and name not in FOR_DEVELOPERS and _for_this_python(marker):
            wanted.setdefault(name, []).append((match["name"], match["least"] or "0"))
    return {name or "required": _extra(name, packages) for name, packages in wanted.items()}


def _for_this_python(marker: str) -> bool:
    limit = re.search(r"""python_version\s*<\s*["']([\d.]+)["']""", marker)
    return limit is None or sys.version_info[:2] < _numbers(limit[1])


def _extra(name: str, packages: list[tuple[str, str]]) -> Finding:
    absent, old, there = [], [], []
    for package, least in packages:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            absent.append(package)
            continue
        there.append(f"{package} {version}")
        if _numbers(version) < _numbers(least):
            old.append(f"{package} {version}, at least {least} is needed")
    remedy = f"pip install 'caloforge[{name}]'" if name else "pip install --upgrade caloforge"
    if old or (absent and not name):
        return Finding("broken", "; ".join([*old, *(f"{p} is not installed" for p in absent)]), remedy)
    if absent:
        return Finding("missing", f"without {', '.join(absent)}", remedy)
    return Finding("ok", ", ".join(there))


def _numbers(version: str) -> tuple[int, ...]:
    """Of a release, without zeros at its end: 3.10.0 is 3.10."""
    release = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(number) for number in release[0].split(".")] if release else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


Geant4 = subprocess.Popen[str] | None


@contextmanager
def _loading_geant4() -> Iterator[Geant4]:
    """Geant4's library, if it is installed, in a process of its own: where it crashes, only that does."""
    if importlib.util.find_spec("geant4_pybind") is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as empty:  # a folder is named, lest it asks for its data
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", "import geant4_pybind"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd=empty,
            env=os.environ | {"GEANT4_DATA_DIR": empty},
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def _geant4(process: Geant4) -> Findings:
    from caloforge.geant4.environment import HOW_TO_GET_DATA, data_there

    if process is None:
        remedy = "pip install 'caloforge[geant4]'"
        if sys.version_info >= (3, 14):
            remedy += ", with Python 3.13 or older, for which there are builds"
        return {"geant4-pybind": Finding("missing", "showers cannot be simulated, only generated", remedy)}
    trouble = ""
    try:
        _, said = process.communicate(timeout=SECONDS)
        if process.returncode:
            trouble = (said.strip().splitlines() or [f"status {process.returncode}"])[-1]
    except subprocess.TimeoutExpired:
        trouble = f"not in {SECONDS:g} s"
    version = importlib.metadata.version("geant4-pybind")
    found = {"geant4-pybind": Finding("ok", f"{version}, can be loaded")}
    if trouble:
        remedy = "pip install --force-reinstall geant4-pybind, and see what it says when it is imported"
        found["geant4-pybind"] = Finding("broken", f"{version} cannot be loaded: {trouble}", remedy)
    try:
        data = data_there()
    except Exception as error:  # variables that lead elsewhere
        return found | {"data": Finding("broken", str(error))}
    if data is not None and data.official:
        return found | {"data": Finding("ok", f"{data.description}, {data.physics}")}
    kept = "are written at first use" if data is None else "are there"
    text = f"the reduced ones, for e-, e+ and gamma, {kept}; hadrons need the official ones"
    return found | {"data": Finding("note", text, HOW_TO_GET_DATA)}
