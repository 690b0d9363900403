"""Cells as images, for convolutional networks: in three dimensions, or with the layers as channels."""

from __future__ import annotations

from caloforge.detector import Mesh
from caloforge.errors import MeshError
from caloforge.evaluation.classifiers.inputs.base import INPUTS, Layout
from caloforge.evaluation.classifiers.inputs.cells import CellInputs
from caloforge.evaluation.features import Features

__all__ = ["ImageInputs"]


class ImageInputs(CellInputs):
    """[log₁₀ E_inc, cell / E_inc], the cells as an image (Z, P, R).

    Args:
        name: of the classifier.
        channels: whether the layers are channels of an image (P, R), or one channel has three axes.
    """

    def __init__(self, name: str, *, channels: bool) -> None:
        self.name, self.channels = name, channels

    def check(self, mesh: Mesh) -> None:
        if not mesh.is_regular:
            fitting = ", ".join(n for n in INPUTS.names() if not isinstance(INPUTS[n], ImageInputs))
            raise MeshError(
                f"the classifier {self.name!r} needs layers that all have the same cells (CylinderMesh, "
                f"BoxMesh), which the {mesh} has not; these classifiers fit it: {fitting}"
            )

    def layout(self, features: Features, *, sums: bool = False) -> Layout:
        return super().layout(features)  # a convolutional network sees what belongs together

    def image(self, mesh: Mesh) -> tuple[int, ...]:
        return mesh.shape if self.channels else (1, *mesh.shape)


INPUTS.add("resnet")(ImageInputs("resnet", channels=False))
INPUTS.add("c2st")(ImageInputs("c2st", channels=True))
