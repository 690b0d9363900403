"""Generated pixel events: functions of checkpoint, seed, number and rates alone, however they are made."""

import signal

import numpy as np
import pytest
from small_pixels import small_detector, small_events
from toy_pixels import RECIPE, Occupancy
from typer.testing import CliRunner

from caloforge.checkpoint import Checkpoint
from caloforge.cli.app import app
from caloforge.data.pixels import open_events, write_events
from caloforge.errors import CheckpointError, ConditionError, DataError
from caloforge.generation import events as module
from caloforge.generation import generate, generate_events
from caloforge.training import train


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    out = tmp_path_factory.mktemp("model") / "toy"
    return train(RECIPE, small_events(40), out=out, progress=False)


def same(a, b):
    one, other = a.read(0, len(a)), b.read(0, len(b))
    for name in ("counts", "u", "v", "charge"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(a.conditions.rates, b.conditions.rates)
    np.testing.assert_array_equal(a.conditions.number, b.conditions.number)


def test_events_are_the_same_in_one_go_in_pieces_and_from_a_file(checkpoint, tmp_path):
    whole = generate_events(checkpoint, n=6, rate="0.5-2", seed=3, progress=False)
    assert len(whole) == 6
    assert whole.read(0, 6).charge.max() == 50
    assert len(np.unique(whole.conditions.rates)) > 6
    pieces = [
        generate_events(checkpoint, n=2, first=first, rate="0.5-2", seed=3, progress=False)
        for first in (4, 0, 2)
    ]
    for first, piece in zip((4, 0, 2), pieces, strict=True):
        same(piece, whole[first : first + 2])
    for shard, like in (("2/3", None), ("3/3", whole)):
        how = {"rate": "0.5-2"} if like is None else {"like": like}
        piece = generate_events(checkpoint, n=6, shard=shard, seed=3, progress=False, **how)
        first = 2 * int(shard[0]) - 2
        same(piece, whole[first : first + 2])
    file = generate_events(checkpoint, n=6, rate="0.5-2", seed=3, out=tmp_path / "a.h5", progress=False)
    same(file, whole)
    assert file.provenance["checkpoint"]["fingerprint"] == checkpoint.fingerprint
    assert file.provenance["performance"]["n_events"] == 6
    assert "extrapolated" not in file.provenance
    other = generate_events(checkpoint, n=6, rate="0.5-2", seed=4, progress=False)
    assert not np.array_equal(other.read(0, 6).counts, whole.read(0, 6).counts)


def test_a_stopped_generation_goes_on(checkpoint, tmp_path, monkeypatch):
    whole = generate_events(checkpoint, n=6, rate="0.5-2", progress=False)
    make, count = module.make_event, []

    def stopping(*args):
        count.append(1)
        if len(count) == 3:
            signal.raise_signal(signal.SIGINT)
        return make(*args)

    monkeypatch.setattr(module, "make_event", stopping)
    options = {"n": 6, "rate": "0.5-2", "out": tmp_path / "a.h5", "progress": False}
    with pytest.raises(KeyboardInterrupt, match="3 of 6 events were made and kept"):
        generate_events(checkpoint, **options)
    with pytest.raises(DataError, match="unfinished generation"):
        generate_events(checkpoint, **options)
    same(generate_events(checkpoint, **options, resume=True), whole)
    assert len(count) == 6
    same(generate_events(checkpoint, **options, resume=True), whole)
    assert len(count) == 6
    with pytest.raises(DataError, match="exists"):
        generate_events(checkpoint, **options)


def test_rates_are_asked_for_taken_from_events_or_refused(checkpoint, caplog):
    truth = small_events(5)
    like = generate_events(checkpoint, like=truth, n=4, progress=False)
    np.testing.assert_array_equal(like.conditions.rates, truth.conditions.rates[:4])
    for rate, message in (("-1", "not negative"), ("nonsense=1", "no source"), (float("nan"), "rate")):
        with pytest.raises(ConditionError, match=message):
            generate_events(checkpoint, n=1, rate=rate, progress=False)
    with pytest.raises(ConditionError, match="either rate or like"):
        generate_events(checkpoint, like=truth, rate=1, progress=False)
    with pytest.raises(ConditionError, match="rates for 5"):
        generate_events(checkpoint, like=truth, n=6, progress=False)
    assert not caplog.records
    beyond = generate_events(checkpoint, n=2, rate=4, progress=False)
    assert "beyond those of the training" in caplog.text
    assert set(beyond.provenance["extrapolated"]) == {"two_photon", "single_beam", "synchrotron"}


def test_a_model_of_another_kind_or_detector_is_refused(checkpoint, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="makes events of small, not of belle2-pxd"):
        generate_events(checkpoint, detector="belle2-pxd", n=1, progress=False)
    with pytest.raises(CheckpointError, match="makes no showers"):
        generate(checkpoint, energy=1e4, progress=False)
    with pytest.raises(CheckpointError, match="makes no events of a pixel detector"):
        generate_events("showertree-siw", n=1, progress=False)
    below = Occupancy.decode
    monkeypatch.setattr(Occupancy, "decode", lambda *args: below(*args) // 10)
    with pytest.raises(CheckpointError, match="below the threshold of 7 ADU"):
        generate_events(checkpoint, n=1, progress=False)


def test_the_command(checkpoint, tmp_path):
    folder, out = str(checkpoint.path), str(tmp_path / "a.h5")
    run = CliRunner()
    done = run.invoke(app, ["generate", folder, "-n", "3", "--rate", "0.5-2", "-o", out])
    assert done.exit_code == 0, done.output
    assert "3 events by toy" in done.output
    same(open_events(out), generate_events(checkpoint, n=3, rate="0.5-2", progress=False))
    write_events(small_events(4), tmp_path / "truth.h5")
    like = str(tmp_path / "truth.h5")
    assert run.invoke(app, ["generate", folder, "--like", like, "-o", out, "--overwrite"]).exit_code == 0
    assert len(open_events(out)) == 4
    for option in (
        ["--energy", "10GeV"],
        ["--spectrum", "uniform"],
        ["--allow-extrapolation"],
        ["--mesh", "2"],
        ["--ignore", "x"],
    ):
        done = run.invoke(app, ["generate", folder, *option, "-o", str(tmp_path / "b.h5")])
        assert isinstance(done.exception, ConditionError)
        assert f"{option[0]} have no meaning" in str(done.exception)
    done = run.invoke(app, ["generate", "showertree-siw", "--energy", "10GeV", "--rate", "1"])
    assert isinstance(done.exception, ConditionError)
    assert "has no --rate" in str(done.exception)


def test_the_checkpoint_knows_its_detector(checkpoint):
    mesh = Checkpoint.load(checkpoint.path).mesh
    assert mesh.kind == "pixel"
    assert mesh.detector == small_detector()
