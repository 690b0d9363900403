"""Training a model from a recipe and showers."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.data.conditions import merged_ranges
from caloforge.data.formats import open_showers
from caloforge.data.showers import Showers
from caloforge.errors import MissingDependencyError, TrainingError
from caloforge.models.base import GeneratorModel, load_model_class
from caloforge.runtime.devices import pick_device
from caloforge.runtime.precision import fast_bf16
from caloforge.runtime.provenance import provenance
from caloforge.runtime.seeds import derived_seed
from caloforge.runtime.signals import Interrupt, catch_signals, raise_interrupt
from caloforge.training.checks import check_given, check_start, finished_training
from caloforge.training.loader import ShowerLoader, fits_in_memory
from caloforge.training.recipe import Recipe
from caloforge.training.record import Display, Log, display
from caloforge.training.state import (
    data_fingerprint,
    has_state,
    load_state,
    remove_state,
    save_state,
    saved_run,
)
from caloforge.training.trainer import Trainer

__all__ = ["train"]

SAVING_SHARE = 0.05
"""Epochs are saved one by one as long as saving takes less than this share of the time."""
LONG_EPOCH_SECONDS = 600.0
"""Epochs that take longer are also saved half-way."""


def train(
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe,
    showers: Showers | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    workers: int = 0,
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
        showers: training showers or their file; part of them is held out for validation, chosen by the seed.
            Those of several detectors whose cells differ are joined by `Showers.join`.
        out: folder of the checkpoint.
        seed: seed of the weights, the split, the order and all noise.
        resume: go on with a training that was stopped; a finished one is returned as it is.
        overwrite: replace a checkpoint or a stopped training in ``out``.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        workers: with 1 or more, showers that do not fit in memory are read ahead in a thread.
        overrides: changes to the recipe by dotted key, e.g. ``{"training.epochs": 5}``.
        progress: tell how far it is, on standard error.
        keep_resume: keep the folder ``resume/`` at the end.
        teacher: trained model, or its folder, for recipes that learn from one.
        given: the same showers on another mesh, or their file, for recipes that refine those.
        start: trained model, or its folder, whose weights to go on from, see `caloforge.training.adapt`.

    Raises:
        RecipeError: the recipe is malformed or does not fit the showers.
        CheckpointError: ``out`` is in use, or what is in it cannot be resumed.
        TrainingError: the loss became NaN or infinite, or the device is missing.
        KeyboardInterrupt: Ctrl-C, after saving.
    """
    recipe = Recipe.load(recipe, overrides)
    folder = Path(out)
    finished = finished_training(folder, recipe, seed, resume, overwrite)
    if finished is not None:
        return finished
    if not isinstance(showers, Showers):
        showers = open_showers(showers)
    recipe.check(showers)
    if teacher is not None and not isinstance(teacher, Checkpoint):
        teacher = Checkpoint.load(teacher)
    if start is not None:
        start = start if isinstance(start, Checkpoint) else Checkpoint.load(start)
        check_start(start, recipe, showers)
    if given is not None:
        given = given if isinstance(given, Showers) else open_showers(given)
        check_given(given, showers)
    accelerator = _accelerator(device, recipe)
    cuda = [accelerator.device] if accelerator.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), catch_signals() as interrupt:
        run = _Run(
            recipe,
            showers,
            folder,
            seed,
            accelerator,
            resume=resume,
            prefetch=workers > 0,
            teacher=teacher,
            given=given,
            start=start,
        )
        return run.go(interrupt, progress, keep_resume)


def _accelerator(device: str, recipe: Recipe) -> Any:
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState, PartialState
    except ImportError as error:
        raise MissingDependencyError("accelerate", "train") from error
    chosen = pick_device(device)
    precision = recipe.training.precision
    if precision == "auto":
        wanted = load_model_class(recipe.model).low_precision
        precision = "bf16" if wanted and fast_bf16(chosen) else "float32"
    if PartialState._shared_state and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        AcceleratorState._reset_state(reset_partial_state=True)  # of an earlier training in this process
    if chosen.type == "cuda" and chosen.index is not None:
        torch.cuda.set_device(chosen)
    mixed = "bf16" if precision == "bf16" else "no"
    accelerator = Accelerator(cpu=chosen.type == "cpu", mixed_precision=mixed)
    if recipe.training.batch_size % accelerator.num_processes:
        raise TrainingError(
            f"training.batch_size {recipe.training.batch_size} must be a multiple of the "
            f"{accelerator.num_processes} processes"
        )
    return accelerator


