"""The order of an epoch is a function of sample, seed and epoch, wherever showers are kept."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from toy_models import MESH, toy_showers

from caloforge.data import Conditions, Showers
from caloforge.training import loader
from caloforge.training.loader import ShowerLoader

ROW = 4 * MESH.n_voxels


@pytest.fixture(params=["whole", "windows"])
def shuffled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Toy showers as a small sample is shuffled, or as a large one."""
    if request.param == "windows":
        monkeypatch.setattr(loader, "WHOLE_BYTES", 0)
        monkeypatch.setattr(loader, "WINDOW_BYTES", 60 * ROW)
        monkeypatch.setattr(loader, "RUN", 4)


def batches(showers: Showers, epoch: int = 0, start: int = 0, **how: Any) -> list[torch.Tensor]:
    loading = ShowerLoader(showers, 20, detectors=["toy"], device=torch.device("cpu"), seed=3, **how)
    return [torch.cat([b.energy[:, None], b.energies.flatten(1)], dim=1) for b in loading.epoch(epoch, start)]


@pytest.mark.usefixtures("shuffled")
@pytest.mark.parametrize("n", [307, 60, 20])
@pytest.mark.parametrize("prefetch", [False, True])
def test_showers_come_in_one_order_from_memory_and_from_disk(n: int, prefetch: bool) -> None:
    showers = toy_showers(n)
    held = batches(showers, in_memory=True)
    streamed = batches(showers, in_memory=False, prefetch=prefetch)
    assert len(held) == n // 20
    assert all(torch.equal(a, b) for a, b in zip(held, streamed, strict=True))
    seen = torch.cat(held)[:, 0].numpy()
    assert len(np.unique(seen)) == len(seen)
    assert np.isin(seen, showers.conditions.energy.astype(np.float32)).all()
    assert not all(torch.equal(a, b) for a, b in zip(held, batches(showers, 1, in_memory=True), strict=True))


@pytest.mark.usefixtures("shuffled")
@pytest.mark.parametrize("in_memory", [True, False])
def test_an_epoch_goes_on_at_any_step_and_is_shared_by_any_number(in_memory: bool) -> None:
    showers = toy_showers(307)
    whole = batches(showers, in_memory=in_memory)
    for start in range(len(whole) + 1):
        rest = batches(showers, start=start, in_memory=in_memory)
        assert all(torch.equal(a, b) for a, b in zip(whole[start:], rest, strict=True))
    for size in (2, 3):
        shares = [
            batches(showers, in_memory=in_memory, process=i, n_processes=size, start=1) for i in range(size)
        ]
        joined = [torch.cat(parts) for parts in zip(*shares, strict=True)]
        assert all(torch.equal(a, b) for a, b in zip(whole[1:], joined, strict=True))


def test_windows_are_of_runs_from_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "WHOLE_BYTES", 0)
    monkeypatch.setattr(loader, "WINDOW_BYTES", 200 * ROW)
    monkeypatch.setattr(loader, "RUN", 10)
    n = 2000
    showers = Showers(np.zeros((n, MESH.n_voxels)), Conditions(np.arange(1.0, n + 1)), MESH)
    numbers = torch.cat(batches(showers, in_memory=False))[:, 0].numpy() - 1
    windows = numbers.reshape(-1, 200)
    assert all(len(np.unique(window // 10)) == 20 for window in windows)  # 20 whole runs each
    assert abs(windows.mean(axis=1) - n / 2).max() < 5 * n / np.sqrt(12 * 20)  # of anywhere
    ordered = np.corrcoef(windows[:, :-1].ravel(), windows[:, 1:].ravel())[0, 1]
    assert abs(ordered) < 0.1  # neighbours are apart


class Made:
    """Any number of showers that are nowhere kept."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.take(np.arange(start, stop))

    def take(self, index: np.ndarray) -> np.ndarray:
        return np.repeat(index[:, None] % 7, MESH.n_voxels, axis=1).astype(np.float32)


@pytest.mark.parametrize("prefetch", [False, True])
def test_memory_is_that_of_two_windows(monkeypatch: pytest.MonkeyPatch, prefetch: bool) -> None:
    n, window = 100_000, 1000 * ROW
    monkeypatch.setattr(loader, "WHOLE_BYTES", 0)
    monkeypatch.setattr(loader, "WINDOW_BYTES", window)
    showers = Showers(Made(n), Conditions(np.full(n, 1e4)), MESH)
    how: dict[str, Any] = {"detectors": [""], "device": torch.device("cpu"), "in_memory": False}
    loading = ShowerLoader(showers, 100, prefetch=prefetch, **how)
    numbers = 8 * n  # the order of the epoch
    tracemalloc.start()
    try:
        steps = sum(1 for _ in loading.epoch(0))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert steps == 1000
    assert most < 5 * window + 6 * numbers < showers.n_bytes / 4
