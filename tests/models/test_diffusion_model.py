"""Laws of the diffusion model: its transformer, its coordinates, its showers."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from caloforge.data import Conditions, Showers
from caloforge.detector import BoxMesh, CylinderMesh
from caloforge.detector.detector import Detector
from caloforge.errors import CheckpointError, DataError, MeshError, RecipeError
from caloforge.models.base import Batch, ConditionTensors
from caloforge.models.conditions.detector import DetectorContext, detector_properties
from caloforge.models.coordinates.diffusion.quantiles import ConditionalQuantiles
from caloforge.models.diffusion.backbones import LevelEmbedding
from caloforge.models.diffusion.backbones.transformer import Transformer, TransformerSettings
from caloforge.models.diffusion.model import DiffusionModel

CYLINDER = CylinderMesh.regular(n_z=4, n_phi=8, n_r=3)
BOX = BoxMesh.regular((4, 4, 6), (3.0, 5.0, 5.0))
PATCHES = {"kind": "transformer", "patch": (2, 1, 3), "width": 16, "depth": 2, "heads": 2, "phi": "relative"}
ENERGIES = {"kind": "inductive", "hidden": 8, "depth": 1, "bins": 4}
COMMON: dict[str, Any] = {
    "backbone": PATCHES,
    "energies": ENERGIES,
    "process": {"kind": "trig"},
    "bf16": False,
    "sampler": {"kind": "midpoint", "steps": 3},
    "coordinates": {"kind": "marginals", "nodes": 3, "quantiles": 9},
}
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ranks": (CYLINDER, COMMON),
    "box": (BOX, COMMON | {"backbone": PATCHES | {"patch": (1, 2, 3), "phi": "absolute"}}),
    "shares": (
        CYLINDER,
        COMMON | {"coordinates": {"kind": "logit"}, "process": {"kind": "flow"}, "spectrum": False},
    ),
    "all-at-once": (
        CYLINDER,
        COMMON
        | {"coordinates": {"kind": "log"}, "energies": None, "spectrum": False, "process": {"kind": "edm"}},
    ),
    "ancestral": (
        CYLINDER,
        COMMON
        | {"coordinates": {"kind": "logit", "of": "incident"}, "energies": None, "spectrum": False}
        | {"process": {"kind": "ddpm"}, "sampler": {"kind": "ddpm", "steps": 4}},
    ),
}


def random_parameters(module: torch.nn.Module, scale: float = 0.1) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


def showers_on(mesh: Any, n: int = 200, seed: int = 0, detector: str = "toy") -> Showers:
    rng = np.random.default_rng(seed)
    energy = np.exp(rng.uniform(np.log(1000), np.log(10000), n))
    shares = rng.gamma(0.5, size=(n, mesh.n_voxels))
    energies = energy[:, None] * 0.9 * shares / shares.sum(axis=1, keepdims=True)
    energies[energies < 15] = 0
    conditions = Conditions(energy, particle="e-", detector=detector)
    return Showers(energies.reshape(n, *mesh.shape), conditions, mesh)


def trained(name: str, **settings: Any) -> tuple[DiffusionModel, Showers]:
    """A fitted model with random weights, and the showers that it was fitted on."""
    mesh, default = MODELS[name]
    torch.manual_seed(0)
    model, showers = DiffusionModel(mesh, default | settings), showers_on(mesh)
    model.detectors = ("toy",)
    model.fit(showers)
    random_parameters(model)
    return model.eval(), showers


def batch_of(model: DiffusionModel, showers: Showers, n: int) -> Batch:
    return Batch.with_energies(showers.energies[:n], showers.conditions[:n], model.detectors)


def decode(model: DiffusionModel, noise: dict[str, Tensor], conditions: ConditionTensors) -> Tensor:
    with torch.no_grad():
        return model.decode(noise, conditions)


@pytest.mark.parametrize("name", MODELS)
def test_decoded_showers_are_legal_and_depend_on_their_own_noise_alone(name: str) -> None:
    model, showers = trained(name)
    batch = batch_of(model, showers, 12)
    noise = model.noise(12, torch.Generator().manual_seed(5))
    energies = decode(model, noise, batch)
    assert energies.shape == batch.energies.shape
    assert energies.dtype == torch.float32
    assert torch.isfinite(energies).all()
    assert (energies >= 0).all()
    least = float(model.thresholds[0]) * (1 - 1e-4)
    if model.energy_flow is None:
        assert not ((energies > 0) & (energies < least)).any()
    other = {key: value.clone() for key, value in noise.items()}
    for value in other.values():
        value[3] += 1.0
    changed = (decode(model, other, batch) != energies).flatten(1).any(dim=1)
    assert changed.nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("name", ["ranks", "box", "shares"])
def test_layers_have_exactly_the_energies_that_were_drawn_or_given(name: str) -> None:
    model, showers = trained(name)
    batch = batch_of(model, showers, 12)
    noise = model.noise(12, torch.Generator().manual_seed(5))
    with torch.no_grad():
        drawn = model.sampled_layer_energies(noise, batch)
    assert drawn is not None
    torch.testing.assert_close(decode(model, noise, batch).sum(dim=(2, 3)), drawn, rtol=1e-5, atol=1e-3)
    batch.layer_energies = batch.energies.sum(dim=(2, 3))
    made = decode(model, noise, batch).sum(dim=(2, 3))
    torch.testing.assert_close(made, batch.layer_energies, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_coordinates_come_back_as_the_same_showers(name: str) -> None:
    model, showers = trained(name)
    batch = batch_of(model, showers, 50)
    layers = None if model.energy_flow is None else batch.energies.sum(dim=(2, 3))
    x = model.to_coordinates(batch, torch.Generator().manual_seed(0))
    back = model.from_coordinates(x, batch, layers)
    assert ((back > 0) == (batch.energies > 0)).float().mean() > 0.999
    error = (back - batch.energies).abs() / batch.energies.clamp_min(15)
    assert float(error.median()) < 1e-4
    assert float(error.mean()) < 0.02


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_learns(name: str) -> None:
    model, showers = trained(name)
    for part, parameters in model.parts().items():
        generator = torch.Generator().manual_seed(3)
        loss = model.losses(batch_of(model, showers, 40), part, generator)["loss"]
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        assert all(g is not None and bool(g.abs().max() > 0) for g in gradients), part


def test_the_network_is_told_the_energy_the_direction_and_the_detector() -> None:
    """Guidance-free conditioning: another condition, another shower from the same noise."""
    mesh = CYLINDER
    torch.manual_seed(0)
    model = DiffusionModel(mesh, COMMON | {"slots": 3})
    model.detectors = ("toy", "par04-siw")
    rng = np.random.default_rng(0)
    parts = [showers_on(mesh, 100, seed, name) for seed, name in enumerate(model.detectors)]
    conditions = Conditions.concatenate([part.conditions for part in parts])
    tilted = Conditions(
        conditions.energy, rng.uniform(0.9, 2.2, 200), rng.uniform(0, 6.28, 200), "e-", conditions.detector
    )
    model.fit(Showers(np.concatenate([part.energies for part in parts]), tilted, mesh))
    random_parameters(model)
    model.eval()
    noise = {name: value.expand(5, *value.shape[1:]) for name, value in model.noise(1).items()}
    changed = Conditions(
        [5000.0, 6000.0, 5000.0, 5000.0, 5000.0],
        [1.5, 1.5, 1.0, 1.5, 1.5],
        [1.0, 1.0, 1.0, 2.0, 1.0],
        "e-",
        ["toy", "toy", "toy", "toy", "par04-siw"],
    )
    tensors = ConditionTensors.of(changed, model.detectors)
    tensors.layer_energies = torch.full((5, 4), 1000.0)
    energies = decode(model, dict(noise), tensors)
    for other in energies[1:]:
        assert float((other - energies[0]).abs().max()) > 1e-3


def test_a_network_that_knows_only_differences_of_phi_turns_with_its_input() -> None:
    torch.manual_seed(0)
    settings = TransformerSettings.model_validate(PATCHES | {"patch": (2, 2, 3)})
    network = Transformer(settings, CYLINDER, conditions=3, layers=2)
    random_parameters(network)
    x, layers, level = torch.randn(5, 4, 8, 3), torch.randn(5, 4, 2), torch.rand(5, 1)
    prepared = network.prepare(torch.randn(5, 3), layers)
    turned = network(x.roll(2, dims=2), level, prepared)
    torch.testing.assert_close(turned, network(x, level, prepared).roll(2, dims=2), rtol=1e-4, atol=1e-5)
    absolute = TransformerSettings.model_validate(PATCHES | {"patch": (2, 2, 3), "phi": "absolute"})
    network = Transformer(absolute, CYLINDER, conditions=3, layers=2)
    random_parameters(network)
    prepared = network.prepare(torch.randn(5, 3), layers)
    with torch.no_grad():
        moved = network(x.roll(2, dims=2), level, prepared) - network(x, level, prepared).roll(2, dims=2)
    assert float(moved.abs().max()) > 1e-3


def test_an_untrained_transformer_gives_independent_normal_cells() -> None:
    """Its gates are closed, so that the arc of a trigonometric process returns the noise."""
    model = DiffusionModel(CYLINDER, COMMON)
    model.detectors = ("toy",)
    showers = showers_on(CYLINDER)
    model.fit(showers)
    batch = batch_of(model, showers, 10)
    noise = model.noise(10, torch.Generator().manual_seed(1))
    layers = batch.layer_energies = batch.energies.sum(dim=(2, 3))
    expected = model.from_coordinates(noise["cells"], batch, layers)
    torch.testing.assert_close(decode(model, noise, batch), expected, rtol=1e-3, atol=1e-2)


def test_patches_are_put_back_where_they_were() -> None:
    settings = TransformerSettings.model_validate(PATCHES | {"patch": (2, 4, 1)})
    network = Transformer(settings, CYLINDER, conditions=3, layers=0)
    x = torch.randn(3, 4, 8, 3)
    assert torch.equal(network._join(network._cut(x)), x)


def test_later_levels_start_without_effect() -> None:
    torch.manual_seed(0)
    one, two = LevelEmbedding(8), LevelEmbedding(8, levels=2)
    two.load_state_dict(one.state_dict(), strict=False)
    level = torch.rand(6, 2)
    assert torch.equal(two(level), one(level[:, :1]))


def test_ranks_of_cells_are_standard_normal_and_come_back() -> None:
    """Cells whose spectrum changes with the layer's energy; the least are empty."""
    generator = torch.Generator().manual_seed(0)
    n = 6000
    layer = torch.exp(6 + torch.randn(n, 1, generator=generator))
    cells = layer[:, :, None, None] * torch.exp(-4 + 1.5 * torch.randn(n, 1, 4, 2, generator=generator))
    cells[..., 1] *= 0.2
    cells = torch.where(cells >= 1, cells, 0.0)
    sums = cells.sum(dim=(2, 3))
    table = ConditionalQuantiles(2, 1, 2, nodes=12, quantiles=33)
    table.fit(1, cells)
    slots = torch.ones(n, dtype=torch.int64)
    uniform = torch.rand(cells.shape, generator=generator)
    x = table(cells, sums, slots, uniform)
    assert abs(float(x.mean())) < 0.02
    assert abs(float(x.std()) - 1) < 0.02
    for quarter in sums[:, 0].argsort().chunk(4):  # at every energy of the layer, not on average
        assert abs(float(x[quarter].mean())) < 0.08
        assert abs(float(x[quarter].std()) - 1) < 0.05
        share = (x[quarter][..., 1] < -1).float().mean()
        assert abs(float(share) - 0.1587) < 0.02
    back = table.inverse(x, table.tables(sums, slots))
    assert torch.equal(back > 0, cells > 0)
    lit = cells > 0
    error = (back[lit] / cells[lit]).log().abs()
    assert float(error.quantile(0.99)) < 2e-3
    fresh = table.inverse(torch.randn(x.shape, generator=generator), table.tables(sums, slots))
    assert abs(float((fresh > 0).float().mean() / lit.float().mean()) - 1) < 0.02
    a, b = fresh[fresh > 0].log(), cells[lit].log()
    for q, error in (
        (0.1, 0.05),
        (0.5, 0.05),
        (0.9, 0.05),
        (0.99, 0.25),
    ):  # the last node is a mean of layers
        assert abs(float(a.quantile(q) - b.quantile(q))) < error


