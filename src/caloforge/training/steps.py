"""What a training does on its device in a step, which on a CUDA device is one graph: see `Recorded`.

A step turns and mirrors the showers of a batch and updates the parts that are due, one after the other. What
changes from step to step (showers, seeds, rates, progress) lies in tensors and generators that a graph reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from caloforge.models.trainable import Trainable
from caloforge.runtime.recorded import Recorded, Recorder, record_cuda, watched
from caloforge.runtime.share import Share
from caloforge.training.augmentations import augment
from caloforge.training.optimise import PartTrainer
from caloforge.training.team import Team

__all__ = ["Logged", "Steps"]


@dataclass(frozen=True)
class Logged:
    """What the parts of a step log: part and name of each number, and the numbers, on the device."""

    names: list[tuple[str, str]]
    values: Tensor


class Steps:
    """Makes the steps of a training.

    Each combination of parts that are due is made once as it is, then watched for what a graph cannot hold,
    and from the third time on recorded: on a CUDA device, in a single process.

    Args:
        model: what is trained.
        share: of this process in a batch.
        augment: names of augmentations.
        accelerator: for precision.
        team: all processes.
        generator: of all random numbers but dropout, seeded before each step.
        device: where it is trained.
    """

    def __init__(
        self,
        model: Trainable,
        share: Share,
        augment: Sequence[str],
        accelerator: Any,
        team: Team,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self.model, self.share, self.augment = model, share, augment
        self.accelerator, self.team, self.generator, self.device = accelerator, team, generator, device
        alone = device.type == "cuda" and team.size == 1
        self.recorder: Recorder | None = self._record if alone else None
        self._made: dict[tuple[str, ...], int] = {}
        self._recorded: dict[tuple[str, ...], Recorded] = {}
        self._names: dict[tuple[str, ...], list[tuple[str, str]]] = {}

    def forget(self, recorder: Recorder | None) -> None:
        """Begin anew with another way to record."""
        self.recorder = recorder
        self._made.clear()
        self._recorded.clear()

    def make(self, batch: Any, due: Sequence[PartTrainer]) -> Logged:
        """Update the parts that are due with a batch (this process's share of it)."""
        if not due:
            return Logged([], torch.zeros(0))
        for part in due:
            part.begin_step()
        key = tuple(f"{part.name}/{part.way}" for part in due)
        inputs = {name: column for name, column in vars(batch).items() if column is not None}
        values = self._step(key, due, type(batch))(inputs)
        for part in due:
            part.end_step()
        return Logged(self._names[key], values.clone())

    def _step(self, key: tuple[str, ...], due: Sequence[PartTrainer], kind: type[Any]) -> Any:
        """The step as it is, watched, or recorded."""
        made = self._made[key] = self._made.get(key, 0) + 1
        if key not in self._recorded:
            function = partial(self._update, key=key, due=due, kind=kind)
            self._recorded[key] = Recorded(function, self.device, self.recorder, "a training step")
        recorded = self._recorded[key]
        if self.recorder is None or made > 2:
            return recorded
        return recorded.function if made == 1 else partial(self._watched, recorded)

    def _record(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        for tensor in self.model.parameters():
            increment_version(tensor)  # so that what is derived from weights is derived in the graph, too
        return record_cuda(function, [self.generator])

    def _watched(self, recorded: Recorded, inputs: Mapping[str, Tensor]) -> Tensor:
        with watched(self.device) as waits:
            values = recorded(inputs)
        if waits:
            recorded.refuse(waits[0])
        return values

    def _update(
        self,
        inputs: Mapping[str, Tensor],
        *,
        key: tuple[str, ...],
        due: Sequence[PartTrainer],
        kind: type[Any],
    ) -> Tensor:
        """All that the device does in a step; gives the numbers to log."""
        with self.share.drawing():
            batch = augment(kind(**inputs), self.augment, self.generator)
        names: list[tuple[str, str]] = []
        values: list[Tensor] = []
        for part in due:
            for number in range(part.settings.repeat):
                losses, weight = self.losses(batch, part, self.share)
                logged = part.update(losses, weight, self.accelerator, self.team, number)
                with torch.no_grad():
                    self.model.after_step(part.name)
                names += [(part.name, name) for name in logged]
                values += logged.values()
        self._names[key] = names
        return torch.stack(values)

    def losses(self, batch: Any, part: PartTrainer, share: Share) -> tuple[dict[str, Tensor], Tensor | float]:
        """Losses of a share of a batch, and how much they count."""
        with share.drawing(), self.accelerator.autocast():
            losses = dict(self.model(batch, part.name, self.generator))
        return losses, losses.pop("weight", float(len(batch)))

    @property
    def told(self) -> str:
        """For the metrics: "recorded", "plain", or why it is plain."""
        told = sorted({recorded.told for recorded in self._recorded.values()}, key=lambda s: s == "recorded")
        return told[0] if told else "plain"
