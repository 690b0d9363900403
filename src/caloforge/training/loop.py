"""Training a model from a recipe and showers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.data.formats import open_showers
from caloforge.data.pixels import PixelEvents, holds_events, open_events
from caloforge.data.quantities import whole_number
from caloforge.data.showers import Showers
from caloforge.errors import CheckpointError, MissingDependencyError, RecipeError
from caloforge.runtime.cores import wanted_threads
from caloforge.runtime.devices import cpu_threads, pick_device
from caloforge.runtime.locks import folder_lock
from caloforge.runtime.signals import catch_signals
from caloforge.runtime.streams import checked_seed
from caloforge.training.pixel_task import PixelTask
from caloforge.training.recipe import Recipe
from caloforge.training.run import TrainingRun
from caloforge.training.state import finished_training
from caloforge.training.task import ShowerTask, TrainingTask
from caloforge.training.team import Team, before_meeting

__all__ = ["train"]

LONGEST_WAIT = timedelta(hours=6)
"""Of processes for the main one, which fits statistics, calibrates and saves for all."""


def train(
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe,
    showers: Showers | PixelEvents | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    workers: int = 1,
    overrides: Mapping[str, Any] | None = None,
    progress: bool = True,
    keep_resume: bool = False,
    teacher: Checkpoint | str | os.PathLike[str] | None = None,
    given: Showers | str | os.PathLike[str] | None = None,
    start: Checkpoint | str | os.PathLike[str] | None = None,
) -> Checkpoint:
    """Train a model and save it as a checkpoint.

    The folder ``out`` gets the checkpoint (the best weights so far, from the first epoch on), ``log.jsonl``
    with one line an epoch, ``tensorboard/`` and, until the end, ``resume/``. A training that was stopped,
    killed or lost its machine goes on with ``resume=True`` to the same weights as if it had not been stopped,
    bit for bit on a CPU with as many threads.

    Args:
        recipe: name or path of a recipe, or the recipe itself.
        showers: training showers, or pixel events, or their file; part of them is held out for validation,
            chosen by the seed. Those of several detectors whose cells differ are joined by `Showers.join`.
        out: folder of the checkpoint.
        seed: seed of the weights, the split, the order and all noise.
        resume: go on with a training that was stopped; the same one, finished, is returned as it is.
        overwrite: replace a checkpoint or a stopped training in ``out``.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        threads: CPU threads; by default ``OMP_NUM_THREADS``, else 1, which beside other programs is fastest.
        precision: of the networks, "float32" or "bfloat16"; "auto" as the model's settings say, which may
            leave it to the device. Autocast is ``training.precision`` of the recipe.
        workers: with 0, showers that do not fit in memory are not read ahead in a thread.
        overrides: changes to the recipe by dotted key, e.g. ``{"training.epochs": 5}``.
        progress: tell how far it is, on standard error.
        keep_resume: keep the folder ``resume/`` at the end.
        teacher: trained model, or its folder, for recipes that learn from one.
        given: the same showers on another mesh, or their file, for recipes that refine those.
        start: trained model, or its folder, whose weights to go on from, see `caloforge.training.adapt`.

    Raises:
        RecipeError: the recipe is malformed or does not fit the showers.
        CheckpointError: ``out`` is in use by another process or holds something else, or what is in it cannot
            be resumed.
        TrainingError: the loss became NaN or infinite, or the device is missing.
        KeyboardInterrupt: Ctrl-C, after saving.
    """
    recipe, seed = Recipe.load(recipe, overrides), checked_seed(seed)
    threads = wanted_threads() if threads is None else whole_number("threads", threads)
    folder = Path(out)
    others: dict[str, Any] = {
        "teacher": None if teacher is None else Checkpoint.load(teacher),
        "start": None if start is None else Checkpoint.load(start),
    }
    task: TrainingTask[Any]
    if isinstance(showers, PixelEvents) or (not isinstance(showers, Showers) and holds_events(Path(showers))):
        if given is not None:
            raise RecipeError("a model of pixel events is given no showers")
        task = PixelTask(recipe, open_events(showers), seed, **others)
    else:
        coarse = None if given is None else open_showers(given)
        task = ShowerTask(recipe, open_showers(showers), seed, given=coarse, **others)
    accelerator = _accelerator(device, recipe)
    team = Team.of(accelerator)
    where = (accelerator.device, precision)
    cuda = [accelerator.device] if accelerator.device.type == "cuda" else []
    on_cores = cpu_threads(threads)
    with ExitStack() as lock, on_cores, torch.random.fork_rng(devices=cuda), catch_signals() as interrupt:
        team.on_main(lambda: lock.enter_context(folder_lock(folder, error=CheckpointError)))
        finished = team.on_main(lambda: finished_training(folder, task, resume, overwrite, *where))
        if finished is not None:
            return finished
        task.check()
        run = TrainingRun(
            task, folder, accelerator, team, resume=resume, prefetch=workers > 0, precision=precision
        )
        return run.finish(interrupt, progress=progress, keep_resume=keep_resume)


def _accelerator(device: str, recipe: Recipe) -> Any:
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState, PartialState
        from accelerate.utils import InitProcessGroupKwargs
    except ImportError as error:
        raise MissingDependencyError("accelerate", "train") from error
    chosen = pick_device(device)
    if PartialState._shared_state and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        AcceleratorState._reset_state(reset_partial_state=True)  # of an earlier training in this process
    if chosen.type == "cuda" and chosen.index is not None:
        torch.cuda.set_device(chosen)
    mixed = "bf16" if recipe.training.precision == "bf16" else "no"
    waiting = InitProcessGroupKwargs(timeout=LONGEST_WAIT)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        before_meeting()
    return Accelerator(cpu=chosen.type == "cpu", mixed_precision=mixed, kwargs_handlers=[waiting])
