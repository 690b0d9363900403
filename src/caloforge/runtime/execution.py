"""Where and how a model computes: what decides the bits of its results, decided once and not asked again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

__all__ = ["Execution", "KernelChoice", "PrecisionChoice"]

PrecisionChoice = Literal["auto", "float32", "bfloat16"]
"""Of networks; "auto" is what the model's settings say, there "auto" is bfloat16 where it is native."""
KernelChoice = Literal["auto", "compiled", "plain"]
"""On a CPU; "auto" is compiled where a compiler is at hand and ``CALOFORGE_KERNELS=0`` does not forbid it."""


@dataclass(frozen=True)
class Execution:
    """The decision for one model.

    Attributes:
        device: where it computes.
        precision: of its networks; "mixed" for a model of models of which some are in bfloat16. Splines, sums
            and energies are float32 in any case.
        kernels: "compiled" or "plain" torch; "none" for a model that has no kernels, and "auto" before the
            decision, when compiled ones are used where they can be had.
    """

    device: torch.device
    precision: Literal["float32", "bfloat16", "mixed"]
    kernels: Literal["auto", "compiled", "plain", "none"]

    def __str__(self) -> str:
        kernels = "" if self.kernels == "none" else f", {self.kernels} kernels"
        return f"{self.device}, {self.precision}{kernels}"
