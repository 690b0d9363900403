"""How data and noise are mixed, and what the network is asked: flow matching, DDPM and EDM in one frame.

x_t = a(t)·x₀ + b(t)·ε with signal a, noise b and σ = b/a. The network estimates F = q(t)·x₀ + p(t)·ε of the
x_t it is given (times an input scale), and solving both equations gives its x₀. A process is these four
functions of t and the times it is trained at; every sampler of `caloforge.models.diffusion.samplers` works
with every process. Each process has a curve z(u) = x/length along which samplers step, with a clock u and a
slope dz/du that is again a mixture of x₀ and ε: the line from x₀ to ε, the line x₀ + σ·ε, or a circle.

| kind   | a      | b        | F                    | papers |
|--------|--------|----------|----------------------|--------|
| "flow" | 1 − t  | t        | ε − x₀, the velocity | Lipman et al. 2210.02747; Liu et al. 2209.03003 |
| "ddpm" | cosine | √(1 − a²) | ε                    | Ho et al. 2006.11239; Nichol, Dhariwal 2102.09672 |
| "trig" | cos θ  | sin θ    | ε·cos θ − x₀·sin θ   | θ = πt/2: Lu, Song 2410.11081 |
| "edm"  | 1      | σ        | of unit variance     | Karras, Aittala, Aila, Laine 2206.00364 |

Legend: ``n`` showers, ``*`` the shape of one shower's coordinates; times t are (n,) or of no dimension.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, Self, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

__all__ = ["DDPM", "EDM", "FlowMatching", "Network", "Process", "ProcessSettings", "process_of"]

Network = Callable[[Tensor, Tensor], Tensor]
"""x (n, *) and its noise level (n, 1), about [0, 1], to F (n, *)."""

START_SIGMA = 80.0  # a standard normal x is taken for σ = 80: the signal that is missing has 1/80 of its size
OFFSET = 0.008  # of the cosine schedule: less noise than a cell's resolution teaches nothing
LARGEST_BETA = 0.999


class ProcessSettings(BaseModel):
    """Which process, and its numbers; an option of another kind is an error.

    Attributes:
        kind: "flow", "trig", "ddpm" or "edm".
        times: training times; "log-normal" σ (for a flow this is a logit-normal t) or "uniform" t; by default
            uniform for ddpm.
        mean, std: of log σ; by default 0 and 1 for a flow, 0 and 1.2 for "trig", −1.2 and 1.2 otherwise.
        steps: number of times that ddpm is trained at.
        sigma_min, sigma_max, rho: edm's least and largest σ, and how steps are spaced between.
        sigma_data: standard deviation of the coordinates, for edm's scales.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["flow", "trig", "ddpm", "edm"] = "flow"
    times: Literal["log-normal", "uniform"] | None = None
    mean: float | None = None
    std: float | None = Field(None, gt=0)
    steps: int = Field(400, ge=2)
    sigma_min: float = Field(0.002, gt=0)
    sigma_max: float = Field(80.0, gt=0)
    rho: float = Field(7.0, ge=1)
    sigma_data: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _options_of_kind(self) -> Self:
        owners = {"steps": "ddpm"} | dict.fromkeys(("sigma_min", "sigma_max", "rho", "sigma_data"), "edm")
        for option, kind in owners.items():
            default = type(self).model_fields[option].default  # a checkpoint holds all options
            if getattr(self, option) != default and self.kind != kind:
                raise ValueError(f"{option} is an option of kind {kind!r} and does nothing for {self.kind!r}")
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min must be below sigma_max, got {self.sigma_min} and {self.sigma_max}")
        return self


