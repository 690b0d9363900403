"""The networks that a recipe can choose by ``backbone.kind``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from caloforge.detector.mesh import Mesh
from caloforge.models.diffusion.backbone import Backbone
from caloforge.models.diffusion.transformer import Transformer, TransformerSettings
from caloforge.models.diffusion.unet import UNet, UNetSettings

__all__ = ["BackboneSettings", "backbone_of"]


def _kind(settings: Any) -> Any:
    """The kind that is asked for; a transformer where none is named."""
    if isinstance(settings, dict):
        return settings.get("kind", "transformer")
    return getattr(settings, "kind", None)


BackboneSettings = Annotated[
    Annotated[TransformerSettings, Tag("transformer")] | Annotated[UNetSettings, Tag("unet")],
    Discriminator(_kind),
]


def backbone_of(
    settings: TransformerSettings | UNetSettings, mesh: Mesh, *, conditions: int, layers: int, levels: int = 1
) -> Backbone:
    """The network that the settings ask for; see `Backbone` for the keywords."""
    if isinstance(settings, UNetSettings):
        return UNet(settings, mesh, conditions=conditions, layers=layers, levels=levels)
    return Transformer(settings, mesh, conditions=conditions, layers=layers, levels=levels)
