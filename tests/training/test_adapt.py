import json
import os
import signal
from dataclasses import replace

import joint_models
import numpy as np
import pytest
import torch
from joint_models import RECIPE, RESPONSE, JointGaussian, mesh_of, showers_in
from toy_models import toy_showers
from typer.testing import CliRunner

from caloforge.checkpoint import Checkpoint
from caloforge.checkpoint.before import weights_for
from caloforge.cli.app import app
from caloforge.data import Conditions, Showers, write_showers
from caloforge.detector import CylinderMesh
from caloforge.errors import CheckpointError, DataError, RecipeError
from caloforge.generation import generate
from caloforge.models.base import ConditionTensors
from caloforge.training import Recipe, adapt, train
from caloforge.training.adapt import adaptation_recipe

NAMES = ("small", "large")
JOINT = Showers.join([showers_in(name, 300, seed=i) for i, name in enumerate(NAMES)])
RATES = {"training.learning_rate": 0.05}


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """A model of two detectors, trained for a moment, with two spare slots."""
    return train(RECIPE, JOINT, out=tmp_path_factory.mktemp("parent") / "model", progress=False)


def adapted(parent, out, name="new", n=200, **options):
    return adapt(parent, showers_in(name, n, seed=5), out=out, progress=False, **options)


def response(checkpoint, name):
    """Mean energy of generated showers relative to those of Geant4's stand-in."""
    model, true = checkpoint.model(), showers_in(name, 200, seed=8)
    conditions = ConditionTensors.of(true.conditions, model.detectors)
    with torch.no_grad():
        made = model.decode(model.noise(200, torch.Generator().manual_seed(1)), conditions)
    return float(made.sum() / true.energies.sum())


def test_joint_training_learns_each_detector(parent):
    assert parent.detectors == tuple(sorted(NAMES))
    assert parent.meshes == {name: mesh_of(name) for name in NAMES}
    assert parent.mesh == mesh_of("large")
    for slot, name in enumerate(parent.detectors):
        assert parent.tensors["cell_mm"][slot] == pytest.approx(3.4 * RESPONSE[name])
        assert response(parent, name) == pytest.approx(1, abs=0.25)
    for name in NAMES:
        own = next(
            part
            for part in (showers_in(n, 300, seed=i) for i, n in enumerate(NAMES))
            if part.conditions.detector[0] == name
        )
        assert parent.range_of(name) == own.conditions.ranges()
    assert set(parent.valid_range["detector"]) == set(NAMES)


def test_a_joint_checkpoint_is_the_same_when_read_again(parent):
    loaded = Checkpoint.load(parent.path)
    assert loaded.fingerprint == parent.fingerprint
    assert (loaded.meshes, loaded.valid_ranges) == (parent.meshes, parent.valid_ranges)
    assert loaded.model().meshes == parent.meshes
    for name in NAMES:
        loaded.require_mesh(mesh_of(name), "these", name)
        assert loaded.mesh_of(name) == mesh_of(name)
    with pytest.raises(CheckpointError, match="these has a cylinder mesh"):
        loaded.require_mesh(mesh_of("large"), "these", "small")
    with pytest.raises(CheckpointError, match=r"showers in large, small.*but not in 'new'.*adapt"):
        loaded.mesh_of("new")


def test_a_changed_mesh_of_one_detector_is_noticed(parent, tmp_path):
    replace(parent).save(tmp_path / "copy")
    file = tmp_path / "copy" / "checkpoint.json"
    about = json.loads(file.read_text())
    about["other_meshes"]["small"]["mesh"]["n_phi"] = 7
    file.write_text(json.dumps(about))
    with pytest.raises(CheckpointError, match="changed after training"):
        Checkpoint.load(tmp_path / "copy")


def test_files_from_before_there_were_joint_models_are_read(tmp_path):
    checkpoint = train(
        {**RECIPE, "model": "toy_models:LayerGaussian"}, toy_showers(60), out=tmp_path / "a", progress=False
    )
    file = tmp_path / "a" / "checkpoint.json"
    about = json.loads(file.read_text())
    del about["other_meshes"], about["valid_ranges"]
    file.write_text(json.dumps(about))
    loaded = Checkpoint.load(tmp_path / "a")
    assert loaded.fingerprint == checkpoint.fingerprint
    assert loaded.meshes == {"toy": checkpoint.mesh}
    assert loaded.mesh_of("anything") == checkpoint.mesh
    assert loaded.range_of("toy") == checkpoint.valid_range


