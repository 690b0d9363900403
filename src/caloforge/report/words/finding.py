"""One sentence about an evaluation."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True)
class Finding:
    """One sentence; ``auc``: with what AUC the difference alone tells a shower's origin, where that is known.

    ``repeats`` marks generated showers that are no new showers, which no classifier can see.
    """

    text: str
    differs: bool
    auc: float = 0.5
    repeats: bool = False
