"""Everything that was drawn for a page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from caloforge.report.style import Drawing

__all__ = ["Material"]


@dataclass
class Material:
    """Drawings and data of a page, by the section that shows them."""

    weights: Drawing | None = None
    inputs: Drawing | None = None
    responses: list[Drawing] = field(default_factory=list)
    shapes: list[Drawing] = field(default_factory=list)
    overview: list[Drawing] = field(default_factory=list)
    separation: Drawing | None = None
    groups: dict[str, list[Drawing]] = field(default_factory=dict)
    profiles: Drawing | None = None
    correlations: dict[str, Drawing] = field(default_factory=dict)
    memorisation: Drawing | None = None
    side: Drawing | None = None
    layers: list[Drawing] = field(default_factory=list)
    events: Drawing | None = None
    layers_data: dict[str, Any] | None = None
    events_data: dict[str, Any] | None = None

    def drawings(self) -> list[Drawing]:
        """All of them."""
        single = (
            self.weights,
            self.inputs,
            self.separation,
            self.profiles,
            self.memorisation,
            self.side,
            self.events,
        )
        many = [self.responses, self.shapes, self.overview, self.layers, list(self.correlations.values())]
        return [d for d in single if d is not None] + [
            d for part in (*many, *self.groups.values()) for d in part
        ]