def test_layers_close_by_their_large_cells_and_not_by_a_common_factor() -> None:
    """What a layer's cells lack goes where most of its energy is, and the small cells stay what they are."""
    model, showers = trained("ranks")
    batch = batch_of(model, showers, 40)
    layers = batch.energies.sum(dim=(2, 3))
    x = model.to_coordinates(batch, torch.Generator().manual_seed(0))
    unit = float(model.thresholds[0])
    asked = 1.15 * layers / unit
    with torch.no_grad():
        slots = torch.zeros(40, dtype=torch.int64)
        made = model.coordinates.inverse(x, batch.energy / unit, asked, slots)
    excess = (made.sum(dim=(2, 3)) / asked).log().abs()
    assert float(excess.median()) < 0.03
    assert float(excess.quantile(0.95)) < 0.2


def test_few_showers_and_empty_layers_give_usable_tables() -> None:
    cells = torch.zeros(90, 3, 4, 2)
    cells[:, 0] = torch.rand(90, 4, 2) * 50 + 1
    cells[:7, 1, 0, 0] = 3.0
    table = ConditionalQuantiles(1, 3, 2, nodes=8, quantiles=17)
    table.fit(0, cells)
    assert all(bool(torch.isfinite(buffer).all()) for buffer in table.buffers())
    assert (table.nodes.diff(dim=-1) > 0).all()
    assert (table.quantiles.diff(dim=-1) > 0).all()
    sums, slots = cells.sum(dim=(2, 3)), torch.zeros(90, dtype=torch.int64)
    made = table.inverse(torch.randn(90, 3, 4, 2), table.tables(sums, slots))
    assert torch.isfinite(made).all()
    assert not made[:, 2].any()


