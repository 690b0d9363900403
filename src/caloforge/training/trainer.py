"""The loop proper: steps, validation, and the state from which it goes on as if nothing had happened.

Everything random in a step is a function of (seed, epoch, step), so that a training that was stopped after
any step and resumed gives the same weights, bit for bit on a CPU with the same number of threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from caloforge.errors import TrainingError
from caloforge.models.trainable import Trainable
from caloforge.runtime.memory import peak_memory_mib
from caloforge.runtime.seeds import derived_seed, seed_torch
from caloforge.training.augmentations import drawn_move
from caloforge.training.loader import Loader
from caloforge.training.optimise import PartTrainer, part_trainers
from caloforge.training.recipe import TrainingSettings
from caloforge.training.selection import Selection
from caloforge.training.steps import Logged, Steps
from caloforge.training.team import Team

__all__ = ["Position", "Trainer"]

Sums = dict[str, dict[str, list[float]]]
CHECK_EVERY_GPU = 20


@dataclass
class Position:
    """Where a training is: the next step to make, and what the epoch under way has summed up."""

    epoch: int = 0
    step: int = 0
    total: int = 0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    sums: Sums = field(default_factory=dict)


class Trainer:
    """Trains the parts of one model.

    Args:
        model: the model, on its device, its statistics fitted.
        settings: the recipe's training settings.
        loader: training showers.
        validation: held-out showers, or None.
        accelerator: an ``accelerate.Accelerator``, for precision.
        team: the processes that train together.
        seed: seed of everything random.
        selection: measures showers and says which weights are best, where that is not the validation loss.
    """

    def __init__(
        self,
        model: Trainable,
        settings: TrainingSettings,
        loader: Loader[Any, Any],
        validation: Loader[Any, Any] | None,
        accelerator: Any,
        team: Team,
        seed: int,
        selection: Selection | None = None,
    ) -> None:
        self.model, self.settings, self.loader, self.validation = model, settings, loader, validation
        self.accelerator, self.team, self.seed = accelerator, team, seed
        self.selection = selection
        per_epoch = loader.steps_per_epoch
        self.n_steps = settings.steps or (settings.epochs or 0) * per_epoch
        self.n_epochs = -(-self.n_steps // per_epoch)
        self.parts = part_trainers(model, settings, self.n_steps)
        if self.parts and not self.n_steps:
            raise TrainingError(
                f"training.steps is 0, but a {type(model).__name__} has to be trained; see training.epochs"
            )
        self.position = Position()
        self.last_saved = "none yet"
        self._generator = torch.Generator(device=loader.device)
        self.steps_on_device = Steps(
            model, loader.share, settings.augment, accelerator, team, self._generator, loader.device
        )
        if settings.augment:
            model.augmentation = lambda batch, generator: drawn_move(batch, settings.augment, generator)
        self._pending: list[tuple[int, Logged]] = []
        self._check_every = 1 if loader.device.type == "cpu" else CHECK_EVERY_GPU

    @property
    def done(self) -> bool:
        """True when all steps are made or all parts have stopped."""
        return self.position.total >= self.n_steps or all(part.stopped for part in self.parts.values())

    @property
    def losses_are_read(self) -> bool:
        """True after the steps whose losses are read, which makes a GPU wait."""
        return self.position.total % self._check_every == 0

    def steps(self) -> Iterator[str]:
        """Make the rest of the epoch's steps; yields a short text about the loss after each (may be empty).

        Raises:
            TrainingError: a loss or a gradient is NaN or infinite.
        """
        self.model.train()
        start = time.monotonic()
        for batch in self.loader.epoch(self.position.epoch, self.position.step):
            if self.position.total >= self.n_steps:
                break
            self._step(batch)
            self.position.step += 1
            self.position.total += 1
            self._select()
            now = time.monotonic()
            self.position.seconds += now - start
            self.position.epoch_seconds += now - start
            text = self.check() if self.losses_are_read else ""
            yield text
            start = time.monotonic()
        self.check()

    def _step(self, batch: Any) -> None:
        self._seed(derived_seed(self.seed, "train", self.position.epoch, self.position.step))
        self.model.progress.fill_(self.position.total / self.n_steps)
        due = [
            part
            for part in self.parts.values()
            if not part.stopped and self.position.total % part.settings.every == 0
        ]
        self._pending.append((self.position.step, self.steps_on_device.make(batch, due)))

    def _select(self) -> None:
        """Measure where that is due, and keep the weights of all parts where they are the best so far."""
        selection, step = self.selection, self.position.total
        if selection is None or not selection.due(step, step == self.n_steps):
            return
        with self.averaged_weights() as model:
            model.eval()
            measurement = self.team.on_main(lambda: selection.measure(model, step))
            model.train()
        if selection.add(measurement):
            for part in self.parts.values():
                if not part.stopped:
                    part.keep(self.position.epoch)

    def _seed(self, key: int) -> None:
        self._generator.manual_seed(key)
        seed_torch(key, self.loader.device)  # for dropout

    def check(self) -> str:
        """Add the pending losses to the epoch's sums, or stop because one is not finite."""
        words = []
        numbers = iter(self._read([logged.values for _, logged in self._pending]))
        for step, logged in self._pending:
            for (name, key), number in zip(logged.names, numbers, strict=False):
                if not math.isfinite(number) and key in ("loss", "gradient_norm"):
                    self._pending.clear()
                    raise self._not_finite(name, step, key, number)
                total = self.position.sums.setdefault(name, {}).setdefault(key, [0.0, 0])
                total[0] += number
                total[1] += 1
                if key == "loss":
                    words.append(f"{name if len(self.parts) > 1 else 'loss'} {number:.4g}")
        self._pending.clear()
        return ", ".join(words[-len(self.parts) :])

    def check_weights(self) -> None:
        """Stop because a weight, which is about to be kept, is not finite; no later loss would tell."""
        for name, part in self.parts.items():
            finite = [weight.isfinite().all() for weight in (*part.parameters, *part.averaged())]
            if not torch.stack(finite).all():
                raise self._not_finite(name, self.position.step - 1, "weights", math.nan)

    def _not_finite(self, part: str, step: int, key: str, number: float) -> TrainingError:
        what = {"loss": "loss", "weights": "weights"}.get(key, "gradient")
        epoch, rate = self.position.epoch, self.parts[part].rate
        return TrainingError(
            f"the {what} of part {part!r} became {number} in epoch {epoch + 1}, step {step + 1}, at learning "
            f"rate {rate:.2g}; last good checkpoint: {self.last_saved}. Try a smaller "
            'training.learning_rate, a training.clip of 1 to 100 or training.precision = "float32", or '
            "look for outliers in the showers"
        )

    def finish_epoch(self) -> dict[str, Any]:
        """Validate, keep the best weights of each part, and return the epoch's row for the log."""
        start = time.monotonic()
        self.check_weights()
        held_out = self._validate()
        seconds, n_steps = self.position.epoch_seconds, self.position.step
        rows: dict[str, Any] = {}
        for name, part in self.parts.items():
            if part.stopped:
                rows[name] = {"stopped": True, "best_epoch": part.best_epoch}
                continue
            row: dict[str, Any] = {
                key: total / count for key, (total, count) in self.position.sums.get(name, {}).items()
            }
            row["learning_rate"] = part.rate
            if len(part.ways) > 1:
                row["update"] = part.ways[part.way]
            row |= {f"validation_{key}": value for key, value in held_out.get(name, {}).items()}
            if self.selection is None:
                part.finish_epoch(self.position.epoch, row.get("validation_loss"))
            elif not self.selection.curve:
                part.keep(self.position.epoch)
            rows[name] = row | {"best_epoch": part.best_epoch, "stopped": part.stopped}
        epoch, measured = self.position.epoch, {}
        if self.selection is not None:
            measured = {"selection": self.selection.row(self.position.total - n_steps)}
        self.position.seconds += time.monotonic() - start
        self.position.epoch += 1
        self.position.step, self.position.epoch_seconds, self.position.sums = 0, 0.0, {}
        return {
            "epoch": epoch,
            "steps": self.position.total,
            "parts": rows,
            **measured,
            "seconds": round(self.position.seconds, 3),
            "showers_per_second": round(n_steps * self.loader.batch_size / max(seconds, 1e-9), 2),
            "peak_memory_mib": peak_memory_mib(self.loader.device),
        }

    def judge_start(self) -> None:
        """Keep the weights of a trained model: what is learnt must do better on those held out."""
        for name, losses in self._validate().items():
            self.parts[name].keep_start(losses["loss"])

    @torch.no_grad()
    def _validate(self) -> dict[str, dict[str, float]]:
        """Means over the held-out showers with the averaged weights and always the same random numbers.

        Each process has its share of the showers; all get the same means, which decide when a part stops.
        """
        active = [part for part in self.parts.values() if not part.stopped]
        if self.validation is None or not active:
            return {}
        seen: list[tuple[str, dict[str, Tensor], Tensor | float]] = []
        with self.averaged_weights():
            self.model.eval()
            for i, (share, batch) in enumerate(self.validation.in_order()):
                for part in active if len(batch) else ():
                    self._seed(derived_seed(self.seed, "validation", i, part.name))
                    seen.append((part.name, *self.steps_on_device.losses(batch, part, share)))
            self.model.train()
        means = _means(self.team.gather(self._sums(seen)))
        for part_name, values in means.items():
            if not math.isfinite(values["loss"]):
                raise TrainingError(
                    f"the validation loss of part {part_name!r} became {values['loss']} in epoch "
                    f"{self.position.epoch + 1}; last good checkpoint: {self.last_saved}. The model has no "
                    "finite loss on some held-out shower: look for outliers, or widen its preprocessing"
                )
        return means

    def _sums(
        self, seen: list[tuple[str, dict[str, Tensor], Tensor | float]]
    ) -> dict[str, dict[str, list[float]]]:
        """Weighted sums of the losses of each part, and the sums of the weights."""
        numbers = iter(
            self._read([v for _, losses, w in seen for v in (*losses.values(), torch.as_tensor(w))])
        )
        sums: dict[str, dict[str, list[float]]] = {}
        for part, losses, _ in seen:
            values, weight = [next(numbers) for _ in losses], next(numbers)
            for name, value in zip(losses, values, strict=True):
                total = sums.setdefault(part, {}).setdefault(name, [0.0, 0.0])
                total[0] += value * weight
                total[1] += weight
        return sums

    def _read(self, values: list[Tensor]) -> list[float]:
        """All numbers of tensors on the device, which is waited for once."""
        there = [value.detach().to(self.loader.device).reshape(-1) for value in values]
        numbers: list[float] = torch.cat(there).tolist() if there else []
        return numbers

    def averaged_weights(self) -> AbstractContextManager[Trainable]:
        """The model with the moving averages of its weights; afterwards it has its own again."""
        return self._other_weights(PartTrainer.use_average)

    def best_weights(self) -> AbstractContextManager[Trainable]:
        """The model with the best weights of each part so far; afterwards it has its own again."""
        return self._other_weights(PartTrainer.restore_best)

    @contextmanager
    def _other_weights(self, put: Callable[[PartTrainer], None]) -> Iterator[Trainable]:
        held = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        for part in self.parts.values():
            put(part)
        try:
            yield self.model
        finally:
            self.model.load_state_dict(held)

    def restore_best(self) -> None:
        """Give the model the best weights of each part."""
        for part in self.parts.values():
            part.restore_best()

    def metrics(self) -> dict[str, Any]:
        """Best epoch and validation loss of each part, and how long it took."""
        return {
            "parts": {
                name: {
                    "best_epoch": part.best_epoch,
                    "validation_loss": part.best_loss if math.isfinite(part.best_loss) else None,
                    "updates": part.updates_before + part.updates,
                    **({"update": part.best_way} if len(part.ways) > 1 else {}),
                }
                for name, part in self.parts.items()
            },
            **({} if self.selection is None else {"selection": self.selection.metrics()}),
            **({"graph": self.steps_on_device.told} if self.loader.device.type == "cuda" else {}),
            "epochs": self.position.epoch,
            "steps": self.position.total,
            "seconds": round(self.position.seconds, 2),
            "peak_memory_mib": peak_memory_mib(self.loader.device),
        }


def _means(shares: list[dict[str, dict[str, list[float]]]]) -> dict[str, dict[str, float]]:
    """Means of the losses of each part over what all processes have summed up."""
    sums: dict[str, dict[str, list[float]]] = {}
    for share in shares:
        for part, losses in share.items():
            for name, (value, weight) in losses.items():
                total = sums.setdefault(part, {}).setdefault(name, [0.0, 0.0])
                total[0] += value
                total[1] += weight
    return {part: {n: v / (w or 1.0) for n, (v, w) in losses.items()} for part, losses in sums.items()}
