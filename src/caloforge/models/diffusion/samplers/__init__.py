"""From noise to data; a new sampler is a new file here, or a class elsewhere."""

from caloforge.models.diffusion.samplers.base import (
    SAMPLERS,
    Sampler,
    SamplerChoice,
    SamplerSettings,
    noise_steps,
    sample,
)

__all__ = ["SAMPLERS", "Sampler", "SamplerChoice", "SamplerSettings", "noise_steps", "sample"]
