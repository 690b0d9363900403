"""The compiled kernel of halvings against plain torch."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor

from caloforge.detector import BoxMesh, CylinderMesh
from caloforge.detector.mesh import RegularMesh
from caloforge.models.base import ConditionTensors
from caloforge.models.tree.kernel import HalvingKernel, _Packed, tree_library
from caloforge.models.tree.level import HalvingModel
from caloforge.models.tree.model import ShowerTree
from caloforge.runtime.compiled import multiplies_bf16

MESHES: list[RegularMesh] = [
    CylinderMesh.regular(n_z=45, n_phi=16, n_r=9),
    CylinderMesh.regular(n_z=6, n_phi=5, n_r=3),
    CylinderMesh.regular(n_z=1, n_phi=1, n_r=2),
    BoxMesh.regular((9, 4, 7), (3.0, 5.0, 5.0)),
]
FIXED = BoxMesh.regular((2, 7, 6), (30.0, 5.0, 5.0), frame="detector")
pytestmark = pytest.mark.skipif(tree_library(False) is None, reason="no C compiler")
needs_bf16 = pytest.mark.skipif(not multiplies_bf16(), reason="no AVX-512 BF16")
SIZES = [(12, 1, 3), (7, 0, 1), (33, 2, 12)]


def levels(model: ShowerTree) -> list[HalvingModel]:
    return [level for level in model.halvings if isinstance(level, HalvingModel)]


def make_tree(mesh: RegularMesh, width: int = 12, depth: int = 1, components: int = 3) -> ShowerTree:
    """A tree with random weights; most of its splits are shared where they can be."""
    torch.manual_seed(0)
    settings = {"width": width, "depth": depth, "components": components, "threshold_mev": 0.5}
    model = ShowerTree(mesh, settings).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
        for level in levels(model):
            level.network.head.weight.mul_(3)
            level.network.head.bias[2] += 3
            level.network.mean.normal_(0, 0.1, generator=generator)
            level.network.std.uniform_(0.5, 2, generator=generator)
    return model


def inputs(model: ShowerTree, n: int) -> tuple[dict[str, Tensor], ConditionTensors]:
    """Noise and conditions of n showers, the last of a particle that has hardly any energy."""
    noise = model.noise(n, torch.Generator().manual_seed(2))
    zeros = torch.zeros(n)
    energy = torch.logspace(3, 1.5, n)
    energy[-1] = 0.3
    return noise, ConditionTensors(energy, zeros, zeros, zeros.long(), zeros.long())


def some(noise: dict[str, Tensor], rows: slice) -> dict[str, Tensor]:
    return {name: z[rows] for name, z in noise.items()}


@torch.no_grad()
def decoded(
    model: ShowerTree, noise: dict[str, Tensor], conditions: ConditionTensors, kernels: str
) -> Tensor:
    return model.execute_on("cpu", kernels=kernels).decode(noise, conditions)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("mesh", [*MESHES, FIXED], ids=str)
def test_same_showers_as_plain_torch(mesh: RegularMesh, sizes: tuple[int, int, int]) -> None:
    """Rounding may cut a cell at the threshold and share its energy anew, now and then."""
    model = make_tree(mesh, *sizes)
    noise, conditions = inputs(model, 20)
    ours, plain = (decoded(model, noise, conditions, kernels) for kernels in ("compiled", "plain"))
    assert (ours > 0).sum() >= 15
    close = ((ours - plain).abs() <= 1e-4 * plain).flatten(1).all(dim=1)
    assert close.sum() >= 19
    torch.testing.assert_close(ours.sum(dim=(1, 2, 3)), plain.sum(dim=(1, 2, 3)), rtol=1e-5, atol=0)


@pytest.mark.parametrize("mesh", [*MESHES[1:], FIXED], ids=str)
def test_all_splits_at_once_are_those_with_energy(mesh: RegularMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on other devices, and in exported graphs."""
    model = make_tree(mesh)
    noise, conditions = inputs(model, 20)
    lit = decoded(model, noise, conditions, "plain")
    monkeypatch.setattr("caloforge.models.tree.level.all_rows", lambda _: True)
    every = decoded(model, noise, conditions, "plain")
    close = ((every - lit).abs() <= 1e-4 * lit).flatten(1).all(dim=1)
    assert close.sum() >= 19
    torch.testing.assert_close(every.sum(dim=(1, 2, 3)), lit.sum(dim=(1, 2, 3)), rtol=1e-5, atol=0)


