"""Showers by several processes: the same to the last bit, resumed, interrupted and bereft of one."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toy_models import toy_showers

from caloforge.checkpoint import Checkpoint
from caloforge.data import Showers
from caloforge.errors import CheckpointError
from caloforge.generation import generate, workers
from caloforge.generation.workers import BlockWorkers
from caloforge.runtime.processes import ChildError

LIKE = toy_showers(1000, seed=9)


def make(checkpoint: Checkpoint | Path, like: Showers = LIKE, **options: object) -> Showers:
    return generate(checkpoint, like=like, seed=3, progress=False, allow_extrapolation=True, **options)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes start after the first block however little there is to do, and all are waited for."""
    make_here = BlockWorkers._make_here

    def wait(self: BlockWorkers, low: int, high: int) -> None:
        make_here(self, low, high)
        while self._starting:
            self._listen(None)

    monkeypatch.setattr(workers, "START_SECONDS", 0.0)
    monkeypatch.setattr(workers, "WARM", 1)
    monkeypatch.setattr(BlockWorkers, "_make_here", wait)


@pytest.fixture
def parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process in which models behave, see `toy_models`."""
    monkeypatch.setenv("TOY_PARENT", str(os.getpid()))


def as_model(checkpoint: Checkpoint, name: str) -> Checkpoint:
    other = Checkpoint.load(checkpoint.path)
    other.model_name = f"toy_models:{name}"
    return other


@pytest.mark.usefixtures("patient")
def test_showers_are_the_same_by_one_and_by_three_processes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    alone = make(checkpoint, threads=1)
    assert alone.provenance["performance"]["threads"] == 1
    together = make(checkpoint, threads=3, out=tmp_path / "a.h5")
    assert together.provenance["performance"]["threads"] == 3
    assert np.array_equal(together.energies, alone.energies)
    memory = [showers.provenance["performance"]["peak_memory_mib"] for showers in (alone, together)]
    assert memory[1] > memory[0] + 200  # of the children too
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_few_showers_are_made_without_further_processes(checkpoint: Checkpoint) -> None:
    assert make(checkpoint, threads=8).provenance["performance"]["threads"] == 1


@pytest.mark.usefixtures("patient")
def test_an_interrupt_keeps_all_and_another_number_of_processes_goes_on(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupting(method: Callable[..., None]) -> Callable[..., None]:
        """Whoever makes them, here or a child: Ctrl-C after 100 showers."""

        def interrupted(self: BlockWorkers, *arguments: object) -> None:
            method(self, *arguments)
            if self._decoder.n_made > 100 and not self._interrupt.signal:
                os.kill(os.getpid(), signal.SIGINT)

        return interrupted

    out, many = tmp_path / "a.h5", toy_showers(6000, seed=9)  # not all of which are under way by then
    with monkeypatch.context() as context:
        for name in ("_hear", "_make_here"):
            context.setattr(BlockWorkers, name, interrupting(getattr(BlockWorkers, name)))
        with pytest.raises(KeyboardInterrupt, match="of 6000 showers were made and kept"):
            make(checkpoint, many, threads=2, out=out)
    assert not out.exists()
    resumed = make(checkpoint, many, threads=3, out=out, resume=True)
    assert resumed.provenance["performance"]["n_showers"] < 6000
    assert np.array_equal(resumed.energies, make(checkpoint, many, threads=1).energies)


@pytest.mark.usefixtures("patient", "parent")
def test_a_killed_process_is_one_clear_error_and_nothing_is_lost(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    killed, out = as_model(checkpoint, "Killed"), tmp_path / "a.h5"
    with pytest.raises(ChildError, match=r"(?s)ended: it was killed by signal 9.*kept in .*resume=True"):
        make(killed, threads=2, out=out)
    assert list(out.with_name("a.h5.parts").glob("chunk-*"))
    resumed = make(killed, threads=1, out=out, resume=True)
    assert resumed.provenance["performance"]["n_showers"] < 1000
    assert np.array_equal(resumed.energies, make(checkpoint, threads=1).energies)


@pytest.mark.usefixtures("patient", "parent")
@pytest.mark.parametrize(
    ("name", "why"), [("Moody", "other showers than this one"), ("Shy", "did not start")]
)
def test_a_process_that_gives_other_showers_or_none_is_not_used(
    checkpoint: Checkpoint, name: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        made = make(as_model(checkpoint, name), threads=2)
    assert why in caplog.text
    assert made.provenance["performance"]["threads"] == 1
    assert np.array_equal(made.energies, make(checkpoint, threads=1).energies)


@pytest.mark.usefixtures("patient", "parent")
def test_illegal_energies_of_another_process_are_caught(checkpoint: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match=r"nan MeV in voxel 0 of shower \d+ \(seed 3"):
        make(as_model(checkpoint, "Broken"), threads=2)