def test_a_new_detector_takes_a_free_slot_and_leaves_the_others() -> None:
    torch.manual_seed(0)
    model = DiffusionModel(CYLINDER, COMMON | {"slots": 2})
    model.detectors, model.meshes = ("toy",), {"toy": CYLINDER}
    model.fit(showers_on(CYLINDER))
    random_parameters(model)
    model.eval()
    conditions = ConditionTensors.of(Conditions(np.full(6, 3000.0), detector="toy"), ("toy",))
    noise = model.noise(6, torch.Generator().manual_seed(2))
    before = decode(model, noise, conditions)
    wide = CylinderMesh.regular(n_z=4, n_phi=8, n_r=3, dz=7.0, dr=9.0)
    model.detectors, model.meshes = ("toy", "other"), {"toy": CYLINDER, "other": wide}
    model.adapt(showers_on(wide, seed=4, detector="other"))
    assert torch.equal(decode(model, noise, conditions), before)
    assert float(model.thresholds[1]) > 1
    assert not model.incident.is_free(1)
    model.detectors, model.meshes = ("toy", "other", "third"), model.meshes | {"third": wide}
    with pytest.raises(CheckpointError, match="room for 2 detectors"):
        model.adapt(showers_on(wide, detector="third"))


def test_properties_of_detectors_are_of_order_one_and_differ() -> None:
    numbers = [
        detector_properties(name, Detector.load(name).mesh)
        for name in ("par04-siw", "par04-scipb", "odd-ecal", "allegro-ecal")
    ]
    stacked = torch.stack(numbers)
    assert float(stacked.abs().max()) < 3
    for i in range(4):
        for j in range(i):
            assert float((stacked[i] - stacked[j]).abs().max()) > 0.02
    detector = Detector.load("par04-siw")
    assert math.isclose(float(numbers[0][0]), math.log(detector.radiation_length_mm / 5), abs_tol=1e-5)
    unknown = detector_properties("nobody's", CYLINDER)
    assert not unknown[:3].any()
    assert not unknown[-1]


