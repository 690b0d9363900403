"""What ``checkpoint.json`` holds, checked where it is read: it may come from anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from caloforge.errors import CheckpointError
from caloforge.settings import explain

__all__ = ["About"]

Pair = tuple[float, float]


class _Table(BaseModel):
    """Keys that are used, of the types they are used as; others may be there."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class _Usual(_Table):
    particle: str
    theta: float
    phi: float


class _Range(_Table):
    energy: Pair
    theta: Pair
    phi: Pair
    particle: list[str | int] = Field(min_length=1)
    detector: list[str] = Field(min_length=1)
    impact: tuple[Pair, Pair] | None = None
    usual: _Usual | None = None


class _Rates(_Table):
    """Of a model of pixel events."""

    rates: dict[str, Pair | None]
    detector: list[str] = Field(min_length=1, max_length=1)


class _MeshOf(_Table):
    fingerprint: str
    mesh: dict[str, Any]


class _Part(_Table):
    validation_loss: float | None = None


class _Metrics(_Table):
    parts: dict[str, _Part] = {}
    steps: int = 0


class _Provenance(_Table):
    changed_settings: dict[str, Any] | None = None
    fingerprints: dict[str, str] = {}


class About(_Table):
    """The description of a checkpoint."""

    model: str
    settings: dict[str, Any]
    detectors: list[str]
    valid_range: _Range | _Rates
    valid_ranges: dict[str, _Range] = {}
    mesh: dict[str, Any]
    mesh_fingerprint: str
    other_meshes: dict[str, _MeshOf] = {}
    recipe: dict[str, Any]
    provenance: _Provenance
    metrics: _Metrics
    seed: int

    @field_validator("detectors")
    @classmethod
    def _once(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError("a detector is named twice")
        return names

    @classmethod
    def check(cls, about: Mapping[str, Any], where: object) -> None:
        """CheckpointError naming all keys that are missing or of another type."""
        try:
            cls.model_validate(about)
        except ValidationError as error:
            raise CheckpointError(
                f"{explain(error, str(where))}; the file is damaged or incomplete"
            ) from None
