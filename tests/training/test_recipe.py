import json

import numpy as np
import pytest
from toy_models import MESH, RECIPE, toy_showers

from caloforge.data import Conditions, Showers
from caloforge.detector import BoxMesh
from caloforge.errors import RecipeError
from caloforge.training import Recipe

TOML = """
description = "a toy"
model = "toy_models:LayerGaussian"
[settings]
width = 4
[training]
epochs = 3
learning_rate = 0.1
[training.parts.model]
clip = 5.0
[data]
meshes = ["cylinder"]
particles = ["e-"]
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "toy.toml"
    file.write_text(TOML)
    return file


def test_a_file_is_read_and_written_back(path):
    recipe = Recipe.load(path)
    assert recipe.settings == {"width": 4}
    assert recipe.training.epochs == 3
    assert Recipe.load(recipe.to_dict()) == recipe
    assert Recipe.load(recipe) == recipe


def test_parts_inherit_what_they_do_not_give(path):
    training = Recipe.load(path).training
    assert training.part("model").clip == 5.0
    assert training.part("model").learning_rate == 0.1
    assert training.part("other").clip is None


def test_overrides_change_single_values(path):
    recipe = Recipe.load(
        path, {"training.epochs": "5", "settings.width": 7, "training.parts.model.clip": 1.0}
    )
    assert (recipe.training.epochs, recipe.settings["width"], recipe.training.part("model").clip) == (
        5,
        7,
        1.0,
    )
    assert Recipe.load(path, {"training.steps": 10}).training.epochs is None
    assert Recipe.load(path, {"training.learning_rate": None}).training.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("epochs = 3", "epocs = 3", ["training.epocs", "did you mean 'epochs'", "toy.toml"]),
        ("width = 4", "widht = 4", ["settings.widht", "did you mean 'width'", "toy.toml"]),
        ("clip = 5.0", "klip = 5.0", ["training.parts.model.klip", "did you mean 'clip'"]),
        ("[data]", "[datas]", ["'datas'", "did you mean 'data'"]),
        ("epochs = 3", "", ["exactly one of epochs and steps"]),
        ("epochs = 3", "epochs = 3\nsteps = 3", ["exactly one of epochs and steps"]),
        ("epochs = 3", "epochs = 0", ["training.epochs", "greater than or equal to 1", "got 0"]),
        ("epochs = 3", "epochs = ", ["not valid TOML", "toy.toml"]),
        ('model = "toy_models:LayerGaussian"', "", ["model: Field required"]),
        ("LayerGaussian", "LayerGausian", ["has no LayerGausian", "did you mean 'LayerGaussian'"]),
        ("toy_models:", "nowhere.at_all:", ["nowhere.at_all"]),
        ("toy_models:LayerGaussian", "LayerGaussian", ["module:Class"]),
    ],
)
def test_mistakes_are_named(path, old, new, words):
    path.write_text(TOML.replace(old, new))
    with pytest.raises(RecipeError) as error:
        Recipe.load(path)
    for word in words:
        assert word in str(error.value)


def test_texts_of_other_programs(path):
    """A mark of the order of bytes is no part of the text; what is not UTF-8 is said, with the line."""
    recipe = Recipe.load(path)
    path.write_bytes(b"\xef\xbb\xbf" + TOML.encode())
    assert Recipe.load(path) == recipe
    path.write_bytes(b"# one\n# caf\xe9\n" + TOML.encode())
    with pytest.raises(
        RecipeError, match=r"toy\.toml: line 2 is not UTF-8 \(byte 0xe9\); save the file as UTF-8"
    ):
        Recipe.load(path)


def test_unknown_names_and_missing_files(tmp_path):
    with pytest.raises(RecipeError, match="no recipe 'nothing-like-this'"):
        Recipe.load("nothing-like-this")
    with pytest.raises(RecipeError, match=r"cannot read .*No such file"):
        Recipe.load(tmp_path / "missing.toml")
    with pytest.raises(RecipeError, match="is a value, not a table"):
        Recipe.load(RECIPE, {"training.epochs.x": 1})


@pytest.mark.parametrize("name", Recipe.names())
def test_every_recipe_that_comes_with_the_package_is_valid(name):
    assert Recipe.load(name).description


def test_models_that_moved_are_found_by_their_old_names():
    recipe = Recipe.load("supercalo-b-small")
    old = json.dumps(recipe.to_dict())
    for new_name, old_name in (
        ("supercalo.chain", "upsampling"),
        ("supercalo.coarse", "flow.supercalo"),
        ("supercalo.fine", "flow.supercalo_fine"),
    ):
        assert f"{new_name}:" in old
        old = old.replace(f"{new_name}:", f"{old_name}:")
    assert Recipe.load(json.loads(old)) == recipe


def test_showers_must_be_what_the_recipe_is_for(path):
    recipe = Recipe.load(path)
    recipe.check(toy_showers(10))
    box = BoxMesh.regular((2, 2, 2), (1, 1, 1))
    with pytest.raises(RecipeError, match="meshes cylinder, the showers have box"):
        recipe.check(Showers(np.ones((1, 8)), Conditions([1e3], particle="e-"), box))
    with pytest.raises(RecipeError, match="particles e-, the showers have gamma"):
        recipe.check(Showers(np.ones((1, 72)), Conditions([1e3], particle="gamma"), MESH))


def test_augmentation_needs_normal_incidence():
    recipe = Recipe.load(RECIPE, {"training.augment": ["rotate_phi"]})
    recipe.check(toy_showers(10))
    with pytest.raises(RecipeError, match="normal incidence"):
        recipe.check(Showers(np.ones((1, 72)), Conditions([1e3], theta=1.2), MESH))
    box = BoxMesh.regular((2, 2, 2), (1, 1, 1))
    with pytest.raises(RecipeError, match="cylinder"):
        recipe.check(Showers(np.ones((1, 8)), Conditions([1e3]), box))


def test_larger_batches_see_as_many_showers_with_scaled_rates():
    table = {"model": "toy_models:LayerGaussian", "training": {"steps": 101, "batch_size": 32, "ema": 0.99}}
    table["training"] |= {"ema_after": 9, "epsilon": 1e-6}
    table["training"]["parts"] = {"model": {"learning_rate": 0.01, "every": 3}}
    table["training"]["select"] = {"every": 10}
    plain = Recipe.load(table).training
    assert plain.scaled() is plain
    large = Recipe.load(table, {"training.scale": 4}).training.scaled()
    assert (large.batch_size, large.steps, large.select.every) == (128, 26, 3)
    part, was = large.part("model"), plain.part("model")
    assert part.learning_rate == pytest.approx(0.02)
    assert large.learning_rate == pytest.approx(2 * plain.learning_rate)
    assert part.ema == pytest.approx(0.99**4)
    assert part.ema_after == 3
    assert part.epsilon == pytest.approx(5e-7)
    assert part.betas == pytest.approx([beta**4 for beta in was.betas])
    # what decays a weight over as many showers: learning rate times weight decay times steps
    assert part.learning_rate * part.weight_decay == pytest.approx(4 * was.learning_rate * was.weight_decay)
    assert part.every == 3