def test_models_of_one_mesh_refuse_others(tmp_path):
    showers = Showers.join([showers_in("small"), showers_in("large")])
    with pytest.raises(RecipeError, match="LayerGaussian is for one mesh, but the detectors small, large"):
        train({**RECIPE, "model": "toy_models:LayerGaussian"}, showers, out=tmp_path / "a", progress=False)


def test_a_new_detector_takes_a_slot_and_the_others_stay(parent, tmp_path):
    child = adapted(parent, tmp_path / "a", steps=60, overrides=RATES)
    assert child.detectors == (*parent.detectors, "new")
    assert child.meshes == {**parent.meshes, "new": mesh_of("new")}
    assert child.mesh == parent.mesh
    assert child.tensors["cell_mm"].tolist() == pytest.approx([3.4 * f for f in (2.0, 0.5, 3.0, 0.0)])
    for name in ("share", "cell_mm"):
        assert torch.equal(child.tensors[name][:2], parent.tensors[name][:2])
    assert torch.equal(child.tensors["mean"], parent.tensors["mean"])  # not fitted anew
    assert not torch.equal(child.tensors["log_sigma"], parent.tensors["log_sigma"])
    assert response(child, "new") == pytest.approx(1, abs=0.2)
    assert child.range_of("new") == showers_in("new", 200, seed=5).conditions.ranges()
    assert child.range_of("small") == parent.range_of("small")
    assert child.provenance["start"]["fingerprint"] == parent.fingerprint
    assert child.provenance["start"]["provenance"] == parent.provenance
    assert child.valid_range["detector"] == [*parent.valid_range["detector"], "new"]
    again = adapted(child, tmp_path / "b", name="newer", steps=5)
    assert again.detectors == (*parent.detectors, "new", "newer")
    with pytest.raises(CheckpointError, match="room for 4 detectors only"):
        adapted(again, tmp_path / "c", name="middle", steps=5)


def test_detectors_it_was_not_adapted_to_are_made_as_before(parent, tmp_path):
    first = adapted(parent, tmp_path / "a", steps=20, overrides=RATES)
    last = adapted(first, tmp_path / "b", name="newer", steps=20, overrides=RATES)

    def made(checkpoint, name):
        at_10_gev = Conditions(np.full(5, 1e4), particle="e-", detector=name)
        by_conditions = generate(checkpoint, conditions=at_10_gev, seed=3, progress=False).energies
        by_name = generate(checkpoint, detector=name, energy=1e4, n=5, seed=3, progress=False).energies
        assert np.array_equal(by_conditions, by_name)
        return by_name

    for checkpoint in (last, Checkpoint.load(tmp_path / "b")):
        for name in parent.detectors:
            assert np.array_equal(made(checkpoint, name), made(parent, name))
        assert np.array_equal(made(checkpoint, "new"), made(first, "new"))
    assert weights_for(last, "newer") is last
    shared = last.network().bias - parent.network().bias
    assert shared.abs().max() > 0.01  # all weights have moved


def test_adaptation_starts_where_the_training_ended(parent, tmp_path):
    still = {"training.learning_rate": 1e-12, "training.ema": 0}
    child = adapted(parent, tmp_path / "a", name="small", steps=3, overrides=still)
    assert child.detectors == parent.detectors
    for name, tensor in parent.tensors.items():
        if name != "share":
            assert torch.allclose(child.tensors[name], tensor, atol=1e-6)
    assert torch.equal(child.tensors["share"][0], parent.tensors["share"][0])
    assert not torch.equal(child.tensors["share"][1], parent.tensors["share"][1])  # of the new showers


def test_with_few_showers_it_beats_training_from_scratch(parent, tmp_path):
    few = showers_in("new", 24, seed=5)
    same = {"training.steps": 60, "training.validation_fraction": 0.2}  # as `adapt` holds out
    scratch = train(RECIPE, few, out=tmp_path / "scratch", overrides=same, progress=False)
    child = adapt(parent, few, out=tmp_path / "a", steps=60, overrides=RATES, progress=False)
    losses = [c.metrics["parts"]["model"]["validation_loss"] for c in (child, scratch)]
    assert losses[0] < losses[1] - 0.3


def test_n_takes_the_first_showers_and_the_validation_stops_it(parent, tmp_path):
    more = showers_in("new", 200, seed=5)
    child = adapt(parent, more, out=tmp_path / "a", n=100, steps=4, progress=False)
    first = adapt(parent, more[:100], out=tmp_path / "b", steps=4, progress=False)
    other = adapt(parent, more[100:], out=tmp_path / "c", steps=4, progress=False)
    assert child.fingerprint == first.fingerprint != other.fingerprint
    assert child.provenance["n_showers"] == 100
    wild = {"training.learning_rate": 1.0, "training.schedule": "constant"}
    stopped = adapted(parent, tmp_path / "d", n=64, steps=200, overrides=wild | {"training.patience": 2})
    assert stopped.metrics["steps"] < 200


