"""Flow matching (Lipman et al., arXiv:2210.02747; Liu et al., arXiv:2209.03003)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from caloforge.models.diffusion.processes.base import PROCESSES, Process, ProcessTable

__all__ = ["FlowMatching", "FlowSettings"]


class FlowSettings(ProcessTable):
    """See `ProcessTable`."""

    kind: str = "flow"


@PROCESSES.add("flow")
class FlowMatching(Process):
    """The straight line from data to noise, and its velocity."""

    Settings = FlowSettings
    log_sigma: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def signal(self, t: Tensor) -> Tensor:
        return 1 - t

    def noise(self, t: Tensor) -> Tensor:
        return t

    def time(self, sigma: Tensor) -> Tensor:
        return sigma / (1 + sigma)

    def target(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(t), torch.ones_like(t)
