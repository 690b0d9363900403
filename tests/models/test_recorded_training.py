"""On a GPU the steps of every model class are recorded, and train as plain ones do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_laws import CLASSES, SHOWERS, Trained, name_of, recipe_of

from caloforge.checkpoint import Checkpoint
from caloforge.models.trainable import Trainable
from caloforge.training import train
from caloforge.training.steps import Steps

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
CLOSE = 1e-2
"""Of a weight's largest change; sums on a GPU are in any order, and Adam divides by small ones."""


@pytest.mark.parametrize("cls", CLASSES, ids=name_of)
def test_recorded_steps_train_as_plain_ones_do(
    cls: type[Trainable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = Trained(cls, "cuda", tmp_path)
    recorded = trained.checkpoint
    if not recorded.metrics["parts"]:
        pytest.skip("nothing to train")
    assert recorded.metrics["graph"] == "recorded"

    def refused(*_: Any) -> Any:
        raise RuntimeError("cannot be captured")

    monkeypatch.setattr(Steps, "_record", refused)
    plain = trained.train("plain")
    assert plain.metrics["graph"] == "cannot be captured"
    start: Checkpoint = train(
        recipe_of(cls) | {"training": recipe_of(cls)["training"] | {"learning_rate": 1e-12}},
        SHOWERS,
        out=tmp_path / "start",
        device="cuda",
        teacher=trained.teacher,
        progress=False,
    )
    for name, tensor in plain.tensors.items():
        if tensor.is_floating_point():
            moved = (tensor - start.tensors[name]).abs().max()
            apart = (tensor - recorded.tensors[name]).abs().max()
            assert apart <= CLOSE * moved + 1e-6, name