class _Run:
    """One call of `train`."""

    def __init__(
        self,
        recipe: Recipe,
        showers: Showers,
        folder: Path,
        seed: int,
        accelerator: Any,
        *,
        resume: bool,
        prefetch: bool,
        teacher: Checkpoint | None,
        given: Showers | None,
        start: Checkpoint | None,
    ) -> None:
        self.recipe, self.showers, self.folder, self.seed = recipe, showers, folder, seed
        self.accelerator, self.resume_folder = accelerator, folder / "resume"
        self.main = bool(accelerator.is_main_process)
        resume = resume and has_state(self.resume_folder)
        self.teacher, self.start = teacher, start
        training, held_out = _split(showers, recipe.training.validation_fraction, seed)
        given_training, given_held_out = None, None
        if given is not None:
            given_training, given_held_out = _split(given, recipe.training.validation_fraction, seed)
        # A resumed training keeps showers where it kept them before, since that decides their order.
        in_memory = fits_in_memory(showers)
        if resume:
            in_memory = bool(saved_run(self.resume_folder).get("in memory", in_memory))
        self.about_run = {
            "recipe": recipe.to_dict(),
            "seed": seed,
            "data": data_fingerprint(showers),
            "in memory": in_memory,
            "processes": accelerator.num_processes,
            "teacher": "" if teacher is None else teacher.fingerprint,
            "given": "" if given is None else data_fingerprint(given),
            "start": "" if start is None else start.fingerprint,
        }
        model = self._model(training, fit=not resume)
        common: dict[str, Any] = {
            "detectors": model.detectors,
            "device": accelerator.device,
            "in_memory": in_memory,
        }
        batch_size = recipe.training.batch_size
        loader = ShowerLoader(
            training,
            batch_size,
            seed=seed,
            prefetch=prefetch,
            process=accelerator.process_index,
            n_processes=accelerator.num_processes,
            given=given_training,
            **common,
        )
        validation = (
            None if held_out is None else ShowerLoader(held_out, batch_size, given=given_held_out, **common)
        )
        self.trainer = Trainer(model, recipe.training, loader, validation, accelerator, seed)
        if resume:
            load_state(self.resume_folder, self.trainer, self.about_run)
            self.trainer.last_saved = str(self.folder)
        self.training = training
        self._saved_at, self._save_seconds = time.monotonic(), 0.0

    def _model(self, training: Showers, fit: bool) -> GeneratorModel:
        torch.manual_seed(derived_seed(self.seed, "weights"))
        meshes = dict(sorted(self.showers.meshes.items()))
        if self.start is None:
            model = load_model_class(self.recipe.model)(next(iter(meshes.values())), self.recipe.settings)
            model.detectors, model.meshes = tuple(meshes), meshes
        else:
            model = self.start.model(self.accelerator.device)
            model.detectors = tuple(dict.fromkeys([*self.start.detectors, *meshes]))
            model.meshes = self.start.meshes | meshes
        if self.teacher is not None:
            for name, mesh in meshes.items():
                self.teacher.require_mesh(mesh, "the file of showers", name)
            teacher = self.teacher.model(self.accelerator.device)
            model.use_teacher(teacher.requires_grad_(False))
        if fit and self.start is None:
            model.fit(training)
        elif fit:
            model.adapt(training)
        return model.to(self.accelerator.device)

    def go(self, interrupt: Interrupt, progress: bool, keep_resume: bool) -> Checkpoint:
        trainer = self.trainer
        loader = trainer.loader
        show = display(progress and self.main, trainer.n_steps, trainer.n_epochs, loader.batch_size)
        log = Log(self.folder, trainer.at.epoch) if self.main else None
        try:
            while not trainer.done:
                for loss in trainer.steps():
                    show.step(trainer.at.epoch, trainer.at.total, loss)
                    self._stop_if_asked(interrupt, show)
                    if time.monotonic() - self._saved_at > LONG_EPOCH_SECONDS:
                        self._save()
                row = trainer.finish_epoch()
                if log is not None:
                    log.write(row)
                show.epoch(row)
                if time.monotonic() - self._saved_at > self._save_seconds / SAVING_SHARE:
                    self._save()
                self._stop_if_asked(interrupt, show)
        finally:
            show.close()
            if log is not None:
                log.close()
        trainer.restore_best()
        self._calibrate()
        checkpoint = self._checkpoint()
        if self.main:
            checkpoint.save(self.folder, overwrite=True)
            if not keep_resume:
                remove_state(self.resume_folder)
        checkpoint.path = self.folder
        return checkpoint

    @torch.no_grad()
    def _calibrate(self) -> None:
        model = self.trainer.model.eval()
        generator = torch.Generator(device=model.device)
        model.calibrate(self.training, generator.manual_seed(derived_seed(self.seed, "calibrate")))

    def _stop_if_asked(self, interrupt: Interrupt, show: Display) -> None:
        number = interrupt.signal
        if self.accelerator.num_processes > 1:
            flag = torch.tensor(float(number), device=self.accelerator.device)
            number = int(self.accelerator.reduce(flag, reduction="sum"))
        if not number:
            return
        self._save()
        message = (
            f"stopped in epoch {self.trainer.at.epoch + 1} of {self.trainer.n_epochs}; all is saved in "
            f"{self.folder}, go on with resume=True (--resume)"
        )
        show.note(message)
        raise_interrupt(number, message)

    def _save(self) -> None:
        """Save the state, and the best weights so far as a checkpoint once an epoch is over."""
        self.trainer.check()
        start = time.monotonic()
        if self.main:
            save_state(self.resume_folder, self.trainer, self.about_run)
            if self.trainer.at.epoch:
                with self.trainer.best_weights():
                    self._checkpoint().save(self.folder, overwrite=True)
                self.trainer.last_saved = str(self.folder)
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - start

    def _checkpoint(self) -> Checkpoint:
        made_by = provenance("train", seed=self.seed, device=str(self.accelerator.device))
        made_by |= {
            "threads": torch.get_num_threads(),
            "precision": str(self.accelerator.mixed_precision),
            "n_training": len(self.training),
            "n_showers": len(self.showers),
            "data_fingerprint": self.about_run["data"],
            "showers": self.showers.provenance,
        }
        for name, other in (("teacher", self.teacher), ("start", self.start)):
            if other is not None:
                made_by[name] = {
                    "fingerprint": other.fingerprint,
                    "model": other.model_name,
                    "provenance": other.provenance,
                }
        ranges = {} if self.start is None else {n: self.start.range_of(n) for n in self.start.detectors}
        conditions = self.showers.conditions
        ranges |= {
            name: conditions[conditions.detector == name].ranges() for name in sorted(self.showers.meshes)
        }
        return Checkpoint.of(
            self.trainer.model,
            self.recipe.model,
            merged_ranges(list(ranges.values())),
            valid_ranges=ranges if len(ranges) > 1 else {},
            recipe=self.recipe.to_dict(),
            provenance=made_by,
            seed=self.seed,
            metrics=self.trainer.metrics(),
        )


def _split(showers: Showers, fraction: float, seed: int) -> tuple[Showers, Showers | None]:
    """Training and held-out showers, each in their order; which are which is a function of the seed."""
    n = len(showers)
    n_held_out = max(1, round(n * fraction)) if fraction > 0 else 0
    if n - n_held_out < 1:
        raise TrainingError(f"{n} showers are too few to train on {n - n_held_out} and hold out {n_held_out}")
    if not n_held_out:
        return showers, None
    order = np.random.default_rng(derived_seed(seed, "split")).permutation(n)
    return showers[np.sort(order[n_held_out:])], showers[np.sort(order[:n_held_out])]
