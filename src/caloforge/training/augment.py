"""Random symmetry operations on batches: what makes new, equally probable showers from those at hand.

Legend: ``n`` showers on a cylinder of Z layers × P φ bins × R radial bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from caloforge.models.base import Batch

__all__ = ["augment"]


def augment(batch: Batch, kinds: Sequence[str], generator: torch.Generator) -> Batch:
    """The batch with its energies (n, Z, P, R) turned or mirrored, each shower by itself.

    "rotate_phi" moves a shower by a random number of φ bins, "reflect_phi" mirrors it (φ → −φ) with
    probability one half. Energies are moved and never changed.
    """
    if not kinds:
        return batch
    energies = batch.energies
    n, n_z, n_phi, _ = energies.shape
    device = energies.device
    source = torch.arange(n_phi, device=device).expand(n, n_phi)
    if "rotate_phi" in kinds:
        turn = torch.randint(n_phi, (n, 1), generator=generator, device=device)
        source = (source - turn) % n_phi
    if "reflect_phi" in kinds:
        mirrored = torch.randint(2, (n, 1), generator=generator, device=device).bool()
        source = torch.where(mirrored, n_phi - 1 - source, source)
    shower = torch.arange(n, device=device)[:, None, None]
    layer = torch.arange(n_z, device=device)[None, :, None]
    return replace(batch, energies=energies[shower, layer, source[:, None, :]])