def of_my_own(name: str, sampling_fraction: float) -> Detector:
    """A detector that is none of caloforge's, from a user's file."""
    return Detector.from_dict(
        Detector.load("par04-scipb").to_dict() | {"name": name, "sampling_fraction": sampling_fraction}
    )


def simulated(detector: Detector, seed: int = 0) -> Showers:
    """Showers with the provenance of a simulation, split and joined to others since."""
    showers = showers_on(CYLINDER, seed=seed, detector=detector.name)
    showers.provenance = {
        "action": "split",
        "settings": {"part": "train"},
        "source": {"action": "simulate", "settings": {"detector": detector.to_dict(), "seed": seed}},
    }
    return showers


def test_a_detector_of_ones_own_is_known_by_the_description_its_showers_carry(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mine, other = of_my_own("mine", 0.02), of_my_own("other", 0.04)
    model = DiffusionModel(CYLINDER, COMMON | {"slots": 3})
    model.detectors, model.meshes = ("mine",), {"mine": CYLINDER}
    model.fit(Showers.join([simulated(mine), simulated(mine, seed=1)]))
    mine_known = detector_properties("mine", CYLINDER, mine)
    assert mine_known[-1] == 1
    assert torch.equal(model.incident.properties[0], mine_known)
    model.detectors, model.meshes = ("mine", "other"), {"mine": CYLINDER, "other": CYLINDER}
    model.adapt(simulated(other))  # which do not describe the first
    assert torch.equal(model.incident.properties[0], mine_known)
    assert torch.equal(model.incident.properties[1], detector_properties("other", CYLINDER, other))
    assert not torch.equal(model.incident.properties[0], model.incident.properties[1])
    assert not caplog.messages
    model.detectors, model.meshes = (*model.detectors, "third"), model.meshes | {"third": CYLINDER}
    model.adapt(showers_on(CYLINDER, detector="third"))
    assert "nothing of the material of detector 'third'" in caplog.text


def test_one_name_for_two_detectors_is_an_error() -> None:
    showers = Showers.join([simulated(of_my_own("mine", 0.02)), simulated(of_my_own("mine", 0.04))])
    model = DiffusionModel(CYLINDER, COMMON)
    model.detectors, model.meshes = ("mine",), {"mine": CYLINDER}
    with pytest.raises(DataError, match="two detectors called 'mine'"):
        model.fit(showers)


def test_more_detectors_than_slots_is_an_error() -> None:
    context = DetectorContext(2)
    with pytest.raises(RecipeError, match=r"settings\.slots is 2"):
        context.set_detectors(["a", "b", "c"], dict.fromkeys("abc", CYLINDER), {})


def test_spectrum_map_is_fitted_for_what_the_network_makes() -> None:
    model, showers = trained("ranks")
    assert model.spectrum is not None
    model.calibrate(showers, torch.Generator().manual_seed(0))
    batch = batch_of(model, showers, 200)
    made = decode(model, model.noise(200, torch.Generator().manual_seed(1)), batch)
    ours, theirs = (e[e > 0].log() for e in (made, batch.energies))
    assert abs(float(ours.median() - theirs.median())) < 0.25


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"energies": None}, RecipeError, "no layer energies"),
        ({"backbone": PATCHES | {"patch": (3, 2, 3)}}, MeshError, "do not divide"),
        ({"backbone": PATCHES | {"width": 18, "heads": 6}}, RecipeError, "even multiple"),
    ],
)
def test_settings_that_cannot_be_are_explained(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        DiffusionModel(CYLINDER, COMMON | settings)


def test_showers_without_any_energy_are_an_error() -> None:
    model = DiffusionModel(CYLINDER, COMMON)
    model.detectors = ("toy",)
    empty = Showers(np.zeros((5, *CYLINDER.shape)), Conditions(np.full(5, 1e3), detector="toy"), CYLINDER)
    with pytest.raises(DataError, match="nothing to learn"):
        model.fit(empty)


def test_bf16_network_is_close_to_float32() -> None:
    model, showers = trained("ranks", bf16=False)
    quick, _ = trained("ranks", bf16=True)
    batch = batch_of(model, showers, 6)
    x, level = torch.randn(6, *CYLINDER.shape), torch.rand(6, 1)
    layers = batch.energies.sum(dim=(2, 3))
    with torch.no_grad():
        exact = model.network(model.prepare(batch, layers))(x, level)
        rough = quick.network(quick.prepare(batch, layers))(x, level)
    assert rough.dtype == torch.float32
    assert float((rough - exact).abs().max()) < 0.05 * float(exact.abs().max())
