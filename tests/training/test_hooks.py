"""What a model may ask of the training beside its losses: a teacher, calibration, showers on another mesh."""

import json

import numpy as np
import pytest
import torch
from toy_models import MESH, RECIPE, toy_showers

from caloforge.data import Showers
from caloforge.data.operations import coarsened
from caloforge.errors import CheckpointError, DataError, RecipeError
from caloforge.models.base import Batch
from caloforge.runtime.seeds import derived_seed
from caloforge.training import run, train
from caloforge.training.augmentations import augment
from caloforge.training.loader import hold_out


def fit(out, model, showers=None, **options):
    showers = toy_showers() if showers is None else showers
    overrides = {"model": f"toy_models:{model}"} | options.pop("overrides", {})
    return train(RECIPE, showers, out=out, overrides=overrides, progress=False, **options)


def doubled(showers, factors=(1, 2, 1)):
    coarse = coarsened(showers, factors)
    return Showers(2 * coarse.energies, coarse.conditions, coarse.mesh)


def test_a_student_comes_to_agree_with_its_teacher_and_stands_alone(tmp_path):
    teacher = fit(tmp_path / "teacher", "LayerGaussian")
    before = {name: tensor.clone() for name, tensor in teacher.tensors.items()}
    more = {"training.epochs": 40}
    student = fit(tmp_path / "student", "Student", teacher=tmp_path / "teacher", overrides=more, seed=3)
    assert torch.allclose(student.tensors["log_sigma"], teacher.tensors["log_sigma"], atol=0.02)
    assert not any(name.startswith("teacher") for name in student.tensors)
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.tensors.items())
    assert student.provenance["teacher"]["fingerprint"] == teacher.fingerprint
    assert float(student.model().response) > 0  # was calibrated; 0 before


def test_a_teacher_that_cannot_be_used_is_refused(tmp_path):
    teacher = fit(tmp_path / "teacher", "LayerGaussian")
    with pytest.raises(RecipeError, match="learns from showers alone"):
        fit(tmp_path / "a", "LayerGaussian", teacher=teacher)
    coarse = coarsened(toy_showers(), (1, 2, 1))
    with pytest.raises(CheckpointError, match="train on this mesh"):
        fit(tmp_path / "b", "Student", coarse, teacher=teacher)


def test_calibration_is_made_with_the_weights_that_are_kept(tmp_path):
    teacher = fit(tmp_path / "teacher", "LayerGaussian")
    one, two = (fit(tmp_path / name, "Student", teacher=teacher, seed=5) for name in ("one", "two"))
    assert one.fingerprint == two.fingerprint
    model = one.model()
    kept = float(model.response)
    training = hold_out(toy_showers(), 0.1, 5)[0]
    key = derived_seed(5, "calibrate")
    with torch.no_grad():
        model.calibrate(training, torch.Generator().manual_seed(key))
    assert float(model.response) == kept


@pytest.mark.parametrize("in_memory", [True, False])
def test_what_is_given_stays_with_its_shower(tmp_path, monkeypatch, in_memory):
    monkeypatch.setattr(run, "fits_in_memory", lambda showers: in_memory)
    showers = toy_showers()
    augmented = {"training.augment": ["rotate_phi", "reflect_phi"]}
    fit(tmp_path / "a", "Doubles", showers, given=doubled(showers), overrides=augmented)
    row = json.loads((tmp_path / "a" / "log.jsonl").read_text().splitlines()[-1])["parts"]["model"]
    assert row["distance"] < 1e-2
    assert row["validation_distance"] < 1e-2


def test_other_showers_cannot_be_given(tmp_path):
    showers = toy_showers()
    with pytest.raises(DataError, match="they must be the same"):
        fit(tmp_path / "a", "Doubles", showers, given=doubled(showers)[:100])
    with pytest.raises(DataError, match="the same showers in the same order"):
        fit(tmp_path / "a", "Doubles", showers, given=doubled(toy_showers(seed=2)))


def test_turning_a_shower_turns_what_is_given_of_it():
    showers = toy_showers(40)
    given = doubled(showers)
    batch = Batch.with_energies(showers.energies, showers.conditions, given=given.energies)
    for kinds in (["rotate_phi"], ["reflect_phi"], ["rotate_phi", "reflect_phi"]):
        moved = augment(batch, kinds, torch.Generator().manual_seed(1))
        assert not torch.equal(moved.energies, batch.energies)
        both = 2 * MESH.coarsen(moved.energies.numpy(), (1, 2, 1))
        np.testing.assert_allclose(moved.given.numpy(), both, rtol=1e-5)