@torch.no_grad()
def split(model: ShowerTree, totals: Tensor, noise: Tensor, bf16: bool) -> Tensor:
    """Showers of their whole energies (n,) and noise (n, all splits, 2)."""
    grid, context, used = totals[:, None], totals[:, None].log().expand(-1, 9), 0
    for level in levels(model):
        grid = level.sample(grid, context, noise[:, used : used + level.n_splits], model.threshold, bf16)
        used += level.n_splits
    return grid


@pytest.mark.parametrize("bf16", [False, pytest.param(True, marks=needs_bf16)])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_shower_does_not_depend_on_its_neighbours(
    bf16: bool, sizes: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone its splits are computed row by row, in company side by side; in threads or not."""
    model = make_tree(MESHES[0], *sizes)
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(40, sum(level.n_splits for level in levels(model)), 2, generator=generator)
    totals = torch.logspace(4, 0, 40)
    together = split(model, totals, noise, bf16)
    assert (together > 0).sum() > 500
    for rows in (slice(0, 1), slice(3, 5), slice(7, 40)):
        assert torch.equal(split(model, totals[rows], noise[rows], bf16), together[rows])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(split(model, totals, noise, bf16), together)
    assert torch.equal(split(model, totals, noise.mT.contiguous().mT, bf16), together)
    assert split(model, totals[:0], noise[:0], bf16).shape == (0, 6480)
    bad = totals.clone()
    bad[3] = torch.nan
    assert torch.equal(split(model, bad, noise, bf16)[4:], together[4:])


@needs_bf16
def test_bfloat16_differs_by_rounding() -> None:
    """Single splits, since a shower goes another way where one of them does."""
    model = make_tree(MESHES[0], 32, 2).execute_on("cpu", kernels="compiled")
    level = levels(model)[6]
    parents = torch.rand(50, level.halving.n_parents, generator=torch.Generator().manual_seed(3)) * 100
    noise = torch.randn(50, level.n_splits, 2, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        ours, exact = (
            level.sample(parents, torch.zeros(50, 9), noise, model.threshold, bf16) for bf16 in (True, False)
        )
    assert not torch.equal(ours, exact)
    assert float(((ours - exact).abs() < 0.05 * exact + 0.5).float().mean()) > 0.95


def test_no_change_of_the_parameters_is_missed() -> None:
    model = make_tree(MESHES[1])
    noise, conditions = inputs(model, 8)
    before = decoded(model, noise, conditions, "compiled")
    for parameter in model.halvings.parameters():
        with torch.no_grad():
            parameter.mul_(1.2)
        changed, plain = (decoded(model, noise, conditions, kernels) for kernels in ("compiled", "plain"))
        torch.testing.assert_close(changed, plain, rtol=1e-3, atol=1e-3)
    assert not torch.equal(changed, before)


def test_copies_have_their_own() -> None:
    model = make_tree(MESHES[1])
    noise, conditions = inputs(model, 8)
    before = decoded(model, noise, conditions, "compiled")
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(decoded(other, noise, conditions, "compiled"), before)


def test_plain_torch_where_the_kernel_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[bool] = []
    run = HalvingKernel.run

    def noted(self: HalvingKernel, *given: object) -> Tensor | None:
        made = run(self, *given)  # type: ignore[arg-type]
        ran.append(made is not None)
        return made

    monkeypatch.setattr(HalvingKernel, "run", noted)
    model = make_tree(MESHES[1])
    noise, conditions = inputs(model, 8)
    made = model.decode(noise, conditions)  # with gradients
    assert made.requires_grad
    assert not any(ran)
    with torch.no_grad():
        model.decode(noise, conditions)
        assert all(ran[len(ran) // 2 :])
        ran.clear()
        model.double().decode({k: z.double() for k, z in noise.items()}, conditions)
        assert not any(ran)
    model.float()
    decoded(model, noise, conditions, "plain")
    assert len(ran) == len(levels(model))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_failed_allocation_is_a_memory_error(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a crash: the kernel is told that more is known of a shower than any memory holds."""
    model = make_tree(MESHES[1])
    noise, conditions = inputs(model, 20)
    made = _Packed.__init__

    def enormous(self: _Packed, *given: object) -> None:
        made(self, *given)  # type: ignore[arg-type]
        self.described.known = 10**14

    monkeypatch.setattr(_Packed, "__init__", enormous)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    with pytest.raises(MemoryError, match="not enough memory for"):
        decoded(model, noise, conditions, "compiled")
