"""Weights are chosen by a figure of merit of showers, and what goes wrong is said in words."""

import json
import math
import os
import signal
import sys
from contextlib import suppress

import numpy as np
import pytest
import torch
import toy_models
from toy_models import RECIPE, Adversarial, toy_showers

from caloforge.checkpoint import Checkpoint
from caloforge.cli.app import main
from caloforge.data import Showers, write_showers
from caloforge.errors import CheckpointError, RecipeError
from caloforge.evaluation.merits import MERITS
from caloforge.report.figures.selection import draw_selection
from caloforge.training import selection, train
from caloforge.training.adapt import adaptation_recipe
from caloforge.training.loader import hold_out
from caloforge.training.recipe import SelectionSettings
from caloforge.training.selection import Measurement, Selection

SELECT = {"by": "energy-chi2", "every": 7, "showers": 60}
CHANGES = {
    "training.parts.generator.every": 2,
    "training.validation_fraction": 0.25,
    "training.select": SELECT,
}


def fit(out, **options):
    changes = CHANGES | {"model": "toy_models:Adversarial"} | options.pop("overrides", {})
    return train(RECIPE, toy_showers(), out=out, overrides=changes, progress=False, **options)


def rows(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def measured(folder):
    return [point for row in rows(folder) for point in row["selection"]["curve"]]


def judged(checkpoint, merit="energy-chi2"):
    """What the checkpoint's weights score at the held-out showers, as the training measures it."""
    _, held_out = hold_out(toy_showers(), 0.25, checkpoint.seed)
    settings = SelectionSettings(**SELECT | {"by": merit})
    chosen = Selection(settings, held_out, None, torch.device("cpu"), checkpoint.seed)
    return chosen.measure(checkpoint.model(), 0)


def test_the_best_averaged_weights_are_kept(tmp_path):
    checkpoint = fit(tmp_path / "a")
    curve = measured(tmp_path / "a")
    assert [step for step, *_ in curve] == [7, 14, 21, 28, 35, 42]
    step, value, variety = min(curve, key=lambda point: point[1])
    told = checkpoint.metrics["selection"]
    assert (told["best_step"], told["best"]) == (step, value)
    again = judged(checkpoint)  # with the weights that were kept
    assert (again.value, again.variety) == (value, variety)
    last = rows(tmp_path / "a")[-1]["selection"]
    assert (last["value"], last["best"]) == (curve[-1][1], value)
    assert {part["best_epoch"] for part in checkpoint.metrics["parts"].values()} == {(step - 1) // 7}


def test_the_last_step_is_measured(tmp_path):
    checkpoint = fit(tmp_path / "a", overrides={"training.steps": 5})
    assert [step for step, *_ in measured(tmp_path / "a")] == [5]
    assert checkpoint.metrics["selection"]["best_step"] == 5


def test_a_stopped_training_goes_on_to_the_same_choice(tmp_path, monkeypatch):
    class Asked(Adversarial):
        count = 0

        def after_step(self, part):
            Asked.count += 1
            if Asked.count == 25:
                os.kill(os.getpid(), signal.SIGINT)

    whole = fit(tmp_path / "whole")
    monkeypatch.setattr(toy_models, "Adversarial", Asked)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut")
    assert Checkpoint.load(tmp_path / "cut").metrics["steps"] < 42
    resumed = fit(tmp_path / "cut", resume=True)
    assert resumed.fingerprint == whole.fingerprint
    assert resumed.metrics["selection"] == whole.metrics["selection"]
    assert measured(tmp_path / "cut") == measured(tmp_path / "whole")


@pytest.mark.parametrize("by", ["energy-chi2", "separation", "auc"])
def test_figures_of_merit_are_less_for_better_showers(by):
    n = 200 if by == "auc" else 600
    first, second = toy_showers(n, seed=1), toy_showers(n, seed=2)
    twin = Showers(second.energies, first.conditions, first.mesh)  # other energies: a bad response
    same = MERITS[by](first, first, 0)
    good = MERITS[by](first, second, 0)
    bad = MERITS[by](first, Showers(1.3 * second.energies, second.conditions, second.mesh), 0)
    assert same <= good < bad
    assert good < MERITS[by](first, twin, 0)
    if by == "energy-chi2":
        assert same == 0
        assert good == pytest.approx(1, abs=0.5)
    if by == "auc":
        assert good == pytest.approx(0.5, abs=0.2)


def test_few_modes_are_a_collapse(tmp_path, caplog, monkeypatch):
    """All showers alike, whatever the noise."""

    def decode(self, noise, conditions):
        share = self.share / self.share.sum()
        return conditions.energy[:, None, None, None] * share

    monkeypatch.setattr(Adversarial, "decode", decode)
    monkeypatch.setattr(
        Adversarial, "losses", lambda self, *_: {"loss": sum(p.sum() for p in self.parameters())}
    )
    checkpoint = fit(tmp_path / "a")
    assert caplog.text.count("collapsed: after step 35 generated showers differ from one another by 0 %") == 1
    assert "collapsed: after step 42" in checkpoint.metrics["selection"]["trouble"]


def test_words_of_a_divergence(caplog):
    showers = toy_showers(100)
    settings = SelectionSettings(**SELECT)
    chosen = Selection(settings, showers, None, torch.device("cpu"), 0)
    chosen.add(Measurement(-1, 9.0, 0.1))
    assert not chosen.trouble  # it has not begun to learn
    chosen.curve.clear()
    for step, value in enumerate((2.0, 1.0, 5.0, 5.0, 5.0, 5.0)):
        assert chosen.add(Measurement(step, value, 1.0)) == (step < 2)
    assert not chosen.trouble
    chosen.add(Measurement(6, 6.0, 1.0))
    assert chosen.trouble.startswith(
        "diverged: after step 6 energy-chi2 is 6; the best so far is that of step 1"
    )
    chosen.add(Measurement(7, 2.0, 1.0))
    assert not chosen.trouble
    chosen.add(Measurement(8, math.inf, 0.9))
    assert chosen.trouble.startswith("diverged: after step 8")
    assert chosen.best.step == 1
    chosen.add(Measurement(9, 0.5, 0.1))  # well judged, but of few modes
    assert chosen.best.step == 1
    assert [word.split(":")[0] for word in caplog.messages] == ["diverged", "diverged", "collapsed"]


def test_empty_showers_are_no_best(monkeypatch):
    chosen = Selection(SelectionSettings(**SELECT), toy_showers(100), None, torch.device("cpu"), 0)
    model = Adversarial(toy_showers(2).mesh)
    monkeypatch.setattr(Adversarial, "decode", lambda self, noise, c: torch.zeros(len(c), *self.mesh.shape))
    assert chosen.measure(model, 3).value == math.inf


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training.validation_fraction": 0.0}, "select judges held-out showers"),
        ({"training.patience": 3}, "select and patience"),
        ({"training.parts.critic.patience": 3}, "select and patience"),
        ({"training.select": {"by": "separaton"}}, "did you mean 'separation'"),
        ({"training.select": {"every": 0}}, r"training\.select\.every.*greater than or equal to 1"),
        ({"training.parts.generator.every": 0}, r"training\.parts\.generator\.every.*greater than or equal"),
    ],
)
def test_choices_that_cannot_be_made(tmp_path, changes, words):
    with pytest.raises(RecipeError, match=words):
        fit(tmp_path / "a", overrides=changes)
    assert not (tmp_path / "a").exists()


