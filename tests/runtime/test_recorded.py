"""What is recorded and replayed gives what the function gives; on a CPU a replay calls the function."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from caloforge.generation.blocks import BlockDecoder
from caloforge.generation.request import GenerationRequest
from caloforge.runtime.recorded import Recorded, record_cuda

CPU = torch.device("cpu")
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def replayed(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """As a graph does it: the same operations on what is at the same places, into the same result."""
    result = function()

    def replay() -> Tensor:
        return result.copy_(function())

    return replay


def refused(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
    raise RuntimeError("operation not permitted when stream is capturing\nand more")


def total(inputs: Mapping[str, Tensor]) -> Tensor:
    return inputs["a"] + 2 * inputs["b"]


def inputs(k: int, n: int = 3) -> dict[str, Tensor]:
    return {"a": torch.full((n,), float(k)), "b": torch.arange(n) + k}


@pytest.mark.parametrize("device", DEVICES)
def test_replays_follow_their_inputs(device: str) -> None:
    recorded = Recorded(total, torch.device(device), replayed if device == "cpu" else record_cuda)
    for k in range(5):
        for n in (3, 4):
            assert torch.equal(recorded(inputs(k, n)).cpu(), total(inputs(k, n)))
        assert recorded.told == ("recorded" if k else "plain")


def test_a_function_is_recorded_once_for_each_shape_and_kind_of_input() -> None:
    calls = []

    def count(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        calls.append(1)
        return replayed(function)

    recorded = Recorded(total, CPU, count)
    for n in (3, 4, 3, 4, 3, 3, 5):
        recorded(inputs(1, n))
    assert len(calls) == 2


def test_what_cannot_be_recorded_is_called_after_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    recorded = Recorded(total, CPU, refused)
    with caplog.at_level(logging.WARNING):
        for k in range(4):
            assert torch.equal(recorded(inputs(k)), total(inputs(k)))
    assert recorded.told == recorded.refusal == "operation not permitted when stream is capturing"
    assert len(caplog.records) == 1


@pytest.mark.parametrize("recorder", [replayed, refused])
def test_showers_are_the_same(recorder: Callable[..., Callable[[], Tensor]]) -> None:
    request = GenerationRequest.resolve(
        "showertransformer-siw", settings={"steps": 1}, energy="1-50GeV", n=150, device="cpu", seed=3
    )
    with torch.inference_mode():
        plain, other = BlockDecoder(request), BlockDecoder(request)
        other.make.recorder = recorder
        for low, high in plain.spans(0, 150):
            assert (plain.decode(low, high) == other.decode(low, high)).all()
    assert other.make.told == ("recorded" if recorder is replayed else other.make.refusal)
