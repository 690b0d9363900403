"""A shower tree for many detectors: what it is told of each, units, and detectors that it never saw."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from described import showers_in, small_detector

from caloforge.checkpoint import Checkpoint, pretrained
from caloforge.checkpoint.introduced import with_detector
from caloforge.data import Showers
from caloforge.detector import CylinderMesh, Detector
from caloforge.detector.randomised import random_detector, to_toml
from caloforge.errors import CheckpointError, ConditionError, DetectorError, RecipeError
from caloforge.generation import generate, resolve_checkpoint
from caloforge.models.base import ConditionTensors
from caloforge.models.conditions.physics import NAMES, PhysicsContext, physics_of
from caloforge.models.tree.content import LayerContent
from caloforge.models.tree.halvings import halvings
from caloforge.models.tree.joint import JointShowerTree
from caloforge.training import adapt, train

THIN, THICK = small_detector("thin", 2.0), small_detector("thick", 4.0, sampling_fraction=0.01)
BETWEEN = small_detector("between", 3.0, sampling_fraction=0.015)
RECIPE: dict[str, Any] = {
    "model": "tree.joint:JointShowerTree",
    "settings": {**JointShowerTree.example, "slots": 4},
    "training": {"steps": 10, "batch_size": 20, "augment": ["reflect_phi"], "validation_fraction": 0.1},
}


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Trained on two detectors of other response."""
    showers = Showers.join([showers_in(THIN, seed=1), showers_in(THICK, seed=2, response=0.45)])
    return train(RECIPE, showers, out=tmp_path_factory.mktemp("joint") / "joint", progress=False)


def at(theta: float, n: int = 1, slot: int = 0) -> ConditionTensors:
    full = torch.full((n,), theta)
    return ConditionTensors(
        torch.full((n,), 1e4), full, torch.zeros(n), torch.full((n,), 11), torch.full((n,), slot)
    )


def content_of(name: str, theta: float = math.pi / 2) -> np.ndarray:
    detector = Detector.load(name)
    context = PhysicsContext(1, detector.mesh.n_layers)
    context.introduce(0, name, detector.mesh, detector)
    return context.content(at(theta))[0].numpy()


def test_layers_hold_what_is_read_out_there() -> None:
    assert content_of("par04-siw") == pytest.approx(np.ones(45), abs=1e-4)  # two layers each, on its far edge
    assert content_of("par04-pbwo4")[:44] == pytest.approx(np.ones(44), abs=0.2)
    odd = content_of("odd-ecal")  # layers of 2.4 mm in cells of 3.53 mm: one or two, then nothing
    assert set(np.round(odd / odd[0], 3)) == {0.0, 1.0, 2.0}
    assert not odd[33:].any()
    assert odd.sum() * 3.53 == pytest.approx(48 * 2.4, rel=1e-3)


def test_a_slanted_particle_goes_deeper_into_its_layers() -> None:
    straight, slanted = content_of("odd-ecal"), content_of("odd-ecal", 1.0)
    assert np.count_nonzero(straight) == 33
    assert np.count_nonzero(slanted) == pytest.approx(33 / math.sin(1.0), abs=1)
    assert slanted.sum() * math.sin(1.0) == pytest.approx(straight.sum(), rel=0.02)


def test_the_physics_of_all_detectors_is_of_order_one() -> None:
    named = [Detector.load(name) for name in ("par04-siw", "par04-scipb", "par04-pbwo4", "allegro-ecal")]
    for detector in [*named, *(random_detector(2, i) for i in range(30))]:
        numbers = physics_of(detector, detector.mesh)
        assert numbers.shape == (len(NAMES),)
        assert numbers.abs().max() < 6


def test_halves_of_layers_are_told_how_unequal_their_content_is() -> None:
    mesh = CylinderMesh.regular(n_z=5, n_phi=2, n_r=2)
    content = torch.tensor([[1.0, 3.0, 0.0, 0.0, 2.0]])
    first, *_, last = [step for step in halvings(mesh) if step.axis == 0]
    whole = LayerContent(first, 5)(content)[0]
    assert whole.tolist() == pytest.approx([(4.0 - 2.0) / 6.0, 6.0 / 5])
    halves = LayerContent(last, 5)
    assert halves(content)[0].tolist() == pytest.approx([-0.5, 0.0, 1.0, 2.0, 0.0, 2.0])
    across = next(step for step in halvings(mesh) if step.axis == 2)
    around = LayerContent(across, 5)
    told = around(content)[0][around.index[:-1]]
    of_layer = dict(zip(np.unravel_index(across.cells, across.shape)[0].tolist(), told.tolist(), strict=True))
    assert of_layer[0] == [0.0, 1.0, 3.0]
    assert of_layer[4] == [0.0, 2.0, 0.0]