def test_another_choice_is_another_training(tmp_path):
    fit(tmp_path / "a")
    with pytest.raises(CheckpointError, match="another recipe"):
        fit(tmp_path / "a", resume=True, overrides={"training.select": SELECT | {"every": 8}})


def test_an_adaptation_is_stopped_by_patience_instead(tmp_path):
    recipe = adaptation_recipe(fit(tmp_path / "a"), 100)
    assert recipe.training.select is None
    assert recipe.training.patience is not None


def test_variety_is_one_for_real_showers():
    showers = toy_showers(400)
    assert selection._variety(showers.energies) == pytest.approx(selection._variety(3 * showers.energies))
    assert selection._variety(np.repeat(showers.energies[:1], 5, axis=0)) == pytest.approx(0, abs=1e-9)


def test_the_curve_is_drawn_beside_the_checkpoint(tmp_path, capsys, monkeypatch):
    (tmp_path / "recipe.toml").write_text(
        'model = "toy_models:Adversarial"\n[training]\nsteps = 14\nbatch_size = 32\n'
        "validation_fraction = 0.25\n"
        '[training.select]\nby = "energy-chi2"\nevery = 7\nshowers = 60\n'
    )
    write_showers(toy_showers(), tmp_path / "showers.h5")
    out = tmp_path / "a"
    command = ["caloforge", "train", tmp_path / "recipe.toml", tmp_path / "showers.h5", "-o", out]
    monkeypatch.setattr(sys, "argv", [str(word) for word in command])
    with suppress(SystemExit):
        main()
    told = capsys.readouterr().out.replace("\n", "")
    assert "the weights are those of step" in told
    assert f"how weights were chosen → {out / 'selection.svg'}" in told
    assert "kept: step" in (out / "selection.svg").read_text(encoding="utf-8")
    assert draw_selection(tmp_path / "a").name == "selection"


def test_nothing_is_drawn_where_nothing_was_chosen(tmp_path):
    train(RECIPE, toy_showers(100), out=tmp_path / "a", progress=False)
    assert draw_selection(tmp_path / "a") is None
