"""One sentence about an evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from caloforge.evaluation.results import Significance

__all__ = ["Finding"]


@dataclass(frozen=True)
class Finding:
    """One sentence; ``auc``: with what AUC the difference alone tells a shower's origin, where that is known.

    ``repeats`` marks generated showers that are no new showers, which no classifier can see; ``hint`` is the
    number of standard deviations of a difference that is not sure, else 0.
    """

    text: str
    differs: bool
    auc: float = 0.5
    repeats: bool = False
    hint: float = 0.0

    @classmethod
    def of(
        cls,
        found: Significance,
        told: str,
        hint: str,
        agrees: str,
        *,
        auc: float = 0.5,
        repeats: bool = False,
    ) -> Finding:
        """The sentence that fits what a single number says."""
        if found.says == "told apart":
            return cls(told, True, auc, repeats)
        if found.says == "hint":
            return cls(hint, False, hint=found.sigmas)
        return cls(agrees, False)
