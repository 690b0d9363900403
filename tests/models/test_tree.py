"""Showers as trees of splits: halvings, the density of a split, what splits know as they are made."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from caloforge.data import Conditions
from caloforge.detector import BoxMesh, CylinderMesh
from caloforge.detector.mesh import RegularMesh
from caloforge.models.base import ConditionTensors
from caloforge.models.tree.forms import UNIT
from caloforge.models.tree.halvings import Halving, halvings
from caloforge.models.tree.level import HalvingModel
from caloforge.models.tree.line import SplitsToLine
from caloforge.models.tree.model import ShowerTree
from caloforge.models.tree.split import LEAST_SCALE, draw, log_likelihood, logistic, n_outputs
from caloforge.models.tree.stages import StageLoop

MESHES: list[RegularMesh] = [
    CylinderMesh.regular(n_z=45, n_phi=16, n_r=9),
    CylinderMesh.regular(n_z=6, n_phi=5, n_r=3),
    CylinderMesh.regular(n_z=1, n_phi=1, n_r=2),
    BoxMesh.regular((9, 4, 7), (3.0, 5.0, 5.0)),
]
THRESHOLD = torch.tensor(0.5)
COMPONENTS = 3


@pytest.fixture(params=MESHES, ids=str)
def mesh(request: pytest.FixtureRequest) -> RegularMesh:
    """Each mesh in turn."""
    mesh: RegularMesh = request.param
    return mesh


def test_halvings_lead_from_one_cell_to_the_voxels(mesh: RegularMesh) -> None:
    steps = halvings(mesh)
    assert steps[0].shape == (1, 1, 1)
    assert steps[-1].child_shape == mesh.shape
    assert all(before.child_shape == after.shape for before, after in pairwise(steps))
    axes = [step.axis for step in steps]
    assert axes == sorted(axes, key=bool)  # layers first


def test_every_child_has_one_parent_where_it_lies(mesh: RegularMesh) -> None:
    for step in halvings(mesh):
        children = np.concatenate([step.left[:-1], step.right[:-1], step.whole_child])
        assert sorted(children) == list(range(step.n_children))
        parents = np.concatenate([step.cells, step.cells, step.whole])
        ours, theirs = np.unravel_index(parents, step.shape), np.unravel_index(children, step.child_shape)
        for axis, (parent, child) in enumerate(zip(ours, theirs, strict=True)):
            assert (parent == (child // 2 if axis == step.axis else child)).all()


def test_a_split_knows_no_child_of_its_own_or_of_a_later_pass(mesh: RegularMesh) -> None:
    for step in halvings(mesh):
        first = step.sources.parts["children"].begin
        passes = np.repeat(np.arange(step.n_passes), step.pass_sizes)
        split_in = np.full(step.n_children, -1)  # those of parents with one child are known from the start
        split_in[step.left[:-1]], split_in[step.right[:-1]] = passes, passes
        for own, known in zip(passes, step.table[:-1], strict=True):
            children = known[(known >= first) & (known < first + step.n_children)] - first
            assert (split_in[children] < own).all()


def test_layers_are_taken_in_dyadic_order() -> None:
    stages = halvings(MESHES[0])[-1].layer_stages
    order = [np.flatnonzero(stages == s).tolist() for s in range(stages.max() + 1)]
    assert order[:4] == [[16], [0, 32], [8, 24, 40], [4, 12, 20, 28, 36, 44]]
    assert order[-1] == list(range(1, 45, 2))


def networks_word(n: int, scale: float = 1.0) -> Tensor:
    """What a network might say of n splits, all the same."""
    word = scale * torch.randn(1, n_outputs(COMPONENTS), generator=torch.Generator().manual_seed(4))
    return word.repeat(n, 1)


@pytest.mark.parametrize("energy", [0.7, 1.1, 3.0, 400.0])
def test_probabilities_of_a_split_add_up_to_one(energy: float) -> None:
    e, n = torch.tensor(energy, dtype=torch.float64), 20001
    t, word = THRESHOLD.double(), networks_word(n).double()
    alone = sum(
        float(log_likelihood(word[:1], e[None], x[None], e[None] - x[None], t).exp())
        for x in (e, torch.zeros((), dtype=torch.float64))
    )
    if energy < 2 * float(t):
        assert alone == pytest.approx(1, abs=1e-6)
        return
    y = torch.linspace(-9.2, 9.2, n, dtype=torch.float64)
    width = ((e - t) / t).log()
    left = e * torch.sigmoid((2 * torch.sigmoid(y) - 1) * width)
    density = log_likelihood(word, e.expand(n), left, e - left, t).exp()
    assert alone + float(torch.trapezoid(density, y)) == pytest.approx(1, abs=1e-3)


def test_drawn_splits_have_the_density() -> None:
    n, energy = 40_000, torch.tensor(6.0)
    z = torch.randn(2, n, generator=torch.Generator().manual_seed(1))
    word = networks_word(n)
    left, right = draw(word, energy.expand(n), torch.special.ndtr(z[0]), logistic(z[1]), THRESHOLD)
    torch.testing.assert_close(left + right, energy.expand(n))
    both = (left > 0) & (right > 0)
    expected = torch.softmax(word[0, :3], dim=0)
    for seen, p in zip(((right == 0), (left == 0), both), expected, strict=True):
        assert float(seen.float().mean()) == pytest.approx(float(p), abs=4 * float((p * (1 - p) / n).sqrt()))
    assert float(left[both].min()) >= float(THRESHOLD)
    assert float(right[both].min()) >= float(THRESHOLD)
    width = ((energy - THRESHOLD) / THRESHOLD).log()
    y = torch.logit(((left[both] / right[both]).log() / width + 1) / 2)
    weights, places, scales = (x.numpy() for x in word[0, 3:].double().chunk(3))
    weights = np.exp(weights) / np.exp(weights).sum()
    scales = 0.5 * np.log1p(np.exp(scales)) + LEAST_SCALE

    def cumulative(x: np.ndarray) -> np.ndarray:
        return sum(
            w * stats.logistic.cdf(x, place, scale)
            for w, place, scale in zip(weights, places, scales, strict=True)
        )

    assert stats.kstest(y.numpy(), cumulative).pvalue > 1e-3


def small_model(step: Halving) -> HalvingModel:
    """A model of a halving with random weights."""
    torch.manual_seed(1)
    return HalvingModel(step, 2, width=8, depth=1, components=COMPONENTS, chunk=16).eval()


def sampled(mesh: RegularMesh) -> Iterator[tuple[HalvingModel, Tensor, Tensor]]:
    """Each halving of a mesh with parents, the children of those before, and the noise for them."""
    grid = torch.tensor([[900.0], [60.0], [0.0], [5.0]])
    for step in halvings(mesh):
        model = small_model(step)
        noise = torch.randn(len(grid), model.n_splits, 2, generator=torch.Generator().manual_seed(2))
        yield model, grid, noise
        with torch.no_grad():
            grid = model.sample(grid, torch.ones(len(grid), 2), noise, THRESHOLD)


def test_a_split_knows_in_generation_what_it_knows_in_training(
    mesh: RegularMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[tuple[int, int], Tensor] = {}
    gathered = HalvingModel._gathered

    def noted(model: HalvingModel, known: Tensor, shower: Tensor, place: Tensor) -> Tensor:
        found = gathered(model, known, shower, place)
        seen.update(zip(zip(shower.tolist(), place.tolist(), strict=True), found, strict=True))
        return found

    monkeypatch.setattr(HalvingModel, "_gathered", noted)
    monkeypatch.setattr(HalvingModel, "compiled", False)
    for model, parents, noise in sampled(mesh):
        context = torch.ones(len(parents), 2)
        with torch.no_grad():
            seen.clear()
            children = model.sample(parents, context, noise, THRESHOLD)
            generated = {key: known for key, known in seen.items() if key[1] < model.n_splits}
            seen.clear()
            model.log_likelihood(parents, children, context, THRESHOLD)
        assert generated.keys() == seen.keys()
        for key, known in seen.items():
            torch.testing.assert_close(generated[key], known, rtol=1e-5, atol=1e-6)


def test_a_loop_over_stages_gives_the_same_children(
    mesh: RegularMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As exported graphs hold it."""
    monkeypatch.setattr(HalvingModel, "compiled", False)
    unit = UNIT * THRESHOLD
    for model, parents, noise in sampled(mesh):
        context = torch.ones(len(parents), 2)
        numbers = torch.stack([torch.special.ndtr(-noise[..., 0]), logistic(noise[..., 1])], dim=2)
        with torch.no_grad():
            children = model.sample(parents, context, noise, THRESHOLD)
            looped = StageLoop(model)(parents / unit, context, numbers) * unit
        close = ((looped - children).abs() <= 1e-4 * children).all(dim=1)
        assert close.sum() >= len(parents) - 1  # rounding may cut a cell at the threshold
        torch.testing.assert_close(looped.sum(dim=1), parents.sum(dim=1))


