"""Noise, decoding and streaming showers to disk."""

from caloforge.generation.events import generate_events
from caloforge.generation.generate import generate
from caloforge.generation.noise import draw_noise, noise_stream, normals
from caloforge.generation.request import GenerationRequest, resolve_checkpoint

__all__ = [
    "GenerationRequest",
    "draw_noise",
    "generate",
    "generate_events",
    "noise_stream",
    "normals",
    "resolve_checkpoint",
]
