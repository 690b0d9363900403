"""Campaigns of events of pixel detectors: the same promises as for showers."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_pixels import small_events
from toy_pixels import RECIPE
from typer.testing import CliRunner

from caloforge.campaign import Campaign, merge_campaign, plan_campaign, run_campaign, verify_campaign
from caloforge.cli.app import app
from caloforge.data.pixels import PixelEvents, open_events
from caloforge.errors import DataError, RecipeError
from caloforge.geant4 import simulate_events
from caloforge.generation import generate_events
from caloforge.runtime.shards import Shard
from caloforge.training import train

Asked = Callable[..., Campaign]


@pytest.fixture(scope="module")
def pixel_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pixels") / "toy"
    train(RECIPE, small_events(40), out=out, progress=False)
    return out


@pytest.fixture
def events(asked: Asked, pixel_model: Path) -> Asked:
    """Writes the file of a campaign of 10 events in 4 shards, with changes."""

    def write(name: str = "campaign.toml", **changes: Any) -> Campaign:
        work = {"model": str(pixel_model), "energy": None, "rate": "0.5-2"} | changes.pop("work", {})
        return asked(name, **({"table": "generate_events", "n": 10, "shard_size": 3} | changes), work=work)

    return write


def run(campaign: Campaign, **options: Any) -> Any:
    return run_campaign(campaign, **({"workers": 1, "progress": False} | options))


def joined(campaign: Campaign) -> PixelEvents:
    return PixelEvents.concatenate([open_events(campaign.file(shard)) for shard in campaign])


def same(one: PixelEvents, other: PixelEvents) -> None:
    a, b = one.read(0, len(one)).columns(), other.read(0, len(other)).columns()
    for name, column in a.items():
        np.testing.assert_array_equal(column, b[name])
    for name in ("rates", "seed", "number"):
        np.testing.assert_array_equal(getattr(one.conditions, name), getattr(other.conditions, name))


def test_shards_of_generated_events_are_one_production(
    events: Asked, pixel_model: Path, tmp_path: Path
) -> None:
    campaign = events()
    plan = plan_campaign(campaign)
    assert not campaign.folder.exists()
    assert run(campaign).made == 4
    assert verify_campaign(campaign) == []
    files = [path.stat().st_size for path in campaign.folder.glob("*.h5")]
    assert sum(files) <= plan.disk
    assert run(Campaign.load(campaign.path)).made == 0
    whole = generate_events(pixel_model, n=10, rate="0.5-2", seed=7, progress=False)
    same(joined(campaign), whole)
    merged = merge_campaign(campaign, tmp_path / "all.h5")
    assert isinstance(merged, PixelEvents)
    same(merged, whole)
    stamp = (tmp_path / "all.h5").stat().st_mtime_ns
    merge_campaign(campaign, tmp_path / "all.h5")  # once is enough
    assert (tmp_path / "all.h5").stat().st_mtime_ns == stamp
    with pytest.raises(DataError, match=r"no virtual data set can be made of events"):
        merge_campaign(campaign, tmp_path / "virtual.h5", virtual=True)
    said = CliRunner().invoke(app, ["campaign", "verify", str(campaign.path), str(tmp_path / "all.h5")])
    assert "complete: 10 events in 4 files" in said.stdout, said.output


def test_verify_names_events_that_are_none_of_it(events: Asked) -> None:
    campaign, other = events(), events("other.toml", out="other/{shard}.h5", work={"rate": "0.6-2"})
    run(campaign)
    run(other)
    one, two, three, four = (campaign.file(shard) for shard in campaign)
    four.unlink()
    shutil.copy(one, two)
    shutil.copy(campaign.seal(Shard(1, 4)), campaign.seal(Shard(2, 4)))
    shutil.copy(other.file(Shard(3, 4)), three)
    found = verify_campaign(campaign)
    assert [problem.kind for problem in found] == ["doubled", "foreign", "missing"]
    assert "its events have other conditions, so that the events 5 to 6 are missing" in found[1].why
    with pytest.raises(DataError, match=r"its generate_events\.rate differs"):
        run(events(work={"rate": "1-2"}))


def test_what_is_merged_out_of_order_is_told(events: Asked, tmp_path: Path) -> None:
    campaign = events()
    run(campaign)
    shuffled = joined(campaign)[[*range(2, 10), 0, 1]]
    with campaign.work.writer(tmp_path / "b.h5", shuffled, shuffled.provenance, overwrite=False) as writer:
        writer.append_all(shuffled)
    with pytest.raises(DataError, match="events 0 to 1 are not those of shard 1/4: the order is wrong"):
        merge_campaign(campaign, tmp_path / "b.h5")


def test_events_of_geant4(asked: Asked, tmp_path: Path) -> None:
    if importlib.util.find_spec("geant4_pybind") is None:
        pytest.skip("Geant4 is not installed")
    work = {"model": None, "energy": None, "detector": "belle2-pxd", "reduced_data": True, "rate": "0.001"}
    campaign = asked(table="simulate_events", n=3, shard_size=2, work=work)
    run(campaign)
    assert verify_campaign(campaign) == []
    how: dict[str, Any] = {"rate": "0.001", "seed": 7, "reduced_data": True, "workers": 1, "progress": False}
    same(joined(campaign), simulate_events("belle2-pxd", n=3, out=tmp_path / "b.h5", **how))


@pytest.mark.parametrize(
    ("work", "says"),
    [
        ({"detector": "par04-siw"}, r"par04-siw is no pixel detector.*\[generate\]"),
        ({"model": None}, "say which model"),
        ({"theta": "90deg"}, "unknown key 'generate_events.theta'"),
    ],
)
def test_a_malformed_table_is_refused(events: Asked, work: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        events(work=work)
