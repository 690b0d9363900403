"""Generating with a model of several detectors."""

import numpy as np
import pytest
from joint_models import RECIPE, RESPONSE, mesh_of, showers_in

from caloforge.data import Conditions, Showers, open_showers
from caloforge.errors import CheckpointError, ConditionError
from caloforge.generation import generate
from caloforge.training import train


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    parts = [showers_in(name, 200, seed=i) for i, name in enumerate(("small", "large"))]
    narrow = parts[1].filter(energy=(5e3, 2e4))  # another range in the large detector
    return train(
        RECIPE, Showers.join([parts[0], narrow]), out=tmp_path_factory.mktemp("joint") / "m", progress=False
    )


def make(joint, **options):
    return generate(joint, progress=False, **options)


@pytest.mark.parametrize("name", ["small", "large"])
def test_showers_are_on_the_cells_of_their_detector(joint, name, tmp_path):
    like = showers_in(name, 70, seed=9).filter(energy=(6e3, 1.5e4))
    made = make(joint, like=like, out=tmp_path / "a.h5")
    assert made.mesh == open_showers(tmp_path / "a.h5").mesh == mesh_of(name)
    assert np.array_equal(made.energies, make(joint, like=like).energies)
    assert made.conditions == like.conditions
    true = like.energies.sum() / like.conditions.energy.sum()
    assert made.energies.sum() / made.conditions.energy.sum() == pytest.approx(true, rel=0.3)
    assert true == pytest.approx(0.9 * RESPONSE[name], rel=0.1)


def test_a_shower_does_not_depend_on_the_detectors_of_others(joint):
    energy = np.full(10, 1e4)
    alone = make(joint, conditions=Conditions(energy, particle="e-", detector="small"), seed=2)
    mixed = Conditions(energy, particle="e-", detector=["small"] * 9 + ["large"])
    with pytest.raises(ConditionError, match=r"showers in large, small.*one detector at a time"):
        make(joint, conditions=mixed)
    first = make(joint, conditions=mixed[:9], seed=2)
    assert np.array_equal(alone.energies[:9], first.energies)


def test_the_range_is_that_of_the_detector(joint):
    assert joint.valid_range["energy"][0] < 2e3
    low = Conditions(2e3, particle="e-", detector="small")
    make(joint, conditions=low)
    with pytest.raises(ConditionError, match="energy of shower 0 is 2000 MeV, outside the trained range"):
        make(joint, conditions=Conditions(2e3, particle="e-", detector="large"))
    make(joint, conditions=Conditions(2e3, particle="e-", detector="large"), allow_extrapolation=True)


def test_an_unknown_detector_is_no_extrapolation(joint, tmp_path, caplog):
    mesh = mesh_of("small")
    pair = Showers.join(
        [showers_in(name, 60, seed=i, mesh=mesh) for i, name in enumerate(("small", "large"))]
    )
    recipe = RECIPE | {"training": RECIPE["training"] | {"epochs": 1}}
    both = train(recipe, pair, out=tmp_path / "both", progress=False)
    new = Conditions(np.full(3, 1e4), particle="e-", detector="new")  # could be taken for either
    for checkpoint in (both, joint):
        with pytest.raises(ConditionError, match="knows the detectors large, small, and 'new'"):
            make(checkpoint, conditions=new, allow_extrapolation=True)
    one = train(recipe, showers_in("small", 60), out=tmp_path / "one", progress=False)
    make(one, conditions=Conditions(np.full(3, 1e4), particle="e-", detector="small"))
    assert not caplog.messages
    made = make(one, conditions=new, allow_extrapolation=True)
    assert len(made) == 3
    assert "showers in 'new' are made as those of 'small'" in caplog.text


def test_the_detector_must_be_known(joint):
    with pytest.raises(ConditionError, match="'new', but the model was trained on 'large', 'small'"):
        make(joint, conditions=Conditions(1e4, particle="e-", detector="new"))
    with pytest.raises(CheckpointError, match="but not in 'new'"):
        make(joint, like=showers_in("new", 5))
    with pytest.raises(CheckpointError, match="has a cylinder mesh"):
        make(joint, like=showers_in("small", 5, mesh=mesh_of("new")))
    with pytest.raises(ConditionError):
        make(joint, energy=1e4, n=3)
