"""Several processes train as one with the same batches."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
import toy_models

from caloforge.checkpoint import Checkpoint
from caloforge.errors import CheckpointError
from caloforge.runtime import precision

SCRIPT = str(Path(processes.__file__))
LAUNCHER = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
"""Runs torchrun, on CPUs, too: without ``--multi_gpu`` it starts a single process there."""


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[str]]]:
    """What each of two processes had to say."""
    folder = tmp_path_factory.mktemp("two")
    by = [*LAUNCHER, "--main_process_port", free_port()]
    command = [sys.executable, *by, SCRIPT, str(folder), *processes.RECIPES, "interruptions"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in (0, 1):  # a process that ends with threads of the exchange aborts now and then
        assert "gloo" not in (folder / f"threads-{rank}").read_text()
    return folder, [(folder / f"words-{rank}").read_text().splitlines() for rank in (0, 1)]


def numbers(value: Any, name: str = "") -> dict[str, Any]:
    """Numbers of the log's rows by name, without those of time and memory."""
    if isinstance(value, list):
        return {key: n for i, row in enumerate(value) for key, n in numbers(row, f"{name}/{i}").items()}
    if isinstance(value, dict):
        kept = {
            k: v for k, v in value.items() if k not in ("seconds", "showers_per_second", "peak_memory_mib")
        }
        return {key: n for k, v in kept.items() for key, n in numbers(v, f"{name}/{k}").items()}
    return {name: value}


def rows(folder: Path) -> dict[str, Any]:
    return numbers([json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()])


def _that_matters(key: str, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor without the keys' biases, which attention does not see: their gradients are rounding alone."""
    if key.endswith("transformer.blocks.0.qkv.bias"):
        queries, _, values = tensor.chunk(3)
        return torch.cat([queries, values])
    return tensor


def test_two_processes_train_as_one(
    launched: tuple[Path, list[list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "native_bf16", lambda device: False)
    folder, (first, second) = launched
    n = len(processes.RECIPES)
    assert first[:n] == second[:n]
    for name in processes.RECIPES:
        one, two = tmp_path / name, folder / name
        processes.fit(name, one)
        assert rows(two) == pytest.approx(rows(one), rel=1e-5, abs=1e-6)
        mine, theirs = (Checkpoint.load(folder).tensors for folder in (one, two))
        for key, tensor in mine.items():
            a, b = (_that_matters(key, t.double()) for t in (tensor, theirs[key]))
            share = 1e-3 if key.startswith("spectrum.") else 1e-5  # a map between sorted cells
            assert (a - b).abs().max() <= share * a.abs().max(), key
    log = rows(folder / "toy")
    assert log["/11/parts/location/stopped"]
    assert not log["/0/parts/location/stopped"]


def test_a_signal_to_one_process_stops_all(launched: tuple[Path, list[list[str]]]) -> None:
    folder, words = launched
    mine, others = (said[len(processes.RECIPES) :] for said in words)
    whole, first, saved, resumed, both, terminated, refused, alone = mine
    assert (first, both, terminated) == ("KeyboardInterrupt", "KeyboardInterrupt", "SystemExit 143")
    assert saved == "1 times saved"
    assert resumed == whole
    assert refused.startswith("CheckpointError")
    assert others == [whole, first, "0 times saved", whole, both, terminated, others[-2], alone]
    assert "the main process stopped" in others[-2]
    assert alone.startswith("TrainingError: the losses of a Asked compare the showers of a batch")
    toy_models.Asked = processes.Asked
    with pytest.raises(CheckpointError, match="cannot resume, because the processes of that training"):
        processes.train(processes.ASKED, processes.showers(), out=folder / "b", resume=True, progress=False)


def test_the_others_end_with_a_process_that_is_killed(tmp_path: Path) -> None:
    """Without torchrun or accelerate, which would end them in any case."""
    meeting = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]
    started = [
        subprocess.Popen([sys.executable, SCRIPT, str(tmp_path), "killed"], env=os.environ | meeting | rank)
        for rank in ranks
    ]
    try:
        ends = [process.wait(timeout=200) for process in started]
    finally:
        for process in started:
            process.kill()
    assert ends == [-signal.SIGKILL, 0]
    (words,) = (tmp_path / "words-1").read_text().splitlines()
    assert words.startswith("TrainingError: another process of this training has ended")
    assert Checkpoint.load(tmp_path / "killed").metrics["epochs"] == 1
