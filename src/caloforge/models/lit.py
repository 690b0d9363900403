"""Examples that teach or need something among many that are empty: layers and coarse cells with energy."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from caloforge.runtime.compiled import traced

__all__ = ["lit_mean", "lit_rows"]


def lit_rows(lit: Tensor) -> Tensor | slice:
    """Which rows to compute, where only those count that are True in ``lit`` (n,): an index of rows.

    On a CPU, whose memory Python reads without waiting, these alone. Elsewhere, and in what is traced, all,
    since a shape that hangs on data makes the host wait for the device and can be in no graph.
    """
    if lit.device.type != "cpu" or traced():
        return slice(None)
    return torch.from_numpy(np.flatnonzero(lit.numpy()))


def lit_mean(values: Tensor, lit: Tensor) -> Tensor:
    """Mean of those ``values`` (*) that are True in ``lit`` (*); 0 where none is."""
    return torch.where(lit, values, 0.0).sum() / lit.sum().clamp_min(1)
