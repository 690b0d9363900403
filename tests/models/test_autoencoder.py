"""Autoencoders beyond the laws of all models: distances, decoders of neighbours, published sizes, latents."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from test_laws import SHOWERS, fitted, moved_at_random
from torch import Tensor

from caloforge.detector import BoxMesh, CylinderMesh
from caloforge.errors import RecipeError
from caloforge.models.autoencoder.bib_ae import BIBAE
from caloforge.models.autoencoder.flow_vae import FlowVAE
from caloforge.models.autoencoder.latents import kl_to_standard, mmd, sorted_kernel_mmd
from caloforge.models.autoencoder.local_decoder import LocalDecoder
from caloforge.models.autoencoder.vae import DenseVAE
from caloforge.models.autoencoder.wgan import VolumeGAN
from caloforge.models.base import Batch, GeneratorModel
from caloforge.models.trainable import load_trainable_class
from caloforge.training.recipe import Recipe


def batch_of(model: GeneratorModel, n: int = 20) -> Batch:
    return Batch.with_energies(SHOWERS.energies[:n], SHOWERS.conditions[:n], model.detectors)


# --- distances


def plain_mmd(x: Any, y: Any, alphas: tuple[float, ...]) -> float:
    """Pair after pair."""

    def kernel(a: Any, b: Any) -> float:
        pairs = [sum(math.exp(-k * float(((p - q) ** 2).sum())) for k in alphas) for p in a for q in b]
        return sum(pairs) / len(pairs)

    return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)


def test_mean_discrepancies_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 3)), rng.normal(1.0, size=(4, 3))
    got = float(mmd(torch.from_numpy(x), torch.from_numpy(y), (1.0, 0.01)))
    assert got == pytest.approx(plain_mmd(x, y, (1.0, 0.01)))
    assert float(mmd(torch.from_numpy(x), torch.from_numpy(x), (1.0,))) == pytest.approx(0, abs=1e-12)


def test_the_sorted_kernel_compares_windows_of_sorted_cells() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.gamma(0.5, size=(2, 3, 30))
    got = sorted_kernel_mmd(torch.from_numpy(x), torch.from_numpy(y), cells=20, window=8, stride=4, alpha=2.0)
    assert got.shape == (3,)
    for shower in range(3):
        ours, theirs = (np.sort(v[shower])[::-1][:20, None] for v in (x, y))
        windows = [plain_mmd(ours[i : i + 8], theirs[i : i + 8], (2.0,)) for i in (0, 4, 8, 12)]
        assert float(got[shower]) == pytest.approx(np.mean(windows))
    moved = torch.from_numpy(x)[:, torch.randperm(30)]  # where cells are does not count
    same = sorted_kernel_mmd(torch.from_numpy(x), moved, cells=50, window=8, stride=4, alpha=2.0)
    torch.testing.assert_close(same, torch.zeros_like(same), atol=1e-12, rtol=0)


def test_the_divergence_is_that_of_torch() -> None:
    mean, log_std = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        kl_to_standard(mean, log_std),
        torch.distributions.kl_divergence(
            torch.distributions.Normal(mean, log_std.exp()), torch.distributions.Normal(0.0, 1.0)
        ).sum(dim=1),
    )


# --- the decoder of neighbours


def decoder(shape: tuple[int, int, int], periodic: bool = True) -> LocalDecoder:
    torch.manual_seed(0)
    made = LocalDecoder(shape, 3, width=8, maps=2, hidden=8, periodic=periodic)
    with torch.no_grad():
        for step in made.rounds:
            step.last.weight.normal_(std=0.5)  # type: ignore[union-attr, operator]
    return made


@pytest.mark.parametrize("shape", [(5, 4, 3), (1, 4, 5), (4, 6, 1)])
def test_each_cell_is_drawn_once_and_apart_from_those_that_touch_it(shape: tuple[int, int, int]) -> None:
    masks = decoder(shape).masks
    assert (masks.sum(dim=0) == 1).all()
    number = masks.int().argmax(dim=0)
    for cell, axis in product(np.ndindex(shape), range(3)):
        beside = list(cell)
        beside[axis] += 1
        if beside[axis] < shape[axis]:
            assert number[cell] != number[tuple(beside)]


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("shape", [(5, 4, 3), (1, 4, 5)])
def test_what_is_drawn_has_the_density_that_is_learned(shape: tuple[int, int, int], periodic: bool) -> None:
    """With s = 1: the sum of log Φ(±a) and of what the ranks' noise has; a is the margin less its noise."""
    made, generator = decoder(shape, periodic), torch.Generator().manual_seed(1)
    n = 50
    noise = torch.randn(n, 2, *shape, generator=generator)
    known, layers = torch.randn(n, 3, generator=generator), torch.rand(n, shape[0], generator=generator)
    empty = torch.randn(n, shape[0], 1, shape[2], generator=generator)
    with torch.no_grad():
        for step in made.rounds:
            step.last.weight[-shape[2] :] = 0  # type: ignore[union-attr, index, operator]
        margin, ranks = made.sample(noise, empty, known, layers)
        lit = (margin > 0).float()
        density = made.log_prob(lit, ranks, empty, known, layers)
    sign = 2 * lit - 1
    expected = torch.special.log_ndtr(sign * (margin - noise[:, 0])) - lit * noise[:, 1].square() / 2
    assert 0.1 < float(lit.mean()) < 0.9
    torch.testing.assert_close(density, expected.sum(dim=(1, 2, 3)), rtol=1e-4, atol=1e-3)


