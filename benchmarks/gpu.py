"""What a GPU makes of caloforge, in eight minutes and one table; docs/how-to/gpu.md.

    python benchmarks/gpu.py TRAIN.h5 [--minutes 8] [--device auto] [--fused]

It runs the laws of the models, times every model that comes with caloforge at batch 1 to 10,000 with and
without a CUDA graph, counts what a decode launches and how often it waits, and trains every recipe that fits
the showers of TRAIN.h5 for a moment: step by step, as graphs, and with larger batches. It needs nothing but
caloforge and what `caloforge train` needs; without pytest or the folder tests/ the laws are left out. On a
CPU it does the same with smaller batches. With ``--fused`` models are also timed with kernels that torch's
compiler fuses, which takes minutes to make them.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from accelerate import Accelerator
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from caloforge.checkpoint import Checkpoint
from caloforge.checkpoint.pretrained import pretrained_folder, pretrained_names
from caloforge.data import Showers, open_showers
from caloforge.errors import CaloforgeError
from caloforge.generation.blocks import BlockDecoder
from caloforge.generation.request import GenerationRequest
from caloforge.models.base import load_model_class
from caloforge.models.student import Student
from caloforge.runtime.devices import device_name, pick_device
from caloforge.training import Recipe
from caloforge.training.run import TrainingRun
from caloforge.training.task import ShowerTask
from caloforge.training.team import Team
from caloforge.training.trainer import Trainer

SIZES = {"cuda": (1, 100, 1000, 10_000), "cpu": (1, 100)}
LAWS = (
    "tests/training/test_steps.py",
    "tests/models/test_recorded_training.py",
    "tests/models/test_laws.py",
    "tests/models/test_graphs.py",
)
FIRST = (
    "showertransformer",
    "showertransformer-few",
    "conv-l2lflows-small",
    "supercalo-a-small",
    "layer-flow",
)
"""Recipes that are trained before the others, which the time may not suffice for."""
SHOWERS, WARM_UP, STEPS = 2000, 15, 500
SCALES = {"cuda": (1, 16)}
"""How many times larger than the recipe's the batches are."""
SHARES = {"laws": 0.45, "models": 0.7}
"""Of the time, when a stage must be over; training takes the rest."""
WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize")
"""Calls by which a copy to the host waits; the profiler itself waits for the whole device at its end."""

Row = tuple[str, ...]


def laws(device: torch.device, seconds: float) -> str:
    """The last line of pytest, or why there is none."""
    root = Path(__file__).resolve().parents[1]
    files = [str(root / law) for law in LAWS if (root / law).is_file()]
    if not files or importlib.util.find_spec("pytest") is None:
        return "not run: no pytest or no folder tests/"
    chosen = ["-k", f"{device.type} or recorded or gpu"]
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *files]
    try:
        done = subprocess.run([*command, *chosen], cwd=root, capture_output=True, text=True, timeout=seconds)
        told = done.stdout
    except subprocess.TimeoutExpired as over:
        told = (over.stdout or b"").decode() + f"\nnot finished in {seconds:.0f} s"
    lines = [line for line in told.splitlines() if line.strip()]
    return "; ".join([*(line for line in lines if line.startswith(("FAILED", "ERROR"))), *lines[-1:]])


def decoder_of(
    name: str, n: int, device: torch.device, *, record: bool, kernels: str = "auto"
) -> BlockDecoder:
    """What makes n showers at once with a model that comes with caloforge."""
    valid = Checkpoint.load(pretrained_folder(name)).valid_range["energy"]
    energy = f"{valid[0] / 1e3:g}-{valid[1] / 1e3:g}GeV"
    request = GenerationRequest.resolve(
        name, energy=energy, n=n, device=str(device), kernels=kernels, batch_size=n, fixed_blocks=False
    )
    return BlockDecoder(request, record=record)


