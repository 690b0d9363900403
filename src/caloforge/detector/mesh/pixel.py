"""The cells of a pixel detector as a mesh: what its models are trained on and checkpoints remember."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from caloforge.detector.mesh.base import MESHES, Floats, Frame, Ints, Mesh
from caloforge.detector.pixel import PixelDetector
from caloforge.errors import DetectorError

__all__ = ["PixelMesh"]


@MESHES.add("pixel")
@dataclass(frozen=True, eq=False)
class PixelMesh(Mesh):
    """Cells (sensor, u, v) of a pixel detector, in the order of its sensors."""

    detector: PixelDetector
    frame: Frame = "detector"
    kind: ClassVar[str] = "pixel"
    periodic: ClassVar[tuple[bool, ...]] = (False, False, False)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.detector.shape

    @property
    def layer_sizes(self) -> Ints:
        return np.bincount(self.detector.sensor_layers).astype(np.int64) * int(np.prod(self.shape[1:]))

    @property
    def layer_numbers(self) -> tuple[int, ...]:
        return tuple(range(1, 1 + len(self.detector.layers)))

    @cached_property
    def _cells(self) -> list[tuple[Floats, Floats]]:
        """Edges of the cells of each sensor along u and v, in the order in which they are counted, mm."""
        layers = [(layer.edges_u, layer.edges_v) for layer in self.detector.layers]
        return [
            (layers[sensor.layer][0], (-1 if sensor.flip_v else 1) * layers[sensor.layer][1])
            for sensor in self.detector.sensors
        ]

    def centres(self) -> dict[str, Floats]:
        parts = []
        for sensor, edges in zip(self.detector.sensors, self._cells, strict=True):
            u, v = ((e[1:] + e[:-1]) / 2 for e in edges)
            along = u[:, None, None] * sensor.axes[0] + v[:, None] * sensor.axes[1]
            parts.append((sensor.centre + along).reshape(-1, 3))
        x, y, z = np.concatenate(parts).T
        return {"x": x, "y": y, "z": z}

    def volumes(self) -> Floats:
        return np.concatenate(
            [
                np.outer(np.diff(u), np.abs(np.diff(v))).ravel()
                * (self.detector.layers[sensor.layer].thickness_um * 1e-3)
                for sensor, (u, v) in zip(self.detector.sensors, self._cells, strict=True)
            ]
        )

    def index(self, positions: ArrayLike) -> Ints:
        points = np.stack(self._xyz(positions), axis=1)
        found = np.full(len(points), -1, dtype=np.int64)
        n_u, n_v = self.shape[1:]
        for sensor in self.detector.sensors:
            local = (sensor.axes @ (points - sensor.centre).T).T
            u, v, inside = self.detector.cells_at(np.full(len(points), sensor.number), local[:, :2])
            inside &= np.abs(local[:, 2]) <= self.detector.layers[sensor.layer].thickness_um * 1e-3 / 2
            found[inside] = (sensor.number * n_u + u[inside]) * n_v + v[inside]
        return found

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "detector": self.detector.to_dict()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> PixelMesh:
        try:
            return cls(PixelDetector.from_dict(dict(fields["detector"])))
        except DetectorError as error:
            raise ValueError(f"{error}") from None

    def __str__(self) -> str:
        return f"{self.detector.name}, {' × '.join(map(str, self.shape))} cells"
