"""From noise to data with a trained process: solvers of one and the same differential equation.

With σ = b/a and y = x/a, every process of `caloforge.models.diffusion.processes` has the probability-flow
equation dy/dσ = (y − x₀(x, t))/σ = ε (Song et al., arXiv:2011.13456; Karras et al., arXiv:2206.00364), where
x₀ and ε are the network's estimates. All samplers work with all processes.

| kind           | order | calls       | paper |
|----------------|-------|-------------|-------|
| "euler"        | 1     | steps       | |
| "ddim"         | 1     | steps       | Song, Meng, Ermon, arXiv:2010.02502 |
| "midpoint"     | 2     | 2·steps     | |
| "heun"         | 2     | 2·steps − 1 | Karras et al., arXiv:2206.00364, without its noise |
| "dpm-solver++" | 2     | steps       | 2M: Lu et al., arXiv:2211.01095 |
| "ddpm"         | –     | steps       | ancestral, noise in each step: Ho et al., arXiv:2006.11239 |

Euler's, the midpoint and Heun's method step along the process's own path. Where that is a straight line, a
step of DDIM is one of Euler's.

Legend: ``n`` showers, ``*`` the shape of one shower's coordinates, ``S`` steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, SerializeAsAny
from torch import Tensor

from caloforge.models.diffusion.processes import Network, Process
from caloforge.registry import Registry
from caloforge.settings import KindSettings

__all__ = ["SAMPLERS", "Sampler", "SamplerChoice", "SamplerSettings", "noise_steps", "sample"]


class SamplerSettings(KindSettings):
    """How showers are sampled; may be changed after training.

    Attributes:
        kind: the solver, see the table above.
        steps: steps from noise to data.
        power: times are those of the process to this power; above 1 more steps go to small noise.
    """

    kind: str = "midpoint"
    steps: int = Field(16, ge=1)
    power: float = Field(1.0, gt=0)


class Sampler(ABC):
    """A solver; deterministic.

    Args:
        settings: `Settings` of the subclass.
    """

    Settings: ClassVar[type[SamplerSettings]] = SamplerSettings

    def __init__(self, settings: SamplerSettings) -> None:
        self.settings = settings

    @property
    def noise_steps(self) -> int:
        """Number of noises beside the first that `solve` takes as ``extra``."""
        return 0

    @abstractmethod
    def solve(
        self, process: Process, network: Network, x: Tensor, times: Sequence[float], extra: Tensor | None
    ) -> Tensor:
        """Coordinates (n, *) of x (n, *) at the first of S + 1 falling times.

        The last time is that of the data. ``extra`` is standard normal noise, (n, noise_steps, *), or None.
        """


SAMPLERS: Registry[type[Sampler]] = Registry(
    "sampler", "caloforge.models.diffusion.samplers", default="midpoint"
)
"""Samplers by the ``kind`` of their settings."""

SamplerChoice = Annotated[SerializeAsAny[SamplerSettings], BeforeValidator(SAMPLERS.settings)]
"""Type of a settings field that says which sampler, and its settings."""


def noise_steps(settings: SamplerSettings) -> int:
    """Number of noises beside the first that `sample` takes as ``extra``."""
    return SAMPLERS[settings.kind](settings).noise_steps


def sample(
    process: Process, network: Network, noise: Tensor, settings: SamplerSettings, extra: Tensor | None = None
) -> Tensor:
    """Coordinates (n, *) of standard normal noise (n, *); deterministic.

    Args:
        process, network: what was trained; the network is called with all n at once.
        noise: standard normal, (n, *), of any floating type.
        settings: solver and steps.
        extra: noise of the steps of the ancestral sampler, standard normal, (n, S − 1, *).
    """
    times = [*process.schedule(settings.steps, settings.power), process.time(0.0)]
    x = noise * process.noise(times[0])
    return SAMPLERS[settings.kind](settings).solve(process, network, x, times, extra)
