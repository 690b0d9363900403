"""A training under way: epochs, and saving what is done, so that it can be stopped at any time."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from caloforge.checkpoint.before import keep_before
from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.errors import TrainingError
from caloforge.models.trainable import Trainable
from caloforge.runtime.devices import device_name
from caloforge.runtime.progress import Display
from caloforge.runtime.provenance import provenance
from caloforge.runtime.seeds import derived_seed
from caloforge.runtime.signals import Interrupt, raise_interrupt
from caloforge.training.loader import fits_in_memory
from caloforge.training.record import Log, summary
from caloforge.training.selection import Selection
from caloforge.training.state import RESUME, has_state, load_state, remove_state, save_state
from caloforge.training.task import TrainingTask
from caloforge.training.team import Team
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
        accelerator: an ``accelerate.Accelerator``, for precision.
        team: the processes that train together; the main one writes into the folder, which all can read.
        resume: go on from the state in the folder, where there is one.
        prefetch: read showers that do not fit in memory ahead.
        precision: of the networks, see `Trainable.execute_on`.

    Raises:
        CheckpointError: the state in the folder is damaged or that of another training.
        TrainingError: a batch has fewer showers than there are processes, or these are not alike.
    """

    def __init__(
        self,
        task: TrainingTask[Any],
        folder: Path,
        accelerator: Any,
        team: Team,
        *,
        resume: bool,
        prefetch: bool,
        precision: str = "auto",
    ) -> None:
        self.task, self.folder, self.accelerator, self.team = task, folder, accelerator, team
        self.state_folder = folder / RESUME
        self._log: Log | None = None
        resumed = team.on_main(lambda: resume and has_state(self.state_folder))
        self.fingerprints = team.on_main(lambda: task.fingerprints)
        self.identity = {"recipe": task.recipe.to_dict(), "seed": task.seed, **self.fingerprints}
        self.identity["processes"] = team.size
        self.training, held_out = task.split(task.sample)
        given, given_held_out = (None, None) if task.given is None else task.split(task.given)
        model = self._model(not resumed, precision)
        self.execution = model.execution
        self.identity["precision"] = self.execution.precision
        if accelerator.device.type == "cpu":
            self.identity["threads"] = torch.get_num_threads()
        if team.size > 1 and model.sees_batch:
            raise TrainingError(
                f"the losses of a {type(model).__name__} compare the {task.what} of a batch with each other; "
                f"train it with one process, not with {team.size}"
            )
        precisions = team.gather(self.execution.precision)
        if len(set(precisions)) > 1:
            raise TrainingError(
                f"the processes would compute in {', '.join(precisions)}; choose one precision (--precision)"
            )
        settings = task.recipe.training.scaled()
        common: dict[str, Any] = {
            "batch_size": settings.batch_size,
            "detectors": model.detectors,
            "device": accelerator.device,
            "in_memory": fits_in_memory(task.sample),
            "process": team.index,
            "n_processes": team.size,
        }
        loader = task.loader(self.training, given, seed=task.seed, prefetch=prefetch, **common)
        if loader.batch_size < team.size:
            raise TrainingError(
                f"batches of {loader.batch_size} {task.what} are too small for {team.size} processes"
            )
        validation = None if held_out is None else task.loader(held_out, given_held_out, **common)
        selection = None
        if settings.select is not None and held_out is not None:
            selection = Selection(settings.select, held_out, given_held_out, accelerator.device, task.seed)
        self.trainer = Trainer(model, settings, loader, validation, accelerator, team, task.seed, selection)
        if resumed:
            load_state(self.state_folder, self.trainer, self.identity)
            self.trainer.last_saved = str(folder)
        elif task.start is not None:
            self.trainer.judge_start()
        self._saved_at, self._save_seconds = time.monotonic(), 0.0

    def finish(self, interrupt: Interrupt, *, progress: bool, keep_resume: bool) -> Checkpoint:
        """Train to the end, or until a signal; the arguments are as for `caloforge.training.train`.

        Raises:
            TrainingError: the loss became NaN or infinite.
            KeyboardInterrupt: Ctrl-C, after saving.
        """
        trainer, team = self.trainer, self.team
        team.on_main(self._open_log)
        team.on_main(self._keep_before)
        try:
            with Display(self.task.what, enabled=progress and team.main) as show:
                self._tell_step(show, "")
                while not trainer.done:
                    for loss in trainer.steps():
                        self._tell_step(show, loss)
                        if trainer.losses_are_read or team.size == 1:
                            self._save_or_stop(interrupt, show, LONG_EPOCH_SECONDS)
                    row = trainer.finish_epoch()
                    team.on_main(partial(self._write_log, row))
                    self._tell_epoch(show, row)
                    self._save_or_stop(interrupt, show, self._save_seconds / SAVING_SHARE)
        finally:
            if self._log is not None:
                self._log.close()
        trainer.restore_best()
        team.on_main(self._calibrate)
        team.copy_from_main(trainer.model.state_dict().values())
        checkpoint = self._checkpoint()
        team.on_main(lambda: checkpoint.save(self.folder, overwrite=True))
        if team.main and not keep_resume:
            remove_state(self.state_folder)
        checkpoint.path = self.folder
        return checkpoint

    def _model(self, fit: bool, precision: str) -> Trainable:
        """The model at the beginning; the main process fits its statistics for all."""
        device, sample = self.accelerator.device, self.training if fit else None
        if self.team.size == 1:
            return self.task.model(device, sample, precision)
        made: list[Trainable] = []
        self.team.on_main(lambda: made.append(self.task.model(device, sample, precision)))
        model = made[0] if made else self.task.model(device, None, precision)
        self.team.copy_from_main(model.state_dict().values())
        return model

    def _open_log(self) -> None:
        self._log = Log(self.folder, self.trainer.position.epoch)

    def _keep_before(self) -> None:
        start = self.task.start
        if start is not None and not set(start.detectors) <= set(self.task.meshes):
            keep_before(start, self.folder)

    def _write_log(self, row: dict[str, Any]) -> None:
        if self._log is not None:
            self._log.write(row)

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
        line = f"{text}, {row['showers_per_second']:.0f} {self.task.what}/s"
        show.line(line, last=row["epoch"] + 1 == trainer.n_epochs)

    @torch.no_grad()
    def _calibrate(self) -> None:
        model = self.trainer.model.eval()
        generator = torch.Generator(device=model.device)
        model.calibrate(self.training, generator.manual_seed(derived_seed(self.task.seed, "calibrate")))

    def _save_or_stop(self, interrupt: Interrupt, show: Display, seconds: float) -> None:
        """Save when that was ``seconds`` ago, and stop when a signal asked any of the processes to."""
        due = time.monotonic() - self._saved_at > seconds
        number, save = self.team.largest(interrupt.signal, due and self.team.main)
        if number or save:
            self._save()
        if not number:
            return
        message = (
            f"stopped in epoch {self.trainer.position.epoch + 1} of {self.trainer.n_epochs}; all is saved in "
            f"{self.folder}, go on with resume=True (--resume)"
        )
        raise_interrupt(int(number), message)

    def _save(self) -> None:
        """Save the state, and the best weights so far as a checkpoint once an epoch is over."""
        self.trainer.check()
        self.trainer.check_weights()
        start = time.monotonic()
        self.team.on_main(self._write)
        if self.trainer.position.epoch:
            self.trainer.last_saved = str(self.folder)
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - start

    def _write(self) -> None:
        save_state(self.state_folder, self.trainer, self.identity)
        if self.trainer.position.epoch:
            with self.trainer.best_weights():
                self._checkpoint().save(self.folder, overwrite=True)

    def _checkpoint(self) -> Checkpoint:
        execution = self.execution
        made_by = provenance("train", seed=self.task.seed, device=str(self.accelerator.device)) | {
            "device": device_name(self.accelerator.device),
            "threads": torch.get_num_threads(),
            "precision": execution.precision,
            "autocast": str(self.accelerator.mixed_precision),
            "kernels": execution.kernels,
            "n_training": len(self.training),
            "n_showers": len(self.task.sample),
            "fingerprints": self.fingerprints,
        }
        return self.task.checkpoint(self.trainer.model, made_by, self.trainer.metrics())
