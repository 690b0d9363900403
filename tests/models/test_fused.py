"""What torch's compiler fuses gives the showers of plain torch."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from test_laws import SHOWERS, fitted, moved_at_random
from torch import Tensor
from torch._dynamo.utils import counters
from toy_models import MESH, LayerGaussian

from caloforge.errors import CaloforgeError
from caloforge.models.base import ConditionTensors, load_model_class
from caloforge.models.networks import linear
from caloforge.models.networks.fused import Fusable, fusable, fuse
from caloforge.models.networks.linear import CastLinear

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch uses it itself
CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


class Layer(Fusable):
    """A layer as those of our networks: what is derived from its weights is taken from a cache."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = CastLinear(5, 5)

    @fusable
    def forward(self, x: Tensor, shift: Tensor) -> Tensor:
        return (self.dense(x) + shift).float().exp().cumsum(dim=1)


class Pair(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Layer(), Layer()

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            made: Tensor = self.second(self.first(x, torch.ones(5)).cos(), torch.zeros(5))
        return made


@needs_compiler
def test_layers_share_what_is_compiled_and_follow_their_own_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "keeps", lambda _: True)  # as on a GPU
    torch.manual_seed(0)
    pair, x = Pair(), torch.randn(3, 5)
    with torch.no_grad():
        for _ in range(2):
            fuse(pair, CPU, False)
            plain = pair(x)
            fuse(pair, CPU, True)
            torch.testing.assert_close(pair(x), plain, rtol=1e-5, atol=1e-6)
            for parameter in pair.parameters():
                parameter.mul_(-0.5)
        assert counters["stats"]["unique_graphs"] <= 2  # one of them tries whether torch can compile
    pair(x).sum().backward()  # with gradients as ever
    assert all(parameter.grad is not None for parameter in pair.parameters())


@needs_compiler
def test_what_torch_cannot_compile_is_refused_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._inductor.config as inductor

    torch._dynamo.reset()
    monkeypatch.setattr(inductor.cpp, "cxx", (str(tmp_path / "c++"),))
    with pytest.raises(CaloforgeError, match=r"no fused kernels of .*: .*C\+\+ compiler.*ask for plain ones"):
        fuse(Pair(), CPU, True)
    torch._dynamo.reset()


def test_a_model_without_what_can_be_fused_has_none() -> None:
    assert LayerGaussian(MESH).execute_on("cpu", kernels="fused").execution.kernels == "none"


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "name",
    [
        "flow.inductive:InductiveLayerFlow",
        "flow.l2lflows:ConvL2LFlows",
        "supercalo.chain:CoarseToFine",
        "diffusion.model:DiffusionModel",
    ],
)
def test_fused_showers_are_those_of_plain_torch(name: str, precision: str) -> None:
    torch.manual_seed(0)
    model = moved_at_random(fitted(load_model_class(name), SHOWERS)).eval()
    noise = model.noise(100, torch.Generator().manual_seed(1))
    conditions = ConditionTensors.of(SHOWERS.conditions[:100], model.detectors)

    def made(precision: str, kernels: str) -> Tensor:
        with torch.no_grad():
            return model.execute_on("cpu", precision, kernels).decode(noise, conditions)

    exact, plain, fused = made("float32", "plain"), made(precision, "plain"), made(precision, "fused")
    assert model.execution.kernels == "fused"
    assert torch.equal(made(precision, "fused"), fused)
    assert torch.equal(made(precision, "plain"), plain)

    def distance(showers: Tensor) -> float:
        """Share of the energy that lies elsewhere, which nine showers of ten stay below.

        In the tenth a cell may cross the threshold, and its energy is another's.
        """
        elsewhere = (showers - exact).abs().flatten(1).sum(dim=1) / exact.flatten(1).sum(dim=1)
        return float(elsewhere.quantile(0.9))

    # weights at random make much of rounding; in bfloat16 other roundings are as good as those of plain torch
    assert distance(fused) <= max(1e-4, 1.5 * distance(plain))