@torch.inference_mode()
def milliseconds(
    name: str, n: int, device: torch.device, seconds: float, *, record: bool, kernels: str = "auto"
) -> tuple[float, str]:
    """Milliseconds a shower, the median of what there is time for, and whether it was a CUDA graph."""
    decoder, times = decoder_of(name, n, device, record=record, kernels=kernels), []
    for _ in range(2):  # sets up libraries, then records
        decoder.decode(0, n)
    until = time.monotonic() + seconds
    while not times or (time.monotonic() < until and len(times) < 50):
        before = decoder.seconds
        decoder.decode(0, n)
        times.append(1e3 * (decoder.seconds - before) / n)
    return median(times), decoder.make.told


class _Operations(TorchDispatchMode):
    """Counts operations, and those that need a value on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.n, self.waits = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += 1
        self.waits += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@torch.inference_mode()
def counts(name: str, device: torch.device) -> tuple[int, int]:
    """Kernels of a shower's noise and decode (operations on a CPU), and how often the host waits for them."""
    decoder = decoder_of(name, 1, device, record=False)
    inputs = {key: value.to(device) for key, value in decoder.inputs(0, 1).items()}
    decoder.make.function(inputs)
    if device.type != "cuda":
        with _Operations() as operations:
            decoder.make.function(inputs)
        return operations.n, operations.waits
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        decoder.make.function(inputs)
    events = seen.key_averages()
    on_device = [e for e in events if str(e.device_type).endswith("CUDA")]
    kernels = sum(e.count for e in on_device if not e.key.startswith(("Memcpy", "Memset")))
    return kernels, sum(e.count for e in events if e.key in WAITS)


def generation(
    names: Sequence[str], device: torch.device, until: float, fused: bool = False
) -> Iterator[Row]:
    """A row for each model and batch."""
    todo = [(name, n) for n in SIZES.get(device.type, SIZES["cpu"]) for name in names]
    for i, (name, n) in enumerate(todo):
        left = (until - time.monotonic()) / (len(todo) - i)
        if left < 0:
            yield name, str(n), "time is up"
            continue
        try:
            plain, _ = milliseconds(name, n, device, 0.3 * left, record=False)
            graph, told = plain, "plain"
            if device.type == "cuda":
                graph, told = milliseconds(name, n, device, 0.3 * left, record=True)
            more = [""]
            if fused:
                fast, fast_told = milliseconds(name, n, device, 0.3 * left, record=True, kernels="fused")
                more = [f"{fast:.4g}" if fast_told == told else f"{fast:.4g} ({fast_told})"]
            counted = map(str, counts(name, device) if n == 1 else ())
            yield name, str(n), f"{plain:.4g}", f"{graph:.4g}", told, *more, *counted
        except (CaloforgeError, RuntimeError) as error:
            yield name, str(n), str(error).partition("\n")[0][:80]


def untrained_teacher(recipe: Recipe, showers: Showers) -> Checkpoint | None:
    """A teacher for recipes that need one, as good as any to measure the speed with."""
    cls = load_model_class(recipe.model)
    if not issubclass(cls, Student):
        return None
    teacher = cls.teacher_class
    name = f"{teacher.__module__.removeprefix('caloforge.models.')}:{teacher.__name__}"
    settings = {k: v for k, v in recipe.settings.items() if k in teacher.Settings.model_fields}
    task = ShowerTask(recipe.model_copy(update={"model": name, "settings": settings}), showers, 0)
    valid_range: dict[str, Any] = showers.conditions.ranges()
    return Checkpoint.from_model(task.model(torch.device("cpu"), showers), name, valid_range)


def throughput(name: str, showers: Showers, device: torch.device, seconds: float) -> Iterator[Row]:
    """Rows of showers a second in training, after the first steps; preparation is not counted."""
    for scale in SCALES.get(device.type, (1,)):
        recipe = Recipe.load(
            name, {"training.epochs": None, "training.steps": 10**8, "training.scale": scale}
        )
        yield _throughput(name, recipe, showers, device, seconds / len(SCALES.get(device.type, (1,))))


