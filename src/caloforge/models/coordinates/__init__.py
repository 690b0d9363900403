"""Coordinates: the numbers that networks see instead of MeV, and the way back; all families share them."""

from caloforge.models.coordinates.cells import (
    CellCoordinates,
    DecadesBelowLargest,
    LargestCellLogits,
    PartLogits,
    ShareLogits,
    ThresholdLogarithms,
    Whole,
)
from caloforge.models.coordinates.layer_energies import energy_logits, layer_energies_from_logits
from caloforge.models.coordinates.layers import Layers, block_sums, renormalise_layers
from caloforge.models.coordinates.scan import energy_range, least_energy
from caloforge.models.coordinates.spectrum import SpectrumMap
from caloforge.models.coordinates.standardise import FIT_BATCH, RunningMoments
from caloforge.models.coordinates.values import (
    cut_noise,
    exp_threshold,
    fill_below,
    inverse_squeezed_logit,
    log_energy,
    log_threshold,
    squeezed_logit,
)

__all__ = [
    "FIT_BATCH",
    "CellCoordinates",
    "DecadesBelowLargest",
    "LargestCellLogits",
    "Layers",
    "PartLogits",
    "RunningMoments",
    "ShareLogits",
    "SpectrumMap",
    "ThresholdLogarithms",
    "Whole",
    "block_sums",
    "cut_noise",
    "energy_logits",
    "energy_range",
    "exp_threshold",
    "fill_below",
    "inverse_squeezed_logit",
    "layer_energies_from_logits",
    "least_energy",
    "log_energy",
    "log_threshold",
    "renormalise_layers",
    "squeezed_logit",
]
