"""Seeds of training and its validation, derived from one. Generation uses `caloforge.runtime.streams`."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["derived_seed", "seed_torch"]


def derived_seed(*keys: int | str) -> int:
    """A 63-bit seed that is a function of the keys alone, e.g. (seed, "train", epoch, step)."""
    data = "\x1f".join(map(str, keys)).encode()
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "little") >> 1


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed torch's own generators of the CPU and ``device``; cheaper than `torch.manual_seed`."""
    import torch

    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
