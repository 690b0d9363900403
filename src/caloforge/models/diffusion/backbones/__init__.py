"""Networks of diffusion models; a new one is a new file here, or a class elsewhere."""

from caloforge.models.diffusion.backbones.base import BACKBONES, Backbone, BackboneChoice, LevelEmbedding

__all__ = ["BACKBONES", "Backbone", "BackboneChoice", "LevelEmbedding"]
