"""Recorded steps make the training that plain ones make; on a CPU a replay calls the step again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_optimise import Alone
from torch import Tensor
from toy_models import MESH, RECIPE, LayerGaussian, toy_showers

from caloforge.models.batch import Batch
from caloforge.runtime.share import Share
from caloforge.training import Recipe, train
from caloforge.training.optimise import part_trainers
from caloforge.training.steps import Steps
from caloforge.training.team import Team

ADVERSARIAL = {
    "model": "toy_models:Adversarial",
    "training.parts.critic.keep": "last",
    "training.parts.generator.keep": "last",
    "training.parts.generator.every": 3,
    "training.parts.critic.repeat": 2,
}


def replayed(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Records nothing; as in a graph, nothing is made while it is recorded."""
    return function


def refused(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
    raise RuntimeError("cannot be captured")


@pytest.mark.parametrize("changes", [{}, ADVERSARIAL], ids=["one part", "adversarial"])
@pytest.mark.parametrize("recorder", [replayed, refused])
def test_recorded_steps_train_alike(
    recorder: Any, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = changes | {"training.epochs": 3, "training.augment": ["rotate_phi"]}
    options: dict[str, Any] = {"overrides": changes, "progress": False, "device": "cpu"}
    plain = train(RECIPE, toy_showers(), out=tmp_path / "plain", **options)
    begin = Steps.__init__

    def on_a_gpu(self: Steps, *args: Any) -> None:
        begin(self, *args)
        self.recorder = recorder

    monkeypatch.setattr(Steps, "__init__", on_a_gpu)
    recorded = train(RECIPE, toy_showers(), out=tmp_path / "recorded", **options)
    assert plain.tensors.keys() == recorded.tensors.keys()
    assert all(torch.equal(plain.tensors[name], recorded.tensors[name]) for name in plain.tensors)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("augment", [[], ["rotate_phi", "reflect_phi"]])
def test_a_gpu_records_what_it_would_do(
    augment: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ADVERSARIAL | {"training.epochs": 3, "training.augment": augment}
    options: dict[str, Any] = {"overrides": changes, "progress": False, "device": "cuda"}
    recorded = train(RECIPE, toy_showers(), out=tmp_path / "recorded", **options)
    assert recorded.metrics["graph"] == "recorded"
    monkeypatch.setattr(Steps, "_record", lambda self, function: refused(function))
    plain = train(RECIPE, toy_showers(), out=tmp_path / "plain", **options)
    assert plain.metrics["graph"] == "cannot be captured"
    for name, tensor in plain.tensors.items():
        torch.testing.assert_close(recorded.tensors[name], tensor, rtol=1e-4, atol=1e-5)


def test_each_combination_of_parts_is_recorded_once(caplog: pytest.LogCaptureFixture) -> None:
    model, calls = LayerGaussian(MESH), []
    parts = part_trainers(model, Recipe.load(RECIPE).training, 20)
    generator = torch.Generator()
    showers = toy_showers(20)
    steps = Steps(model, Share(20), (), Alone(), Team(torch.device("cpu")), generator, torch.device("cpu"))
    batch = Batch.with_energies(showers.energies, showers.conditions)

    def count(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        calls.append(1)
        return function

    steps.recorder = count
    for i in range(6):
        for due in (list(parts.values()), []):
            logged = steps.make(batch, due)
            assert len(logged.names) == len(logged.values)
        assert steps.told == ("recorded" if i >= 2 else "plain")
    assert len(calls) == 1
    assert all(part.updates == 6 for part in parts.values())
    steps = Steps(model, Share(20), (), Alone(), Team(torch.device("cpu")), generator, torch.device("cpu"))
    steps.recorder = refused
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            steps.make(batch, list(parts.values()))
    assert steps.told == "cannot be captured"
    assert [r.getMessage() for r in caplog.records] == [
        "a training step is no CUDA graph, and slower so: cannot be captured"
    ]
