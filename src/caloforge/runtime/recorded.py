"""A function of tensors as a CUDA graph: a GPU is given all its kernels in one launch instead of thousands.

A block of showers, or a step of a training, is hundreds or thousands of small kernels, and a GPU waits for a
processor to launch each of them. They are the same for every block and step, on numbers at the same places in
memory: so they are recorded once.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

__all__ = ["Recorded", "Recorder", "record_cuda", "watched"]

Recorder = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
"""Records a function and gives what replays it; both leave the result in the same tensor each time."""

log = logging.getLogger(__name__)


def record_cuda(
    function: Callable[[], Tensor], generators: Sequence[torch.Generator] = ()
) -> Callable[[], Tensor]:
    """The CUDA graph of a function, on the current device; RuntimeError where it cannot be one.

    Replays draw from the generators, and from torch's own of the device, as the function would: as they are
    seeded then.
    """
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        if not hasattr(graph, "register_generator_state"):
            raise RuntimeError(f"torch {torch.__version__} cannot record random numbers")
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        result = function()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


@contextmanager
def watched(device: torch.device) -> Iterator[list[str]]:
    """Collects where the host waits for a CUDA device meanwhile, which cannot be in a graph."""
    waits: list[str] = []
    if device.type != "cuda":
        yield waits
        return
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode(before)
    for warning in seen:
        if "synchronizing CUDA operation" in str(warning.message):
            waits.append(f"the host waits in {warning.filename}:{warning.lineno}")
        elif "Synchronization debug mode" not in str(warning.message):  # that it may change
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


class Recorded:
    """A function of named tensors that is recorded when tensors of the same shapes come a second time.

    The first call is an ordinary one: it sets up libraries and caches, and what is called once need not be
    recorded. A function that cannot be recorded is called as it is, after one warning.

    Args:
        function: a tensor of tensors by name, on ``device``; deterministic.
        device: where it calculates.
        recorder: None for never.
        what: it is, for the warning.

    Attributes:
        refusal: why the function could not be recorded; "" where it was not tried, or worked.
    """

    def __init__(
        self,
        function: Callable[[Mapping[str, Tensor]], Tensor],
        device: torch.device,
        recorder: Recorder | None,
        what: str = "decode",
    ) -> None:
        self.function, self.device, self.recorder, self.what = function, device, recorder, what
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
                self.refuse(str(error).partition("\n")[0])
            else:
                self._replays[shapes] = places, replay
                return replay()
        self._seen.add(shapes)
        return self.function({name: tensor.to(self.device) for name, tensor in inputs.items()})

    def refuse(self, why: str) -> None:
        """Never record it; a warning says why."""
        self.recorder, self.refusal = None, why
        log.warning("%s is no CUDA graph, and slower so: %s", self.what, why)

    @property
    def told(self) -> str:
        """For provenance: "recorded", "plain", or why it is plain."""
        return "recorded" if self._replays else self.refusal or "plain"
