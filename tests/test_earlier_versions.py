"""Files of earlier versions are read, and hold what they held when they were written.

Each version that changed a format has a folder in ``tests/data_of_versions``: docs/reference/stability.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_files_of_version import CONTENTS, PLAIN, SUMS, sums

from caloforge import generate, open_events, open_showers
from caloforge.bench.results import BenchResult
from caloforge.campaign import Campaign, verify_campaign
from caloforge.campaign.verify import shard_states
from caloforge.checkpoint import Checkpoint
from caloforge.data import Showers
from caloforge.detector import Detector, PixelDetector
from caloforge.evaluation import read_comparison
from caloforge.evaluation.results import PixelEvaluation
from caloforge.runtime.files import write_json
from caloforge.training import Recipe

VERSIONS = sorted(path.parent for path in (Path(__file__).parent / "data_of_versions").glob(f"*/{CONTENTS}"))


@pytest.fixture(params=VERSIONS, ids=lambda folder: folder.name)
def folder(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture
def told(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / CONTENTS).read_text(encoding="utf-8")))


def test_they_are_those_that_were_written(folder: Path) -> None:
    assert sums(folder) == (folder / SUMS).read_text(encoding="utf-8")


def test_recipes_and_detectors(folder: Path) -> None:
    assert Recipe.load(folder / "recipe.toml").settings["hidden"] == 8
    assert Detector.load(folder / "detector.toml").name == "par04-siw"
    assert PixelDetector.load(folder / "pixel-detector.toml").name == "belle2-pxd"


def test_showers_and_events(folder: Path, told: dict[str, Any]) -> None:
    for name in ("showers", "generated"):
        showers = open_showers(folder / f"{name}.h5")
        assert len(showers) == told[name]["n"]
        assert float(showers.energies[:].sum(dtype="f8")) == told[name]["energy_mev"]
    assert set(showers.conditions.detector) == {"toy"}
    assert showers.provenance["request"]["seed"] == 1
    assert (open_showers(folder / "showers.h5").extra["geant4_cpu_seconds"] == 0.25).all()
    events = open_events(folder / "events.h5")
    assert len(events) == told["events"]["n"]
    assert sum(int(hits.charge.sum()) for hits, _ in events.batches(7)) == told["events"]["charge"]


def test_checkpoints(folder: Path, told: dict[str, Any]) -> None:
    """The same weights, and the same showers up to rounding."""
    checkpoint = Checkpoint.load(folder / "model")
    assert checkpoint.fingerprint == told["checkpoint"]["fingerprint"]
    assert checkpoint.metrics["steps"] > 0
    before = open_showers(folder / "generated.h5").energies[:]
    now = generate(folder / "model", like=folder / "showers.h5", n=100, seed=1, **PLAIN).energies[:]
    np.testing.assert_allclose(now, before, rtol=1e-3, atol=0.1)


def test_campaigns(folder: Path, told: dict[str, Any]) -> None:
    """What is finished is known to be, and the shards are one production."""
    campaign = Campaign.load(folder / "campaign.toml")
    record = campaign.begun()
    assert record is not None
    assert record.mark == told["campaign"]["mark"]
    assert shard_states(campaign) == {"finished": 2, "whole": 0, "begun": 0, "missing": 0}
    assert verify_campaign(campaign) == []
    showers = Showers.concatenate([open_showers(campaign.file(shard)) for shard in campaign])
    now = generate(folder / "model", energy="2-40GeV", n=40, seed=1, **PLAIN)
    np.testing.assert_allclose(now.energies[:], showers.energies[:], rtol=1e-3, atol=0.1)


def test_results(folder: Path, told: dict[str, Any], tmp_path: Path) -> None:
    comparison = read_comparison(folder / "comparison")
    assert [model.name for model in comparison.models]
    metrics = comparison.evaluations["b"]
    assert metrics.counts == told["metrics"]["counts"]
    assert metrics.histogram("e_layer_0").separation.value == told["metrics"]["e_layer_0"]
    assert metrics.verdict is not None
    assert {"fpd", "kpd"} <= metrics.distances.keys()
    judged = PixelEvaluation.read(folder / "pixel-metrics.json")
    assert len(judged.quantities) == told["pixel-metrics"]["quantities"]
    assert judged.distances["fid"].value == told["pixel-metrics"]["fid"]
    assert BenchResult.read(folder / "bench.json").rows[0].batch_size == 8
    for result, file in ((metrics, "comparison/b/metrics.json"), (judged, "pixel-metrics.json")):
        write_json(tmp_path / "again.json", result.to_dict())
        again = json.loads((tmp_path / "again.json").read_text())
        before = json.loads((folder / file).read_text())
        assert before.keys() <= again.keys()
        assert {key for key in before if before[key] != again[key]} == set()


def test_there_is_a_folder_to_read() -> None:
    assert VERSIONS
