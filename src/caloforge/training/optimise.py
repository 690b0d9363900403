"""One part of a model in training: optimiser, schedule, clipping, moving average, stopping, best weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from caloforge.errors import TrainingError
from caloforge.models.trainable import Trainable
from caloforge.training.recipe import PartSettings, TrainingSettings
from caloforge.training.schedules import SCHEDULES
from caloforge.training.team import Team
from caloforge.training.updates import UPDATES

__all__ = ["PartTrainer", "learning_rate", "part_trainers"]

FUSED = ("cuda",) if torch.__version__.startswith("2.3.") else ("cpu", "cuda")


def learning_rate(settings: PartSettings, done: float) -> float:
    """Learning rate when a fraction ``done`` in [0, 1] of a part's updates is made."""
    return settings.learning_rate * SCHEDULES[settings.schedule](done, settings.warmup)


class PartTrainer:
    """Trains the parameters of one part.

    Weight decay applies to parameters with two axes or more: biases, scales and the like are not decayed.
    Buffers of the modules that own the part's parameters (such as batch-norm statistics) are kept with the
    best weights. A part that is updated in several ways does so one after the other, each from the best
    weights so far, for an equal share of the updates or until patience is over.

    Args:
        model: the model.
        name: name of the part.
        parameters: its parameters.
        settings: how they are optimised.
        n_updates: updates that a whole training makes.

    Attributes:
        ways: names of `UPDATES`, those that have something to learn.
        way: number of the one under way.
        best_way: name of the one of the best weights; "none" where these are those of the start.
    """

    def __init__(
        self,
        model: Trainable,
        name: str,
        parameters: list[nn.Parameter],
        settings: PartSettings,
        n_updates: int,
    ) -> None:
        self.name, self.parameters, self.settings = name, parameters, settings
        chosen = {id(p) for p in parameters}
        self.buffers = [
            buffer
            for module in model.modules()
            if any(id(p) in chosen for p in module.parameters(recurse=False))
            for buffer in module.buffers(recurse=False)
        ]
        wanted = list(UPDATES) if settings.update == "best" else [settings.update]
        self.ways = [way for way in wanted if UPDATES[way](parameters, settings.rank).learnt]
        if not self.ways:
            raise TrainingError(f"part {name!r} has no biases or scales to learn; update it otherwise")
        self.n_updates = -(-n_updates // len(self.ways))
        self.best: list[Tensor] | None = None
        self.best_loss, self.best_epoch, self.best_way = math.inf, -1, self.ways[0]
        self.updates_before = 0
        self.stopped = False
        self._begin(0)

    def _begin(self, way: int) -> None:
        """Update from now on in another way, from the weights as they are."""
        self.way, self.updates, self.epochs_without_gain = way, 0, 0
        settings = self.settings
        self.update_of = UPDATES[self.ways[way]](self.parameters, settings.rank)
        learnt = self.update_of.learnt
        groups = [
            {"params": [p for p in learnt if p.ndim >= 2], "weight_decay": settings.weight_decay},
            {"params": [p for p in learnt if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.epsilon,
            fused=all(p.device.type in FUSED for p in learnt),
        )
        # of each update of a step: learning rate, and share of the new weights in their average
        self.rates: Tensor | None = None
        if all(p.device.type == "cuda" for p in learnt):  # a CUDA graph reads them from there
            self.rates = torch.zeros(settings.repeat, 2, device=learnt[0].device)
            for group in self.optimiser.param_groups:
                group["capturable"], group["lr"] = True, torch.zeros((), device=self.rates.device)
        self.ema = None if settings.ema == 0 else [p.detach().clone() for p in self.parameters]

    @property
    def rate(self) -> float:
        """Learning rate of the next update."""
        return self._rates(0)[0]

    def _rates(self, ahead: int) -> tuple[float, float]:
        """Learning rate of a later update, and the share of its weights in their average."""
        rate = learning_rate(self.settings, min((self.updates + ahead) / max(self.n_updates - 1, 1), 1.0))
        averaged = self.updates + ahead + 1 - self.settings.ema_after
        kept = min(self.settings.ema, (1 + averaged) / (10 + averaged)) if averaged > 0 else 0.0
        return rate, 1 - kept

    def begin_step(self) -> None:
        """Tell the device the rates of the updates of a step."""
        if self.rates is not None:
            rates = torch.tensor([self._rates(i) for i in range(self.settings.repeat)])
            self.rates.copy_(rates, non_blocking=True)

    def end_step(self) -> None:
        """Count the updates of a step."""
        self.updates += self.settings.repeat
        self._count_changes()

    def _count_changes(self) -> None:
        for p in self.parameters:
            increment_version(p)  # which fused optimisers forget: what is derived from weights asks for it

    def update(
        self, losses: dict[str, Tensor], weight: Tensor | float, accelerator: Any, team: Team, number: int = 0
    ) -> dict[str, Tensor]:
        """One step of the optimiser.

        Args:
            losses: of this process's share of a batch, of which "loss" is differentiated.
            weight: what they count among those of the other processes.
            accelerator: for precision.
            team: all processes.
            number: of the update among those of its step.

        Returns:
            The losses of the whole batch, and "gradient_norm" before clipping where that is on.
        """
        rate, new = self._rates(number) if self.rates is None else self.rates[number]
        for group in self.optimiser.param_groups:
            if isinstance(rate, Tensor):
                group["lr"].copy_(rate)
            else:
                group["lr"] = rate
        weights = self.update_of.weights
        for p in weights:
            p.grad = None
        accelerator.backward(losses["loss"], inputs=weights)
        logged = {name: value.detach().float() for name, value in losses.items()}
        if team.size > 1:
            learning = [p for p in weights if p.grad is not None]
            gradients = [p.grad for p in learning if p.grad is not None]
            means = team.mean([*gradients, *logged.values()], weight)
            for p in learning:
                p.grad = means.pop(0)
            logged = dict(zip(logged, means, strict=True))
        if self.settings.clip is not None:
            norm = nn.utils.clip_grad_norm_(weights, self.settings.clip)
            logged["gradient_norm"] = norm.detach().float()
        self.update_of.take_gradients()
        self.optimiser.step()
        self.update_of.change_weights()
        self._count_changes()
        if self.ema is not None:
            with torch.no_grad():
                moved = torch._foreach_sub([p.detach() for p in self.parameters], self.ema)
                torch._foreach_mul_(moved, new)
                torch._foreach_add_(self.ema, moved)
        return logged

    def averaged(self) -> list[Tensor]:
        """The moving average, or the weights themselves where there is none."""
        return [p.detach() for p in self.parameters] if self.ema is None else self.ema

    @torch.no_grad()
    def use_average(self) -> None:
        """Put the moving average into the model; a part that has stopped has its best weights there."""
        if self.stopped:
            return
        for parameter, average in zip(self.parameters, self.averaged(), strict=True):
            parameter.copy_(average)

    def finish_epoch(self, epoch: int, validation_loss: float | None) -> None:
        """Keep the averaged weights if they are the best so far; stop when patience is over."""
        if validation_loss is None or self.settings.keep == "last":
            self.keep(epoch, validation_loss)
        elif validation_loss < self.best_loss:
            self.keep(epoch, validation_loss)
            self.epochs_without_gain = 0
        else:
            self.epochs_without_gain += 1
            patience = self.settings.patience
            if patience is not None and self.epochs_without_gain >= patience:
                self._end()
                return
        if self.updates >= self.n_updates and self.way + 1 < len(self.ways):
            self._end()

    def _end(self) -> None:
        """Go on from the best weights in the next way, or stop."""
        self.restore_best()
        self.stopped = self.way + 1 == len(self.ways)
        if not self.stopped:
            self.updates_before += self.updates
            self._begin(self.way + 1)

    def keep(self, epoch: int, loss: float | None = None) -> None:
        """Keep averaged weights and buffers as the best; ``loss`` is their validation loss, if known."""
        current = [*self.averaged(), *self.buffers]
        self.best = [tensor.detach().clone() for tensor in current]
        self.best_loss, self.best_epoch = math.inf if loss is None else loss, epoch
        self.best_way = self.ways[self.way]

    def keep_start(self, loss: float) -> None:
        """Keep the weights that it begins with, of which the epoch is -1."""
        self.keep(-1, loss)
        self.best_way = "none"

    @torch.no_grad()
    def restore_best(self) -> None:
        """Put the best weights and buffers into the model."""
        if self.best is not None:
            for tensor, kept in zip([*self.parameters, *self.buffers], self.best, strict=True):
                tensor.copy_(kept)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that is needed to go on, as named tensors and JSON-able numbers."""
        tensors: dict[str, Tensor] = {}
        for i, slots in self.optimiser.state_dict()["state"].items():
            tensors |= {f"{self.name}/optimiser/{i}/{key}": value for key, value in slots.items()}
        for kind, values in (("ema", self.ema), ("best", self.best), ("way", self.update_of.tensors())):
            tensors |= {f"{self.name}/{kind}/{j}": value for j, value in enumerate(values or [])}
        return tensors, {
            "way": self.way,
            "best_way": self.best_way,
            "updates": self.updates,
            "updates_before": self.updates_before,
            "best_loss": self.best_loss if math.isfinite(self.best_loss) else None,
            "best_epoch": self.best_epoch,
            "epochs_without_gain": self.epochs_without_gain,
            "stopped": self.stopped,
        }

    @torch.no_grad()
    def load_state(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Go on from `state`."""
        self._begin(int(numbers.get("way", 0)))
        slots: dict[int, dict[str, Tensor]] = {}
        lists: dict[str, dict[int, Tensor]] = {"ema": {}, "best": {}, "way": {}}
        for name, tensor in tensors.items():
            part, kind, number, *key = name.split("/")
            if part == self.name and kind == "optimiser":
                slots.setdefault(int(number), {})[key[0]] = tensor
            elif part == self.name:
                lists[kind][int(number)] = tensor
        optimiser = self.optimiser.state_dict()
        self.optimiser.load_state_dict({**optimiser, "state": slots})
        targets = [*self.parameters, *self.buffers]
        if self.ema is not None:
            for j, average in enumerate(self.ema):
                average.copy_(lists["ema"][j])
        if lists["best"]:
            self.best = [lists["best"][j].to(t.device, t.dtype) for j, t in enumerate(targets)]
        for j, tensor in enumerate(self.update_of.tensors()):
            tensor.copy_(lists["way"][j])
        self.best_way = str(numbers.get("best_way", self.best_way))
        self.updates_before = int(numbers.get("updates_before", 0))
        self.updates = int(numbers["updates"])
        self.best_loss = math.inf if numbers["best_loss"] is None else float(numbers["best_loss"])
        self.best_epoch = int(numbers["best_epoch"])
        self.epochs_without_gain = int(numbers["epochs_without_gain"])
        self.stopped = bool(numbers["stopped"])


def part_trainers(model: Trainable, settings: TrainingSettings, n_steps: int) -> dict[str, PartTrainer]:
    """A `PartTrainer` for each part of the model; TrainingError where the parts overlap or are unknown."""
    parts = model.parts()
    unknown = sorted(set(settings.parts) - set(parts))
    if unknown:
        raise TrainingError(f"[training.parts.{unknown[0]}]: the model has the parts {', '.join(parts)}")
    owner: dict[int, str] = {}
    trainers = {}
    for name, parameters in parts.items():
        if "/" in name or not parameters:
            raise TrainingError(f"part {name!r} has no parameters, or a '/' in its name")
        for p in parameters:
            if owner.setdefault(id(p), name) != name:
                raise TrainingError(
                    f"a parameter of shape {tuple(p.shape)} is in {owner[id(p)]!r} and {name!r}"
                )
        own = settings.part(name)
        n_updates = -(-n_steps // own.every) * own.repeat
        trainers[name] = PartTrainer(model, name, parameters, own, n_updates)
    return trainers