def test_the_recipe_of_an_adaptation(parent):
    recipe = adaptation_recipe(parent, 200)
    before = Recipe.load(parent.recipe)
    assert recipe.training.learning_rate == pytest.approx(0.3 * before.training.learning_rate)
    assert (recipe.training.steps, recipe.training.epochs) == (100, None)
    assert recipe.training.patience == 12  # of 50 epochs
    assert recipe.model == before.model
    parts = {"training.parts.model.learning_rate": 0.5, "training.parts.model.patience": 1}
    special = {"data.detectors": list(NAMES)} | parts
    restricted = Checkpoint(
        parent.model_name,
        parent.settings,
        parent.mesh,
        parent.valid_range,
        {},
        recipe=Recipe.load(RECIPE, special).to_dict(),
        metrics={"steps": 5000},
    )
    recipe = adaptation_recipe(restricted, 200, overrides={"training.clip": 3.0})
    assert recipe.data.detectors == ()
    assert recipe.training.part("model").learning_rate == pytest.approx(0.15)
    assert recipe.training.part("model").patience == recipe.training.patience == 62
    assert (recipe.training.steps, recipe.training.clip) == (500, 3.0)


def test_few_showers_are_learnt_by_tables_and_steps_are_those_of_each_update(parent):
    def chosen(n, update, start=parent):
        training = adaptation_recipe(start, n, steps=40, update=update).training
        return training.update, training.steps

    assert chosen(200, None) == chosen(200, "all") == ("all", 40)
    assert chosen(200, "best") == ("best", 120)
    assert chosen(29, "best") == ("tables", 40)
    assert chosen(29, "low-rank") == ("low-rank", 40)
    with pytest.raises(RecipeError, match=r"training\.update"):
        adaptation_recipe(parent, 200, update="some")
    with pytest.raises(RecipeError, match="give a validation_fraction"):
        adaptation_recipe(parent, 200, update="best", overrides={"training.validation_fraction": 0.0})


def test_each_update_moves_its_own_weights(parent, tmp_path):
    before, moved = parent.network(), {}
    for update in ("tables", "low-rank", "all"):
        change = RATES | {"training.rank": 1, "training.ema": 0}
        child = adapted(parent, tmp_path / update, steps=20, update=update, overrides=change).network()
        moved[update] = {
            name: (weight - old).detach()
            for (name, weight), old in zip(child.named_parameters(), before.parameters(), strict=True)
        }
    for name, old in before.named_parameters():
        assert bool(moved["tables"][name].any()) == (old.ndim < 2), name
        assert moved["low-rank"][name].any(), name
    moves = {update: of["network.3.weight"] for update, of in moved.items()}
    rank = {update: torch.linalg.matrix_rank(move, rtol=1e-4) for update, move in moves.items()}
    assert rank["low-rank"] == 1 < rank["all"]


def test_the_best_update_is_kept_and_the_start_where_none_is_better(parent, tmp_path):
    child = adapted(parent, tmp_path / "a", steps=40, update="best", overrides=RATES)
    part = child.metrics["parts"]["model"]
    rows = [
        json.loads(line)["parts"]["model"] for line in (tmp_path / "a" / "log.jsonl").read_text().splitlines()
    ]
    ways = [row["update"] for row in rows]
    assert list(dict.fromkeys(ways)) == ["tables", "low-rank", "all"]
    best = min(range(len(rows)), key=lambda i: rows[i]["validation_loss"])
    assert part["validation_loss"] == rows[best]["validation_loss"]
    assert (part["best_epoch"], part["update"]) == (best, ways[best])
    wild = {"training.learning_rate": 1.0, "training.schedule": "constant", "training.ema": 0}
    for update in ("best", "all"):
        again = adapted(child, tmp_path / update, steps=9, update=update, overrides=wild)
        part = again.metrics["parts"]["model"]
        assert (part["best_epoch"], part.get("update", "none")) == (-1, "none")
        for name, weight in child.network().named_parameters():
            assert torch.equal(again.tensors[name], weight)


class Stops(JointGaussian):
    """Interrupts itself in one of its steps."""

    at, count = None, 0

    def after_step(self, part):
        type(self).count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("at", [8, 20, 32])  # in each of the updates
