"""Where and how a model computes: what decides the bits of its results, decided once and not asked again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from caloforge.errors import CaloforgeError

__all__ = ["Execution", "require_choices"]

PRECISIONS = ("auto", "float32", "bfloat16")
KERNELS = ("auto", "compiled", "fused", "plain")


@dataclass(frozen=True)
class Execution:
    """The decision for one model, see `GeneratorModel.execute_on`.

    Attributes:
        device: where it computes.
        precision: of its networks; "mixed" for a model of models of which some are in bfloat16. Splines, sums
            and energies are float32 in any case.
        kernels: "compiled" ones of ours, "fused" by torch's compiler, or "plain" torch; "none" for a model
            that has no kernels, and "auto" before the decision, when compiled ones are used where they can be
            had.
    """

    device: torch.device
    precision: Literal["float32", "bfloat16", "mixed"]
    kernels: Literal["auto", "compiled", "fused", "plain", "none"]

    def __str__(self) -> str:
        kernels = "" if self.kernels == "none" else f", {self.kernels} kernels"
        return f"{self.device}, {self.precision}{kernels}"


def require_choices(precision: str, kernels: str) -> None:
    """CaloforgeError unless both are what can be asked for."""
    for what, choice, choices in (("precision", precision, PRECISIONS), ("kernels", kernels, KERNELS)):
        if choice not in choices:
            raise CaloforgeError(f"unknown {what} {choice!r}; choose one of {', '.join(choices)}")
