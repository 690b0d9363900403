"""The incremental inverse, plain and compiled, against the obvious one: a whole pass for each dimension."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from caloforge.models.networks.autoregressive.flow import AutoregressiveFlow
from caloforge.models.networks.autoregressive.kernel import FOLDER, SOURCE, flow_library
from caloforge.models.networks.splines.splines import _in_torch, n_spline_parameters, rational_quadratic
from caloforge.runtime import compiled as kernels

SHAPES = [  # dims, context, hidden, depth, bins, context units
    (1, 0, 5, 1, 4, 3),
    (2, 3, 7, 3, 2, 0),
    (7, 2, 3, 1, 8, 5),
    (10, 31, 40, 2, 8, 32),
    (45, 1, 50, 1, 8, 9),
    (20, 4, 61, 2, 11, 1),
]
needs_compiler = pytest.mark.skipif(flow_library(torch.float32, False) is None, reason="no C compiler")


@pytest.fixture(params=["plain", pytest.param("compiled", marks=needs_compiler)])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both ways of computing."""
    if request.param == "plain":
        monkeypatch.setenv("CALOFORGE_KERNELS", "0")
    forget()
    assert (flow_library(torch.float32, False) is None) == (request.param == "plain")
    yield request.param
    monkeypatch.undo()
    forget()


def forget() -> None:
    for cached in (kernels.compiled, kernels._compiler, kernels._processor):
        cached.cache_clear()


def make_flow(
    shape: tuple[int, ...], dtype: torch.dtype = torch.float64, scale: float = 0.1, **settings: object
) -> AutoregressiveFlow:
    dims, context, hidden, depth, bins, context_units = shape
    sizes = {"hidden": hidden, "depth": depth, "bins": bins, "context_units": context_units}
    flow = AutoregressiveFlow(dims, context, blocks=3, **sizes, **settings)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in flow.parameters():
            p.copy_(scale * torch.randn(p.shape, generator=generator))
    return flow.to(dtype).eval()


