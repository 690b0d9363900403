"""The trained models that come with caloforge: they load, make legal showers, and say what they are."""

import numpy as np
import pytest

from caloforge.checkpoint import Checkpoint
from caloforge.checkpoint.pretrained import PRETRAINED, default_model, model_card, pretrained_names
from caloforge.errors import CheckpointError
from caloforge.generation import generate, generate_events

SECTIONS = ("Data", "Recipe and command", "Seed", "Metrics", "Valid range", "Limits")
LARGEST_FILE, LARGEST_SUM = 25e6, 60e6


def test_there_are_some_and_they_are_small():
    known = {
        "conv-l2lflows-siw",
        "fast-siw",
        "foundation",
        "pxd-clusters",
        "showertransformer-siw",
        "showertree-siw",
        "showertree-lhcb",
        "supercalo-siw",
    }
    assert known <= set(pretrained_names())
    files = [path.stat().st_size for path in PRETRAINED.rglob("*") if path.is_file()]
    assert max(files) < LARGEST_FILE
    assert sum(files) < LARGEST_SUM


@pytest.mark.parametrize("name", pretrained_names())
def test_a_card_says_where_the_model_came_from(name):
    card, checkpoint = model_card(name), Checkpoint.load(name)
    assert all(f"## {section}" in card for section in SECTIONS)
    assert checkpoint.fingerprint in card
    assert f"seed {checkpoint.seed}" in card.lower()


@pytest.mark.parametrize("name", [name for name in pretrained_names() if name.endswith("-siw")])
def test_showers_close_and_look_like_electrons(name):
    checkpoint = Checkpoint.load(name)
    showers = generate(checkpoint, energy=[2e3, 1e4, 4e4] * 40, seed=3, progress=False)
    again = generate(checkpoint, energy=[2e3, 1e4, 4e4], seed=3, progress=False)
    np.testing.assert_array_equal(showers.energies[:3], again.energies)
    cells = showers.energies
    assert cells[cells > 0].min() >= 0.01515 * (1 - 1e-4)
    response = cells.sum(axis=(1, 2, 3)) / showers.conditions.energy
    assert response.mean() == pytest.approx(0.968, abs=0.02)
    assert 0.02 < response.std() < 0.12
    depth = np.average(np.arange(45), weights=cells.sum(axis=(0, 2, 3)))
    assert 10 < depth < 25


@pytest.mark.parametrize("particle", ["e-", "gamma"])
def test_images_of_lhcbs_calorimeter_close_and_lie_where_particles_point(particle):
    checkpoint = Checkpoint.load("showertree-lhcb")
    energy = np.tile([2e3, 1e4, 8e4], 40)
    showers = generate(
        checkpoint, energy=energy, theta=0.25, phi=1.0, particle=particle, seed=3, progress=False
    )
    response = showers.energies.sum(axis=(1, 2, 3)) / energy
    assert response.mean() == pytest.approx(0.997, abs=0.02)
    assert 0.01 < response.std() < 0.1
    x, y = (
        (showers.energies * axis.reshape(showers.mesh.shape)).sum(axis=(0, 1, 2, 3)) / showers.energies.sum()
        for axis in (showers.mesh.centres()["x"], showers.mesh.centres()["y"])
    )
    assert np.arctan2(y, x) == pytest.approx(1.0, abs=0.1)
    assert 100 < np.hypot(x, y) / np.tan(0.25) < 170  # mm, the depth of the energy


def test_pixel_events_light_as_many_cells_as_belle2s():
    events = generate_events(default_model("belle2-pxd"), n=4, rate=1.0, seed=3, progress=False)
    again = generate_events(default_model("belle2-pxd"), n=1, rate=1.0, seed=3, progress=False)
    np.testing.assert_array_equal(events.dense(0), again.dense(0))
    lit = np.stack([events.dense(i) > 0 for i in range(4)]).mean(axis=(0, 2, 3))
    assert 100 * lit[:16].mean() == pytest.approx(1.47, rel=0.06)
    assert 100 * lit[16:].mean() == pytest.approx(0.51, rel=0.06)


def test_an_unknown_name_is_met_with_the_nearest():
    with pytest.raises(CheckpointError, match="did you mean 'supercalo-siw'"):
        Checkpoint.load("supercalo-siv")