def test_a_stopped_choice_of_updates_goes_on_to_the_same_weights(parent, tmp_path, monkeypatch, at):
    monkeypatch.setattr(joint_models, "JointGaussian", Stops)
    how = {"steps": 12, "update": "best", "overrides": RATES | {"training.rank": 1}}
    Stops.count, Stops.at = 0, None
    whole = adapted(parent, tmp_path / "whole", **how)
    Stops.count, Stops.at = 0, at
    with pytest.raises(KeyboardInterrupt, match="resume=True"):
        adapted(parent, tmp_path / "cut", **how)
    resumed = adapted(parent, tmp_path / "cut", **how, resume=True)
    assert resumed.fingerprint == whole.fingerprint
    assert resumed.metrics["parts"] == whole.metrics["parts"]


def test_a_stopped_adaptation_goes_on_to_the_same_weights(parent, tmp_path, monkeypatch):
    monkeypatch.setattr(joint_models, "JointGaussian", Stops)
    whole = adapted(parent, tmp_path / "whole", steps=20)
    Stops.count, Stops.at = 0, 8
    with pytest.raises(KeyboardInterrupt, match="resume=True"):
        adapted(parent, tmp_path / "cut", steps=20)
    other = adapted(parent, tmp_path / "other", name="small", steps=2)
    with pytest.raises(CheckpointError, match="start of that training differs"):
        adapted(other, tmp_path / "cut", steps=20, resume=True)
    changed = showers_in("new", 200, seed=5)
    changed.energies[10:-10] *= 5
    assert changed.energies[100].sum() > 4 * showers_in("new", 200, seed=5).energies[100].sum()
    for folder, words in (("cut", "data of that training differs"), ("whole", "with other showers")):
        with pytest.raises(CheckpointError, match=words):
            adapt(parent, changed, out=tmp_path / folder, steps=20, progress=False, resume=True)
    resumed = adapted(parent, tmp_path / "cut", steps=20, resume=True)
    assert resumed.fingerprint == whole.fingerprint
    assert adapted(parent, tmp_path / "cut", steps=20, resume=True).fingerprint == whole.fingerprint


def test_what_cannot_be_adapted_is_refused(parent, tmp_path):
    with pytest.raises(RecipeError, match="cannot be changed; change those under training only"):
        adapted(parent, tmp_path / "a", overrides={"settings.width": 3})
    other = CylinderMesh.regular(n_z=5, n_phi=6, n_r=3)
    wrong = Showers(np.ones((9, 5, 6, 3)), showers_in("new", 9).conditions, other)
    with pytest.raises(CheckpointError, match=r"5 × 6 × 3.*but not to another number"):
        adapt(parent, wrong, out=tmp_path / "a", progress=False)
    with pytest.raises(CheckpointError, match="train on this mesh"):
        adapt(parent, showers_in("small", 9, mesh=mesh_of("new")), out=tmp_path / "a", progress=False)
    for n in (1, 201):
        with pytest.raises(DataError, match="from 2 to the 200 showers"):
            adapt(parent, showers_in("new", 200), out=tmp_path / "a", n=n, progress=False)
    plain = train(
        {**RECIPE, "model": "toy_models:LayerGaussian"}, toy_showers(60), out=tmp_path / "p", progress=False
    )
    with pytest.raises(RecipeError, match="LayerGaussian cannot be adapted"):
        adapt(plain, toy_showers(60), out=tmp_path / "b", progress=False)
    assert not (tmp_path / "a").exists()


def test_the_commands_train_jointly_and_adapt(parent, tmp_path):
    for name in ("small", "large", "new"):
        write_showers(showers_in(name, 60), tmp_path / f"{name}.h5")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('model = "joint_models:JointGaussian"\n[training]\nepochs = 1\nbatch_size = 16\n')
    model, child = str(tmp_path / "model"), str(tmp_path / "child")
    files = [str(tmp_path / f"{name}.h5") for name in ("small", "large", "new")]
    made = CliRunner().invoke(app, ["train", str(recipe), *files[:2], "-o", model])
    assert made.exit_code == 0, made.output
    words = ["--data", files[2], "-o", child, "-n", "40", "--steps", "3", "--set", "training.clip=2"]
    made = CliRunner().invoke(app, ["adapt", model, *words])
    assert made.exit_code == 0, made.output
    assert "checkpoint for new, large, small" in made.output
    loaded = Checkpoint.load(child)
    assert loaded.recipe["training"]["clip"] == 2
    assert (loaded.metrics["steps"], loaded.provenance["n_showers"]) == (3, 40)