def test_energies_are_kept_and_never_below_the_threshold(mesh: RegularMesh) -> None:
    for model, parents, noise in sampled(mesh):
        with torch.no_grad():
            children = model.sample(parents, torch.ones(len(parents), 2), noise, THRESHOLD)
        torch.testing.assert_close(children.sum(dim=1), parents.sum(dim=1))
        lit = children[children > 0]
        assert float(lit.min()) >= float(THRESHOLD)


def test_splits_know_how_all_cells_across_lean_in_the_layers_before(mesh: RegularMesh) -> None:
    for step in (step for step in halvings(mesh) if "leans" in step.sources.parts):
        model, across = small_model(step), 3 - step.axis
        generator = torch.Generator().manual_seed(3)
        children = torch.rand(2, step.n_children, generator=generator)
        known = model._known(torch.ones(2, step.n_parents), children, torch.ones(2, 2), THRESHOLD)
        part = step.sources.parts["leans"]
        told = (model.table >= part.begin) & (model.table < part.begin + part.size)
        assert (told.sum(dim=1) == 1)[:-1].all()
        grid = children.view(2, *step.child_shape)
        for place, parent in enumerate(step.cells):
            z, *cell = np.unravel_index(parent, step.shape)
            earlier = torch.from_numpy(step.layer_stages < step.layer_stages[z])
            summed = grid[:, earlier].sum(dim=(1, across + 1))
            left, right = summed[:, 2 * int(cell[step.axis - 1])], summed[:, 2 * int(cell[step.axis - 1]) + 1]
            lean = (left - right) / (left + right).clamp_min(1e-9)
            torch.testing.assert_close(known[:, model.table[place][told[place]]][:, 0], lean)


