"""Descriptions of detectors in the provenance of showers, where `caloforge.geant4.simulate` writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from caloforge.data.showers import Showers
from caloforge.detector.detector import Detector
from caloforge.errors import DataError, DetectorError

__all__ = ["described_detectors"]


def described_detectors(showers: Showers) -> dict[str, Detector]:
    """The detectors whose description is in the provenance of showers, or of what they were made from.

    Raises DataError where a detector that occurs in the showers has two descriptions of different material.
    """
    found: dict[str, Detector] = {}
    present = set(showers.conditions.detector.tolist())
    for description in _descriptions(showers.provenance):
        if description.get("name") not in present:
            continue
        try:
            detector = Detector.from_dict(dict(description))
        except DetectorError:  # of a version with other keys
            continue
        known = found.setdefault(detector.name, detector)
        if _material(known) != _material(detector):
            raise DataError(
                f"the showers come from two detectors called {detector.name!r}, of other layers, materials "
                "or sampling fractions; give each a name of its own and train on both"
            )
    return found


def _descriptions(record: Any) -> Iterator[Mapping[str, Any]]:
    """All descriptions of detectors anywhere in a provenance."""
    if isinstance(record, Mapping):
        description = record.get("detector")
        if isinstance(description, Mapping) and "stack" in description:
            yield description
        record = list(record.values())
    if isinstance(record, list | tuple):
        for value in record:
            yield from _descriptions(value)


def _material(detector: Detector) -> tuple[object, ...]:
    return detector.stack, detector.materials, detector.sampling_fraction
