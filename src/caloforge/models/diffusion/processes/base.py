"""How data and noise are mixed, and what the network is asked: flow matching, DDPM and EDM in one frame.

x_t = a(t)·x₀ + b(t)·ε with signal a, noise b and σ = b/a. The network estimates F = q(t)·x₀ + p(t)·ε of the
x_t it is given (times an input scale), and solving both equations gives its x₀. A process is these four
functions of t and the times it is trained at; every sampler of `caloforge.models.diffusion.samplers` works
with every process. Samplers step along the path z(u) = x_t/s(t) of a process, s its scale and u its path
variable, whose slope dz/du is again a mixture of x₀ and ε: the line from x₀ to ε, the line x₀ + σ·ε, or a
circle.

| kind   | a      | b        | F                    | papers |
|--------|--------|----------|----------------------|--------|
| "flow" | 1 − t  | t        | ε − x₀, the velocity | Lipman et al. 2210.02747; Liu et al. 2209.03003 |
| "ddpm" | cosine | √(1 − a²) | ε                    | Ho et al. 2006.11239; Nichol, Dhariwal 2102.09672 |
| "trig" | cos θ  | sin θ    | ε·cos θ − x₀·sin θ   | θ = πt/2: Lu, Song 2410.11081 |
| "edm"  | 1      | σ        | of unit variance     | Karras, Aittala, Aila, Laine 2206.00364 |

Legend: ``n`` showers, ``*`` the shape of one shower's coordinates; times t are (n,), or one number for all
showers. The functions of t take both, see `caloforge.models.diffusion.processes.times`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator
from torch import Tensor, nn

from caloforge.models.diffusion.processes.times import T, constant, per_shower
from caloforge.registry import Registry
from caloforge.runtime.share import places
from caloforge.settings import KindSettings

__all__ = ["PROCESSES", "Network", "Process", "ProcessChoice", "ProcessSettings", "ProcessTable"]

Network = Callable[[Tensor, Tensor], Tensor]
"""x (n, *) and its noise level (n, 1), about [0, 1], to F (n, *)."""


class ProcessSettings(KindSettings):
    """What every process lets one choose.

    Attributes:
        times: training times; "log-normal" σ (for a flow this is a logit-normal t) or "uniform" t; by default
            uniform for ddpm.
        mean, std: of log σ; by default 0 and 1 for a flow, 0 and 1.2 for "trig", −1.2 and 1.2 otherwise.
    """

    times: Literal["log-normal", "uniform"] | None = None
    mean: float | None = None
    std: float | None = Field(None, gt=0)


class ProcessTable(ProcessSettings):
    """The one table of the processes that come with caloforge, which checkpoints hold whole.

    An option of another kind is an error unless it has its default value.

    Attributes:
        steps: number of times that ddpm is trained at.
        sigma_min, sigma_max, rho: edm's least and largest σ, and how steps are spaced between.
        sigma_data: standard deviation of the coordinates, for edm's scales.
    """

    steps: int = Field(400, ge=2)
    sigma_min: float = Field(0.002, gt=0)
    sigma_max: float = Field(80.0, gt=0)
    rho: float = Field(7.0, ge=1)
    sigma_data: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _options_of_kind(self) -> Self:
        owners = {"steps": "ddpm"} | dict.fromkeys(("sigma_min", "sigma_max", "rho", "sigma_data"), "edm")
        for option, kind in owners.items():
            default = type(self).model_fields[option].default
            if getattr(self, option) != default and self.kind != kind:
                raise ValueError(f"{option} is an option of kind {kind!r} and does nothing for {self.kind!r}")
        return self


class Process(nn.Module, ABC):
    """A mixture of data and noise and the network's task.

    Attributes:
        times: how training times are distributed where the settings do not say it.
        log_sigma: mean and standard deviation of log σ, likewise.
    """

    Settings: ClassVar[type[ProcessSettings]]
    times: ClassVar[Literal["log-normal", "uniform"]] = "log-normal"
    log_sigma: ClassVar[tuple[float, float]] = (-1.2, 1.2)

    def __init__(self, settings: ProcessSettings) -> None:
        super().__init__()
        self.settings = settings

    @abstractmethod
    def signal(self, t: T) -> T:
        """a(t), the factor of the data."""

    @abstractmethod
    def noise(self, t: T) -> T:
        """b(t), the factor of the noise."""

    @abstractmethod
    def time(self, sigma: T) -> T:
        """The t at which b/a = σ."""

    @abstractmethod
    def target(self, t: T) -> tuple[T, T]:
        """q and p of the F = q·x₀ + p·ε that the network estimates."""

    def input_scale(self, t: T) -> T:
        """Factor of x_t before the network sees it."""
        return constant(1.0, t)

    def level(self, t: T) -> T:
        """The noise level that the network is given for t, about [0, 1]."""
        return t

    def schedule(self, steps: int, power: float = 1.0) -> list[float]:
        """Times at which a sampler's steps begin, from pure noise down."""
        return [(1 - i / steps) ** power for i in range(steps)]

    def draw_times(self, n: int, generator: torch.Generator | None, device: torch.device | str) -> Tensor:
        """Times of n training examples, (n,) float32; one from each n-th part of their distribution.

        n is that of the whole batch where several processes have a share each.
        """
        place, whole = places(n, device)
        rank = (place + torch.rand(n, generator=generator, device=device)) / whole
        if (self.settings.times or self.times) == "uniform":
            return rank
        mean, std = self.log_sigma
        mean = mean if self.settings.mean is None else self.settings.mean
        std = std if self.settings.std is None else self.settings.std
        log_sigma: Tensor = mean + std * torch.special.ndtri(rank.clamp(1e-6, 1 - 1e-6))
        return self.time(log_sigma.exp())

    def mix(self, x0: Tensor, epsilon: Tensor, t: T) -> Tensor:
        """x_t (n, *) of data and noise (n, *)."""
        return per_shower(self.signal(t), x0) * x0 + per_shower(self.noise(t), x0) * epsilon

    def raw(self, network: Network, x: Tensor, t: T) -> Tensor:
        """The network's F (n, *) at x (n, *) and t."""
        return network(per_shower(self.input_scale(t), x) * x, self.levels(t, x))

    def levels(self, t: T, x: Tensor) -> Tensor:
        """The noise level of each of the showers x (n, *), (n, 1)."""
        if isinstance(t, Tensor):
            return self.level(t).to(x).reshape(-1, 1)
        return x.new_full((x.shape[0], 1), self.level(t))

    def loss(
        self,
        network: Network,
        x0: Tensor,
        generator: torch.Generator | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Mean squared error of F over a shower's coordinates, (n,), at random times and noises.

        ``weights`` (n, *) of the coordinates change what the network spends itself on, not what is best.
        """
        t = self.draw_times(len(x0), generator, x0.device).to(x0.dtype)
        epsilon = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
        q, p = (per_shower(weight, x0) for weight in self.target(t))
        estimate = self.raw(network, self.mix(x0, epsilon, t), t)
        error = (estimate - (q * x0 + p * epsilon)).square()
        return (error if weights is None else weights * error).flatten(1).mean(dim=1)

    def denoised(self, network: Network, x: Tensor, t: T) -> Tensor:
        """The network's estimate of x₀ (n, *), given x_t = x (n, *) and t."""
        (q, p), a, b = self.target(t), self.signal(t), self.noise(t)
        determinant = a * p - b * q
        f = self.raw(network, x, t)
        return per_shower(p / determinant, x) * x - per_shower(b / determinant, x) * f

    def path_scale(self, t: T) -> T:
        """x_t over its place z on the path."""
        return self.signal(t) + self.noise(t)

    def path_variable(self, t: T) -> T:
        """u(t) along the path, rising, 0 at the data."""
        return self.noise(t) / self.path_scale(t)

    def time_of_path_variable(self, u: T) -> T:
        """The inverse of `path_variable`."""
        return self.time(u / (1 - u))

    def slope_weights(self, t: T) -> tuple[T, T]:
        """Weights of x₀ and ε in the slope dz/du."""
        return constant(-1.0, t), constant(1.0, t)

    def slope(self, f: Tensor, x: Tensor, t: T) -> Tensor:
        """dz/du (n, *) where the network's F is f at x_t = x, both (n, *)."""
        return self._other(f, x, t, self.target(t), self.slope_weights(t))

    def raw_of_slope(self, slope: Tensor, x: Tensor, t: T) -> Tensor:
        """The inverse of `slope`."""
        return self._other(slope, x, t, self.slope_weights(t), self.target(t))

    def _other(self, f: Tensor, x: Tensor, t: T, weights: tuple[T, T], other: tuple[T, T]) -> Tensor:
        """The mixture of x₀ and ε with ``other`` weights, from x and the mixture f with ``weights``."""
        a, b, (q, p), (q_new, p_new) = self.signal(t), self.noise(t), weights, other
        determinant = a * p - b * q
        x_weight, f_weight = q_new * p - p_new * q, p_new * a - q_new * b
        return per_shower(x_weight / determinant, x) * x + per_shower(f_weight / determinant, x) * f

    def move(self, x: Tensor, slope: Tensor, t: T, s: T) -> Tensor:
        """x_s (n, *) from x_t = x with a constant slope."""
        z = (
            per_shower(1 / self.path_scale(t), x) * x
            + per_shower(self.path_variable(s) - self.path_variable(t), x) * slope
        )
        return per_shower(self.path_scale(s), x) * z


PROCESSES: Registry[type[Process]] = Registry(
    "process", "caloforge.models.diffusion.processes", default="flow"
)
"""Processes by the ``kind`` of their settings."""

ProcessChoice = Annotated[SerializeAsAny[ProcessSettings], BeforeValidator(PROCESSES.settings)]
"""Type of a settings field that says which process, and its settings."""