def test_networks_see_what_splits_know_in_units_of_its_spread(mesh: RegularMesh) -> None:
    for model, parents, noise in sampled(mesh):
        parents, noise = parents.repeat(30, 1), torch.randn(len(parents) * 30, *noise.shape[1:])
        context = torch.randn(len(parents), 2)
        with torch.no_grad():
            children = model.sample(parents, context, noise, THRESHOLD)
            before = model.log_likelihood(parents, children, context, THRESHOLD)
            model.begin_fit()
            for some in torch.arange(len(parents)).split(50):
                model.fit_batch(parents[some], children[some], context[some], THRESHOLD)
            model.end_fit()
            assert not torch.isclose(before, model.log_likelihood(parents, children, context, THRESHOLD))
        shower, place, sizes, _ = model._taken(parents)
        assert float(model.lit) == pytest.approx(max(len(place) / len(parents), 1))
        known = model._gathered(model._known(parents, children, context, THRESHOLD), shower, place)
        first, network = torch.split(known, sizes), model.network
        for stage, (numbers, placed) in enumerate(zip(first, torch.split(place, sizes), strict=True)):
            if len(numbers) < 2:
                continue
            seen = (numbers - network.mean[stage]) / network.std[stage]
            torch.testing.assert_close(seen.mean(dim=0), torch.zeros(seen.shape[1]), atol=1e-3, rtol=0)
            spread = seen.std(dim=0, correction=0)
            assert ((spread - 1).abs() < 1e-3)[numbers.std(dim=0) > 1e-3].all()
            h = seen @ network.enter[stage].T + network.place(network.places)[placed]
            folded = numbers @ network.entered()[stage].T + network.placed()[placed]
            torch.testing.assert_close(folded, h, atol=1e-3, rtol=1e-3)


def test_splits_know_how_far_they_lie_from_the_particles_line() -> None:
    """Where a split divides along its own axis, and its middle along the other one, in its layer."""
    mesh = BoxMesh.regular((2, 7, 6), (30.0, 5.0, 5.0), frame="detector")
    points = torch.tensor([[[1.0, -2.0], [4.0, 3.0]], [[0.0, 7.0], [-6.0, 0.0]]])  # (n, Z, 2)
    edges = {1: np.array(mesh.y_edges), 2: np.array(mesh.x_edges)}
    for step in (step for step in halvings(mesh) if step.axis):
        line = SplitsToLine(mesh, step)
        numbers = line(points)
        assert numbers.shape == (2, line.size)
        for place, parent in enumerate(step.cells):
            z, *cell = np.unravel_index(parent, step.shape)
            children = np.array([side[place] for side in (step.left, step.right)])
            for axis in (1, 2):
                # edges of the voxels that the children cover
                child = np.unravel_index(children, step.child_shape)[axis]
                width = -(-mesh.shape[axis] // step.child_shape[axis])
                width = 1 << (width - 1).bit_length()
                last = mesh.shape[axis]
                low, high = edges[axis][child * width], edges[axis][np.minimum((child + 1) * width, last)]
                where = high[0] if axis == step.axis else (low[0] + high[0]) / 2
                distance = (where - points[:, int(z), 2 - axis]) / 5.0
                near = numbers[:, line.index[place]][:, [axis - 1, axis + 1]]
                torch.testing.assert_close(near[:, 0], 0.3 * torch.asinh(distance))
                torch.testing.assert_close(near[:, 1], torch.tanh(distance))
            assert len(cell) == 2


def test_showers_in_a_fixed_detector_hang_on_where_the_particle_enters() -> None:
    conditions = Conditions([1e4, 1e4], theta=0.2, phi=1.0, impact=[[0.0, 0.0], [3.0, 0.0]])
    for frame in ("detector", "shower"):
        torch.manual_seed(0)
        tree = ShowerTree(BoxMesh.regular((1, 8, 8), (50.0, 5.0, 5.0), frame=frame), ShowerTree.example)  # type: ignore[arg-type]
        tree.incident.std[4] = 1e9  # only the line tells
        noise = {name: z[:1].expand(2, *z.shape[1:]) for name, z in tree.eval().noise(2).items()}
        with torch.no_grad():
            first, second = tree.decode(noise, ConditionTensors.of(conditions))
        assert torch.equal(first, second) == (frame == "shower")