def _throughput(name: str, recipe: Recipe, showers: Showers, device: torch.device, seconds: float) -> Row:
    task = ShowerTask(recipe, showers, 0, teacher=untrained_teacher(recipe, showers))
    task.check()
    mixed = "bf16" if recipe.training.precision == "bf16" else "no"
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=mixed)
    with tempfile.TemporaryDirectory() as folder:
        team = Team.of(accelerator)
        trainer = TrainingRun(task, Path(folder), accelerator, team, resume=False, prefetch=False).trainer
        size, told = trainer.loader.batch_size, ""
        recorder, trainer.steps_on_device.recorder = trainer.steps_on_device.recorder, None
        plain = _step_ms(trainer, 0.5 * seconds)
        graph = plain
        if recorder is not None:
            trainer.steps_on_device.forget(recorder)
            graph = _step_ms(trainer, 0.5 * seconds)
            told = trainer.steps_on_device.told
        peak = "" if device.type != "cuda" else f"{torch.cuda.max_memory_allocated() / 2**20:.0f}"
    return name, str(size), f"{plain:.3g}", f"{graph:.3g}", told, f"{1e3 * size / graph:.0f}", peak


def _step_ms(trainer: Trainer, seconds: float) -> float:
    """Milliseconds of a step, after the first ones."""
    made, began, until = 0, 0.0, time.monotonic() + seconds
    while made < STEPS and (made <= WARM_UP or time.monotonic() < until):
        for _ in trainer.steps():
            made += 1
            if made == WARM_UP:
                trainer.check()  # waits for the device
                began = time.perf_counter()
            if made >= STEPS or (made > WARM_UP and time.monotonic() > until):
                break
        trainer.position.epoch, trainer.position.step = trainer.position.epoch + 1, 0
    trainer.check()
    return 1e3 * (time.perf_counter() - began) / (made - WARM_UP)


def training(names: Sequence[str], showers: Showers, device: torch.device, until: float) -> Iterator[Row]:
    """A row for each recipe."""
    for i, name in enumerate(names):
        left = (until - time.monotonic()) / (len(names) - i)
        if left < 0:
            yield name, "time is up"
            continue
        try:
            yield from throughput(name, showers, device, 0.5 * left)
        except (CaloforgeError, RuntimeError) as error:
            yield name, str(error).partition("\n")[0][:100]


def show(head: Row, rows: Iterator[Row]) -> None:
    """Rows as they come."""
    print("\n| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for row in rows:
        print("| " + " | ".join([*row, *[""] * (len(head) - len(row))]) + " |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("showers", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--models", help='names, with commas; all that come with caloforge, or "" for none')
    parser.add_argument("--recipes", help="names, with commas; all that fit the showers")
    parser.add_argument("--fused", action="store_true")
    parser.add_argument("--without-laws", action="store_true")
    given = parser.parse_args(arguments)
    device, start, seconds = pick_device(given.device), time.monotonic(), 60 * given.minutes
    models = (
        pretrained_names(showers=True) if given.models is None else [m for m in given.models.split(",") if m]
    )
    recipes = Recipe.names() if given.recipes is None else given.recipes.split(",")
    recipes = sorted(recipes, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    print(f"{device_name(device)}, torch {torch.__version__}, Python {platform.python_version()}")
    if not given.without_laws:
        print(f"laws: {laws(device, SHARES['laws'] * seconds)}", flush=True)
    head = ("model", "batch", "ms a shower", "with graph", "", "fused", "kernels", "waits")
    show(head, generation(models, device, start + SHARES["models"] * seconds, given.fused))
    showers = open_showers(given.showers)
    showers = showers[: min(SHOWERS, len(showers))]
    head = ("recipe", "batch", "ms a step", "with graph", "", "showers/s", "MiB")
    show(head, training(recipes, showers, device, start + seconds))
    print(f"\n{(time.monotonic() - start) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
