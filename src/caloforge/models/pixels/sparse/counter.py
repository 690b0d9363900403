"""Uniform random numbers of one event, as many as it takes, by torch alone so that TorchScript has them, too.

They are the numbers of `caloforge.runtime.streams`: Philox4x32-10 with the seed as key and the counter
(block, stream, number of the event).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["uniforms"]


def uniforms(key: Tensor, stream: int, n: int) -> Tensor:
    """Numbers (n,) in (0, 1), float32 with 24 random bits, for the ``key`` (4,) of an event (see PixelModel).

    The first of them do not depend on how many there are.
    """
    low = 0xFFFFFFFF
    c0 = torch.arange((n + 3) // 4, device=key.device)
    c1, c2, c3 = torch.full_like(c0, stream), key[2].expand_as(c0), key[3].expand_as(c0)
    k0, k1 = key[0], key[1]
    for _ in range(10):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57  # the low 64 bits of the products, whatever their sign
        c0, c2 = ((p1 >> 32) ^ c1 ^ k0) & low, ((p0 >> 32) ^ c3 ^ k1) & low
        c1, c3 = p1 & low, p0 & low
        k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
    words = torch.stack([c0, c1, c2, c3], dim=1).reshape(-1)[:n]
    return ((words >> 8).to(torch.float32) + 0.5) * 2.0**-24
