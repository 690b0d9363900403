"""Generators: what all families are, and the families."""

from typing import TYPE_CHECKING

from caloforge.lazy import lazily

if TYPE_CHECKING:
    from caloforge.models.base import GeneratorModel
    from caloforge.models.energies.base import LayerEnergyModel
    from caloforge.models.energies.layers_then_cells import LayersThenCells
    from caloforge.models.pixels.base import PixelModel
    from caloforge.models.student import Student
    from caloforge.models.trainable import Trainable

__getattr__, __dir__ = lazily(
    __name__,
    {
        "GeneratorModel": "base",
        "LayerEnergyModel": "energies.base",
        "LayersThenCells": "energies.layers_then_cells",
        "PixelModel": "pixels.base",
        "Student": "student",
        "Trainable": "trainable",
    },
)

__all__ = ["GeneratorModel", "LayerEnergyModel", "LayersThenCells", "PixelModel", "Student", "Trainable"]