def inputs(
    n: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(n)
    x = 2 * torch.randn(n, shape[0], generator=generator, dtype=torch.float64)
    context = torch.randn(n, shape[1], generator=generator, dtype=torch.float64)
    return x.to(dtype), context.to(dtype) if shape[1] else None


def naive(flow: AutoregressiveFlow, values: Tensor, context: Tensor | None, inverse: bool) -> Tensor:
    """The slow direction of a flow by its whole network, once for each dimension."""
    blocks = list(zip(flow.masked_splines(), flow.orders, strict=True))
    for block, order in reversed(blocks) if inverse else blocks:
        given, known = values.T[order], torch.zeros_like(values.T)
        for d in range(flow.dims):
            raw = block.parameters_for(known, context)
            known[d] = block.splines(given[d], raw[:, d], inverse=inverse)[0]
        values = torch.empty_like(known)
        values[order] = known
        values = values.T
    return values


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("direction", ["density", "sampling"])
def test_same_as_a_pass_for_each_dimension(kernel: str, shape: tuple[int, ...], direction: str) -> None:
    flow = make_flow(shape, direction=direction)
    inverse = direction == "density"
    with torch.no_grad():
        for n in (1, 70):
            x, context = inputs(n, shape)
            y, log_det = flow.to_data(x, context) if inverse else flow.to_noise(x, context)
            torch.testing.assert_close(y, naive(flow, x, context, inverse), rtol=0, atol=1e-10)
            back, log_det_back = flow.to_noise(y, context) if inverse else flow.to_data(y, context)
            torch.testing.assert_close(back, x, rtol=0, atol=1e-9)
            torch.testing.assert_close(log_det_back, -log_det, rtol=0, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_float32_differs_by_rounding(kernel: str, shape: tuple[int, ...]) -> None:
    exact = make_flow(shape, scale=0.05)
    flow = make_flow(shape, torch.float32, scale=0.05)
    x, context = inputs(100, shape, torch.float32)
    with torch.no_grad():
        expected = naive(exact, x.double(), None if context is None else context.double(), True)
        y = flow.sample(x, context)
        torch.testing.assert_close(y.double(), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(flow.to_noise(y, context)[0], x, rtol=0, atol=3e-5)


@pytest.mark.parametrize("bf16", [False, True])
@needs_compiler
def test_a_row_does_not_depend_on_its_neighbours(bf16: bool) -> None:
    shape = (12, 3, 40, 2, 8, 5)
    flow = make_flow(shape, torch.float32)
    x, context = inputs(1100, shape, torch.float32)
    assert context is not None
    with torch.no_grad():
        for method in (flow.to_data, flow.to_noise):
            y, log_det = method(x, context, bf16)
            for rows in (slice(0, 1), slice(7, 20), slice(1000, 1047), slice(30, 1100)):
                part, log_det_part = method(x[rows], context[rows], bf16)
                assert torch.equal(part, y[rows])
                assert torch.equal(log_det_part, log_det[rows])
            x_bad = x.clone()
            x_bad[3], x_bad[4] = torch.nan, 1e30
            bad = method(x_bad, context, bf16)[0]
            assert bad[3].isnan().all()
            assert torch.equal(bad[4], x_bad[4])
            assert torch.equal(bad[5:], y[5:])


@pytest.mark.parametrize("bf16", [False, True])
@needs_compiler
def test_round_trip_is_exact_to_rounding_where_the_networks_are_rough(bf16: bool) -> None:
    """Both directions compute a block's network by the same operations, so that bfloat16 costs no inverse."""
    shape = (24, 3, 60, 2, 8, 5)
    flow = make_flow(shape, torch.float32, scale=0.05, bound=14.0)
    z, context = inputs(500, shape, torch.float32)
    with torch.no_grad():
        x, log_det = flow.to_data(z, context, bf16)
        back, log_det_back = flow.to_noise(x, context, bf16)
        close = (back - z).abs() < 1e-4
        # where an image falls on the other side of a rounding step of bfloat16, it is a step off
        assert close.float().mean() > 0.99
        assert ((log_det + log_det_back).abs() < 1e-2).float().mean() > 0.95


@needs_compiler
def test_threads_and_layouts_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (12, 3, 40, 2, 8, 5)
    flow = make_flow(shape, torch.float32)
    x, context = inputs(500, shape, torch.float32)
    assert context is not None
    with torch.no_grad():
        y = flow.sample(x, context)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
        assert torch.equal(flow.sample(x, context), y)
        assert torch.equal(flow.sample(x.T.contiguous().T, context.repeat(1, 2)[:, :3]), y)
        assert flow.sample(x[:0], context[:0]).shape == (0, 12)


def test_no_change_of_the_parameters_is_missed(kernel: str) -> None:
    shape = (6, 2, 20, 2, 8, 4)
    flow, other = make_flow(shape), make_flow(shape, scale=0.2)
    x, context = inputs(40, shape)

    def check() -> None:
        now = next(flow.parameters()).dtype
        with torch.no_grad():
            values, given = x.to(now), context.to(now)
            expected = naive(flow, values, given, True)
            tolerance = 1e-10 if now == torch.float64 else 1e-4
            torch.testing.assert_close(flow.sample(values, given), expected, rtol=0, atol=tolerance)

    check()
    optimiser = torch.optim.AdamW(flow.parameters(), lr=0.01)
    for _ in range(2):
        optimiser.zero_grad()
        (-flow.log_prob(x, context).mean()).backward()
        optimiser.step()
        check()
    with torch.no_grad():
        for p, q in zip(flow.parameters(), other.parameters(), strict=True):
            p.lerp_(q, 0.5)
        check()
        for p, q in zip(flow.parameters(), other.parameters(), strict=True):
            p.detach().copy_(q)
    check()
    flow.load_state_dict(make_flow(shape, scale=0.15).state_dict())
    check()
    flow.load_state_dict(make_flow(shape, scale=0.12).state_dict(), assign=True)
    check()
    flow.float()
    check()
    flow.double()
    check()
    torch.nn.utils.vector_to_parameters(
        torch.nn.utils.parameters_to_vector(other.parameters()).detach(), flow.parameters()
    )
    check()
    flow.blocks[0] = other.blocks[1]
    check()
    with torch.inference_mode():  # such tensors do not count their changes
        flow.load_state_dict({k: v.clone() for k, v in flow.state_dict().items()}, assign=True)
        check()
        for p in flow.parameters():
            p.mul_(0.9)
        check()
        flow.orders.copy_(flow.orders.flip(0))
        flow.inverse_orders.copy_(flow.inverse_orders.flip(0))
        check()


def test_copies_and_pickles_give_the_same(kernel: str) -> None:
    shape = (6, 2, 20, 1, 8, 4)
    flow = make_flow(shape)
    x, context = inputs(40, shape)
    with torch.no_grad():
        y = flow.sample(x, context)
        assert torch.equal(copy.deepcopy(flow).sample(x, context), y)
        assert torch.equal(pickle.loads(pickle.dumps(flow)).sample(x, context), y)


def test_without_a_compiler_it_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    forget()
    try:
        assert flow_library(torch.float32, False) is None
        assert "plain torch" in caplog.text
        shape = SHAPES[2]
        with torch.no_grad():
            x, context = inputs(4, shape)
            flow = make_flow(shape)
            torch.testing.assert_close(flow.sample(x, context), naive(flow, x, context, True))
    finally:
        monkeypatch.undo()
        forget()


@needs_compiler
def test_compiled_libraries_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    forget()
    try:
        assert kernels.compiled(SOURCE, FOLDER, "-DREAL=float", "-DBF16=0") is not None
        kept = sorted((tmp_path / "caloforge" / "kernels").glob("autoregressive-*"))
        assert sorted(path.suffix for path in kept) == [".sha256", ".so"]
        times = [path.stat().st_mtime_ns for path in kept]
        forget()
        assert kernels.compiled(SOURCE, FOLDER, "-DREAL=float", "-DBF16=0") is not None
        assert [path.stat().st_mtime_ns for path in kept] == times
    finally:
        monkeypatch.undo()
        forget()


@pytest.mark.parametrize("bins", [2, 5, 8])
@pytest.mark.parametrize("inverse", [False, True])
@needs_compiler
def test_compiled_splines_and_gradients_are_those_of_torch(bins: int, inverse: bool) -> None:
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x, raw = 4 * draw(7, 43), 2.5 * draw(n_spline_parameters(bins), 7, 43)
    raw[:, :, 5:], raw[:, :, :5] = raw[:, :, 5:].clone(), 0.0
    weights = draw(2, 7, 43)
    results = []
    for function in (rational_quadratic, lambda *a, **k: _in_torch(*a, **k, largest_logit=4.0)):
        leaf, parameters = x.clone().requires_grad_(), raw.clone().requires_grad_()
        image, log_slope = function(leaf, parameters, bound=6.0, inverse=inverse)
        (weights * torch.stack([image, log_slope])).sum().backward()
        results.append([image, log_slope, leaf.grad, parameters.grad])
    for ours, torchs in zip(*results, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-9, atol=1e-9)


@needs_compiler
def test_compiled_splines_take_threads_layouts_and_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    raw, x = torch.randn(23, 200, 300), 3 * torch.randn(200, 300)
    y, log_slope = rational_quadratic(x, raw, bound=6.0)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 3)
        assert torch.equal(rational_quadratic(x, raw, bound=6.0)[0], y)
    turned = rational_quadratic(x.T, raw.transpose(1, 2), bound=6.0)
    assert torch.equal(turned[0], y.T)
    assert torch.equal(turned[1], log_slope.T)
    assert torch.equal(rational_quadratic(x[3, 5:18], raw[:, 3, 5:18], bound=6.0)[0], y[3, 5:18])
    assert rational_quadratic(x[:0], raw[:, :0], bound=6.0)[0].shape == (0, 300)


@pytest.mark.parametrize("bound", [6.0, 14.0])
@pytest.mark.parametrize("scale", [1.0, 3.0, 10.0])
@pytest.mark.parametrize("inverse", [False, True])
def test_float32_splines_are_exact_to_rounding(
    kernel: str, bound: float, scale: float, inverse: bool
) -> None:
    """Against float64: no more than what rounding x and the knots, at most `bound`, makes of the image."""
    generator = torch.Generator().manual_seed(3)
    raw = scale * torch.randn(n_spline_parameters(8), 50_000, generator=generator)
    x = bound * (2 * torch.rand(50_000, generator=generator) - 1)
    y, log_slope = rational_quadratic(x, raw, bound=bound, inverse=inverse)
    exact, exact_slope = rational_quadratic(x.double(), raw.double(), bound=bound, inverse=inverse)
    step = torch.finfo(torch.float32).eps * bound
    assert ((y - exact).abs() / (1 + exact_slope.exp())).max() < 8 * step
    assert (log_slope - exact_slope).abs().max() < 0.2
