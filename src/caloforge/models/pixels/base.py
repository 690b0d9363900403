"""What every model of pixel events is: a deterministic map from (noise, rates) to the charges of all cells.

Legend: ``n`` events, ``S`` sensors of ``U`` × ``V`` cells, ``B`` sources of background.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from caloforge.data.pixels.hits import PixelHits
from caloforge.detector.mesh.pixel import PixelMesh
from caloforge.detector.pixel import PixelDetector
from caloforge.errors import CheckpointError
from caloforge.models.base import NoiseModel

__all__ = ["PixelModel"]

KEY = 4
"""Words of an event's key."""


class PixelModel(NoiseModel):
    """A model that makes events of a pixel detector; a subclass is a new family.

    It stands beside `GeneratorModel`: an event has no incident particle, its conditions are the rate factors
    of the sources of background, (n, B), and most of its cells are empty. Training gives it `PixelEvents`
    where a generator of showers gets `Showers`, and batches that are `PixelBatch`.
    """

    mesh_kinds: ClassVar[tuple[str, ...]] = ("pixel",)
    needs_rates: ClassVar[bool] = True
    """False where events may be trained on whose rates are not known."""
    mesh: PixelMesh

    @property
    def detector(self) -> PixelDetector:
        """Whose sensors the events are on."""
        return self.mesh.detector

    @property
    def uses_rates(self) -> bool:
        """False where events do not depend on rates, which are then not known of them."""
        return True

    @abstractmethod
    def decode(self, noise: Mapping[str, Tensor], rates: Tensor) -> Tensor:
        """Charges (n, S, U, V), uint8, of n noises and rates (n, B); deterministic.

        Each event must depend on its own noise and rates alone. Beside the normal numbers of `noise_shapes`,
        noise has "key", (n, `KEY`) int64: low and high word of the seed and of the number of the event, for
        models that cannot say before how many random numbers an event takes.
        """

    def script(self) -> torch.jit.ScriptModule:
        """A module of TorchScript, without caloforge: see `caloforge.exports.pixels`.

        Its ``forward(seed: int, number: int = 0, rates: Tensor | None = None)`` gives the charges (S, U, V),
        uint8, of the event that generation makes of them on a CPU, at nominal rates where none are given.

        Raises:
            CheckpointError: this family cannot be exported.
        """
        raise CheckpointError(f"a {type(self).__name__} cannot be exported to TorchScript")

    def noise(self, n: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """The same, with a key."""
        device = torch.device("cpu") if generator is None else generator.device
        key = torch.randint(1 << 32, (n, KEY), generator=generator, device=device)
        return super().noise(n, generator) | {"key": key}

    def hits(self, noise: Mapping[str, Tensor], rates: Tensor) -> PixelHits:
        """The same as hits; a model that makes hits needs no images for it."""
        return PixelHits.from_dense(self.decode(noise, rates).cpu().numpy())
