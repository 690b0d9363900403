from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_models import MESH, RECIPE, LayerGaussian, toy_showers

from caloforge.errors import TrainingError
from caloforge.models.base import Batch
from caloforge.models.networks.tensor_cache import TensorCache
from caloforge.training import Recipe
from caloforge.training.augmentations import augment
from caloforge.training.loader import ShowerLoader
from caloforge.training.optimise import learning_rate, part_trainers
from caloforge.training.recipe import PartSettings
from caloforge.training.team import Team


@given(
    st.sampled_from(["one-cycle", "cosine", "constant"]),
    st.one_of(st.none(), st.floats(0, 1)),
    st.floats(0, 1),
)
def test_the_learning_rate_stays_between_zero_and_its_peak(schedule, warmup, done):
    rate = learning_rate(PartSettings(schedule=schedule, warmup=warmup, learning_rate=0.5), done)
    assert 0 <= rate <= 0.5


def test_the_learning_rate_rises_and_falls():
    rates = [learning_rate(PartSettings(learning_rate=1.0), x) for x in np.linspace(0, 1, 101)]
    assert rates[0] == pytest.approx(0.04)
    assert np.argmax(rates) == 30
    assert rates[-1] == pytest.approx(1e-4)
    assert learning_rate(PartSettings(schedule="constant", learning_rate=1.0), 0.5) == 1.0
    assert learning_rate(PartSettings(schedule="cosine", learning_rate=1.0), 1.0) == pytest.approx(
        0, abs=1e-12
    )


def test_overlapping_and_unknown_parts_are_refused():
    model = LayerGaussian(MESH)
    settings = Recipe.load(RECIPE, {"training.parts.nothing.clip": 1.0}).training
    with pytest.raises(TrainingError, match=r"training.parts.nothing.*model"):
        part_trainers(model, settings, 10)
    model.parts = lambda: {"a": list(model.parameters()), "b": [model.log_sigma]}
    with pytest.raises(TrainingError, match="is in 'a' and 'b'"):
        part_trainers(model, Recipe.load(RECIPE).training, 10)


class Alone:
    """An accelerator of one process in float32."""

    @staticmethod
    def backward(loss, inputs):
        loss.backward(inputs=inputs)

    @staticmethod
    def autocast():
        return nullcontext()


def test_what_is_derived_from_weights_notices_a_step():
    """Fused optimisers change weights without counting it."""
    model, derived = LayerGaussian(MESH), TensorCache()
    (part,) = part_trainers(model, Recipe.load(RECIPE).training, 10).values()
    weight = part.parameters[0]

    def doubled():
        with torch.no_grad():
            return derived("doubled", [weight], lambda: 2 * weight)

    for _ in range(2):
        doubled()
        losses = {"loss": sum(p.square().sum() + p.sum() for p in part.parameters)}
        part.update(losses, 1.0, Alone, Team(torch.device("cpu")))
        assert torch.equal(doubled(), 2 * weight.detach())


@pytest.mark.parametrize("kinds", [("rotate_phi",), ("reflect_phi",), ("rotate_phi", "reflect_phi")])
def test_augmentation_moves_energies_along_phi_and_changes_none(kinds):
    showers = toy_showers(50)
    batch = Batch.with_energies(showers.energies, showers.conditions)
    moved = augment(batch, kinds, torch.Generator().manual_seed(1))
    assert not torch.equal(moved.energies, batch.energies)
    assert torch.equal(moved.energies.sort(2).values, batch.energies.sort(2).values)
    for new, old in zip(moved.energies, batch.energies, strict=True):
        images = [torch.roll(old, i, 1) for i in range(6)]
        images = images if kinds == ("rotate_phi",) else [*images, *(image.flip(1) for image in images)]
        assert any(torch.equal(new, image) for image in images)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("n", [10, 1000])
def test_an_epoch_has_each_shower_once_in_an_order_of_its_own(in_memory, n):
    showers = toy_showers(n)
    loader = ShowerLoader(
        showers, 10, detectors=["toy"], device=torch.device("cpu"), in_memory=in_memory, prefetch=True
    )
    first, again, second = (torch.cat([batch.energy for batch in loader.epoch(epoch)]) for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert np.array_equal(np.sort(first), np.sort(showers.conditions.energy.astype(np.float32)))
    rest = [batch.energy for batch in loader.epoch(0, start=loader.steps_per_epoch - 1)]
    assert torch.equal(rest[0], first[-10:])
    batch = next(iter(loader.epoch(0)))
    where = [int(np.flatnonzero(showers.conditions.energy.astype(np.float32) == e)[0]) for e in batch.energy]
    assert np.array_equal(batch.energies, showers[where].energies)
    assert batch.detector.tolist() == [0] * 10


def test_an_average_begins_after_some_updates():
    model, showers = LayerGaussian(MESH), toy_showers(8)
    settings = Recipe.load(RECIPE, {"training.ema": 0.9, "training.ema_after": 3}).training
    part = part_trainers(model, settings, 20)["model"]
    assert part.optimiser.defaults["eps"] == settings.epsilon
    batch, team = Batch.with_energies(showers.energies, showers.conditions), Team(torch.device("cpu"))
    for update in range(1, 6):
        part.update(model.losses(batch, "model", torch.Generator()), 1.0, Alone(), team)
        part.end_step()
        apart = [(a - p.detach()).abs().max() for a, p in zip(part.averaged(), part.parameters, strict=True)]
        assert (max(apart) < 1e-6) == (update <= 3)
