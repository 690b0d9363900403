"""Laws that every transform keeps, run over all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from caloforge.detector.mesh import BoxMesh, CylinderMesh, Mesh, RaggedCylinderMesh, RaggedLayer
from caloforge.errors import DataError, RecipeError
from caloforge.models.coordinates import (
    AddNoise,
    Chain,
    Context,
    DivideByEnergy,
    EnergyLogits,
    EnergyRatios,
    LayerClosure,
    Layers,
    LayerShares,
    Log,
    Logit,
    PadLayers,
    RunningMoments,
    Scale,
    Standardise,
    Threshold,
    Transform,
    chain_from_dict,
    fit_batches,
    transform_from_dict,
)

T = 0.0151515
MESHES: list[Mesh] = [
    CylinderMesh.regular(n_z=4, n_phi=3, n_r=2),
    BoxMesh.regular((4, 3, 2), (1.0, 2.0, 2.0)),
    RaggedCylinderMesh(
        (
            RaggedLayer(0, 1, (0, 1, 2)),
            RaggedLayer(1, 3, (0, 1, 2, 3)),
            RaggedLayer(2, 2, (0, 1, 2, 3, 4)),
            RaggedLayer(12, 5, (0, 1)),
        )
    ),
]
V, Z = 24, 4


@dataclass
class Case:
    """A transform, how far values may move in float32 relative to the largest, and its legal input."""

    build: Callable[[], Transform]
    kind: str = "voxels"
    moves: float = 2e-6


def layered(mesh: Mesh) -> dict[str, Case]:
    name = mesh.kind
    return {
        f"closure-{name}": Case(lambda: LayerClosure(mesh, T)),
        f"shares-{name}": Case(lambda: LayerShares(mesh, T)),
        f"pad-{name}": Case(lambda: PadLayers(mesh)),
        f"chain-{name}": Case(
            lambda: Chain([LayerClosure(mesh, T), Threshold(T, cut=False), Standardise((V,)), Scale(2, 1)]),
            moves=5e-5,
        ),
    }


CASES: dict[str, Case] = {
    "scale": Case(lambda: Scale(-2.5, 0.5)),
    "divide": Case(lambda: DivideByEnergy(1.5)),
    "log": Case(lambda: Log(1e-2), moves=1e-5),
    "logit": Case(lambda: Logit(1e-6), "fractions"),
    "standardise": Case(lambda: Standardise((V,)), "fractions"),
    "standardise-shared": Case(lambda: Standardise(), "fractions"),
    "standardise-groups": Case(lambda: Standardise((Z, 1, 1)), "grid"),
    "noise": Case(lambda: AddNoise(0.005, T), moves=2e-6),
    "threshold": Case(lambda: Threshold(T), moves=1e-5),
    "threshold-exponential": Case(lambda: Threshold(T, 2.0, "exponential"), moves=1e-5),
    "threshold-normal": Case(lambda: Threshold(T, 0.7, "normal"), moves=1e-5),
    "threshold-log-normal": Case(lambda: Threshold(T, 0.7, "log-normal"), moves=1e-5),
    "ratios": Case(lambda: EnergyRatios(2.0), "layers", moves=1e-5),
    "logits": Case(lambda: EnergyLogits(2.0), "layers", moves=5e-5),
    "layer-chain": Case(
        lambda: Chain([AddNoise(0.005, T), EnergyLogits(2.0), Standardise((Z,))]), "layers", moves=5e-5
    ),
    "ratio-chain": Case(
        lambda: Chain([AddNoise(0.005, T), EnergyRatios(2.0), Logit(), Standardise((Z,))]),
        "layers",
        moves=5e-5,
    ),
    **{name: case for mesh in MESHES for name, case in layered(mesh).items()},
}


def sizes_of(transform: Transform) -> Layers:
    for part in transform.modules():
        if isinstance(part, Layers):
            return part
    return Layers([6] * Z)


def make(
    case: Case, transform: Transform, seed: int, n: int = 20, zeros: float = 0.6, spread: float = 4.0
) -> tuple[Tensor, Context]:
    """Random legal input, float64: log-normal energies over many orders of magnitude, many zeros."""
    rng = torch.Generator().manual_seed(seed)
    # A chain's rounding in float32, about 10⁻⁵, may cut a cell that is as near as that to the threshold.
    least = T * (1 + 1e-4) if isinstance(transform, Chain) else T
    shape = {"grid": (Z, 3, 2), "layers": (Z,)}.get(case.kind, (V,))
    x = torch.exp(spread * torch.randn(n, *shape, generator=rng, dtype=torch.float64)).clamp(least, 1e6)
    dead = torch.rand(n, *shape, generator=rng) < zeros
    if case.kind in ("fractions", "grid"):
        return torch.where(dead, (x > 1).double(), x / (1 + x)), {}
    x = torch.where(dead, 0.0, x)
    layers = x if case.kind == "layers" else sizes_of(transform).sum(x)
    context: Context = {
        "energy": layers.sum(1).clamp(min=1.0),
        "layer_energies": layers,
        "noise": torch.rand(x.shape, generator=rng, dtype=torch.float64),
    }
    return x, context


def single(context: Context) -> Context:
    return Context(**{name: value.float() for name, value in context.items()})  # type: ignore[typeddict-item]


@cache
def fitted(name: str) -> Transform:
    case = CASES[name]
    transform = case.build()
    fit_batches(transform, lambda: [make(case, transform, i) for i in range(3)])
    return transform


def allowed(transform: Transform) -> float:
    return max([part.width / 2 for part in transform.modules() if isinstance(part, AddNoise)], default=0.0)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 0.95, 1.0]), st.sampled_from([0.1, 4.0, 12.0]))
@pytest.mark.parametrize("name", CASES)
def test_inverse_undoes_forward(name: str, seed: int, zeros: float, spread: float) -> None:
    case = CASES[name]
    transform = fitted(name)
    x, context = make(case, transform, seed, 5, zeros, spread)
    for dtype, factor in ((torch.float64, 1e-3), (torch.float32, 1.0)):
        values = x.to(dtype)
        given = context if dtype == torch.float64 else single(context)
        y, log_det = transform(values, given)
        assert y.dtype == log_det.dtype == dtype
        assert log_det.shape == (5,)
        assert torch.isfinite(y).all()
        assert torch.isfinite(log_det).all()
        back = transform.inverse(y, given)
        assert torch.isfinite(back).all()
        scale = values.flatten(1).amax(1).clamp(min=1.0).reshape(-1, *(1,) * (x.dim() - 1))
        miss = (back.reshape(values.shape) - values).abs() / scale - allowed(transform) / scale
        # logits of ratios stand for zero by ±bound: ratio 10⁻¹¹
        assert miss.max() <= max(case.moves * factor, 5e-10)
        if (
            any(isinstance(part, Threshold | AddNoise) for part in transform.modules())
            and case.kind != "layers"
        ):
            assert torch.equal(back > 0, values > 0)


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("pad")])
def test_log_determinant_is_autograds(name: str) -> None:
    case = CASES[name]
    transform = fitted(name)
    zeros = 0.5 if any(isinstance(part, Threshold) for part in transform.modules()) else 0.0
    x, context = make(case, transform, 7, 1, zeros, spread=1.0)
    lit = x > 0

    def forward(free: Tensor) -> Tensor:
        # What is free: the energy of a lit cell, the noise of an empty one.
        given = context.copy()
        if zeros:
            given["noise"] = torch.where(lit, context["noise"], free)
        return transform(torch.where(lit, free, 0.0), given)[0].flatten()

    free = torch.where(lit, x, context["noise"]) if zeros else x
    jacobian = torch.autograd.functional.jacobian(forward, free).reshape(x.numel(), x.numel())
    expected = torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(transform(x, context)[1][0], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_description_and_state_rebuild_it(name: str) -> None:
    case = CASES[name]
    transform = fitted(name)
    description = json.loads(json.dumps(transform.to_dict()))
    again = transform_from_dict(description)
    assert type(again) is type(transform)
    assert again.to_dict() == transform.to_dict()
    assert again.fitted == (not any(isinstance(part, Standardise) for part in transform.modules()))
    again.load_state_dict(transform.state_dict())
    assert again.fitted
    x, context = make(case, transform, 3)
    y, log_det = transform(x, context)
    y_again, log_det_again = again(x, context)
    assert torch.equal(y, y_again)
    assert torch.equal(log_det, log_det_again)
    assert torch.equal(transform.inverse(y, context), again.inverse(y, context))
    assert repr(again)


@pytest.mark.parametrize("name", CASES)
def test_a_shower_does_not_depend_on_its_batch(name: str) -> None:
    case = CASES[name]
    transform = fitted(name)
    x, context = make(case, transform, 5, 9)
    x, context = x.float(), single(context)
    y, log_det = transform(x, context)
    alone = Context(**{name: value[4:5] for name, value in context.items()})  # type: ignore[typeddict-item]
    y_alone, log_det_alone = transform(x[4:5], alone)
    torch.testing.assert_close(y_alone, y[4:5], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(log_det_alone, log_det[4:5], rtol=1e-5, atol=1e-4)
    assert torch.equal(transform.inverse(y[4:5], alone), transform.inverse(y, context)[4:5])


class Decoder(torch.nn.Module):
    """The inverse with its context as arguments, as an exported generator has it."""

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, y: Tensor, energy: Tensor, layer_energies: Tensor) -> Tensor:
        return self.transform.inverse(y, {"energy": energy, "layer_energies": layer_energies})


@pytest.mark.parametrize("name", ["ratio-chain", "layer-chain", "shares-box", "chain-ragged-cylinder"])
def test_inverse_is_exported_for_any_batch_size(name: str) -> None:
    transform = fitted(name)
    x, context = make(CASES[name], transform, 4, 7)
    x, context = x.float(), single(context)
    arguments = (transform(x, context)[0], context["energy"], context["layer_energies"])
    batch = {0: torch.export.Dim("n")}
    graph = torch.export.export(Decoder(transform), arguments, dynamic_shapes=(batch, batch, batch))
    fewer = tuple(value[:3] for value in arguments)
    assert torch.equal(graph.module()(*fewer), Decoder(transform)(*fewer))


def test_missing_context_is_named() -> None:
    for transform in (Threshold(T), LayerShares(MESHES[0]), EnergyRatios(), DivideByEnergy()):
        with pytest.raises(RecipeError, match="needs '"):
            transform(torch.ones(2, V), {})
    with pytest.raises(RecipeError, match="does not fit"):
        AddNoise(1.0)(torch.ones(2, V), {"noise": torch.ones(2, 3)})
    with pytest.raises(RecipeError, match="expected"):
        LayerShares(MESHES[0])(torch.ones(2, V), {"layer_energies": torch.ones(2, 3)})


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"kind": "lgit"}, "unknown transform 'lgit'"),
        ({}, "unknown transform None"),
        ({"kind": "logit", "aplha": 1e-3}, "no setting 'aplha'; it has 'alpha'"),
        ({"kind": "logit", "alpha": 0.5}, "alpha must lie"),
        ({"kind": "logit", "alpha": "small"}, "could not convert"),
        ({"kind": "scale", "factor": 0}, "factor"),
        ({"kind": "log", "epsilon": -1}, "epsilon must be positive"),
        ({"kind": "add-noise"}, "width"),
        ({"kind": "add-noise", "width": 0.02, "threshold": 0.01}, "at least the width"),
        ({"kind": "threshold", "threshold": 1.0, "fill": "flat"}, "fill must be one of"),
        ({"kind": "threshold", "threshold": 1.0, "cut": "no"}, "cut must be"),
        ({"kind": "standardise", "shape": [0]}, "positive lengths"),
        ({"kind": "pad-layers", "layers": {"size": [3]}}, "'sizes'"),
        ({"kind": "pad-layers", "layers": {"sizes": [3, 0]}}, "positive sizes"),
        ({"kind": "pad-layers", "layers": {"sizes": [3], "central": [3]}}, "outside its layer"),
        ({"kind": "layer-closure", "layers": {"sizes": [3]}, "threshold": -1}, "threshold must be"),
        ({"kind": "chain", "transforms": {"kind": "log"}}, "list of transforms"),
        ({"kind": "chain", "transforms": [{"kind": "log", "base": 10}]}, "no setting 'base'"),
        ({"kind": "chain", "transforms": [3]}, "table"),
    ],
)
def test_malformed_descriptions_are_explained(description: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        transform_from_dict(description)


def test_chain_from_dict_wants_a_chain() -> None:
    assert len(chain_from_dict(Chain([Log(), Scale(2.0)]).to_dict())) == 2
    with pytest.raises(RecipeError, match="expected a transform of kind 'chain'"):
        chain_from_dict(Log().to_dict())


def test_fitting_in_batches_is_fitting_at_once() -> None:
    x = torch.randn(1000, Z, dtype=torch.float64) * torch.tensor([0.1, 1.0, 1e4, 0.0]) + 1e5
    for shape in ((), (Z,)):
        at_once, streamed = Standardise(shape), Standardise(shape)
        fit_batches(at_once, lambda: [(x, {})])
        fit_batches(streamed, lambda: [(part, {}) for part in (*x.split(7), x[:0])])
        torch.testing.assert_close(streamed.mean, at_once.mean, rtol=1e-7, atol=0)
        torch.testing.assert_close(streamed.std, at_once.std, rtol=1e-6, atol=0)
    torch.testing.assert_close(streamed.mean, x.mean(0).float())
    torch.testing.assert_close(streamed.std[:3], x.std(0, correction=0).float()[:3], rtol=1e-6, atol=0)
    assert streamed.std[3] == 1  # constant


def test_moments_survive_large_offsets() -> None:
    moments = RunningMoments((1,))
    x = torch.randn(500, 1, dtype=torch.float64)
    for part in x.split(13):
        moments.add(part + 1e9)
    torch.testing.assert_close(moments.std(), x.std(0, correction=0), rtol=1e-6, atol=0)
    with pytest.raises(RecipeError, match="do not fit"):
        RunningMoments((3,)).add(torch.ones(3, 2))


def test_chain_is_fitted_in_passes() -> None:
    x = torch.rand(200, 3) * 5
    chain = Chain([Standardise((3,)), Scale(3.0), Standardise(), Chain([Standardise((3,))])])
    passes = []
    fit_batches(chain, lambda: [passes.append(1), (x[:80], {}), (x[80:], {})][1:])
    assert len(passes) == 3
    y, _ = chain(x, {})
    torch.testing.assert_close(y.std(0, correction=0), torch.ones(3))
    fit_batches(chain, lambda: pytest.fail("fitted already"))


def test_fitting_says_what_is_wrong() -> None:
    for transform in (Standardise(), Chain([Log(), Standardise()])):
        with pytest.raises(RecipeError, match="has not been fitted"):
            transform(torch.ones(2, 3), {})
        with pytest.raises(DataError, match="no showers"):
            fit_batches(transform, list)
        with pytest.raises(DataError, match="not finite"):
            fit_batches(transform, lambda: [(torch.full((2, 3), torch.inf), {})])


def test_illegal_values_are_named() -> None:
    x = torch.rand(4, 3)
    x[2, 1] = 1.5
    with pytest.raises(DataError, match=r"shower 2, value \[1\] is 1.5"):
        Logit()(x, {})
    with pytest.raises(DataError, match="at least 0"):
        Log()(-x, {})
