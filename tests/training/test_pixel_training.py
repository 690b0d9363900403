"""Pixel events are trained on as showers are: the same recipe, loop, checkpoint, log and resuming."""

import json
import signal

import numpy as np
import pytest
import torch
from small_pixels import small_detector, small_events
from toy_models import toy_showers
from toy_pixels import RECIPE, Occupancy
from typer.testing import CliRunner

from caloforge.checkpoint import Checkpoint
from caloforge.cli.app import app
from caloforge.data.pixels import PixelConditions, PixelEvents, write_events
from caloforge.detector import PixelMesh
from caloforge.errors import CaloforgeError, CheckpointError, DataError, RecipeError
from caloforge.models.pixels.batch import SparseEvents
from caloforge.training import run, train
from caloforge.training.loader import EventLoader


def fit(out, events=None, **options):
    overrides = options.pop("overrides", {})
    events = small_events(40) if events is None else events
    return train(RECIPE, events, out=out, overrides=overrides, progress=False, **options)


def test_batches_hold_the_events_sparse_and_dense():
    events = small_events(9)
    batch = SparseEvents.of(events)
    images = events.read(0, 9).dense()
    assert np.array_equal(batch.dense().images, images)
    assert np.array_equal(batch[2:7].dense().images, images[2:7])
    assert len(batch[7:7]) == 0
    order = torch.tensor([8, 0, 3, 3])
    taken = batch[order]
    assert np.array_equal(taken.dense().images, images[order])
    assert np.array_equal(taken.rates, events.conditions.rates[order].astype(np.float32))
    assert np.array_equal(taken[torch.tensor([2])].dense().images, images[[3]])


@pytest.mark.parametrize("in_memory", [True, False])
def test_an_epoch_has_each_event_once(in_memory):
    events = small_events(20)
    loader = EventLoader(events, 4, device=torch.device("cpu"), in_memory=in_memory, prefetch=True)
    batches = list(loader.epoch(0))
    seen = torch.cat([batch.rates for batch in batches])
    assert torch.equal(seen, torch.cat([batch.rates for batch in loader.epoch(0)]))
    assert not torch.equal(seen, torch.cat([batch.rates for batch in loader.epoch(1)]))
    rates = events.conditions.rates.astype(np.float32)
    where = [int(np.flatnonzero((rates == row.numpy()).all(axis=1))[0]) for row in seen]
    assert sorted(where) == list(range(20))
    images = events.read(0, 20).dense()
    assert np.array_equal(torch.cat([batch.images for batch in batches]), images[where])
    in_order = torch.cat([batch.images for _, batch in loader.in_order()])
    assert np.array_equal(in_order, images)


def test_training_learns_records_and_is_read_again(tmp_path):
    events = small_events(40)
    checkpoint = fit(tmp_path / "a", events)
    rows = [json.loads(line) for line in (tmp_path / "a" / "log.jsonl").read_text().splitlines()]
    assert len(rows) == 4
    losses = [row["parts"]["model"]["validation_loss"] for row in rows]
    assert losses[-1] < losses[0]
    again = Checkpoint.load(tmp_path / "a")
    assert again.fingerprint == checkpoint.fingerprint
    assert again.mesh == PixelMesh(small_detector())
    assert again.detectors == ("small",)
    spans = {
        name: [column.min(), column.max()]
        for name, column in zip(events.conditions.sources, events.conditions.rates.T, strict=True)
    }
    assert again.valid_range == {"rates": spans, "detector": ["small"]}
    model = again.pixel_model()
    assert isinstance(model, Occupancy)
    assert 0.05 < float(model.mean.mean()) < 0.15
    with pytest.raises(CheckpointError, match="makes no showers; caloforge generate"):
        again.model()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path, monkeypatch, streamed):
    monkeypatch.setattr(run, "fits_in_memory", lambda events: not streamed)
    whole = fit(tmp_path / "whole")
    steps = iter(range(1, 100))

    def after_step(model, part):
        if next(steps) == 9:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Occupancy, "after_step", after_step)
    with pytest.raises(KeyboardInterrupt, match="resume=True"):
        fit(tmp_path / "cut")
    assert fit(tmp_path / "cut", resume=True).fingerprint == whole.fingerprint


def test_the_command_trains_on_several_files(tmp_path):
    for i in range(2):
        write_events(small_events(20, seed=i), tmp_path / f"{i}.h5")
    (tmp_path / "r.toml").write_text(
        'model = "toy_pixels:Occupancy"\n[training]\nsteps = 3\nbatch_size = 4\n', encoding="utf-8"
    )
    files = [str(tmp_path / f"{i}.h5") for i in range(2)]
    command = ["train", str(tmp_path / "r.toml"), *files, "-o", str(tmp_path / "model")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert Checkpoint.load(tmp_path / "model").provenance["n_showers"] == 40


def test_what_does_not_fit_is_refused(tmp_path):
    events = small_events(10)
    with pytest.raises(RecipeError, match="trained on showers, not on events of small"):
        fit(tmp_path / "a", events, overrides={"model": "toy_models:LayerGaussian"})
    with pytest.raises(RecipeError, match="trained on events of a pixel detector, not on showers"):
        fit(tmp_path / "a", toy_showers())
    with pytest.raises(RecipeError, match="for detectors belle2-pxd, the events are of small"):
        fit(tmp_path / "a", events, overrides={"data.detectors": ["belle2-pxd"]})
    with pytest.raises(DataError, match="no events"):
        fit(tmp_path / "a", events[:0])
    unknown = PixelConditions.unknown(events.conditions.sources, 10)
    blind = PixelEvents(events._source, unknown, events.detector)
    with pytest.raises(RecipeError, match="rates of 10 events are not known"):
        fit(tmp_path / "a", blind)
    for changes in ({"training.augment": ["rotate_phi"]}, {"training.select": {"by": "auc"}}):
        with pytest.raises(RecipeError, match="of showers only"):
            fit(tmp_path / "a", events, overrides=changes)
    with pytest.raises(RecipeError, match="given no showers"):
        fit(tmp_path / "a", events, given=toy_showers())
    with pytest.raises(CaloforgeError, match="cannot be adapted"):
        fit(tmp_path / "b", events, start=fit(tmp_path / "a", events))
