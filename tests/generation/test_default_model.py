"""Which model is taken where none is named, for which detector and particle, and with which settings."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import numpy as np
import pytest
from pydantic import BeforeValidator, Field, SerializeAsAny
from toy_models import LayerGaussian, toy_showers

from caloforge.checkpoint import Checkpoint
from caloforge.checkpoint.pretrained import default_model, default_models, pretrained_names
from caloforge.data import Conditions, open_showers
from caloforge.data.packing import PackedEnergies
from caloforge.detector import Detector
from caloforge.detector.detector import FILES
from caloforge.errors import CheckpointError, ConditionError, DataError, DetectorError, RecipeError
from caloforge.generation import generate, resolve_checkpoint
from caloforge.registry import Registry
from caloforge.runtime.chunks import ChunkStore
from caloforge.settings import Settings

SAMPLERS: Registry[type] = Registry("toy sampler", __name__, default="euler")


class EulerSettings(Settings):
    kind: str = "euler"
    steps: int = Field(4, ge=1)


@SAMPLERS.add("euler")
class Euler:
    Settings = EulerSettings


SamplerSettings = Annotated[SerializeAsAny[EulerSettings], BeforeValidator(SAMPLERS.settings)]


class Stepwise(LayerGaussian):
    """The toy model with settings that do not change its weights: nested, a union, and optional."""

    class Settings(LayerGaussian.Settings):
        factor: float = 1.0
        sampler: SamplerSettings = EulerSettings()
        energies: EulerSettings | None = None

    def decode(self, noise, conditions):
        return super().decode(noise, conditions) * self.settings.factor


@pytest.fixture
def stepwise(checkpoint: Checkpoint) -> Checkpoint:
    return dataclasses.replace(checkpoint, model_name=f"{__name__}:Stepwise")


@pytest.fixture
def several(checkpoint: Checkpoint) -> Checkpoint:
    """As if trained on two detectors and two particles."""
    known = {"detector": ["other", "toy"], "particle": ["e-", "gamma"]}
    return dataclasses.replace(
        checkpoint,
        valid_range=checkpoint.valid_range | known,
        detectors=("other", "toy"),
        meshes={},
        valid_ranges={},
    )


def test_every_detector_of_a_shipped_model_has_a_default_and_no_other():
    trained = {name: set(Checkpoint.load(name).detectors) for name in pretrained_names()}
    trained.pop("foundation")  # of any detector
    defaults = default_models()
    assert set(defaults) == set().union(*trained.values())
    for detector, name in defaults.items():
        assert detector in trained[name], f"{name} was not trained on {detector}"


@pytest.mark.parametrize("detector", [name for name in default_models() if name != "belle2-pxd"])
def test_a_detector_is_enough(detector):
    made = generate(detector=detector, energy="10GeV", n=3, seed=4, progress=False)
    assert set(made.conditions.detector) == {detector}
    assert made.conditions.energy.tolist() == [1e4] * 3
    response = made.energies.sum(axis=(1, 2, 3)) / 1e4
    assert np.all((response > 0.5) & (response < 1.5))
    named = generate(
        default_model(detector), detector=detector, conditions=made.conditions, seed=4, progress=False
    )
    np.testing.assert_array_equal(named.energies, made.energies)


def test_what_has_no_model_is_told():
    with pytest.raises(DetectorError, match="did you mean 'par04-siw'"):
        generate(detector="par04-siv", energy="10GeV")
    with pytest.raises(CheckpointError, match="--detector belle2-pxd, lhcb-ecal, par04-siw"):
        generate(energy="10GeV")
    with pytest.raises(CheckpointError, match="par04-siw is a detector"):
        generate("par04-siw", energy="10GeV")


@pytest.mark.parametrize("energy", ["10GeV", 1e4])
@pytest.mark.parametrize("detector", ["ild-ecal"])
def test_a_detector_without_a_trained_model_is_answered_by_gflash(detector, energy, caplog):
    made = generate(detector=detector, energy=energy, n=3, progress=False)
    assert f"no trained model for {detector} comes with caloforge: these showers are GFlash's" in caplog.text
    assert set(made.conditions.detector) == {detector}
    assert made.conditions.particle.tolist() == [11] * 3
    assert set(made.conditions.theta) == {Detector.load(detector).normal_theta}
    assert set(made.conditions.phi) == {0.0}
    assert made.conditions.impact is None
    assert made.energies.reshape(3, -1).sum(1).mean() / 1e4 == pytest.approx(1, abs=0.2)
    assert made.provenance["checkpoint"]["model"] == "parametrised.gflash:GFlash"
    assert made.provenance["checkpoint"]["provenance"]["untrained"]
    named = generate(f"gflash:{detector}", conditions=made.conditions, progress=False)
    np.testing.assert_array_equal(named.energies, made.energies)


def test_a_particle_is_refused_before_gflash_is_announced(caplog):
    with pytest.raises(ConditionError, match=r"e\+, gamma, not 'pi\+'"):
        generate(detector="odd-ecal", particle="pi+", energy="10GeV", n=3, progress=False)
    assert not caplog.messages


@pytest.mark.parametrize("detector", ["odd-ecal", "allegro-ecal"])
def test_a_detector_without_a_model_of_its_own_is_answered_by_that_of_all_detectors(detector, caplog):
    made = generate(detector=detector, energy="10GeV", n=50, progress=False)
    told = f"foundation was trained on no showers in {detector}" in caplog.text
    assert told == (detector == "allegro-ecal")
    assert set(made.conditions.detector) == {detector}
    assert set(made.conditions.particle) == {11}
    assert made.conditions.theta == pytest.approx([Detector.load(detector).normal_theta] * 50, abs=0.02)
    assert made.energies.reshape(50, -1).sum(1).mean() / 1e4 == pytest.approx(1, abs=0.1)
    assert made.provenance["checkpoint"]["model"] == "tree.joint:JointShowerTree"
    named = generate("foundation", conditions=made.conditions, detector=detector, progress=False)
    np.testing.assert_array_equal(named.energies, made.energies)


def test_a_particle_that_the_model_of_all_detectors_does_not_know_is_gflashs(caplog):
    made = generate(detector="odd-ecal", energy="10GeV", n=3, particle="e+", progress=False)
    assert made.provenance["checkpoint"]["model"] == "parametrised.gflash:GFlash"
    assert "foundation cannot be used: foundation was trained on particles" in caplog.text
    with pytest.raises(ConditionError, match="not 'pi-'"):
        generate(detector="odd-ecal", energy="10GeV", n=3, particle="pi-", progress=False)


def test_a_particle_that_a_detectors_own_model_does_not_know_is_that_of_the_model_of_all(caplog):
    made = generate(detector="par04-siw", energy="10GeV", n=30, particle="gamma", progress=False)
    assert set(made.conditions.particle) == {22}
    assert made.energies.reshape(30, -1).sum(1).mean() / 1e4 == pytest.approx(1, abs=0.1)
    assert made.provenance["checkpoint"]["model"] == "tree.joint:JointShowerTree"
    own = default_model("par04-siw")
    assert f"{own} cannot be used: {own} was trained on particle e-, not 'gamma'" in caplog.text
    assert "these showers are those of foundation" in caplog.text


def test_gflash_draws_impact_points_where_the_detector_has_a_spread():
    made = generate("gflash:lhcb-ecal", energy="10GeV", n=3, progress=False)
    assert len(np.unique(made.conditions.impact)) == 6


def test_the_model_of_a_fixed_detector_is_told_impact_points_directions_and_particles():
    usual = generate(detector="lhcb-ecal", energy="10GeV", n=4, progress=False).conditions
    assert usual.particle.tolist() == [11] * 4
    assert usual.theta == pytest.approx(np.zeros(4), abs=1e-3)
    assert len(np.unique(usual.impact)) == 8
    asked = {"theta": "15deg", "phi": "90deg", "particle": "gamma"}
    leaning = generate(detector="lhcb-ecal", energy="10GeV", n=50, progress=False, **asked)
    assert leaning.conditions.particle.tolist() == [22] * 50
    y = leaning.mesh.centres()["y"].reshape(leaning.mesh.shape)
    centre = (leaning.energies * y).sum((1, 2, 3)) / leaning.energies.sum((1, 2, 3))
    assert np.median(centre) == pytest.approx(130 * np.tan(np.radians(15)), abs=8)


@pytest.mark.parametrize(
    ("like", "model"),
    [("ild-ecal", "parametrised.gflash:GFlash"), ("odd-ecal", "tree.joint:JointShowerTree")],
)
def test_a_detector_of_ones_own_is_answered(like, model, tmp_path):
    own = Detector.load(like).to_dict() | {"name": "mine"}
    text = (FILES / f"{like}.toml").read_text().replace(f'name = "{like}"', 'name = "mine"')
    (tmp_path / "anything.toml").write_text(text)
    ask = {"detector": str(tmp_path / "anything.toml"), "energy": "10GeV", "particle": "gamma"}
    made = generate(**ask, n=4, progress=False)
    assert set(made.conditions.detector) == {"mine"}
    assert set(made.conditions.particle) == {22}
    about = made.provenance["checkpoint"]
    assert about["model"] == model
    introduced = about["provenance"].get("introduced", {"mine": about["settings"]})
    assert Detector.from_dict(introduced["mine"]["detector"]) == Detector.from_dict(own)
    tail = generate(**ask, n=2, first=2, progress=False)
    np.testing.assert_array_equal(tail.energies, made.energies[2:])


def test_text_is_drawn_by_shower_number(checkpoint):
    whole = generate(checkpoint, energy="2-20GeV", n=50, seed=3, progress=False)
    assert whole.conditions.energy.min() >= 2e3
    assert whole.conditions.energy.max() <= 2e4
    assert len(np.unique(whole.conditions.energy)) == 50
    tail = generate(checkpoint, energy="2-20GeV", n=10, first=40, seed=3, progress=False)
    assert tail.conditions == whole.conditions[40:]
    np.testing.assert_array_equal(tail.energies, whole.energies[40:])
    flat = generate(checkpoint, energy="2-20GeV", n=50, seed=3, spectrum="uniform", progress=False)
    assert flat.conditions.energy.mean() > whole.conditions.energy.mean()
    turn = generate(checkpoint, energy="2GeV,10GeV", theta="90deg", n=4, progress=False)
    assert turn.conditions.energy.tolist() == [2e3, 1e4, 2e3, 1e4]
    with pytest.raises(ConditionError, match="spectrum must be"):
        generate(checkpoint, energy="2-20GeV", spectrum="flat")
    with pytest.raises(ConditionError, match=r"theta of shower 0.*outside the trained range"):
        generate(checkpoint, energy=2e3, theta="60deg")


def test_one_of_several_must_be_chosen(several):
    with pytest.raises(ConditionError, match="trained on detectors other, toy; say which is wanted"):
        generate(several, energy=2e3)
    with pytest.raises(ConditionError, match="trained on particles e-, gamma; say which is wanted"):
        generate(several, detector="toy", energy="2GeV")
    for energy in (2e3, "2GeV"):
        made = generate(several, detector="toy", particle="gamma", energy=energy, progress=False)
        assert made.conditions.detector.tolist() == ["toy"]
        assert made.conditions.particle.tolist() == [22]
    with pytest.raises(ConditionError, match="not 'third'"):
        generate(several, detector="third", particle="e-", energy=2e3)
    with pytest.raises(ConditionError, match="not 'mu-'"):
        generate(several, detector="toy", particle="mu-", energy=2e3)


def test_given_conditions_keep_their_names(several):
    nameless = Conditions([2e3, 3e3])
    made = generate(several, conditions=nameless, detector="other", particle="e-", progress=False)
    assert set(made.conditions.detector) == {"other"}
    assert set(made.conditions.particle) == {11}
    with pytest.raises(ConditionError, match="'other' was asked for, but the conditions are those of toy"):
        generate(several, like=toy_showers(3), detector="other")
    with pytest.raises(ConditionError, match="'gamma' was asked for, but the conditions are those of e-"):
        generate(several, like=toy_showers(3), particle="gamma")


def test_a_model_of_unknown_showers_still_generates(checkpoint):
    unknown = checkpoint.valid_range | {"detector": [""], "particle": ["unknown"]}
    nameless = dataclasses.replace(checkpoint, valid_range=unknown)
    made = generate(nameless, energy="2GeV", n=2, progress=False)
    assert made.conditions.particle.tolist() == [0, 0]
    assert made.conditions.detector.tolist() == ["", ""]


def test_settings_change_showers_and_are_recorded(stepwise, tmp_path):
    plain = generate(stepwise, energy=2e3, n=4, progress=False)
    changes = {"factor": 2.0, "sampler.steps": 2}
    made = generate(stepwise, energy=2e3, n=4, settings=changes, out=tmp_path / "a.h5", progress=False)
    np.testing.assert_allclose(made.energies, 2 * plain.energies, rtol=1e-6)
    for showers in (made, open_showers(tmp_path / "a.h5")):
        assert showers.provenance["request"]["changed_settings"] == changes
        assert showers.provenance["checkpoint"]["provenance"]["changed_settings"] == changes
        assert showers.provenance["checkpoint"]["settings"]["sampler"]["steps"] == 2
    assert plain.provenance["request"]["changed_settings"] is None
    assert stepwise.settings.get("factor") is None  # the checkpoint itself stays as it is


def test_changed_settings_are_kept_on_disk(stepwise, tmp_path):
    changed = resolve_checkpoint(stepwise, settings={"factor": 3.0})
    changed.save(tmp_path / "m")
    again = Checkpoint.load(tmp_path / "m")
    assert again.fingerprint == changed.fingerprint != stepwise.fingerprint
    assert again.provenance["changed_settings"] == {"factor": 3.0}
    back = again.with_settings({"factor": None})
    assert back.model().settings.factor == 1.0


def test_a_stopped_generation_does_not_go_on_with_other_settings(stepwise, tmp_path):
    first = generate(stepwise, energy=2e3, n=4, settings={"factor": 2.0}, progress=False)
    store = ChunkStore(tmp_path / "a.h5", first.provenance["request"], 4)
    with store.open(resume=False, overwrite=False):
        store.chunk(0, 2).write(PackedEnergies.pack(first.energies[:2].reshape(2, -1)).columns())
    ask = {"energy": 2e3, "n": 4, "out": tmp_path / "a.h5", "resume": True, "progress": False}
    with pytest.raises(DataError, match=r"its changed_settings differs.*2\.0.*None"):
        generate(stepwise, **ask)
    made = generate(stepwise, settings={"factor": 2.0}, **ask)
    np.testing.assert_array_equal(made.energies, first.energies)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factr": 2}, r"unknown key 'factr' \(did you mean 'factor'\?\)"),
        ({"factor": "much"}, r"factor: .*number.*got \"much\""),
        (
            {"sampler.step": 2},
            r"unknown key 'sampler\.(euler\.)?step' \(did you mean 'steps'\?\); known are kind, steps",
        ),
        ({"sampler.steps": 0}, r"sampler\.(euler\.)?steps: .*greater than or equal to 1.*got 0"),
        ({"energies.step": 2}, r"unknown key 'energies\.step' \(did you mean 'steps'\?\)"),
        ({"factor.more": 2}, r"'factor' is a value, not a table"),
    ],
)
def test_settings_that_cannot_be(stepwise, changes, message):
    whole = dataclasses.replace(
        stepwise, settings={"factor": 1.0, "sampler": {"kind": "euler"}, "energies": {}}
    )
    with pytest.raises(RecipeError, match=message):
        generate(whole, energy=2e3, settings=changes)


def test_settings_that_need_other_weights(stepwise):
    with pytest.raises(CheckpointError, match=r"do not fit.*shape.*; width cannot be changed after training"):
        generate(stepwise, energy=2e3, settings={"width": 5})
