"""Preprocessing: invertible transforms that are fitted on training data and live inside the checkpoint."""

from caloforge.models.coordinates.base import Context, Transform, transform_from_dict
from caloforge.models.coordinates.chain import Chain, chain_from_dict, fit_batches
from caloforge.models.coordinates.elementwise import DivideByEnergy, Log, Logit, Scale
from caloforge.models.coordinates.layers import (
    LayerClosure,
    Layers,
    LayerShares,
    PadLayers,
    renormalise_layers,
)
from caloforge.models.coordinates.noise import (
    AddNoise,
    Threshold,
    cut_noise,
    exp_threshold,
    fill_below,
    log_threshold,
)
from caloforge.models.coordinates.ratios import (
    EnergyLogits,
    EnergyRatios,
    energy_logits,
    energy_ratios,
    layer_energies_from_logits,
    layer_energies_from_ratios,
)
from caloforge.models.coordinates.standardise import RunningMoments, Standardise

__all__ = [
    "AddNoise",
    "Chain",
    "Context",
    "DivideByEnergy",
    "EnergyLogits",
    "EnergyRatios",
    "LayerClosure",
    "LayerShares",
    "Layers",
    "Log",
    "Logit",
    "PadLayers",
    "RunningMoments",
    "Scale",
    "Standardise",
    "Threshold",
    "Transform",
    "chain_from_dict",
    "cut_noise",
    "energy_logits",
    "energy_ratios",
    "exp_threshold",
    "fill_below",
    "fit_batches",
    "layer_energies_from_logits",
    "layer_energies_from_ratios",
    "log_threshold",
    "renormalise_layers",
    "transform_from_dict",
]
