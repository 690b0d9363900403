"""Examples that teach or need something among many that are empty: layers and coarse cells with energy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch
from torch import Tensor

from caloforge.runtime.compiled import traced

__all__ = ["all_rows", "drawn", "lit_examples", "lit_mean", "lit_rows"]

_chosen: ContextVar[tuple[Tensor, int] | None] = ContextVar("chosen", default=None)
"""Which rows a network computes, of how many; None for all."""


def lit_rows(lit: Tensor) -> Tensor | slice:
    """Which rows to compute, where only those count that are True in ``lit`` (n,): an index of rows.

    On a CPU, whose memory Python reads without waiting, these alone. Elsewhere, and in what is traced, all,
    since a shape that hangs on data makes the host wait for the device and can be in no graph.
    """
    if all_rows(lit.device):
        return slice(None)
    return torch.from_numpy(np.flatnonzero(lit.numpy()))


def all_rows(device: torch.device) -> bool:
    """True where `lit_rows` are all rows, so that leaving some out saves nothing."""
    return device.type != "cpu" or traced()


@contextmanager
def lit_examples(lit: Tensor) -> Iterator[Tensor | slice]:
    """The `lit_rows` of examples; what a network draws for these within is as `drawn` says."""
    rows = lit_rows(lit)
    token = _chosen.set(None if isinstance(rows, slice) else (rows, len(lit)))
    try:
        yield rows
    finally:
        _chosen.reset(token)


def drawn(draw: Callable[[int], Tensor], n: int) -> Tensor:
    """Random numbers of ``draw(n)`` (n, …) for the n examples that a network computes.

    Within `lit_examples` they are drawn for all examples, lit or not, so that an example's depend on its
    place in the batch alone and several processes draw them as one does.
    """
    chosen = _chosen.get()
    if chosen is None or len(chosen[0]) != n:
        return draw(n)
    rows, whole = chosen
    return draw(whole)[rows]


def lit_mean(values: Tensor, lit: Tensor) -> Tensor:
    """Mean of those ``values`` (*) that are True in ``lit`` (*); 0 where none is."""
    return torch.where(lit, values, 0.0).sum() / lit.sum().clamp_min(1)