class Process(nn.Module, ABC):
    """A mixture of data and noise and the network's task; made by `process_of`."""

    times: ClassVar[Literal["log-normal", "uniform"]] = "log-normal"
    log_sigma: ClassVar[tuple[float, float]] = (-1.2, 1.2)

    def __init__(self, settings: ProcessSettings) -> None:
        super().__init__()
        self.settings = settings

    @abstractmethod
    def signal(self, t: Tensor) -> Tensor:
        """a(t), the factor of the data."""

    @abstractmethod
    def noise(self, t: Tensor) -> Tensor:
        """b(t), the factor of the noise."""

    @abstractmethod
    def time(self, sigma: Tensor) -> Tensor:
        """The t at which b/a = σ."""

    @abstractmethod
    def target(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """q and p of the F = q·x₀ + p·ε that the network estimates."""

    def input_scale(self, t: Tensor) -> Tensor:
        """Factor of x_t before the network sees it."""
        return torch.ones_like(t)

    def level(self, t: Tensor) -> Tensor:
        """What the network is told of t, about [0, 1]."""
        return t

    def schedule(self, steps: int, power: float = 1.0) -> Tensor:
        """Times at which a sampler's steps begin, from pure noise down, (steps,) float64."""
        return (1 - torch.arange(steps, dtype=torch.float64) / steps) ** power

    def draw_times(self, n: int, generator: torch.Generator | None, device: torch.device | str) -> Tensor:
        """Times of n training examples, (n,) float32; one from each n-th part of their distribution."""
        rank = (torch.arange(n, device=device) + torch.rand(n, generator=generator, device=device)) / n
        if (self.settings.times or self.times) == "uniform":
            return rank
        mean, std = self.log_sigma
        mean = mean if self.settings.mean is None else self.settings.mean
        std = std if self.settings.std is None else self.settings.std
        return self.time((mean + std * torch.special.ndtri(rank.clamp(1e-6, 1 - 1e-6))).exp())

    def mix(self, x0: Tensor, epsilon: Tensor, t: Tensor) -> Tensor:
        """x_t (n, *) of data and noise (n, *)."""
        return _wide(self.signal(t), x0) * x0 + _wide(self.noise(t), x0) * epsilon

    def raw(self, network: Network, x: Tensor, t: Tensor) -> Tensor:
        """The network's F (n, *) at x (n, *) and t (n,) or of no dimension."""
        level = self.level(t).to(x)
        return network(_wide(self.input_scale(t), x) * x, level.reshape(-1, 1).expand(len(x), 1))

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
        q, p = (_wide(weight, x0) for weight in self.target(t))
        estimate = self.raw(network, self.mix(x0, epsilon, t), t)
        error = (estimate - (q * x0 + p * epsilon)).square()
        return (error if weights is None else weights * error).flatten(1).mean(dim=1)

    def denoised(self, network: Network, x: Tensor, t: Tensor) -> Tensor:
        """The network's estimate of x₀ (n, *), given x_t = x (n, *) and t (n,) or of no dimension."""
        (q, p), a, b = self.target(t), self.signal(t), self.noise(t)
        determinant = a * p - b * q
        f = self.raw(network, x, t)
        return _wide(p / determinant, x) * x - _wide(b / determinant, x) * f

    def length(self, t: Tensor) -> Tensor:
        """x_t over its place z on the curve."""
        return self.signal(t) + self.noise(t)

    def clock(self, t: Tensor) -> Tensor:
        """u(t) on the curve, rising, 0 at the data."""
        return self.noise(t) / self.length(t)

    def time_of_clock(self, u: Tensor) -> Tensor:
        """The inverse of `clock`."""
        return self.time(u / (1 - u))

    def drift(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of x₀ and ε in the slope dz/du."""
        return -torch.ones_like(t), torch.ones_like(t)

    def slope(self, f: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """dz/du (n, *) where the network's F is f at x_t = x, both (n, *)."""
        return self._other(f, x, t, self.target(t), self.drift(t))

    def raw_of_slope(self, slope: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The inverse of `slope`."""
        return self._other(slope, x, t, self.drift(t), self.target(t))

    def _other(
        self, f: Tensor, x: Tensor, t: Tensor, weights: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]
    ) -> Tensor:
        """The mixture of x₀ and ε with ``other`` weights, from x and the mixture f with ``weights``."""
        a, b, (q, p), (q_new, p_new) = self.signal(t), self.noise(t), weights, other
        determinant = a * p - b * q
        of_x, of_f = q_new * p - p_new * q, p_new * a - q_new * b
        return _wide(of_x / determinant, x) * x + _wide(of_f / determinant, x) * f

    def move(self, x: Tensor, slope: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """x_s (n, *) from x_t = x with a constant slope."""
        z = _wide(1 / self.length(t), x) * x + _wide(self.clock(s) - self.clock(t), x) * slope
        return _wide(self.length(s), x) * z


class FlowMatching(Process):
    """The straight line from data to noise, and its velocity."""

    log_sigma: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def signal(self, t: Tensor) -> Tensor:
        return 1 - t

    def noise(self, t: Tensor) -> Tensor:
        return t

    def time(self, sigma: Tensor) -> Tensor:
        return sigma / (1 + sigma)

    def target(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(t), torch.ones_like(t)


class Trigonometric(Process):
    """Data and noise on a circle; where coordinates are independent and standard normal, F is zero.

    What an untrained network makes is then exact, whatever the number of steps.
    """

    log_sigma: ClassVar[tuple[float, float]] = (0.0, 1.2)

    def signal(self, t: Tensor) -> Tensor:
        return (t * (math.pi / 2)).cos()

    def noise(self, t: Tensor) -> Tensor:
        return (t * (math.pi / 2)).sin()

    def time(self, sigma: Tensor) -> Tensor:
        return sigma.atan() / (math.pi / 2)

    def target(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -self.noise(t), self.signal(t)

    def length(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def clock(self, t: Tensor) -> Tensor:
        return t * (math.pi / 2)

    def time_of_clock(self, u: Tensor) -> Tensor:
        return u / (math.pi / 2)

    def drift(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.target(t)


class DDPM(Process):
    """Variance-preserving with the cosine schedule; the network estimates the noise.

    a = cos θ / cos θ₀ with θ = (t + 0.008)/1.008 · π/2, but at the end not below what β ≤ 0.999 leaves in
    ``steps`` steps. Samplers begin where σ = 80, since the x₀ of an estimated noise has σ times its error.
    Their steps are uniform in arctan σ, which is θ but for the offset θ₀: σ begins like √t, so that the last
    of steps uniform in t would be too long for any order above 1.
    """

    times: ClassVar[Literal["log-normal", "uniform"]] = "uniform"

    def signal(self, t: Tensor) -> Tensor:
        last = math.cos(_angle(1 - 1 / self.settings.steps)) / math.cos(_angle(0.0))
        return (_angle(t).cos() / math.cos(_angle(0.0))).clamp_min(last * math.sqrt(1 - LARGEST_BETA))

    def noise(self, t: Tensor) -> Tensor:
        first, angle = _angle(0.0), _angle(t)  # cos²θ₀ − cos²θ without the cancellation at small t
        square = (angle - first).sin() * (angle + first).sin() / math.cos(first) ** 2
        return square.clamp(0, 1).sqrt()

    def time(self, sigma: Tensor) -> Tensor:
        angle = (math.cos(_angle(0.0)) / (1 + sigma.square()).sqrt()).acos()
        return angle * (1 + OFFSET) / (math.pi / 2) - OFFSET

    def target(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), torch.ones_like(t)

    def schedule(self, steps: int, power: float = 1.0) -> Tensor:
        return self.time((math.atan(START_SIGMA) * super().schedule(steps, power)).tan())

    def draw_times(self, n: int, generator: torch.Generator | None, device: torch.device | str) -> Tensor:
        steps = self.settings.steps
        t = super().draw_times(n, generator, device)
        return (t * steps).floor().add(1).clamp(1, steps) / steps


class EDM(Process):
    """Noise of any size on the data; inputs, outputs and targets of unit variance.

    σ(t)^(1/ρ) is linear in t, from sigma_min at 0 to sigma_max at 1, so that steps uniform in t are those of
    the paper.
    """

    def _roots(self) -> tuple[float, float]:
        s = self.settings
        return s.sigma_min ** (1 / s.rho), s.sigma_max ** (1 / s.rho)

    def signal(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def noise(self, t: Tensor) -> Tensor:
        low, high = self._roots()
        return (low + t * (high - low)).clamp_min(0) ** self.settings.rho

    def time(self, sigma: Tensor) -> Tensor:
        low, high = self._roots()
        return (sigma ** (1 / self.settings.rho) - low) / (high - low)

    def target(self, t: Tensor) -> tuple[Tensor, Tensor]:
        sigma, scale = self.noise(t), self.input_scale(t)
        return sigma / self.settings.sigma_data * scale, -self.settings.sigma_data * scale

    def length(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def clock(self, t: Tensor) -> Tensor:
        return self.noise(t)

    def time_of_clock(self, u: Tensor) -> Tensor:
        return self.time(u)

    def drift(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), torch.ones_like(t)

    def input_scale(self, t: Tensor) -> Tensor:
        return (self.noise(t).square() + self.settings.sigma_data**2).rsqrt()

    def level(self, t: Tensor) -> Tensor:
        low, high = math.log(self.settings.sigma_min), math.log(self.settings.sigma_max)
        return (self.noise(t).clamp_min(self.settings.sigma_min / 2).log() - low) / (high - low)

    def schedule(self, steps: int, power: float = 1.0) -> Tensor:
        return (1 - torch.arange(steps, dtype=torch.float64) / max(steps - 1, 1)) ** power


def process_of(settings: ProcessSettings) -> Process:
    """The process of some settings."""
    kinds: dict[str, type[Process]] = {"flow": FlowMatching, "trig": Trigonometric, "ddpm": DDPM, "edm": EDM}
    return kinds[settings.kind](settings)


T = TypeVar("T", float, Tensor)


def _angle(t: T) -> T:
    return (t + OFFSET) / (1 + OFFSET) * (math.pi / 2)


def _wide(t: Tensor, x: Tensor) -> Tensor:
    """Numbers (n,) as (n, 1, …) beside x (n, *); one of no dimension as it is, which leaves the type of x."""
    return t if t.dim() == 0 else t.to(x).reshape(-1, *[1] * (x.dim() - 1))
