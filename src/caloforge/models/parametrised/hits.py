"""Hits of equal energy, counted by cell: what dropping them one by one gives, in a few operations.

A layer's number of hits is Poisson's, and each lies in a cell with a known probability. Then the numbers of
the cells are Poisson's, too, and independent; divided by their sum they share out the energy of the layer
exactly as hits that were drawn one by one. What that costs does not grow with the number of hits.
Legend: ``n`` showers, ``Z`` layers, ``V`` voxels, ``M`` cells of the largest layer. Energies are MeV.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from caloforge.models.coordinates import Layers
from caloforge.models.lit import lit_rows

__all__ = ["gamma_numbers", "hit_cells", "poisson_numbers"]

FEW = 3.0
"""Means up to which Poisson numbers are found by their probabilities."""
MOST_OF_FEW = 20
"""Numbers that do not occur with such a mean: less than one in 10⁹."""
SPARE = 4.0
"""Hits have at least this times the threshold, on average, so that none falls below it."""
SCALE = math.sqrt(0.5)
"""erf(z · this) is twice the normal distribution function, less 1."""


def poisson_numbers(normal: Tensor, mean: Tensor) -> Tensor:
    """Poisson numbers with these means, of normal numbers of the same shape: the inverse distribution
    function.

    They are exact up to a mean of 3; above, Cornish and Fisher's expansion is rounded, whose probabilities
    are wrong by less than 0.003.
    """
    shape, normal, mean = mean.shape, normal.flatten(), mean.flatten()
    level = (normal * SCALE).erf_()  # twice the distribution function, less 1
    rows = lit_rows(level > mean.neg().exp_().mul_(2).sub_(1))  # all others are 0
    z, level, m = normal[rows], (level[rows] + 1) / 2, mean[rows]
    few_mean = m.clamp(max=FEW)
    probability = few_mean.neg().exp_()
    below, few = probability.clone(), (level > probability).to(torch.uint8)
    for k in range(1, MOST_OF_FEW):
        probability.mul_(few_mean).mul_(1 / k)
        few.add_(level > below.add_(probability))
    root = m.clamp_min(FEW).sqrt()
    many = m + z * (root * root - 1 / 12).sqrt() + (z * z - 1) / 6 + (z - z * z * z) / (72 * root)
    numbers = torch.where(m < FEW, few.to(m), (many + 0.5).floor().clamp_min(0))
    if not isinstance(rows, slice):
        numbers = torch.zeros_like(mean).index_copy_(0, rows, numbers)
    return numbers.view(shape)


def gamma_numbers(normal: Tensor, shape: Tensor) -> Tensor:
    """Gamma numbers (n, Z) with mean and variance ``shape`` (n, Z), of two normal numbers each, (n, 2, Z).

    Wilson and Hilferty's approximation of one with shape + 1, times u^(1/shape). Mean and variance are right
    to 1 %.
    """
    first, second = normal.unbind(1)
    above = shape + 1
    cube = 1 - 1 / (9 * above) + first / (3 * above.sqrt())
    factor: Tensor = (torch.special.log_ndtr(second) / shape).exp()
    return above * cube.clamp_min(0) ** 3 * factor


def hit_cells(
    noise: Tensor, energies: Tensor, hits: Tensor, shares: Tensor, layers: Layers, threshold: Tensor
) -> Tensor:
    """Cells (n, V) of layers whose energies (n, Z) lie in hits, of which a layer has about so many (n, Z).

    No cell lies between 0 and the threshold. A layer with energy has a hit. One with less than the threshold
    keeps it, in one cell.

    Args:
        noise: normal numbers (n, V).
        energies, hits: of layers.
        shares: probability that a hit of the layer lies in a cell, (n, V); what is missing to 1 is outside.
        layers: which voxel is in which layer.
        threshold: of a cell.
    """
    hits = torch.minimum(hits, energies / (SPARE * threshold))
    noise, probability = layers.split(noise), layers.split(shares)  # (n, Z, M)
    number = poisson_numbers(noise, probability * hits[..., None])
    total = number.sum(-1)
    several = (total > 0) & (total * threshold <= energies)
    scale = torch.where(several, energies / total.clamp_min(1), 0.0)
    alone = torch.where(several, 0.0, energies)
    # The first hit is where a Poisson process has it: −ln(level)/mean is least.
    rows = lit_rows((alone > 0).flatten())
    level = (1 + (noise.flatten(0, 1)[rows] * SCALE).erf()) / 2
    early = probability.flatten(0, 1)[rows] / (1e-7 - level.log())
    first = early.argmax(-1)
    if not isinstance(rows, slice):
        first = torch.zeros_like(total, dtype=torch.int64).flatten().index_copy_(0, rows, first)
    cells = number.mul_(scale[..., None])
    return layers.join(cells.scatter_add_(-1, first.view_as(total)[..., None], alone[..., None]))
