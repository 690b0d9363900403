"""Coordinates of diffusion models; a new kind is a new file here, or a class elsewhere."""

from caloforge.models.coordinates.diffusion.base import (
    COORDINATES,
    Coordinates,
    CoordinatesChoice,
    most_showers,
)

__all__ = ["COORDINATES", "Coordinates", "CoordinatesChoice", "most_showers"]
