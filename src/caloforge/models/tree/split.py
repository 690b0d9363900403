"""How one energy is shared by two cells: its density and its map from noise.

Either one of the cells has all, or both have at least the threshold t. Then w = log(E_left/E_right) lies
between −W and W, W = log((E − t)/t), and y = logit((w/W + 1)/2) has a mixture of logistic densities.

Legend: ``L`` splits, ``M`` components, E the energy that is shared, MeV.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from caloforge.models.lit import lit_rows

__all__ = [
    "LEAST_SCALE",
    "NEVER",
    "can_share",
    "draw",
    "log_likelihood",
    "log_width",
    "logistic",
    "mixture_log_density",
    "mixture_sample",
    "n_outputs",
    "scale_of",
]

LEAST_SCALE = 5e-4
"""Of a component; a split of hundreds of MeV is known to a per cent, 0.002 in y."""
EDGE = 1e-4
"""y is kept where (w/W + 1)/2 is this far from 0 and 1."""
ROOM = 1e-5
"""An energy is shared if it is larger than two thresholds by this part."""
NEVER = -30.0
"""Logit of what cannot be."""


def n_outputs(components: int) -> int:
    """Numbers that a network gives for a split."""
    return 3 + 3 * components


def logistic(z: Tensor) -> Tensor:
    """Standard logistic numbers of standard normal ones."""
    made: Tensor = torch.special.log_ndtr(z) - torch.special.log_ndtr(-z)
    return made


def scale_of(raw: Tensor) -> Tensor:
    """Scales of components, of what the network says of them."""
    return 0.5 * F.softplus(raw) + LEAST_SCALE


def mixture_log_density(y: Tensor, raw: Tensor) -> Tensor:
    """log of a mixture of logistic densities at y (L,); weights, places and scales in raw (L, 3M)."""
    weights, places, scales = raw.chunk(3, dim=1)
    scale = scale_of(scales)
    z = ((y[:, None] - places) / scale).abs()
    each = F.log_softmax(weights, dim=1) - z - 2 * F.softplus(-z) - scale.log()
    return torch.logsumexp(each, dim=1)


def mixture_sample(raw: Tensor, uniform: Tensor, standard: Tensor) -> Tensor:
    """The y of a mixture (…, 3M) of uniform numbers, which choose the component, and logistic ones."""
    weights, places, scales = raw.chunk(3, dim=-1)
    passed = weights.softmax(dim=-1).cumsum(dim=-1)[..., :-1] < uniform[..., None]
    component = passed.sum(dim=-1, keepdim=True)
    place, scale = places.gather(-1, component)[..., 0], scales.gather(-1, component)[..., 0]
    return place + scale_of(scale) * standard


def _choices(raw: Tensor, energy: Tensor, threshold: Tensor) -> Tensor:
    """Logits (…, 3) of left alone, right alone, both."""
    return torch.cat(
        [raw[..., :2], torch.where(can_share(energy, threshold)[..., None], raw[..., 2:3], NEVER)], dim=-1
    )


def can_share(energy: Tensor, threshold: Tensor) -> Tensor:
    """True where both cells can have energy."""
    return energy >= 2 * (1 + ROOM) * threshold


def log_width(energy: Tensor, threshold: Tensor) -> Tensor:
    """W, of energies that can be shared; of others something that is harmless."""
    rest = energy - threshold
    return (rest.maximum((1 + ROOM) * threshold) / threshold).log()


def log_likelihood(raw: Tensor, energy: Tensor, left: Tensor, right: Tensor, threshold: Tensor) -> Tensor:
    """log p of the shares of energies E (L,), given what a network says of them (L, 3 + 3M)."""
    shared = (left > 0) & (right > 0)
    choice = torch.where(shared, 2, torch.where(left > 0, 0, 1))
    log_p = -F.cross_entropy(_choices(raw, energy, threshold), choice, reduction="none")
    rows = lit_rows(shared)
    both = shared[rows]
    e, a, b = (torch.where(both, x[rows], 3 * threshold) for x in (energy, left, right))
    a, b = torch.where(both, a, threshold), torch.where(both, b, threshold)
    u = ((a / b).log() / log_width(e, threshold) + 1) / 2
    y = torch.logit(u.clamp(EDGE, 1 - EDGE))
    density = torch.where(both, mixture_log_density(y, raw[rows, 3:]), 0.0)
    return log_p + (
        density if isinstance(rows, slice) else torch.zeros_like(log_p).index_put((rows,), density)
    )


def draw(
    raw: Tensor, energy: Tensor, uniform: Tensor, standard: Tensor, threshold: Tensor
) -> tuple[Tensor, Tensor]:
    """Shares of energies E (…): left and right; of E = 0, 0 both.

    Args:
        raw: what a network says of the splits, (…, 3 + 3M).
        energy: E.
        uniform: numbers (…) in [0, 1] that choose who has energy, and the component.
        standard: logistic numbers (…).
        threshold: t.
    """
    left, right, shared = _choices(raw, energy, threshold).softmax(dim=-1).unbind(dim=-1)
    one = left + right
    both = (uniform >= one) & can_share(energy, threshold)
    y = mixture_sample(raw[..., 3:], (uniform - one) / torch.where(both, shared, 1.0), standard)
    w = (2 * torch.sigmoid(y) - 1) * log_width(energy, threshold)
    less = (energy * torch.sigmoid(-w.abs())).maximum(threshold)
    more = energy - less
    on_left = torch.where(both, w > 0, uniform < left)
    larger = torch.where(both, more, energy)
    smaller = torch.where(both, less, 0.0)
    return torch.where(on_left, larger, smaller), torch.where(on_left, smaller, larger)
