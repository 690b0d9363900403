"""Adversarial models beyond the laws of all models: what critics see, guidance, options, networks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from test_laws import MESH, MESHES, SHOWERS, fitted, moved_at_random, recipe_of, require_legal
from torch import Tensor, nn

from caloforge.data import Conditions, Showers
from caloforge.detector import BoxMesh
from caloforge.errors import CheckpointError, MeshError, RecipeError
from caloforge.generation import generate
from caloforge.models.adversarial.calogan import CaloGAN, MinibatchDiscrimination, Stream
from caloforge.models.adversarial.dense_gan import DenseGAN
from caloforge.models.adversarial.image_gan import GuidedImageGAN, ImageGAN, feature_distance
from caloforge.models.adversarial.model import AdversarialModel
from caloforge.models.adversarial.objectives import critic_loss, generator_loss, gradient_penalty
from caloforge.models.adversarial.regressor import ImageRegressor
from caloforge.models.base import Batch
from caloforge.models.conditions.trajectory import Trajectory
from caloforge.models.coordinates.powers import PowerEnergies
from caloforge.models.networks.locally_connected import LocallyConnected
from caloforge.models.networks.spectral import SpectralConv, SpectralLinear, SpectralNetwork, power_iteration
from caloforge.training import train
from caloforge.training.augmentations import drawn_move


def made(cls: type[AdversarialModel], **settings: Any) -> AdversarialModel:
    """A model fitted to the toy showers."""
    torch.manual_seed(0)
    model = cls(SHOWERS.mesh, {**cls.example, **settings})
    model.detectors = ("toy",)
    model.fit(SHOWERS)
    return model


def batch_of(model: AdversarialModel, n: int = 20) -> Batch:
    return Batch.with_energies(SHOWERS.energies[:n], SHOWERS.conditions[:n], model.detectors)


ENERGIES = {"kind": "autoregressive", "blocks": 1, "hidden": 8}


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (ImageGAN, {"objective": "hinge", "penalty": 0.0, "spectral": True}),
        (ImageGAN, {"objective": "plain", "energies": ENERGIES}),
        (ImageGAN, {"objective": "non-saturating", "conditional": False, "cell_noise": False}),
        (DenseGAN, {"head": "cells", "spectral": True, "energies": ENERGIES}),
        (DenseGAN, {"conditional": False, "ranges_mev": ()}),
        (CaloGAN, {"power": 1.0, "scaled_noise": True, "energies": ENERGIES}),
    ],
)
def test_options_keep_the_laws(cls: type[AdversarialModel], settings: dict[str, Any]) -> None:
    model = moved_at_random(made(cls, **settings)).train()
    assert isinstance(model, AdversarialModel)
    batch, generator = batch_of(model), torch.Generator()
    for part, parameters in model.parts().items():
        model.zero_grad()
        loss = model.losses(batch, part, generator.manual_seed(1))["loss"]
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters), part
        model.after_step(part)
    model.eval()
    noise = model.noise(len(batch), generator.manual_seed(2))
    layers = model.layers.sum(batch.energies)
    with torch.no_grad():
        for wanted in (None, layers):
            showers = model.decode(noise, replace(batch, layer_energies=wanted))
            require_legal(showers)
        torch.testing.assert_close(model.layers.sum(showers), layers, rtol=1e-4, atol=1e-2)
        if "energies" in model.parts():
            drawn = model.energy_flow.sample(  # type: ignore[union-attr]
                noise["energies"], batch.energy, model.incident(batch), model.threshold
            )
            torch.testing.assert_close(
                model.layers.sum(model.decode(noise, batch)), drawn, rtol=1e-4, atol=1e-2
            )


@pytest.mark.parametrize("cls", [ImageGAN, DenseGAN, CaloGAN])
def test_a_critic_sees_what_is_decoded_and_what_is_cut_has_a_gradient(cls: type[AdversarialModel]) -> None:
    model = made(cls)
    batch, generator = batch_of(model), torch.Generator().manual_seed(3)
    noise = model.noise(len(batch), generator)
    with torch.no_grad():
        proposed = model.proposed(noise, model.context(batch), batch)[0]
    model.threshold.copy_(proposed.median())
    seen = model.generated(noise, batch, generator)
    decoded = model.decode(noise, batch).flatten(1)
    torch.testing.assert_close(seen, decoded, rtol=1e-5, atol=1e-2)
    cut = decoded == 0
    assert 0.1 < cut.double().mean() < 1
    model.zero_grad()
    torch.where(cut, seen, 0.0).sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in model.generator.parameters())


def test_generated_showers_are_moved_as_real_ones_are() -> None:
    model = made(ImageGAN)
    batch, noise = batch_of(model), model.noise(20, torch.Generator().manual_seed(0))
    still = model.generated(noise, batch, torch.Generator().manual_seed(1))
    model.augmentation = lambda b, generator: drawn_move(b, ("rotate_phi",), generator)
    moved = model.generated(noise, batch, torch.Generator().manual_seed(1))
    assert not torch.equal(moved, still)
    ours, others = (x.view(-1, *MESH.shape).sum(dim=2) for x in (moved, still))
    torch.testing.assert_close(ours, others)  # turned around the axis
    model.eval()
    assert torch.equal(model.generated(noise, batch, torch.Generator().manual_seed(1)), still)


def test_training_tells_models_of_its_augmentation(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    real = ImageGAN.generated

    def watched(self: ImageGAN, *args: Any) -> Tensor:
        calls.append(self.augmentation is not None)
        return real(self, *args)

    monkeypatch.setattr(ImageGAN, "generated", watched)
    n, c = len(SHOWERS), SHOWERS.conditions
    upright = Showers(SHOWERS.energies, Conditions(c.energy, np.full(n, np.pi / 2), 0.0, "e-", "toy"), MESH)
    recipe = recipe_of(ImageGAN)
    recipe["training"] |= {"steps": 2, "augment": ["rotate_phi"]}
    train(recipe, upright, out=tmp_path / "a", progress=False)
    assert calls
    assert all(calls)


def test_an_unconditional_model_makes_the_same_whatever_it_is_asked_for() -> None:
    model = made(ImageGAN, conditional=False).eval()
    batch, noise = batch_of(model), model.noise(20, torch.Generator().manual_seed(0))
    other = replace(batch, energy=batch.energy.flip(0), theta=batch.theta.flip(0))
    with torch.no_grad():
        assert torch.equal(model.decode(noise, batch), model.decode(noise, other))


# --- guidance


def test_a_regressor_learns_makes_no_showers_and_guides_only_what_is_like_its_own(tmp_path: Any) -> None:
    recipe = recipe_of(ImageRegressor)
    recipe["training"] |= {"steps": 60, "learning_rate": 1e-2}
    regressor = train(recipe, SHOWERS, out=tmp_path / "regressor", progress=False)
    network = regressor.network()
    assert isinstance(network, ImageRegressor)
    batch = Batch.with_energies(SHOWERS.energies, SHOWERS.conditions, ("toy",))
    with torch.no_grad():
        assert float(network.losses(batch, "model", torch.Generator())["error of energy"]) < 0.7
    with pytest.raises(CheckpointError, match="ImageRegressor, which makes no showers"):
        generate(regressor, energy=1e4, theta=1.5, phi=1.0, n=2, progress=False)
    guided = recipe_of(GuidedImageGAN)
    with pytest.raises(RecipeError, match=r"learns from a trained ImageRegressor.*--teacher"):
        train(guided, SHOWERS, out=tmp_path / "a", progress=False)
    c = SHOWERS.conditions
    same = Conditions(c.energy, 1.5, 0.0, c.particle, c.detector)
    for conditions, words in (
        (same, "vary in energy, px, py, pz, those to train on vary in energy;"),
        (Conditions(100 * c.energy, c.theta, c.phi, c.particle, c.detector), "showers of another energy"),
    ):
        other = Showers(SHOWERS.energies, conditions, MESH)
        with pytest.raises(RecipeError, match=words):
            train(guided, other, out=tmp_path / "a", teacher=regressor, progress=False)
    assert not (tmp_path / "a" / "checkpoint.json").exists()
    with pytest.raises(RecipeError, match="guided by a trained ImageRegressor, got a ImageGAN"):
        GuidedImageGAN(MESH, GuidedImageGAN.example).use_teacher(fitted(ImageGAN, SHOWERS))


def test_guidance_is_least_for_features_distributed_as_the_real_ones() -> None:
    """Of a generator that turns noise into width s around the right mean: least at the right width."""
    generator = torch.Generator().manual_seed(0)
    real, first, second = torch.randn(3, 4000, 8, generator=generator)
    slopes = []
    for width in (0.5, 1.0, 2.0):
        s = torch.tensor(width, requires_grad=True)
        with torch.no_grad():
            other = s * second
        loss = feature_distance(s * first, real) - feature_distance(s * first, other)
        (slope,) = torch.autograd.grad(loss, s)
        slopes.append(float(slope))
    assert slopes[0] < -0.05
    assert abs(slopes[1]) < 0.02
    assert slopes[2] > 0.05


# --- pieces


@pytest.mark.parametrize("power", [0.0, 0.25, 1.0])
def test_powers_of_energies_come_back(power: float) -> None:
    cells = PowerEnergies(power, 2.0)
    energies = torch.tensor([0.0, 0.5, 3.0, 1e3, 1e5])
    cells.begin_fit(0.5)
    cells.fit_batch(energies)
    cells.end_fit()
    y = cells(energies)
    assert y[0] == 0
    assert float(y.square().sum() / 4) == pytest.approx(1)
    torch.testing.assert_close(cells.inverse(y), energies, rtol=1e-4, atol=1e-4)
    assert float(cells.inverse(torch.tensor(1e9))) < 1e8


def test_spectral_norms_become_one_and_looking_changes_nothing() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(SpectralLinear(6, 5), SpectralLinear(5, 3))
    x = torch.randn(4, 6)
    assert torch.equal(network(x), network(x))
    for _ in range(100):
        power_iteration(network)
    layer = network[0]
    with torch.no_grad():
        effective = layer(torch.eye(6)).T - layer(torch.zeros(1, 6)).T
    assert float(torch.linalg.matrix_norm(effective, 2)) == pytest.approx(1, rel=1e-3)
    assert SpectralConv(2, 3, 3, 2)(torch.randn(1, 2, 7, 7)).shape == (1, 3, 3, 3)


class _Dense(SpectralNetwork):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(SpectralLinear(9, 9), SpectralLinear(9, 9), SpectralLinear(9, 4))

    def forward(self, x: Tensor) -> Tensor:
        with self.normalised():
            out: Tensor = self.layers(x)
        return out


def test_spectral_norms_of_a_network_are_those_of_its_layers() -> None:
    torch.manual_seed(0)
    network, x = _Dense(), torch.randn(5, 9)
    alone = network.layers(x)
    torch.testing.assert_close(network(x), alone)
    weights = list(network.parameters())
    one, other = (torch.autograd.grad(out.square().sum(), weights) for out in (network(x), alone))
    torch.testing.assert_close(one, other)
    with torch.no_grad():
        assert torch.equal(network(x), network(x))
        network.layers[0].weight.mul_(3)
        torch.testing.assert_close(network(x), alone)
        power_iteration(network)
        assert not torch.equal(network(x), alone)
        torch.testing.assert_close(network(x), network.layers(x))


def test_spectral_norms_are_those_of_full_precision_in_autocast() -> None:
    torch.manual_seed(0)
    layer, x = SpectralLinear(40, 30, bias=False), torch.eye(40)
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = layer(x)
    assert torch.equal(rounded, expected.bfloat16())


def test_the_penalty_is_none_for_slopes_of_one() -> None:
    real, fake = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0))
    for length, penalty in ((1.0, 0.0), (3.0, 4.0)):
        direction = length * torch.tensor([0.6, 0.8, 0.0])
        with torch.no_grad():
            found = gradient_penalty(lambda x, d=direction: x @ d, real, fake, torch.Generator())
        assert float(found) == pytest.approx(penalty, abs=1e-5)


@pytest.mark.parametrize("objective", ["wasserstein", "hinge", "plain", "non-saturating"])
def test_objectives_pull_apart_and_together(objective: Any) -> None:
    low, high = torch.full((3,), -0.5), torch.full((3,), 0.5)
    assert critic_loss(objective, high, low) < critic_loss(objective, low, high)
    assert generator_loss(objective, high) < generator_loss(objective, low)


def locally(layer: LocallyConnected, x: Tensor, stride: tuple[int, int] = (1, 1)) -> Tensor:
    """What a `LocallyConnected` computes of (n, C, H, W), place by place."""
    x = nn.functional.pad(x, layer.beside[4:])
    rows, columns = layer.size
    (down, right), (high, wide) = stride, layer.kernel
    made = x.new_empty(len(x), layer.weight.shape[1], rows, columns)
    for i in range(rows):
        for j in range(columns):
            seen = x[:, :, i * down : i * down + high, j * right : j * right + wide]
            place = i * columns + j
            seen = seen.permute(0, 2, 3, 1).flatten(1)
            made[:, :, i, j] = seen @ layer.weight[place].T + layer.bias[place, :, 0]
    return made


@pytest.mark.parametrize(("stride", "same"), [((1, 1), True), ((1, 2), True), ((2, 2), False)])
def test_a_locally_connected_layer_is_what_each_place_computes(stride: tuple[int, int], same: bool) -> None:
    torch.manual_seed(0)
    layer = LocallyConnected(2, 3, (5, 7), (3, 2), stride=stride, same=same)
    nn.init.normal_(layer.bias)
    x = torch.randn(4, 2, 5, 7)
    made = layer(x.permute(2, 3, 1, 0)).permute(3, 2, 0, 1)
    torch.testing.assert_close(made, locally(layer, x, stride), rtol=1e-5, atol=1e-5)


def test_local_weights_that_are_all_alike_are_a_convolution() -> None:
    torch.manual_seed(0)
    for stride, same in (((1, 1), True), ((1, 2), False)):
        local = LocallyConnected(2, 3, (5, 6), (3, 3), stride=stride, same=same)
        weight = torch.randn(3, 2, 3, 3)
        with torch.no_grad():
            local.weight.copy_(weight.permute(0, 2, 3, 1).reshape(3, -1).expand_as(local.weight))
        x = torch.randn(4, 2, 5, 6)
        there = nn.functional.conv2d(x, weight, stride=stride, padding=1 if same else 0)
        made = local(x.permute(2, 3, 1, 0)).permute(3, 2, 0, 1)
        torch.testing.assert_close(made, there, rtol=1e-4, atol=1e-5)


def test_a_fast_stream_is_its_layers_one_after_the_other() -> None:
    """Dense layer and convolution in one, showers last; also after the weights have changed."""
    torch.manual_seed(0)
    stream = moved_at_random(Stream(7, (3, 5), (4, 3, 2)))
    x = torch.randn(6, 7)

    def plain() -> Tensor:
        y = stream.convolution(stream.dense(x).view(len(x), *stream.start))
        norm = stream.norm
        y = nn.functional.group_norm(nn.functional.leaky_relu(y, 0.3), 1, norm.weight[:, 0], norm.bias[:, 0])
        return locally(stream.last, nn.functional.leaky_relu(locally(stream.local, y), 0.3))

    with torch.no_grad():
        for _ in range(2):
            made = stream(x).permute(3, 2, 0, 1)
            torch.testing.assert_close(made, plain(), rtol=1e-4, atol=1e-5)
            stream.dense.weight.mul_(2)
    slopes = [torch.autograd.grad(y.square().sum(), stream.parameters()) for y in (stream(x), plain())]
    for ours, others in zip(*slopes, strict=True):
        torch.testing.assert_close(ours, others, rtol=1e-3, atol=1e-3)


def test_images_begin_at_the_mean_shower() -> None:
    """From elsewhere a generator is long on its way: in most cells there is nothing."""
    model = made(CaloGAN).eval()
    batch, noise = batch_of(model), model.noise(20, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter.zero_()
        seen = model.cells(model.proposed(noise, model.context(batch), batch)[0])
        real = model.cells(torch.from_numpy(SHOWERS.energies[:]).flatten(1))
    torch.testing.assert_close(seen, real.mean(dim=0).expand_as(seen), rtol=1e-3, atol=2e-3)


def test_dense_layers_in_bfloat16_make_nearly_the_same_showers() -> None:
    model = made(CaloGAN, bf16=False).eval()
    batch, noise = batch_of(model), model.noise(20, torch.Generator().manual_seed(0))
    showers = {}
    with torch.no_grad():
        for precision in ("float32", "bfloat16"):
            assert model.execute_on("cpu", precision).execution.precision == precision
            showers[precision] = model.decode(noise, batch)
    assert not torch.equal(showers["float32"], showers["bfloat16"])
    difference = (showers["float32"] - showers["bfloat16"]).norm() / showers["float32"].norm()
    assert float(difference) < 0.02


def test_showers_that_are_alike_are_told_to_the_critic() -> None:
    torch.manual_seed(0)
    layer = MinibatchDiscrimination(4, 3, 2)
    x = 50 * torch.randn(10, 4)
    with torch.no_grad():
        alike, different = layer(x[:1].expand(10, 4)), layer(x)
    torch.testing.assert_close(alike, torch.ones_like(alike))
    assert float(different.mean()) < 0.3


def test_the_line_of_the_particle_is_found() -> None:
    mesh = BoxMesh.regular((1, 20, 20), (100.0, 10.0, 10.0), frame="detector")
    rng, n, depth = np.random.default_rng(0), 500, 60.0
    theta, phi, impact = rng.uniform(0, 0.35, n), rng.uniform(0, 6, n), rng.uniform(-5, 5, (n, 2))
    conditions = Conditions(np.full(n, 1e4), theta, phi, "e-", "toy", impact)
    slope = np.tan(theta)[:, None] * np.stack([np.cos(phi), np.sin(phi)], axis=1)
    point = impact + depth * slope
    centres = mesh.centres()
    r2 = (centres["x"] - point[:, :1]) ** 2 + (centres["y"] - point[:, 1:]) ** 2
    energies = np.exp(-r2 / (2 * 15.0**2)).reshape(n, *mesh.shape)
    line = Trajectory(mesh)
    batch = Batch.with_energies(energies.astype(np.float32), conditions)
    line.begin_fit()
    line.fit_batch(batch)
    line.end_fit()
    assert float(line.depth) == pytest.approx(depth, rel=0.02)
    nearest = line(batch)[:, 2].flatten(1).argmin(dim=1)
    assert (nearest == batch.energies.flatten(1).argmax(dim=1)).double().mean() > 0.9


def test_ranges_of_energy_have_networks_of_their_own() -> None:
    model = made(DenseGAN, ranges_mev=(5e3,)).eval()
    batch, noise = batch_of(model), model.noise(20, torch.Generator().manual_seed(0))
    below = batch.energy < 5e3
    with torch.no_grad():
        before = model.decode(noise, batch)
        for parameter in model.generator.networks[1].parameters():
            parameter.add_(0.5)
        after = model.decode(noise, batch)
    same = (before == after).flatten(1).all(dim=1)
    assert torch.equal(same, below)
    with pytest.raises(ValueError, match="ranges_mev must be positive energies that increase"):
        DenseGAN(MESH, {"ranges_mev": (5e3, 1e3)})


def test_other_meshes_than_images_are_refused_by_a_regressor() -> None:

    with pytest.raises(MeshError, match="works on meshes of kind cylinder, box"):
        ImageRegressor(MESHES[2])


def test_an_image_has_the_energy_that_its_flow_draws(tmp_path: Any) -> None:
    mesh = BoxMesh.regular((1, 5, 6), (100.0, 20.0, 20.0), frame="detector")
    n, rng = 100, np.random.default_rng(0)
    cells = rng.gamma(0.5, size=(n, *mesh.shape)) + 0.01
    energy = np.exp(rng.uniform(7, 10, n))
    energies = 0.9 * energy[:, None, None, None] * cells / cells.sum(axis=(1, 2, 3), keepdims=True)
    conditions = Conditions(energy, rng.uniform(0, 0.3, n), rng.uniform(0, 6, n), "e-", "toy", (1.0, 2.0))
    recipe = recipe_of(ImageGAN)
    recipe["settings"]["energies"] = ENERGIES
    recipe["training"] |= {"steps": 100, "learning_rate": 1e-2}
    recipe["training"]["parts"] = {"critic": {"learning_rate": 1e-5}, "generator": {"learning_rate": 1e-5}}
    checkpoint = train(recipe, Showers(energies, conditions, mesh), out=tmp_path / "a", progress=False)
    made = generate(checkpoint, conditions=conditions, progress=False)
    response = made.energies.sum(axis=(1, 2, 3)) / energy
    assert response.mean() == pytest.approx(0.9, abs=0.05)
    assert response.std() < 0.1
