"""The networks that a recipe can choose by ``backbone.kind``."""

from __future__ import annotations

from caloforge.detector.mesh import Mesh
from caloforge.models.diffusion.backbone import Backbone
from caloforge.models.diffusion.transformer import Transformer, TransformerSettings

__all__ = ["BackboneSettings", "backbone_of"]

BackboneSettings = TransformerSettings


def backbone_of(
    settings: BackboneSettings, mesh: Mesh, *, conditions: int, layers: int, levels: int = 1
) -> Backbone:
    """The network that the settings ask for; see `Backbone` for the keywords."""
    return Transformer(settings, mesh, conditions=conditions, layers=layers, levels=levels)
