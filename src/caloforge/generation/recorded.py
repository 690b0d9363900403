"""A function of tensors as a CUDA graph: a GPU is given all its kernels in one launch instead of thousands.

A block of showers is some thousand small kernels, and a GPU waits for a processor to launch each of them.
They are the same for every block, on numbers at the same places in memory: so they are recorded once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["Recorded", "Recorder", "record_cuda"]

Recorder = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
"""Records a function and gives what replays it; both leave the result in the same tensor each time."""

log = logging.getLogger(__name__)


def record_cuda(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The CUDA graph of a function, on the current device; RuntimeError where it cannot be one."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


class Recorded:
    """A function of named tensors that is recorded when tensors of the same shapes come a second time.

    The first call is an ordinary one: it sets up libraries and caches, and what is called once need not be
    recorded. A function that cannot be recorded is called as it is, after one warning.

    Args:
        function: a tensor of tensors by name, on ``device``; deterministic.
        device: where it calculates.
        recorder: None for never.

    Attributes:
        refusal: why the function could not be recorded; "" where it was not tried, or worked.
    """

    def __init__(
        self,
        function: Callable[[Mapping[str, Tensor]], Tensor],
        device: torch.device,
        recorder: Recorder | None,
    ) -> None:
        self.function, self.device, self.recorder = function, device, recorder
        self.refusal = ""
        self._seen: set[Any] = set()
        self._replays: dict[Any, tuple[dict[str, Tensor], Callable[[], Tensor]]] = {}

    def __call__(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The function of inputs on any device; what it gives may be overwritten by the next call."""
        shapes = tuple((name, tuple(tensor.shape), tensor.dtype) for name, tensor in inputs.items())
        if shapes in self._replays:
            places, replay = self._replays[shapes]
            for name, tensor in inputs.items():
                places[name].copy_(tensor, non_blocking=True)
            return replay()
        if self.recorder is not None and shapes in self._seen:
            places = {name: tensor.to(self.device, copy=True) for name, tensor in inputs.items()}
            try:
                replay = self.recorder(lambda: self.function(places))
            except RuntimeError as error:
                self.recorder, self.refusal = None, str(error).partition("\n")[0]
                log.warning("decode is no CUDA graph, and slower so: %s", self.refusal)
            else:
                self._replays[shapes] = places, replay
                return replay()
        self._seen.add(shapes)
        return self.function({name: tensor.to(self.device) for name, tensor in inputs.items()})

    @property
    def told(self) -> str:
        """For provenance: "recorded", "plain", or why it is plain."""
        return "recorded" if self._replays else self.refusal or "plain"