def test_thresholds_and_response_are_those_of_each_detector(joint: Checkpoint) -> None:
    assert joint.detectors == ("thick", "thin")
    model = joint.network()
    assert isinstance(model, JointShowerTree)
    for slot, (told, response) in enumerate(((0.02 / 0.01, 0.45), (0.02 / 0.02, 0.9))):
        assert float(model.thresholds[slot]) == pytest.approx(told)
        assert float(model.response[slot]) == pytest.approx(response, rel=0.02)
    for detector in (THIN, THICK):
        made = generate(joint, detector=detector.name, energy="2-15GeV", n=30, progress=False)
        lit = made.energies[made.energies > 0]
        assert lit.min() >= detector.threshold_mev / detector.sampling_fraction * (1 - 1e-5)
        assert made.mesh == detector.mesh


def test_splits_are_not_told_which_detector_it_is(joint: Checkpoint) -> None:
    twin = THIN.from_dict(THIN.to_dict() | {"name": "twin"})
    model = with_detector(joint, twin).model()
    assert isinstance(model, JointShowerTree)
    model.response[2] = model.response[1]
    model.resolution[2] = model.resolution[1]
    noise = model.noise(5, torch.Generator().manual_seed(0))
    ours, theirs = (model.decode(noise, at(1.3, 5, slot)) for slot in (1, 2))
    assert torch.equal(ours, theirs)
    model.resolution[2] *= 4  # twice the width at all energies
    ours, theirs = (
        (made.sum(dim=(1, 2, 3)) / 1e4 / model.response[1]).log()
        for made in (ours, model.decode(noise, at(1.3, 5, 2)))
    )
    torch.testing.assert_close(theirs, 2 * ours, rtol=1e-3, atol=1e-5)


def test_the_resolution_of_detectors_is_a_smooth_function_of_their_physics() -> None:
    model = with_known_responses(40)
    smooth = (0.5 * model.incident.physics[:, NAMES.index("absorber of a layer in radiation lengths")]).exp()
    model.resolution[:40] = smooth[:40]
    assert model.resolution[40] == 0
    model.introduce(random_detector(1, 40))
    absorber = model.incident.physics[40, NAMES.index("absorber of a layer in radiation lengths")]
    assert float(model.resolution[40]) == pytest.approx(float((0.5 * absorber).exp()), rel=0.1)


