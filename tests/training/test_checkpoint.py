import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_models import MESH, RECIPE, LayerGaussian, toy_showers

from caloforge.checkpoint import Checkpoint
from caloforge.data import Conditions, Showers
from caloforge.data.event_list import EventList, events_digest
from caloforge.detector import CylinderMesh, Detector
from caloforge.errors import CheckpointError, ConditionError
from caloforge.generation import generate
from caloforge.models.tree.model import ShowerTree
from caloforge.training import train


@pytest.fixture
def saved(tmp_path):
    model = LayerGaussian(MESH, {"width": 3})
    model.fit(toy_showers(20))
    model.detectors = ("toy",)
    ranges = toy_showers(20).conditions.ranges()
    checkpoint = Checkpoint.from_model(model, "toy_models:LayerGaussian", ranges, seed=4, metrics={"a": 1})
    checkpoint.save(tmp_path / "model")
    return checkpoint


def test_saving_and_loading_gives_the_same(saved):
    loaded = Checkpoint.load(saved.path)
    assert loaded.fingerprint == saved.fingerprint
    assert (loaded.mesh, loaded.valid_range, loaded.detectors) == (MESH, saved.valid_range, ("toy",))
    assert (loaded.seed, loaded.metrics, loaded.settings) == (4, {"a": 1}, {"width": 3, "dropout": 0.0})
    model = loaded.model()
    assert not model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, saved.tensors[name])


def test_what_is_not_said_of_a_particle_is_usual_where_the_detector_is_described(tmp_path):
    n, toys = 60, toy_showers(60)
    theta, phi = np.linspace(0, 0.4, n), np.linspace(0.1, 6, n)
    particle = np.where(np.arange(n) % 3, 22, 11)
    for name, settings in (
        ("odd-ecal", {}),
        ("lhcb-ecal", {"detector": Detector.load("lhcb-ecal").to_dict()}),
    ):
        conditions = Conditions(toys.conditions.energy, theta, phi, particle, name)
        showers = Showers(toys.energies, conditions, MESH, {"settings": settings})
        made = train(RECIPE, showers, out=tmp_path / name, overrides={"training.epochs": 1}, progress=False)
        assert ("usual" in made.valid_range) == bool(settings)
    found = generate(made, energy=1e4, n=2, progress=False).conditions
    assert (found.theta == 0).all()
    assert (found.phi == 0.1).all()
    assert found.particle.tolist() == [22, 22]
    with pytest.raises(ConditionError, match=r"trained on particles e-, gamma; say which is wanted"):
        generate(tmp_path / "odd-ecal", energy=1e4, n=2, progress=False)


def test_lists_of_events_stay_with_the_data(tmp_path):
    toys = toy_showers(60)
    events = EventList.of(toys.conditions).to_dict()
    told = {"parts": [{"settings": {"events": events, "seed": 3}}]}
    showers = Showers(toys.energies, toys.conditions, MESH, told)
    made = train(RECIPE, showers, out=tmp_path / "a", overrides={"training.epochs": 1}, progress=False)
    (part,) = Checkpoint.load(tmp_path / "a").provenance["showers"]["parts"]
    assert part["settings"]["seed"] == 3
    assert part["settings"]["events"] == {"n": 60, "digest": events_digest(events)}
    assert made.provenance["fingerprints"]["data"]


def test_halved_it_is_smaller_and_nearly_the_same(saved, tmp_path):
    name = max(saved.tensors, key=lambda key: saved.tensors[key].numel())
    halved = saved.in_half(name)
    halved.save(tmp_path / "half")
    weights = (tmp_path / "half" / "model.safetensors").stat().st_size
    assert weights < (saved.path / "model.safetensors").stat().st_size
    model = Checkpoint.load(tmp_path / "half").model()
    for key, tensor in model.state_dict().items():
        assert tensor.dtype == saved.tensors[key].dtype
        if key == name:
            torch.testing.assert_close(tensor, saved.tensors[key], rtol=1e-3, atol=1e-6)
        else:
            assert torch.equal(tensor, saved.tensors[key])


def test_an_existing_checkpoint_is_kept(saved):
    with pytest.raises(CheckpointError, match="allow overwriting"):
        saved.save(saved.path)
    saved.save(saved.path, overwrite=True)


def test_every_byte_of_the_weights_counts(saved):
    file = saved.path / "model.safetensors"
    data = file.read_bytes()
    for damaged in (data[:-5], data[:10], b"", data[:-1] + bytes([data[-1] ^ 1])):
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"truncated, damaged or from another checkpoint"):
            Checkpoint.load(saved.path)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"cannot read .*model\.safetensors: No such file"):
        Checkpoint.load(saved.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about: about.update(format="other"), "not a caloforge checkpoint"),
        (lambda about: about.update(version=99), "format version 99, but 1 is expected"),
        (lambda about: about["mesh"].update(n_phi=7), "changed after training"),
        (lambda about: about["mesh"].update(kind="cube"), "cube"),
        (lambda about: about.pop("valid_range"), "valid_range: Field required; the file is .*incomplete"),
        (lambda about: about.update(seed="x"), "damaged"),
    ],
)
def test_changed_descriptions_are_refused(saved, change, message):
    file = saved.path / "checkpoint.json"
    about = json.loads(file.read_text())
    change(about)
    file.write_text(json.dumps(about))
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.load(saved.path)


def test_missing_and_foreign_folders(saved, tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        Checkpoint.load(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"no checkpoint\.json"):
        Checkpoint.load(tmp_path)
    with pytest.raises(CheckpointError, match="is a file"):
        Checkpoint.load(saved.path / "checkpoint.json")
    (saved.path / "checkpoint.json").write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        Checkpoint.load(saved.path)


def test_weights_that_do_not_fit_are_named(saved):
    saved.settings = {"width": 5}
    with pytest.raises(CheckpointError, match=r"network\.0\.weight has shape \(3, 1\) instead of \(5, 1\)"):
        saved.model()
    saved.settings = {"depth": 5}
    with pytest.raises(CheckpointError, match="depth"):
        saved.model()
    saved.settings, saved.model_name = {"width": 3}, "nowhere:Model"
    with pytest.raises(CheckpointError, match="nowhere"):
        saved.model()


def test_another_mesh_is_refused(saved):
    with pytest.raises(CheckpointError, match="train on this mesh"):
        saved.require_mesh(CylinderMesh.regular(), "file.h5")
    saved.require_mesh(MESH, "file.h5")


def test_models_of_many_cells_are_built_and_far_larger_ones_than_there_are_weights_for_are_not():
    tree = ShowerTree(
        Detector.load("ild-ecal").mesh, ShowerTree.example
    )  # its tables of places outnumber its weights
    checkpoint = Checkpoint.from_model(tree, "tree.model:ShowerTree", {}, seed=0, metrics={})
    assert set(checkpoint.network().state_dict()) == set(tree.state_dict())
    larger = replace(checkpoint, settings={**checkpoint.settings, "width": 6_000})
    with pytest.raises(CheckpointError, match="far larger model than the weights"):
        larger.network()
