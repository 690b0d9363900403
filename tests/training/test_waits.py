"""Training waits for a device only to read losses: now and then, and all at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from toy_models import RECIPE, toy_showers

from caloforge.training import train
from caloforge.training.trainer import Trainer


class _Waits(TorchDispatchMode):
    """Counts what needs a value on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return func(*args, **(kwargs or {}))


def test_steps_and_validation_never_wait_and_losses_are_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, reads = _Waits(), []
    step, validate, read = Trainer._step, Trainer._validate, Trainer._read

    def watched(method: Any) -> Any:
        def watch(*args: Any) -> Any:
            with waits:
                return method(*args)

        return watch

    def count(self: Trainer, values: list[Tensor]) -> list[float]:
        reads.append(sum(value.numel() for value in values))
        return read(self, values)

    monkeypatch.setattr(Trainer, "_step", watched(step))
    monkeypatch.setattr(Trainer, "_validate", watched(validate))
    monkeypatch.setattr(Trainer, "_read", count)
    real = Trainer.__init__

    def as_on_a_gpu(self: Trainer, *args: Any) -> None:
        real(self, *args)
        self._check_every = 5

    monkeypatch.setattr(Trainer, "__init__", as_on_a_gpu)
    overrides = {"training.epochs": 2, "training.clip": 1.0, "training.ema": 0.9}
    train(RECIPE, toy_showers(), out=tmp_path / "model", overrides=overrides, progress=False)
    assert waits.n == 0
    assert max(reads) > 5
    assert sum(map(bool, reads)) < sum(reads) / 5
