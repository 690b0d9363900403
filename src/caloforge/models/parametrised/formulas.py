"""The parametrisation of electromagnetic showers by G. Grindhammer and S. Peters, hep-ex/0001020.

Legend: ``y`` = E/E_c, ``t`` depth in radiation lengths, ``T`` that of the maximum and ``α`` the shape of the
longitudinal profile f(t) = (βt)^(α−1) β e^(−βt)/Γ(α), T = (α − 1)/β; ``τ`` = t/T; ``r`` in Molière radii;
``Fs`` the sampling frequency along the shower, ``ê`` for e/mip. Energies E are GeV here. Everything that is
a tensor has any shape, the same for all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LEAST_ALPHA", "LOWEST", "Formulas", "Moments"]

LEAST_ALPHA = 1.05
"""α is not less, so that there is a maximum."""
LOWEST = 0.05
"""Arguments of logarithms, and of 1/x for the widths, are taken to be at least this."""
WIDEST = 1.0
"""Widths of ln T and ln α above this say nothing of a shower."""


@dataclass(frozen=True)
class Moments:
    """Of ln T and ln α: means, widths and correlation."""

    log_t: Tensor
    log_alpha: Tensor
    sigma_t: Tensor
    sigma_alpha: Tensor
    rho: Tensor

    def draw(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """T and α of two normal numbers a shower."""
        same, other = ((1 + self.rho) / 2).sqrt() * first, ((1 - self.rho) / 2).sqrt() * second
        log_t = self.log_t + self.sigma_t * (same + other)
        log_alpha = self.log_alpha + self.sigma_alpha * (same - other)
        return log_t.exp(), log_alpha.exp().clamp_min(LEAST_ALPHA)


@dataclass(frozen=True)
class Formulas:
    """The formulas for one medium.

    Attributes:
        z: its effective atomic number.
        e_hat: ê of a sampling calorimeter, or None for a homogeneous one.
    """

    z: float
    e_hat: float | None = None

    def average(self, log_y: Tensor, frequency: Tensor) -> tuple[Tensor, Tensor]:
        """T and α of the average profile."""
        t, alpha = log_y - 0.858, 0.21 + (0.492 + 2.38 / self.z) * log_y
        if self.e_hat is None:
            return t, alpha
        return t - 0.59 / frequency - 0.53 * (1 - self.e_hat), alpha - 0.444 / frequency

    def _arguments(self, log_y: Tensor, frequency: Tensor) -> list[Tensor]:
        """e^⟨ln T⟩, e^⟨ln α⟩, 1/σ(ln T) and 1/σ(ln α), which have to be positive."""
        t, alpha = log_y - 0.812, 0.81 + (0.458 + 2.26 / self.z) * log_y
        if self.e_hat is None:
            return [t, alpha, -1.4 + 1.26 * log_y, -0.58 + 0.86 * log_y]
        t = t - 0.55 / frequency - 0.69 * (1 - self.e_hat)
        return [t, alpha - 0.476 / frequency, -2.5 + 1.25 * log_y, -0.82 + 0.79 * log_y]

    def moments(self, log_y: Tensor, frequency: Tensor) -> Moments:
        """How single showers fluctuate."""
        t, alpha, width_t, width_alpha = (x.clamp_min(LOWEST) for x in self._arguments(log_y, frequency))
        rho = (0.705 if self.e_hat is None else 0.784) - 0.023 * log_y
        return Moments(t.log(), alpha.log(), 1 / width_t, 1 / width_alpha, rho.clamp(-1, 1))

    def valid(self, log_y: Tensor, frequency: Tensor) -> Tensor:
        """True where all logarithms are of positive numbers, and the widths below 1."""
        t, alpha, width_t, width_alpha = self._arguments(log_y, frequency)
        rises = (t > LOWEST) & (alpha > LEAST_ALPHA)
        return rises & (width_t > 1 / WIDEST) & (width_alpha > 1 / WIDEST)

    def spots(self, energy: Tensor, resolution: Tensor) -> Tensor:
        """Mean number of spots of a shower; σ/E = resolution/√E in a sampling calorimeter."""
        if self.e_hat is None:
            return 93 * torch.tensor(self.z).log().to(energy) * energy**0.876
        return 10.3 / resolution * energy**0.959

    def spot_profile(self, t: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """T and α of the profile of the number of spots, for a shower with T and α."""
        if self.e_hat is None:
            return t * (0.698 + 0.00212 * self.z), alpha * (0.639 + 0.00334 * self.z)
        return t * (0.813 + 0.0019 * self.z), alpha * (0.844 + 0.0026 * self.z)

    def radial(self, tau: Tensor, log_e: Tensor, frequency: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """R_core and R_tail, in Molière radii, and the part p of the core in
        f(r) = p·2rR_c²/(r² + R_c²)² + (1 − p)·2rR_t²/(r² + R_t²)²."""
        core = 0.0251 + 0.00319 * log_e + (0.1162 - 0.000381 * self.z) * tau
        k1, k2, k3, k4 = 0.659 - 0.00309 * self.z, 0.645, -2.59, 0.3585 + 0.0421 * log_e
        tail = k1 * ((k3 * (tau - k2)).exp() + (k4 * (tau - k2)).exp())
        p1, p2, p3 = 2.632 - 0.00094 * self.z, 0.401 + 0.00187 * self.z, 1.313 - 0.0686 * log_e
        u = (p2 - tau) / p3
        part = p1 * (u - u.exp()).exp()
        if self.e_hat is not None:
            early = (-tau).exp() / frequency
            core = core - 0.0203 * (1 - self.e_hat) + 0.0397 * early
            tail = tail - 0.14 * (1 - self.e_hat) - 0.495 * early
            part = part + (1 - self.e_hat) * (0.348 - 0.642 / frequency * (-((tau - 1) ** 2)).exp())
        return core.clamp_min(SMALLEST), tail.clamp(SMALLEST, LARGEST), part.clamp(0, 1)


SMALLEST, LARGEST = 1e-3, 1e3
"""Radii of core and tail are within, in Molière radii."""
