"""Laws of the layer-energy transformer: ratios and energies determine each other."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from caloforge.detector import CylinderMesh
from caloforge.errors import RecipeError
from caloforge.models.base import load_model_class
from caloforge.models.energies.base import ENERGIES, LayerEnergyDensity, layer_energy_model
from caloforge.models.energies.causal_transformer import CausalTransformer, KeyValueCache
from caloforge.models.energies.heads.flow_matching import FlowMatchingHead
from caloforge.models.energies.transformer import LayerEnergyTransformer, Splits, TransformerSettings, _split
from caloforge.training.recipe import Recipe

LAYERS, CONTEXT, THRESHOLD = 7, 3, 15.0
STEPS = 200
HEADS = ("splines", "flow-matching")


def showers(n: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Layer energies (n, Z) with empty layers, empty ends and one empty shower; incident; context (n, C)."""
    g = torch.Generator().manual_seed(seed)
    incident = 500 * torch.exp(3 * torch.rand(n, generator=g))
    shares = torch.rand(n, LAYERS, generator=g) ** 4
    energies = 0.8 * incident[:, None] * shares / shares.sum(dim=1, keepdim=True)
    energies = torch.where(energies > 2 * THRESHOLD, energies, 0.0)
    energies[: n // 4, -3:] = 0
    energies[0] = 0
    energies[1, 1:] = 0
    energies[2, 0] = 0
    context = torch.stack([incident.log() - 7.5, torch.ones(n), torch.randn(n, generator=g)], dim=1)
    return energies, incident, context


def fitted(head: str = "splines", seed: int = 0, **settings: object) -> LayerEnergyTransformer:
    """A small model with random weights and the statistics of `showers`."""
    torch.manual_seed(seed)
    given = {
        "kind": "transformer",
        "head": head,
        "hidden": 16,
        "blocks": 2,
        "heads": 2,
        "bins": 4,
        "dropout": 0,
    }
    model = layer_energy_model(ENERGIES.settings(given | settings), LAYERS, CONTEXT)
    assert isinstance(model, LayerEnergyTransformer)
    energies, incident, _ = showers(300)
    model.begin_fit()
    for rows in torch.arange(300).split(70):
        model.fit_batch(energies[rows], incident[rows], THRESHOLD)
    model.end_fit()
    with torch.no_grad():
        for p in model.head.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    return model.eval()


def test_ratios_and_layer_energies_determine_each_other() -> None:
    energies, incident, _ = (x.double() for x in showers(200))
    below = THRESHOLD * torch.rand(200, LAYERS, generator=torch.Generator().manual_seed(1)).double()
    y, active, tails = Splits.from_energies(energies, incident, THRESHOLD, 2.5, below.clamp_min(1e-3))
    left = 2.5 * incident * y[:, 0].sigmoid()
    left = torch.where(left >= THRESHOLD, left, 0.0)
    torch.testing.assert_close(left, energies.sum(dim=1))
    for i in range(1, LAYERS):
        assert torch.equal(active[:, i], tails[:, i - 1] > 0)
        part = _split(left, y[:, i], THRESHOLD)
        torch.testing.assert_close(part, energies[:, i - 1], atol=1e-9, rtol=1e-9)
        assert torch.equal(part == 0, energies[:, i - 1] == 0)
        left = torch.where(part == left, 0.0, left - part)
    torch.testing.assert_close(left, energies[:, -1], atol=1e-9, rtol=1e-9)


def test_statistics_are_those_of_steps_with_something_left() -> None:
    model = fitted()
    energies, incident, _ = showers(300)
    y, active, _ = model._splits(energies, incident, THRESHOLD, torch.full_like(energies, 0.5))
    for i in range(LAYERS):
        values = y[active[:, i], i]
        torch.testing.assert_close(model.mean[i], values.mean(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.std[i], values.std(correction=0), rtol=1e-3, atol=1e-5)


def test_a_step_that_never_happens_is_left_alone() -> None:
    model = fitted()
    energies, incident, context = showers(50)
    energies[:, 3:] = 0
    model.begin_fit()
    model.fit_batch(energies, incident, THRESHOLD)
    model.end_fit()
    torch.testing.assert_close(model.mean[5:], torch.zeros(2), rtol=0, atol=0)
    torch.testing.assert_close(model.std[5:], torch.ones(2), rtol=0, atol=0)
    loss = model.loss(energies, incident, context, THRESHOLD, torch.Generator().manual_seed(0))
    assert torch.isfinite(loss).all()


def test_steps_with_kept_keys_are_the_whole_pass_and_causal() -> None:
    torch.manual_seed(0)
    transformer = CausalTransformer(12, depth=3, heads=3, dropout=0.3).double().eval()
    tokens = torch.randn(5, 9, 12, dtype=torch.float64)
    whole = transformer(tokens)
    cache = KeyValueCache(5, 9, transformer)
    with torch.no_grad():
        steps = torch.stack([transformer.step(tokens[:, i], i, cache) for i in range(9)], dim=1)
    torch.testing.assert_close(steps, whole)
    changed = tokens.clone()
    changed[:, 5] = torch.randn(5, 12, dtype=torch.float64)
    difference = (transformer(changed) - whole).abs().amax(dim=(0, 2))
    assert difference[:5].max() == 0
    assert difference[5:].min() > 1e-3


def test_width_must_be_a_multiple_of_heads() -> None:
    with pytest.raises(RecipeError, match=r"width 16 .* multiple of its 3 heads"):
        fitted(heads=3)


@pytest.mark.parametrize("head", HEADS)
def test_sampling_repeats_what_training_sees(head: str) -> None:
    """The states of sampled showers, all steps at once, turn the same noise into the same ratios."""
    model = fitted(head).double()
    _, incident, context = (x.double() for x in showers(60))
    noise = torch.randn(60, LAYERS, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    with torch.no_grad():
        energies = model.sample(noise, incident, context, THRESHOLD)
        z, states, active = model.states(energies, incident, context, THRESHOLD, torch.full_like(noise, 0.5))
        again = model.head.sample(noise.flatten(), states.flatten(0, 1)).view_as(noise)
    tails = energies.flip(1).cumsum(1).flip(1)
    split = torch.cat([tails[:, :1] > 0, (energies[:, :-1] > 0) & (tails[:, 1:] > 0)], dim=1)
    assert split.sum() > 100
    assert not (split & ~active).any()
    whole = split.cumprod(dim=1).bool()  # an empty part stands for many ratios
    assert whole[:, 1:].sum() > 30
    torch.testing.assert_close(again[whole], z[whole], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("head", HEADS)
def test_sampled_layers_are_legal_and_depend_on_their_own_noise_alone(head: str) -> None:
    model = fitted(head)
    _, incident, context = showers(40)
    noise = 2 * torch.randn(40, model.noise_size, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        energies = model.sample(noise, incident, context, THRESHOLD)
        assert torch.equal(energies, model.sample(noise, incident, context, THRESHOLD))
        alone = model.sample(noise[7:8], incident[7:8], context[7:8], THRESHOLD)
        later = noise.clone()
        later[:, 4:] += 1
        total = model.sample(later, incident, context, THRESHOLD)
    assert torch.isfinite(energies).all()
    assert not ((energies > 0) & (energies < THRESHOLD * (1 - 1e-6))).any()
    torch.testing.assert_close(alone, energies[7:8], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(total.sum(dim=1), energies.sum(dim=1))
    torch.testing.assert_close(total[:, :3], energies[:, :3])  # noise 0 is the total, noise i layer i − 1
    assert (total[:, 3:] - energies[:, 3:]).abs().max() > 1


@pytest.mark.parametrize("head", HEADS)
def test_gradients_reach_every_parameter(head: str) -> None:
    model = fitted(head)
    energies, incident, context = showers(64)
    loss = model.loss(energies, incident, context, THRESHOLD, torch.Generator().manual_seed(0))
    assert loss.shape == (64,)
    loss.mean().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().max() > 0, name


@pytest.mark.parametrize("head", HEADS)
def test_saved_weights_make_the_same_layers(head: str) -> None:
    model, other = fitted(head), fitted(head, seed=1)
    _, incident, context = showers(20)
    noise = torch.randn(20, LAYERS, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        energies = model.sample(noise, incident, context, THRESHOLD)
        assert not torch.equal(other.sample(noise, incident, context, THRESHOLD), energies)
        other.load_state_dict(model.state_dict())
        assert torch.equal(other.sample(noise, incident, context, THRESHOLD), energies)


def test_splines_give_a_density_of_the_ratios() -> None:
    """Of two layers: ∫ p(y_0, y_1) dy = 1, on a grid of totals and splits."""
    torch.manual_seed(0)
    settings = ENERGIES.settings(
        {"kind": "transformer", "hidden": 8, "blocks": 1, "heads": 1, "bins": 4, "dropout": 0}
    )
    model = layer_energy_model(settings, 2, 1).double()
    assert isinstance(model, LayerEnergyTransformer)
    with torch.no_grad():
        for p in model.head.parameters():
            p.add_(0.3 * torch.randn(p.shape))
    y = torch.linspace(-8, 8, 321, dtype=torch.float64)
    first, second = (grid.flatten() for grid in torch.meshgrid(y, y, indexing="ij"))
    total = 2.5 * 1e6 * first.sigmoid()
    energies = torch.stack([total * second.sigmoid(), total * (-second).sigmoid()], dim=1)
    n = len(energies)
    with torch.no_grad():
        loss = model.loss(energies, torch.full((n,), 1e6).double(), torch.zeros(n, 1).double(), 1e-6, None)
    assert float((-loss).exp().sum()) * float(y[1] - y[0]) ** 2 == pytest.approx(1, abs=1e-3)


def test_flow_matching_error_falls_with_the_square_of_the_steps() -> None:
    torch.manual_seed(0)
    head = FlowMatchingHead(TransformerSettings(hidden=16, depth=2, steps=1)).double()
    states, noise = torch.randn(200, 16).double(), torch.randn(200).double()
    drawn = {}
    for steps in (8, 16, 32, 512):
        head.steps = steps
        with torch.no_grad():
            drawn[steps] = head.sample(noise, states)
    errors = [float((drawn[steps] - drawn[512]).abs().mean()) for steps in (8, 16, 32)]
    for coarse, fine in pairwise(errors):
        assert 1.8 < math.log2(coarse / fine) < 2.2


@pytest.mark.parametrize("head", HEADS)
def test_learns_how_layers_depend_on_energy_and_on_each_other(head: str) -> None:
    """Three layers: a share that rises with energy, what is left of it, a third often empty."""
    g = torch.Generator().manual_seed(0)
    n = 2000
    context = torch.rand(n, 1, generator=g) * 2 - 1
    incident = 1000 * torch.exp(context[:, 0])
    first = torch.sigmoid(context[:, 0] + 0.3 * torch.randn(n, generator=g))
    rest = 0.3 * torch.rand(n, generator=g) * (torch.rand(n, generator=g) < 0.5)
    response = 0.9 + 0.03 * torch.randn(n, generator=g)
    shares = torch.stack([first * (1 - rest), (1 - first) * (1 - rest), rest], dim=1)
    energies = shares * (response * incident)[:, None]
    energies = torch.where(energies > THRESHOLD, energies, 0.0)
    torch.manual_seed(0)
    settings = {"kind": "transformer", "head": head, "hidden": 32, "blocks": 1, "bins": 6, "dropout": 0}
    model = layer_energy_model(ENERGIES.settings(settings), 3, 1)
    model.begin_fit()
    model.fit_batch(energies, incident, THRESHOLD)
    model.end_fit()
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = 5e-3 * (1 - step / STEPS)
        rows = torch.randint(n, (128,), generator=g)
        loss = model.loss(energies[rows], incident[rows], context[rows], THRESHOLD, g).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    with torch.no_grad():
        made = model.sample(torch.randn(n, 3, generator=g), incident, context, THRESHOLD)
    for real, own in zip(
        (energies / incident[:, None]).T, (made / incident[:, None]).T, strict=True
    ):  # mean, spread, and how both rise with energy
        assert own.mean() == pytest.approx(float(real.mean()), abs=0.02)
        assert own.std() == pytest.approx(float(real.std()), rel=0.2)
    correlations = [
        torch.corrcoef(torch.cat([x / incident[:, None], context], 1).T) for x in (energies, made)
    ]
    torch.testing.assert_close(*correlations, rtol=0, atol=0.12)
    assert (made[:, 2] == 0).float().mean() == pytest.approx(
        float((energies[:, 2] == 0).float().mean()), abs=0.05
    )
    response = made.sum(dim=1) / incident
    assert response.std() == pytest.approx(0.03, rel=0.3)


@pytest.mark.parametrize("kind", ["autoregressive", "inductive"])
def test_loss_of_a_density_is_its_negative_logarithm(kind: str) -> None:
    settings = ENERGIES.settings({"kind": kind, "hidden": 8, "depth": 1, "blocks": 1})
    model = layer_energy_model(settings, LAYERS, CONTEXT)
    assert isinstance(model, LayerEnergyDensity)
    energies, incident, context = showers(20)
    energies = energies[1:], incident[1:], context[1:]
    loss = model.loss(*energies, THRESHOLD, torch.Generator().manual_seed(3))
    uniform = torch.rand(19, LAYERS, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(loss, -model.log_prob(*energies, THRESHOLD, uniform))


def test_settings_of_a_transformer_have_their_own_defaults() -> None:
    default = ENERGIES.settings({"kind": "transformer"})
    assert (default.blocks, default.hidden, default.dropout) == (3, 64, 0.1)
    assert ENERGIES.settings({"kind": "transformer", "hidden": 32}).hidden == 32
    assert ENERGIES.settings({}).hidden == 128
    again = ENERGIES.settings(default.model_dump())
    assert again == default


@pytest.mark.parametrize("name", ["calodream", "calodream-small"])
def test_recipes_make_their_model(name: str) -> None:
    recipe = Recipe.load(name)
    model = load_model_class(recipe.model)(CylinderMesh.regular(n_z=45, n_phi=16, n_r=9), recipe.settings)
    assert set(model.parts()) == {"energies", "shape"} >= set(recipe.training.parts)
    assert model.noise_shapes() == {"cells": (45, 16, 9), "layers": (45,)}
