"""Distributions as tables: the steps cumulative distribution → Gaussian → principal components, and back.

Legend: ``N`` showers, ``K`` variables, ``Q`` quantiles, ``G`` tables. Variables are numbers of any unit.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["gaussianised", "levels", "looked_up", "principal_components", "quantile_table"]

Floats = NDArray[np.float64]


def levels(n: int) -> Floats:
    """Levels (n,) of the distribution functions in a table, evenly spaced from 0 to 1."""
    return np.linspace(0.0, 1.0, n)


def quantile_table(values: Floats, n: int) -> Floats:
    """The values (N, K) at evenly spaced levels of their distribution functions: (K, n)."""
    return np.quantile(values, levels(n), axis=0).T


def gaussianised(values: Floats, random: np.random.Generator) -> Floats:
    """Normal numbers (N, K) in the order of the values (N, K), each by itself; equal ones at random."""
    rank = np.lexsort((random.random(values.shape), values), axis=0).argsort(axis=0)
    level = torch.from_numpy((rank + 0.5) / len(values))
    normal: Floats = torch.special.ndtri(level).numpy()
    return normal


def principal_components(normal: Floats) -> Floats:
    """Vectors (K, K), as columns, times the widths along them; the largest comes first.

    Times K standard normal numbers they give numbers with the covariance of ``normal`` (N, K) and, each, the
    width 1.
    """
    covariance = np.cov(normal, rowvar=False)
    width = np.sqrt(np.diag(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(width, width))
    order = values.argsort()[::-1]
    components: Floats = vectors[:, order] * np.sqrt(values[order].clip(min=0))
    return components


def looked_up(table: Tensor, place: Tensor, level: Tensor) -> Tensor:
    """Values of tables (G, K, Q) at levels (n, K) in [0, 1], of the tables ``place`` (n,): (n, K)."""
    (_, k, q), x = table.shape, level * (table.shape[-1] - 1)
    cell = x.floor().clamp(0, q - 2)
    first = (place[:, None] * k + torch.arange(k, device=table.device)) * q + cell.long()
    flat = table.flatten()
    return flat[first].lerp(flat[first + 1], (x - cell).clamp(0, 1))
