from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_models import MESH, LayerGaussian, toy_showers

from caloforge.campaign import Campaign, run_campaign
from caloforge.checkpoint import Checkpoint
from caloforge.runtime.structured import json_text

LIKE = toy_showers(100, seed=9)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy model on disk."""
    folder = tmp_path_factory.mktemp("toy") / "model"
    made = LayerGaussian(MESH)
    made.fit(LIKE)
    made.detectors = ("toy",)
    checkpoint = Checkpoint.from_model(made, "toy_models:LayerGaussian", LIKE.conditions.ranges())
    checkpoint.save(folder)
    return folder


Asked = Callable[..., Campaign]


@pytest.fixture
def asked(model: Path, tmp_path: Path) -> Asked:
    """Writes the file of a campaign of 100 showers in 4 shards, with changes, and opens it."""

    def write(name: str = "campaign.toml", table: str = "generate", **changes: Any) -> Campaign:
        settings = {"model": str(model), "energy": "2-40GeV"} | changes.pop("work", {})
        told = {"n": 100, "seed": 7, "shard_size": 30, "out": "made/{shard}.h5"} | changes
        lines = [f"{key} = {json_text(value)}" for key, value in told.items() if value is not None]
        lines += [f"[{table}]"]
        lines += [f"{key} = {json_text(value)}" for key, value in settings.items() if value is not None]
        path = tmp_path / name
        path.write_text("\n".join(lines))
        return Campaign.load(path)

    return write


@pytest.fixture
def done(asked: Asked) -> Campaign:
    """A campaign that is complete."""
    campaign = asked()
    run_campaign(campaign, workers=1, progress=False)
    return campaign
