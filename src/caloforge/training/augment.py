"""Random symmetry operations on batches: what makes new, equally probable showers from those at hand.

Legend: ``n`` showers on a cylinder of Z layers × P φ bins × R radial bins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from caloforge.models.base import Batch

__all__ = ["augment"]


def augment(batch: Batch, kinds: Sequence[str], generator: torch.Generator) -> Batch:
    """The batch with its energies (n, Z, P, R) turned or mirrored, each shower by itself.

    "rotate_phi" moves a shower by a random number of φ bins, "reflect_phi" mirrors it (φ → −φ) with
    probability one half. Energies are moved and never changed. What is given of the showers on a mesh with
    other φ bins is moved along, so that turns are by angles that are whole bins of both.
    """
    if not kinds:
        return batch
    n, device = len(batch), batch.energies.device
    turns = batch.energies.shape[2]
    if batch.given is not None:
        turns = math.gcd(turns, batch.given.shape[2])
    turn = torch.zeros(n, 1, dtype=torch.int64, device=device)
    mirrored = torch.zeros(n, 1, dtype=torch.bool, device=device)
    if "rotate_phi" in kinds:
        turn = torch.randint(turns, (n, 1), generator=generator, device=device)
    if "reflect_phi" in kinds:
        mirrored = torch.randint(2, (n, 1), generator=generator, device=device).bool()

    def moved(energies: Tensor) -> Tensor:
        n_z, n_phi = energies.shape[1:3]
        source = (torch.arange(n_phi, device=device) - turn * (n_phi // turns)) % n_phi  # (n, P)
        source = torch.where(mirrored, n_phi - 1 - source, source)
        shower = torch.arange(n, device=device)[:, None, None]
        layer = torch.arange(n_z, device=device)[None, :, None]
        return energies[shower, layer, source[:, None, :]]

    given = None if batch.given is None else moved(batch.given)
    return replace(batch, energies=moved(batch.energies), given=given)
