"""Noise, decoding and streaming showers to disk."""

from caloforge.generation.choice import chosen_checkpoint
from caloforge.generation.generate import generate
from caloforge.generation.noise import draw_noise, noise_stream, normals

__all__ = ["chosen_checkpoint", "draw_noise", "generate", "noise_stream", "normals"]
