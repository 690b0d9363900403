"""Models of how the energy of a shower is shared among layers; a new one is a new file here, or elsewhere."""

from caloforge.models.energies.base import (
    ENERGIES,
    LayerEnergyChoice,
    LayerEnergyDensity,
    LayerEnergyModel,
    LayerEnergySettings,
    layer_energy_model,
)

__all__ = [
    "ENERGIES",
    "LayerEnergyChoice",
    "LayerEnergyDensity",
    "LayerEnergyModel",
    "LayerEnergySettings",
    "layer_energy_model",
]
