import json

import numpy as np
import pytest
import torch
from toy_models import MESH, RECIPE, toy_showers

from caloforge.checkpoint import Checkpoint
from caloforge.data import Showers, write_showers
from caloforge.errors import CheckpointError, RecipeError, TrainingError
from caloforge.training import run, train
from caloforge.training.loader import hold_out


def rows(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def fit(out, showers=None, model="LayerGaussian", **options):
    overrides = {"model": f"toy_models:{model}"} | options.pop("overrides", {})
    showers = toy_showers() if showers is None else showers
    return train(RECIPE, showers, out=out, overrides=overrides, progress=False, **options)


def test_training_takes_one_thread_unless_more_are_asked_for(tmp_path, monkeypatch):
    torch.set_num_threads(2)
    try:
        for number, threads, variable, used in ((0, None, "", 1), (1, 2, "", 2), (2, None, "3", 3)):
            monkeypatch.setenv("OMP_NUM_THREADS", variable)
            trained = fit(tmp_path / str(number), threads=threads, overrides={"training.epochs": 1})
            assert trained.provenance["threads"] == used
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_training_learns_and_records(tmp_path):
    showers = toy_showers(1000)
    checkpoint = fit(tmp_path / "a", showers, overrides={"training.epochs": 30})
    losses = [row["parts"]["model"]["loss"] for row in rows(tmp_path / "a")]
    assert losses[-1] < losses[0] - 3
    sigma = checkpoint.model().log_sigma.exp()
    assert sigma.tolist() == pytest.approx([0.2] * 4, rel=0.15)
    row = rows(tmp_path / "a")[-1]
    assert {"epoch", "seconds", "showers_per_second", "peak_memory_mib", "steps"} <= set(row)
    assert {"loss", "validation_loss", "sigma", "learning_rate", "best_epoch"} <= set(row["parts"]["model"])
    assert checkpoint.valid_range == showers.conditions.ranges()
    assert checkpoint.provenance["showers"] == {"action": "toy"}
    assert checkpoint.detectors == ("toy",)
    assert Checkpoint.load(tmp_path / "a").fingerprint == checkpoint.fingerprint
    assert not (tmp_path / "a" / "resume").exists()
    assert list((tmp_path / "a" / "tensorboard").iterdir())


def test_the_seed_decides_everything(tmp_path):
    state = torch.random.get_rng_state()
    a, b, c = (fit(tmp_path / str(i), seed=seed) for i, seed in enumerate((0, 0, 1)))
    assert a.fingerprint == b.fingerprint != c.fingerprint
    assert torch.equal(torch.random.get_rng_state(), state)  # the caller's generator is left alone


def test_files_and_showers_that_do_not_fit_in_memory(tmp_path, monkeypatch):
    write_showers(toy_showers(), tmp_path / "showers.h5")
    here = fit(tmp_path / "a", toy_showers())
    file = fit(tmp_path / "b", tmp_path / "showers.h5")
    assert here.fingerprint == file.fingerprint
    monkeypatch.setattr(run, "fits_in_memory", lambda showers: False)
    streamed = fit(tmp_path / "c", tmp_path / "showers.h5", workers=1)
    assert streamed.fingerprint == here.fingerprint


def test_statistics_come_from_the_training_split_only(tmp_path):
    showers = toy_showers(200)
    _, held_out = hold_out(showers, 0.1, seed=5)
    assert len(held_out) == 20
    energies = showers.energies.copy()
    energies[np.isin(showers.conditions.energy, held_out.conditions.energy)] *= 1e4
    poisoned = Showers(energies, showers.conditions, MESH, showers.provenance)
    clean, dirty = (
        fit(tmp_path / name, data, seed=5, overrides={"training.epochs": 1})
        for name, data in (("a", showers), ("b", poisoned))
    )
    for name in ("share", "mean", "network.0.weight"):
        assert torch.equal(clean.tensors[name], dirty.tensors[name])
    assert dirty.metrics["parts"]["model"]["validation_loss"] > 10  # it did look at them


def test_nan_stops_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "SAVING_SHARE", 1e9)
    with pytest.raises(
        TrainingError, match=r"part 'model' became nan in epoch 4, step 1.*last good"
    ) as error:
        fit(tmp_path / "a", model="BreaksDown", overrides={"settings.at": 0.5})
    assert str(tmp_path / "a") in str(error.value)
    checkpoint = Checkpoint.load(tmp_path / "a")
    assert checkpoint.metrics["epochs"] == 3
    assert all(tensor.isfinite().all() for tensor in checkpoint.tensors.values())
    with pytest.raises(TrainingError, match="none yet"):
        fit(tmp_path / "b", model="BreaksDown", overrides={"settings.at": 0.0})


