"""Flow matching (Lipman et al., arXiv:2210.02747; Liu et al., arXiv:2209.03003)."""

from __future__ import annotations

from typing import ClassVar

from caloforge.models.diffusion.processes.base import PROCESSES, Process, ProcessTable
from caloforge.models.diffusion.processes.times import T, constant

__all__ = ["FlowMatching", "FlowSettings"]


class FlowSettings(ProcessTable):
    """See `ProcessTable`."""

    kind: str = "flow"


@PROCESSES.add("flow")
class FlowMatching(Process):
    """The straight line from data to noise, and its velocity."""

    Settings = FlowSettings
    log_sigma: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def signal(self, t: T) -> T:
        return 1 - t

    def noise(self, t: T) -> T:
        return t

    def time(self, sigma: T) -> T:
        return sigma / (1 + sigma)

    def target(self, t: T) -> tuple[T, T]:
        return constant(-1.0, t), constant(1.0, t)