def test_neighbours_are_learned_that_no_latent_knows_of() -> None:
    """Pairs of cells side by side along φ are lit together, each pair by chance."""
    shape, n = (4, 4, 2), 400
    made, generator = decoder(shape), torch.Generator().manual_seed(2)
    pairs = (torch.rand(n, 4, 2, 2, generator=generator) < 0.5).float()
    lit = pairs.repeat_interleave(2, dim=2)
    known, layers, empty = torch.zeros(n, 3), torch.zeros(n, 4), torch.zeros(n, 4, 1, 2)
    optimiser = torch.optim.Adam(made.parameters(), lr=1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        (-made.log_prob(lit, torch.zeros_like(lit), empty, known, layers).mean()).backward()
        optimiser.step()
    with torch.no_grad():
        noise = torch.randn(n, 2, *shape, generator=generator)
        drawn = (made.sample(noise, empty, known, layers)[0] > 0).float()
    together = (drawn[:, :, 0::2] == drawn[:, :, 1::2]).float().mean()
    apart = (drawn[:, :, 1] == drawn[:, :, 2]).float().mean()
    assert float(together) > 0.95
    assert 0.4 < float(apart) < 0.6


def test_ranks_come_back_as_energies() -> None:
    model = fitted(FlowVAE, SHOWERS)
    batch = batch_of(model, 60)
    layers = model.layers.sum(batch.energies)
    _, quantiles = model._tables(layers)
    energies = batch.energies / model.threshold
    back = model.table.energies(model.table.ranks(energies, quantiles), quantiles)
    inside = (energies > 0) & (energies < energies.max() / 2)  # beyond the quantiles nothing is known
    ratio = (back / energies)[inside]
    assert float(((ratio - 1).abs() < 1e-3).float().mean()) > 0.95


def test_layers_without_energy_light_no_cells_that_others_could_see() -> None:
    model = moved_at_random(fitted(FlowVAE, SHOWERS))
    batch, generator = batch_of(model), torch.Generator().manual_seed(0)
    energies = model.layers.sum(batch.energies)
    energies[:, 3] = 0
    noise = torch.randn(20, 2, *SHOWERS.mesh.shape, generator=generator)
    z = torch.randn(20, model.settings.latent, generator=generator)
    with torch.no_grad():
        context, layers = model._known(batch, energies)
        empty, _ = model._tables(energies)
        margin, _ = model.decoder.sample(noise, empty, torch.cat([z, context], dim=1), layers)
    lit = (margin > 0).sum(dim=(0, 2, 3))
    assert lit[3] == 0
    assert lit[:3].sum() > 0


def test_the_latents_cost_rises_in_training_and_is_whole_in_validation() -> None:
    model = moved_at_random(fitted(FlowVAE, SHOWERS))
    assert isinstance(model, FlowVAE)
    batch, losses = batch_of(model), {}
    for training, progress in ((True, 0.0), (True, 0.5), (False, 0.0)):
        model.train(training)
        model.progress.fill_(progress)
        losses[training, progress] = model.losses(batch, "shape", torch.Generator().manual_seed(0))
    for key, weight in (((True, 0.0), 0.0), ((True, 0.5), 1.0), ((False, 0.0), 1.0)):
        of = losses[key]
        torch.testing.assert_close(of["loss"], of["cells"] + weight * of["latent"])


# --- published sizes


@pytest.mark.parametrize(
    ("recipe", "sizes"),
    [
        ("bib-ae", {"generator": 71e6}),
        ("wgan-ild", {"generator": 3.7e6, "critic": 0.25e6, "constrainer": 0.22e6}),
    ],
)
def test_recipes_have_the_published_sizes(recipe: str, sizes: dict[str, float]) -> None:
    read = Recipe.load(recipe)
    mesh = BoxMesh.regular((30, 30, 30), (3.0, 5.0, 5.0))
    model = load_trainable_class(read.model)(mesh, read.settings)
    parts = {name: sum(p.numel() for p in group) for name, group in model.parts().items()}
    for name, size in sizes.items():
        assert parts[name] == pytest.approx(size, rel=0.03), name
    assert set(read.training.parts) <= set(parts)


def test_the_example_of_geant4_has_its_layers() -> None:
    model = DenseVAE(CylinderMesh.regular(n_z=45, n_phi=18, n_r=50), Recipe.load("par04-vae").settings)
    layers = [m.weight.shape for m in model.modules() if isinstance(m, torch.nn.Linear)]
    into = [40504, 100, 50, 20, 14]
    assert [shape[1] for shape in layers[: len(into)]] == into
    assert [shape[0] for shape in layers[len(into) :]] == [14, 20, 50, 100, 40500]


# --- DenseVAE


def test_the_vae_of_par04_begins_at_mean_shares() -> None:
    model = fitted(DenseVAE, SHOWERS)
    cells = np.asarray(SHOWERS.energies, dtype=np.float64).reshape(len(SHOWERS), -1)
    shares = (cells / SHOWERS.conditions.energy[:, None]).mean(axis=0)
    last = model.decoder[-1]
    assert isinstance(last, torch.nn.Linear)
    np.testing.assert_allclose(last.bias.detach().sigmoid(), np.maximum(shares, 1e-7), rtol=1e-4)


def test_what_the_example_is_told() -> None:
    model = fitted(DenseVAE, SHOWERS)
    batch = batch_of(model, 4)
    batch.detector = torch.tensor([0, 1, 0, -1])
    context = model.context(batch)
    torch.testing.assert_close(context[:, 0], batch.energy / SHOWERS.conditions.energy.max())
    torch.testing.assert_close(context[:, 1], torch.rad2deg(batch.theta) / 90)
    assert context[:, 2:].tolist() == [[1, 0], [0, 1], [1, 0], [1, 0]]
    with pytest.raises(RecipeError, match=r"3 detectors \(a, b, c\) but settings.slots is 2"):
        model.know(("a", "b", "c"), {})


# --- BIB-AE


def test_latents_are_drawn_as_showers_are_encoded() -> None:
    model = fitted(BIBAE, SHOWERS)
    with torch.no_grad():
        last = model.generator.encoder.dense[-1]
        assert isinstance(last, torch.nn.Linear)
        last.weight.mul_(0.1)
        last.bias.copy_(torch.tensor([3.0, -2.0, 0.0, -2.0, -2.0, -2.0]))  # means and log std of 3 latents
    batch, generator = batch_of(model, 100), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.prior.parameters(), lr=1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        model.losses(batch, "prior", generator)["loss"].backward()
        optimiser.step()
    with torch.no_grad():
        z = model.prior.sample(torch.randn(100, 3, generator=generator), model.context(batch))
    torch.testing.assert_close(z.mean(dim=0), torch.tensor([3.0, -2.0, 0.0]), atol=0.2, rtol=0)
    assert float(z.std(dim=0).max()) < 0.5


def test_the_spectrum_counts_after_a_while() -> None:
    model = fitted(BIBAE, SHOWERS).train()
    batch = batch_of(model)
    for progress, weight in ((0.0, 0.0), (0.5, model.settings.post_weight)):
        model.progress.fill_(progress)
        of = model.losses(batch, "post", torch.Generator().manual_seed(0))
        torch.testing.assert_close(of["loss"], of["moved"] + weight * of["spectrum"])


def test_a_part_teaches_itself_alone() -> None:
    model = moved_at_random(fitted(BIBAE, SHOWERS)).train()
    for part, own in model.parts().items():
        model.zero_grad()
        model.losses(batch_of(model), part, torch.Generator().manual_seed(0))["loss"].backward()
        moved = {id(p) for p in model.parameters() if p.grad is not None and p.grad.any()}
        others = {name for name, group in model.parts().items() if any(id(p) in moved for p in group)}
        assert {id(p) for p in own} <= moved
        # encoder and decoder learn from what critics say; nobody else learns from others
        assert others == ({part, "critic", "latent_critic"} if part == "generator" else {part})


def test_energies_of_layers_are_its_own() -> None:
    with pytest.raises(
        RecipeError, match=r"makes the energies of layers itself; leave settings.energies out"
    ):
        BIBAE(SHOWERS.mesh, {**BIBAE.example, "energies": {"kind": "inductive"}})


# --- WGAN


def test_the_constraint_is_how_much_worse_generated_energies_are_estimated() -> None:
    model = moved_at_random(fitted(VolumeGAN, SHOWERS)).eval()
    assert isinstance(model, VolumeGAN)
    batch = batch_of(model)
    real = batch.energies.flatten(1)

    def constraint(energies: Tensor) -> float:
        return float(model.guidance(energies, batch, torch.Generator())["constraint"].detach())

    assert constraint(real) == 0
    most = float(SHOWERS.conditions.energy.max())
    estimates = [model._estimate(x).detach() * most / 1000 for x in (0.5 * real, real)]
    off = [(estimate - batch.energy / 1000) ** 2 for estimate in estimates]
    assert constraint(0.5 * real) == pytest.approx(0.01 * float((off[0] - off[1]).abs().mean()), rel=1e-3)