@pytest.mark.parametrize("held_out", [0, 0.1])
def test_weights_that_are_nan_after_the_last_step_are_not_kept(tmp_path, monkeypatch, held_out):
    monkeypatch.setattr(run, "SAVING_SHARE", 1e9)
    changes = {"settings.at": 0.99, "training.steps": 100, "training.validation_fraction": held_out}
    with pytest.raises(TrainingError, match=r"weights of part 'model' became nan.*last good.*a\."):
        fit(tmp_path / "a", model="BreaksWeights", overrides=changes)
    checkpoint = Checkpoint.load(tmp_path / "a")
    assert all(tensor.isfinite().all() for tensor in checkpoint.tensors.values())


def test_numbers_that_are_none_stop_no_training(tmp_path):
    """Attributes of files of others, and what a model logs beside its loss."""
    showers = toy_showers()
    showers.provenance |= {"attributes": {"noise": float("nan"), "most": float("inf")}}
    checkpoint = fit(tmp_path / "a", showers, model="LogsNaN", overrides={"training.epochs": 1})
    for file in (tmp_path / "a" / "checkpoint.json", tmp_path / "a" / "log.jsonl"):
        json.loads(file.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    known = Checkpoint.load(tmp_path / "a").provenance["showers"]["attributes"]
    assert known == {"noise": None, "most": None}
    assert checkpoint.metrics["epochs"] == 1


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("key", ["training.learning_rate", "training.clip", "settings.dropout"])
def test_settings_are_finite_numbers(tmp_path, key, value):
    with pytest.raises(RecipeError, match=f"{key}: .*finite"):
        fit(tmp_path / "a", overrides={key: float(value)})
    assert not (tmp_path / "a").exists()


def test_early_stopping_keeps_the_best_weights(tmp_path):
    changes = {"training.epochs": 60, "training.patience": 2, "training.schedule": "constant"}
    changes |= {"training.learning_rate": 0.3}
    checkpoint = fit(tmp_path / "a", overrides=changes)
    told = rows(tmp_path / "a")
    assert len(told) < 60
    held_out = [row["parts"]["model"]["validation_loss"] for row in told]
    best = checkpoint.metrics["parts"]["model"]
    assert best["best_epoch"] == int(np.argmin(held_out)) == len(told) - 3
    assert best["validation_loss"] == min(held_out)


def test_parts_have_their_own_best_weights_and_rhythm(tmp_path):
    changes = {
        "training.epochs": 40,
        "training.parts.location.patience": 1,
        "training.parts.location.learning_rate": 0.3,
        "training.parts.width.every": 2,
        "training.parts.width.repeat": 3,
        "training.parts.width.clip": 100.0,
    }
    checkpoint = fit(tmp_path / "a", model="TwoParts", overrides=changes)
    told = rows(tmp_path / "a")
    parts = checkpoint.metrics["parts"]
    assert parts["location"]["best_epoch"] < parts["width"]["best_epoch"]
    assert told[-1]["parts"]["location"]["stopped"]
    assert "gradient_norm" in told[0]["parts"]["width"]
    assert parts["width"]["updates"] == checkpoint.metrics["steps"] // 2 * 3
    assert len(told) == 40  # one part goes on when the other has stopped


def test_a_stopped_part_is_validated_with_its_best_weights(tmp_path):
    changes = {
        "training.epochs": 30,
        "training.schedule": "constant",
        "training.parts.location.patience": 1,
        "training.parts.location.learning_rate": 0.3,
        "training.parts.width.learning_rate": 1e-12,
    }
    parts = fit(tmp_path / "a", model="TwoParts", overrides=changes).metrics["parts"]
    best, last = (rows(tmp_path / "a")[i]["parts"] for i in (parts["location"]["best_epoch"], -1))
    assert last["location"]["stopped"]
    assert last["width"]["validation_loss"] == pytest.approx(best["width"]["validation_loss"], rel=1e-6)


def test_keeping_the_last_weights_and_no_validation(tmp_path):
    last = fit(tmp_path / "a", overrides={"training.keep": "last", "training.learning_rate": 2.0})
    assert last.metrics["parts"]["model"]["best_epoch"] == 5
    bare = fit(tmp_path / "b", overrides={"training.validation_fraction": 0.0, "training.ema": 0})
    assert bare.metrics["parts"]["model"]["validation_loss"] is None
    assert bare.provenance["n_training"] == 300


def test_adversarial_training(tmp_path):
    changes = {"training.epochs": 60, "training.keep": "last", "training.parts.generator.every": 3}
    changes |= {"training.betas": [0.0, 0.9], "training.schedule": "constant", "training.batch_size": 128}
    checkpoint = fit(tmp_path / "a", toy_showers(1000), model="Adversarial", overrides=changes)
    parts = checkpoint.metrics["parts"]
    assert parts["critic"]["updates"] == 420
    assert parts["generator"]["updates"] == 140
    gaps = [abs(row["parts"]["critic"]["validation_gap"]) for row in rows(tmp_path / "a")]
    assert np.mean(gaps[-5:]) < np.max(gaps) / 3


def test_a_number_of_steps_and_augmentation(tmp_path):
    checkpoint = fit(
        tmp_path / "a", overrides={"training.steps": 11, "training.augment": ["rotate_phi", "reflect_phi"]}
    )
    assert checkpoint.metrics["steps"] == 11
    assert len(rows(tmp_path / "a")) == 2


def test_bf16_runs(tmp_path):
    checkpoint = fit(tmp_path / "a", overrides={"training.precision": "bf16", "training.epochs": 1})
    assert checkpoint.provenance["autocast"] == "bf16"


def test_what_is_there_is_not_lost_by_mistake(tmp_path):
    first = fit(tmp_path / "a", overrides={"training.epochs": 1})
    with pytest.raises(CheckpointError, match="holds a checkpoint"):
        fit(tmp_path / "a")
    with pytest.raises(CheckpointError, match="with another recipe"):
        fit(tmp_path / "a", resume=True)
    again = fit(tmp_path / "a", resume=True, overrides={"training.epochs": 1})
    assert again.fingerprint == first.fingerprint
    assert fit(tmp_path / "a", overwrite=True).metrics["epochs"] == 6
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="is a file"):
        fit(tmp_path / "file")


def test_requests_that_cannot_be_met(tmp_path):
    with pytest.raises(TrainingError, match="too few"):
        fit(tmp_path / "a", toy_showers(1))
    with pytest.raises(RecipeError, match=r"training\.epochs"):
        fit(tmp_path / "a", overrides={"training.epochs": -1})


def test_one_plain_line_where_there_is_no_terminal(tmp_path, capsys):
    train(RECIPE, toy_showers(100), out=tmp_path / "a")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[-1].startswith("epoch 6/6: loss ")


def test_a_log_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "log.jsonl").symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match=r"cannot write .*log\.jsonl"):
        fit(tmp_path / "a", overwrite=True)


def test_it_goes_on_without_tensorboards_numbers(tmp_path, caplog):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "tensorboard").write_text("mine")
    assert fit(tmp_path / "a", overrides={"training.epochs": 2}).metrics["epochs"] == 2
    assert "no more numbers for TensorBoard" in caplog.text
    assert (tmp_path / "a" / "tensorboard").read_text() == "mine"
