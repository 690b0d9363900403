"""Loops over rows in exported graphs: what they give step by step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from caloforge.exports.exported import loaded
from caloforge.exports.formats.onnx import onnx_model
from caloforge.exports.formats.torchscript import scripted
from caloforge.exports.graph import OLDEST_TORCH, traced
from caloforge.models.loops import RowLoop, recorded_loop, recording_loops

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < OLDEST_TORCH, reason="torch is too old to export"
)
ROWS, ENDS = 6, torch.tensor([[1, 3], [4, 6]])


class Weighted(RowLoop):
    """Each positive number of a row, times what has been summed so far, times the weight of its place."""

    def __init__(self) -> None:
        super().__init__(ENDS, 1)
        self.weights = nn.Parameter(torch.linspace(0.5, 2, ROWS))

    def begin(self, *given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, factor = given
        state = torch.stack([x[:, 0] * 0 + factor[:, 0], x[:, 0] * 0], dim=1)
        return (x > 0).T, torch.stack([x, factor.expand(-1, ROWS)]).permute(2, 1, 0), state

    def told(self, place: Tensor, shower: Tensor, numbers: Tensor) -> tuple[Tensor, ...]:
        return shower, numbers[:, 0] * numbers[:, 1] * self.weights[place]

    def update(self, state: Tensor, turn: Tensor) -> Tensor:
        return torch.cat([state.sum(dim=1, keepdim=True) + turn, state[:, 1:] * 0], dim=1)

    def step(self, state: Tensor, turn: Tensor, *rows: Tensor) -> Tensor:
        shower, numbers = rows
        added = state[shower, torch.zeros_like(shower)] * numbers
        return state.index_put((shower, torch.ones_like(shower)), added, accumulate=True)

    def end(self, state: Tensor) -> Tensor:
        return state.sum(dim=1, keepdim=True)


class Repeated(Weighted):
    """The same as an operator of graphs."""

    repeated = True


class Looped(nn.Module):
    """One of them, alone, as an operation of what is traced."""

    def __init__(self, kind: type[Weighted] = Weighted) -> None:
        super().__init__()
        self.loop = kind()

    def forward(self, *tensors: Tensor) -> Tensor:
        given = *tensors, tensors[0][:, :1] * 0 + 1.5
        if recording_loops():
            return recorded_loop(lambda: self.loop, 1, *given)
        made: Tensor = self.loop(*given)
        return made


def stepwise(x: Tensor) -> Tensor:
    """By hand."""
    weights, sums = torch.linspace(0.5, 2, ROWS), []
    for row in x:
        base, added, last = torch.tensor(1.5), torch.tensor(0.0), 0
        for i, part in enumerate(ENDS.tolist()):
            base, added = base + added + i, torch.tensor(0.0)
            for end in part:
                for place in range(last, end):
                    added = added + (1.5 * base * row[place] * weights[place] if row[place] > 0 else 0)
                last = end
        sums.append(base + added)
    return torch.stack(sums)[:, None]


def numbers() -> Tensor:
    """Rows of which some, all or none are positive."""
    x = torch.randn(5, ROWS, generator=torch.Generator().manual_seed(0))
    x[1], x[2] = x[1].abs(), -x[2].abs()
    return x


@pytest.mark.parametrize("kind", [Weighted, Repeated])
def test_a_loop_is_what_its_steps_are(kind: type[Weighted]) -> None:
    with torch.no_grad():
        torch.testing.assert_close(Looped(kind)(numbers()), stepwise(numbers()))


@pytest.mark.parametrize("kind", [Weighted, Repeated])
def test_the_same_in_exported_graphs(kind: type[Weighted]) -> None:
    import onnx
    import onnxruntime

    found = traced(Looped(kind), (numbers(),))
    data = onnx_model(found, ["x"], "y", {})
    assert ("Loop" in [node.op_type for node in onnx.load_from_string(data).graph.node]) == kind.repeated
    session = onnxruntime.InferenceSession(data)
    module = loaded(scripted(found, ["x"]), "torchscript")
    for x in (numbers(), numbers()[:1], numbers()[2:3]):
        expected = stepwise(x)
        np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], expected.numpy(), rtol=1e-5)
        with torch.no_grad():
            torch.testing.assert_close(module(x), expected)
