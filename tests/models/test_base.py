import numpy as np
import pytest
import torch
from toy_models import MESH, LayerGaussian, TwoParts, toy_showers

from caloforge.data import Conditions
from caloforge.detector import BoxMesh
from caloforge.errors import MeshError, RecipeError
from caloforge.models.base import Batch, ConditionTensors, load_model_class


def test_batches_hold_energies_and_conditions():
    showers = toy_showers(5)
    batch = Batch.with_energies(showers.energies, showers.conditions, ["other", "toy"])
    assert len(batch) == 5
    assert batch.energies.shape == (5, *MESH.shape)
    assert batch.energy.dtype == torch.float32
    assert batch.particle.tolist() == [11] * 5
    assert batch.detector.tolist() == [1] * 5
    assert batch.impact is None
    part = batch[1:3].to("cpu")
    assert isinstance(part, Batch)
    assert torch.equal(part.energies, batch.energies[1:3])
    with pytest.raises(ValueError, match="conditions for 5"):
        Batch.with_energies(showers.energies[:4], showers.conditions)


def test_conditions_become_tensors():
    conditions = Conditions([1.0, 2.0], 0.5, [0.1, 0.2], "gamma", ["a", "b"], [[1, 2], [3, 4]])
    tensors = ConditionTensors.of(conditions, ["b"])
    assert tensors.detector.tolist() == [-1, 0]
    assert tensors.impact.tolist() == [[1, 2], [3, 4]]
    np.testing.assert_allclose(tensors.phi, [0.1, 0.2], rtol=1e-6)
    assert tensors[torch.tensor([1])].energy.tolist() == [2.0]


def test_a_model_describes_itself():
    model = TwoParts(MESH, {"width": 3})
    assert model.n_parameters == 3 * 2 + 4 * 4 + 4
    about = model.describe()
    assert about["parts"] == {"location": 22, "width": 4}
    assert about["noise"] == {"layers": [4]}
    assert about["settings"] == {"width": 3, "dropout": 0.0}
    noise = model.noise(7, torch.Generator().manual_seed(1))
    assert noise["layers"].shape == (7, 4)
    assert model.device == torch.device("cpu")


def test_mesh_and_settings_fix_all_shapes():
    shapes = [
        {name: tensor.shape for name, tensor in LayerGaussian(MESH, {"width": 3}).state_dict().items()}
        for _ in range(2)
    ]
    assert shapes[0] == shapes[1]
    with pytest.raises(ValueError, match="widht"):
        LayerGaussian(MESH, {"widht": 3})


def test_a_model_may_choose_its_meshes(monkeypatch):
    monkeypatch.setattr(LayerGaussian, "mesh_kinds", ("box",))
    with pytest.raises(MeshError, match=r"kind box; got a cylinder mesh"):
        LayerGaussian(MESH)
    LayerGaussian(BoxMesh.regular((2, 2, 2), (1, 1, 1)))


def test_model_classes_are_found_by_name():
    assert load_model_class("toy_models:TwoParts") is TwoParts
    for name, message in {
        "toy_models": "module:Class",
        "toy_models:LayerGausian": r"did you mean 'LayerGaussian'\?\); it has .*TwoParts",
        "toy_models:MESH": r"not a GeneratorModel, but CylinderMesh",
        "no_such.thing:A": r"no module caloforge\.models\.no_such\.thing or no_such\.thing",
        "base:Batch": r"not a GeneratorModel, but .*Batch",
    }.items():
        with pytest.raises(RecipeError, match=message):
            load_model_class(name)
