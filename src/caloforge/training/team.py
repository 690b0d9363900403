"""The processes that train one model together, as one process would with all showers of a batch.

Each computes its share of a batch. Gradients and losses are weighted means over the shares, and what must be
decided or written once is done by the main process, which tells the others.
"""

from __future__ import annotations

import atexit
import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, distributed

from caloforge.errors import TrainingError
from caloforge.runtime.share import Share

__all__ = ["Team", "before_meeting"]

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """Which process this is, and of how many; all methods are called by all processes at once.

    Attributes:
        device: where this process computes.
        index: of this process; that of the main one is 0.
        size: number of processes.
    """

    device: torch.device
    index: int = 0
    size: int = 1

    @classmethod
    def of(cls, accelerator: Any) -> Self:
        """The processes of an ``accelerate.Accelerator``, which part when this one ends.

        Call `before_meeting` before the accelerator is made.
        """
        if int(accelerator.num_processes) > 1:
            atexit.unregister(_part)
            atexit.register(_part)
        return cls(accelerator.device, int(accelerator.process_index), int(accelerator.num_processes))

    @property
    def main(self) -> bool:
        """True for the process that writes files and talks to the user."""
        return self.index == 0

    def share(self, whole: int) -> Share:
        """What this process has of a batch of so many showers."""
        return Share(whole, self.index, self.size)

    def mean(self, tensors: Sequence[Tensor], weight: Tensor | float) -> list[Tensor]:
        """Means over the processes, each counting by its ``weight``; one exchange for all tensors."""
        if self.size == 1:
            return list(tensors)
        flat = torch.cat([*(t.detach().reshape(-1) for t in tensors), torch.ones(1, device=self.device)])
        flat = flat * weight
        with _exchange():
            distributed.all_reduce(flat)
        means = flat[:-1] / flat[-1].clamp_min(torch.finfo(flat.dtype).tiny)
        pieces = torch.split(means, [t.numel() for t in tensors])
        return [piece.view_as(t).to(t.dtype) for piece, t in zip(pieces, tensors, strict=True)]

    def largest(self, *numbers: float) -> list[float]:
        """The largest of each number that a process has."""
        if self.size == 1:
            return list(numbers)
        largest = torch.tensor(numbers, device=self.device)
        with _exchange():
            distributed.all_reduce(largest, distributed.ReduceOp.MAX)
        return list(largest.tolist())

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in their order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with _exchange():
            distributed.all_gather_object(values, value)
        return values

    def on_main(self, work: Callable[[], T]) -> T:
        """What the main process makes of ``work``, while the others wait.

        Raises:
            TrainingError: in the others, where the main process raised an error.
        """
        if self.size == 1:
            return work()
        told: list[Any] = [None, ""]
        error: Exception | None = None
        if self.main:
            try:
                told[0] = work()
            except Exception as problem:
                error, told[1] = problem, f"{problem}" or type(problem).__name__
        if error is not None:
            with suppress(TrainingError):  # the main process's own error is the one to tell
                self._tell(told)
            raise error
        self._tell(told)
        if told[1]:
            raise TrainingError(f"the main process stopped: {told[1]}")
        result: T = told[0]
        return result

    def _tell(self, told: list[Any]) -> None:
        with _exchange():
            distributed.broadcast_object_list(told, src=0)

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with those of the main process."""
        if self.size > 1:
            for tensor in tensors:
                with _exchange():
                    distributed.broadcast(tensor, src=0)


def before_meeting() -> None:
    """Import what would otherwise keep the exchange alive for good.

    The functions of ``torch.distributed.nn`` have the group that is there when it is first imported as their
    default: imported later, it keeps the group, and so its threads, beyond `_part`.
    """
    importlib.import_module("torch.distributed.nn")


@contextmanager
def _exchange() -> Iterator[None]:
    """TrainingError where another process has ended, which breaks the exchange."""
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            "another process of this training has ended or cannot be reached; what it wrote says why. What "
            f"was saved is kept, go on with resume=True (--resume) ({str(error).splitlines()[0]})"
        ) from error


def _part() -> None:
    """End the threads of the exchange, which now and then abort a process that ends with them."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
