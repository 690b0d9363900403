"""A training under way: epochs, and saving what is done, so that it can be stopped at any time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.runtime.progress import Display
from caloforge.runtime.provenance import provenance
from caloforge.runtime.seeds import derived_seed
from caloforge.runtime.signals import Interrupt, raise_interrupt
from caloforge.training.loader import ShowerLoader, fits_in_memory
from caloforge.training.record import Log, summary
from caloforge.training.state import RESUME, has_state, load_state, remove_state, save_state, saved_run
from caloforge.training.task import TrainingTask
from caloforge.training.trainer import Trainer

__all__ = ["TrainingRun"]

SAVING_SHARE = 0.05
"""Epochs are saved one by one as long as saving takes less than this share of the time."""
LONG_EPOCH_SECONDS = 600.0
"""Epochs that take longer are also saved half-way."""


class TrainingRun:
    """Trains a task and saves it in a folder.

    Args:
        task: what is trained on what.
        folder: where the checkpoint goes.
        accelerator: an ``accelerate.Accelerator``, for precision and several processes.
        resume: go on from the state in the folder, where there is one.
        prefetch: read showers that do not fit in memory ahead.
        precision: of the networks, see `GeneratorModel.execute_on`.

    Raises:
        CheckpointError: the state in the folder is damaged or that of another training.
    """

    def __init__(
        self,
        task: TrainingTask,
        folder: Path,
        accelerator: Any,
        *,
        resume: bool,
        prefetch: bool,
        precision: str = "auto",
    ) -> None:
        self.task, self.folder, self.accelerator = task, folder, accelerator
        self.state_folder = folder / RESUME
        self.main = bool(accelerator.is_main_process)
        resume = resume and has_state(self.state_folder)
        # A resumed training keeps showers where it kept them before, since that decides their order.
        in_memory = fits_in_memory(task.showers)
        if resume:
            in_memory = bool(saved_run(self.state_folder).get("in memory", in_memory))
        where = {"in memory": in_memory, "processes": accelerator.num_processes}
        self.identity = {"recipe": task.recipe.to_dict(), "seed": task.seed, **task.fingerprints, **where}
        self.training, held_out = task.split(task.showers)
        given, given_held_out = (None, None) if task.given is None else task.split(task.given)
        model = task.model(accelerator.device, None if resume else self.training, precision)
        self.execution = model.execution
        self.identity["precision"] = self.execution.precision
        common: dict[str, Any] = {
            "batch_size": task.recipe.training.batch_size,
            "detectors": model.detectors,
            "device": accelerator.device,
            "in_memory": in_memory,
        }
        loader = ShowerLoader(
            self.training,
            given=given,
            seed=task.seed,
            prefetch=prefetch,
            process=accelerator.process_index,
            n_processes=accelerator.num_processes,
            **common,
        )
        validation = None if held_out is None else ShowerLoader(held_out, given=given_held_out, **common)
        self.trainer = Trainer(model, task.recipe.training, loader, validation, accelerator, task.seed)
        if resume:
            load_state(self.state_folder, self.trainer, self.identity)
            self.trainer.last_saved = str(folder)
        self._saved_at, self._save_seconds = time.monotonic(), 0.0

    def finish(self, interrupt: Interrupt, *, progress: bool, keep_resume: bool) -> Checkpoint:
        """Train to the end, or until a signal; the arguments are as for `caloforge.training.train`.

        Raises:
            TrainingError: the loss became NaN or infinite.
            KeyboardInterrupt: Ctrl-C, after saving.
        """
        trainer = self.trainer
        log = Log(self.folder, trainer.position.epoch) if self.main else None
        try:
            with Display("showers", enabled=progress and self.main) as show:
                self._tell_step(show, "")
                while not trainer.done:
                    for loss in trainer.steps():
                        self._tell_step(show, loss)
                        self._stop_if_asked(interrupt, show)
                        if time.monotonic() - self._saved_at > LONG_EPOCH_SECONDS:
                            self._save()
                    row = trainer.finish_epoch()
                    if log is not None:
                        log.write(row)
                    self._tell_epoch(show, row)
                    if time.monotonic() - self._saved_at > self._save_seconds / SAVING_SHARE:
                        self._save()
                    self._stop_if_asked(interrupt, show)
        finally:
            if log is not None:
                log.close()
        trainer.restore_best()
        self._calibrate()
        checkpoint = self._checkpoint()
        if self.main:
            checkpoint.save(self.folder, overwrite=True)
            if not keep_resume:
                remove_state(self.state_folder)
        checkpoint.path = self.folder
        return checkpoint

    def _tell_step(self, show: Display, loss: str) -> None:
        trainer = self.trainer
        size = trainer.loader.batch_size
        text = f"epoch {trainer.position.epoch + 1}/{trainer.n_epochs}: {loss}" if loss else ""
        show("training", trainer.position.total * size, trainer.n_steps * size, text)

    def _tell_epoch(self, show: Display, row: dict[str, Any]) -> None:
        trainer = self.trainer
        size = trainer.loader.batch_size
        text = f"epoch {row['epoch'] + 1}/{trainer.n_epochs}: {summary(row)}"
        show("training", trainer.position.total * size, trainer.n_steps * size, text)
        line = f"{text}, {row['showers_per_second']:.0f} showers/s"
        show.line(line, last=row["epoch"] + 1 == trainer.n_epochs)

    @torch.no_grad()
    def _calibrate(self) -> None:
        model = self.trainer.model.eval()
        generator = torch.Generator(device=model.device)
        model.calibrate(self.training, generator.manual_seed(derived_seed(self.task.seed, "calibrate")))

    def _stop_if_asked(self, interrupt: Interrupt, show: Display) -> None:
        number = interrupt.signal
        if self.accelerator.num_processes > 1:
            flag = torch.tensor(float(number), device=self.accelerator.device)
            number = int(self.accelerator.reduce(flag, reduction="sum"))
        if not number:
            return
        self._save()
        message = (
            f"stopped in epoch {self.trainer.position.epoch + 1} of {self.trainer.n_epochs}; all is saved in "
            f"{self.folder}, go on with resume=True (--resume)"
        )
        show.note(message)
        raise_interrupt(number, message)

    def _save(self) -> None:
        """Save the state, and the best weights so far as a checkpoint once an epoch is over."""
        self.trainer.check()
        start = time.monotonic()
        if self.main:
            save_state(self.state_folder, self.trainer, self.identity)
            if self.trainer.position.epoch:
                with self.trainer.best_weights():
                    self._checkpoint().save(self.folder, overwrite=True)
                self.trainer.last_saved = str(self.folder)
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - start

    def _checkpoint(self) -> Checkpoint:
        execution = self.execution
        made_by = provenance("train", seed=self.task.seed, device=str(self.accelerator.device)) | {
            "threads": torch.get_num_threads(),
            "precision": execution.precision,
            "autocast": str(self.accelerator.mixed_precision),
            "kernels": execution.kernels,
            "n_training": len(self.training),
            "n_showers": len(self.task.showers),
            "fingerprints": self.task.fingerprints,
        }
        return self.task.checkpoint(self.trainer.model, made_by, self.trainer.metrics())