def test_the_resolution_is_that_of_the_training(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    samples = []
    for detector, width in ((THIN, 0.02), (THICK, 0.1)):
        showers = showers_in(detector, n=400, seed=int(1000 * width))
        energy = showers.conditions.energy
        total = showers.energies.sum(axis=(1, 2, 3))
        sigma = width * np.sqrt(1e4 / energy)
        factor = 0.9 * energy / total * np.exp(sigma * rng.standard_normal(400))
        samples.append(
            Showers(
                (showers.energies * factor[:, None, None, None]).astype(np.float32),
                showers.conditions,
                showers.mesh,
                showers.provenance,
            )
        )
    model = train(RECIPE, Showers.join(samples), out=tmp_path / "joint", progress=False).model()
    slots = [model.detectors.index(detector.name) for detector in (THIN, THICK)]
    found = model.resolution[slots].numpy()  # A (1/E + 1/E_0), of which E_0 is large
    assert found == pytest.approx(np.array([4.0, 100.0]), rel=0.25)


def test_a_detector_that_it_never_saw_is_taken_by_its_description(
    joint: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "between.toml"
    file.write_text(to_toml(BETWEEN.to_dict()))
    made = generate(joint, detector=str(file), energy=1e4, n=20, out=tmp_path / "a.h5", progress=False)
    assert made.mesh == BETWEEN.mesh
    assert set(made.conditions.detector) == {"between"}
    assert made.conditions.theta == pytest.approx(np.full(20, math.pi / 2))  # normal incidence
    assert made.energies.sum() / made.conditions.energy.sum() == pytest.approx(1.0, rel=0.3)
    assert "trained on no showers in between" in caplog.text
    assert "standard deviations from the nearest" in caplog.text
    known = resolve_checkpoint(joint, "thin")
    assert known is joint


@pytest.fixture
def shipped(joint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """As if the model came with caloforge, and no other."""
    (tmp_path / "pretrained").mkdir()
    (tmp_path / "pretrained" / "defaults.toml").write_text("")
    monkeypatch.setattr(pretrained, "PRETRAINED", tmp_path / "pretrained")
    replace(joint).save(tmp_path / "pretrained" / "foundation")
    (tmp_path / "pretrained" / "foundation" / "CARD.md").write_text("# foundation")
    return joint


def test_a_model_for_all_detectors_that_is_shipped_comes_before_the_parametrisation(
    shipped: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "between.toml"
    file.write_text(to_toml(BETWEEN.to_dict()))
    asked: dict[str, Any] = {"detector": str(file), "energy": 1e4, "n": 5, "seed": 2, "progress": False}
    made = generate(**asked)
    assert made.provenance["checkpoint"]["model"] == "tree.joint:JointShowerTree"
    np.testing.assert_array_equal(made.energies, generate(shipped, **asked).energies)
    assert "trained on no showers in between" in caplog.text
    assert "GFlash" not in caplog.text


def test_where_the_shipped_model_cannot_be_used_the_parametrisation_answers(
    shipped: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    made = generate(detector="odd-ecal", energy=1e4, n=2, progress=False)
    assert made.provenance["checkpoint"]["model"] == "parametrised.gflash:GFlash"
    assert "foundation cannot be used: odd-ecal is read out on" in caplog.text
    assert "no trained model for odd-ecal comes with caloforge" in caplog.text


def test_what_it_cannot_make_is_said(joint: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match="but not of another number"):
        with_detector(joint, Detector.load("odd-ecal"))
    other = small_detector("thin", 5.0)
    with pytest.raises(CheckpointError, match="whose name the checkpoint knows"):
        with_detector(joint, other)
    strange = BETWEEN.to_dict()
    strange["stack"][0]["layers"][0]["material"] = "G4_Ti"
    with pytest.raises(DetectorError, match="composition of G4_Ti"):
        with_detector(joint, Detector.from_dict(strange))
    full = with_detector(with_detector(joint, BETWEEN), small_detector("more", 2.5))
    with pytest.raises(CheckpointError, match="room for 4"):
        with_detector(full, small_detector("most", 3.5))
    one = {**RECIPE, "model": "tree.model:ShowerTree", "settings": {}}
    with pytest.raises(RecipeError, match="for one mesh"):
        train(one, Showers.join([showers_in(THIN), showers_in(THICK)]), out="never", progress=False)


def with_known_responses(n: int) -> JointShowerTree:
    """A model to which n random detectors are known that read out the more the heavier their absorber is."""
    model = JointShowerTree(random_detector(1, 0).mesh, {**JointShowerTree.example, "slots": n + 1})
    for number in range(n):
        model.introduce(random_detector(1, number))
    model.e_over_mip[:n] = heavier(model)[:n]
    return model


def heavier(model: JointShowerTree) -> torch.Tensor:
    return (0.1 + 0.2 * model.incident.physics[:, NAMES.index("atomic number of the absorber")]).exp()


def test_an_estimated_sampling_fraction_is_mended_by_what_other_detectors_gave() -> None:
    model = with_known_responses(40)
    said = model.introduce(random_detector(1, 40))
    assert float(model.response[40]) == pytest.approx(float(heavier(model)[40]), rel=0.02)
    assert float(model.response[40]) != pytest.approx(1, rel=0.05)
    assert "sampling fraction is an estimate" in said
    assert f"ΣE/E of {float(model.response[40]):.3g}" in said


@pytest.mark.parametrize("wrong", [False, True])
def test_a_measured_sampling_fraction_is_believed(wrong: bool) -> None:
    model, detector = with_known_responses(40), random_detector(1, 40)
    model.introduce(detector)
    true = detector.estimated_sampling_fraction * float(heavier(model)[40])
    model = with_known_responses(40)
    measured = {"name": "measured", "sampling_fraction": true * (1.3 if wrong else 1)}
    said = model.introduce(Detector.from_dict(detector.to_dict() | measured))
    assert float(model.response[40]) == 1
    assert "estimate" not in said
    assert ("measure it" in said) == wrong


def test_of_few_detectors_no_response_is_expected() -> None:
    model = with_known_responses(10)
    said = model.introduce(random_detector(1, 40))
    assert float(model.response[10]) == 1
    assert "sampling fraction" not in said


def test_adaptation_takes_a_detector_in(joint: Checkpoint, tmp_path: Path) -> None:
    new = showers_in(BETWEEN, 40, seed=5, response=0.7)
    adapted = adapt(joint, new, out=tmp_path / "adapted", steps=2, progress=False)
    assert adapted.detectors == ("thick", "thin", "between")
    before, after = joint.network(), adapted.network()
    assert isinstance(before, JointShowerTree)
    assert isinstance(after, JointShowerTree)
    assert float(after.response[2]) == pytest.approx(0.7, rel=0.03)
    for name in ("thresholds", "response", "incident.physics", "incident.pieces", "incident.edges"):
        assert torch.equal(before.get_buffer(name)[:2], after.get_buffer(name)[:2])
    assert torch.equal(before.incident.mean, after.incident.mean)


def test_what_is_said_of_an_adapted_model_names_its_folder(
    joint: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = tmp_path / "mine"
    adapt(joint, showers_in(BETWEEN, 40, seed=5), out=mine, steps=2, progress=False)
    with pytest.raises(ConditionError, match=r"^mine was trained on .*, between, not 'fat'"):
        generate(mine, detector="fat", energy=1e4, n=1, progress=False)
    file = tmp_path / "more.toml"
    with pytest.raises(DetectorError, match="no detector or file"):
        generate(mine, detector=str(file), energy=1e4, n=1, progress=False)
    file.write_text(to_toml(small_detector("more", 2.5).to_dict()))
    generate(mine, detector=str(file), energy=1e4, n=1, progress=False)
    assert "mine was trained on no showers in more" in caplog.text
    assert f"caloforge adapt {mine} --data" in caplog.text
    assert Checkpoint.load(mine / "before").name == "mine"
    replace(joint).save(tmp_path / "before")
    assert Checkpoint.load(tmp_path / "before").name == "before"  # a folder that a user called so
