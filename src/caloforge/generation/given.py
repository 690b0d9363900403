"""Coarse showers that are given to a model that refines them, each one or several times.

Legend: ``N`` coarse showers, ``k`` copies; fine shower i is made of coarse shower i mod N.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.data.conditions import Conditions
from caloforge.data.fingerprint import data_fingerprint
from caloforge.data.formats import open_showers
from caloforge.data.showers import Showers
from caloforge.errors import CheckpointError, ConditionError
from caloforge.models.base import GeneratorModel

__all__ = ["GivenShowers"]


@dataclass(frozen=True)
class GivenShowers:
    """N coarse showers to refine k times.

    Attributes:
        showers: the coarse showers.
        copies: k.
        what: what to call them in messages.
    """

    showers: Showers
    copies: int
    what: str

    @classmethod
    def open(cls, given: Showers | str | os.PathLike[str], copies: int) -> GivenShowers:
        """From showers or their file; ConditionError where there are none."""
        what = "the given showers" if isinstance(given, Showers) else os.fspath(given)
        showers = open_showers(given)
        if not len(showers):
            raise ConditionError(f"{what}: there are no showers to refine")
        return cls(showers, copies, what)

    @property
    def conditions(self) -> Conditions:
        """Conditions of the k·N fine showers."""
        n = len(self.showers)
        return self.showers.conditions[np.arange(self.copies * n) % n]

    @property
    def fingerprint(self) -> str:
        """Differs where the coarse showers do."""
        return data_fingerprint(self.showers)

    def take(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Coarse showers (len(places), \\*shape) of the fine showers ``places``, MeV."""
        return self.showers[places % len(self.showers)].energies

    def require_fit(self, model: GeneratorModel, checkpoint: Checkpoint) -> None:
        """CheckpointError unless the model refines showers on the mesh of these."""
        mesh, folder = model.given_mesh, checkpoint.path or ""
        if mesh is None:
            raise CheckpointError(
                f"the checkpoint {folder} holds a {type(model).__name__}, which does not refine showers; use "
                "a super-resolution flow or a chain with one, or take conditions by like= (caloforge "
                "generate --like)"
            )
        if mesh != self.showers.mesh:
            raise CheckpointError(
                f"{self.what} has a {self.showers.mesh} [{self.showers.mesh.fingerprint}], but the "
                f"checkpoint {folder} refines showers on a {mesh} [{mesh.fingerprint}] into a {model.mesh}; "
                "give showers on that mesh (`caloforge data convert --coarsen` makes them of fine ones)"
            )
