"""Quantities with units: energies, angles and lengths as text or numbers.

Text has a unit (``"10GeV"``, ``"1-50GeV"``, ``"60-90deg"``, ``"-20..20mm"``); plain numbers are MeV, rad, mm.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from caloforge.errors import ConditionError

__all__ = ["Quantity", "Range", "parse_energies", "parse_range", "whole_number"]

Range = tuple[float, float]
Quantity = float | str | Sequence[float]

UNITS = {
    "energy": {"eV": 1e-6, "keV": 1e-3, "MeV": 1.0, "GeV": 1e3, "TeV": 1e6},
    "angle": {"rad": 1.0, "mrad": 1e-3, "deg": math.pi / 180, "°": math.pi / 180},
    "length": {"um": 1e-3, "mm": 1.0, "cm": 10.0, "m": 1e3},
}
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_QUANTITY = re.compile(rf"\s*({_NUMBER})\s*([a-zA-Z°]*)\s*(?:(?:-|\.\.)\s*({_NUMBER})\s*([a-zA-Z°]*)\s*)?")


def whole_number(name: str, value: object, least: int = 1) -> int:
    """A number of numpy or Python as an int; ConditionError unless it is whole and ``least`` or more."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = least - 1
    if number < least:
        raise ConditionError(f"{name} must be at least {least} and a whole number, got {value!r}")
    return number


def parse_range(value: Quantity, kind: Literal["energy", "angle", "length"]) -> Range:
    """(lowest, highest) in MeV, rad or mm of a number, a pair, or text with a unit; a single value twice.

    Raises ConditionError where text has no unit or a wrong one, or the range is reversed or not finite.
    """
    if isinstance(value, str):
        low, high = _parse_text(value, kind)
    else:
        try:
            numbers = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ConditionError(f"{kind} {value!r}: expected a number, a pair or text ({error})") from error
        if numbers.shape not in ((), (2,)):
            raise ConditionError(f"a range of {kind} has two numbers, got {numbers.tolist()}")
        low, high = numbers.ravel()[[0, -1]].tolist()
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ConditionError(f"{kind} {value!r}: expected a finite number or lowest-highest")
    return low, high


def _parse_text(text: str, kind: str) -> Range:
    units = UNITS[kind]
    example = {"energy": "10GeV or 1-50GeV", "angle": "1.57rad or 60-90deg", "length": "3mm or -20..20mm"}[
        kind
    ]
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ConditionError(f"cannot read the {kind} {text!r}; write it like {example}")
    first, first_unit, second, second_unit = match.groups()
    unit = (second_unit if second is not None else first_unit) or first_unit
    if not unit:
        raise ConditionError(f"the {kind} {text!r} has no unit; write it like {example}")
    for name in (first_unit or unit, unit):
        if name not in units:
            raise ConditionError(f"{name!r} in {text!r} is no unit of {kind}; known are {', '.join(units)}")
    low = float(first) * units[first_unit or unit]
    return low, low if second is None else float(second) * units[unit]


def parse_energies(value: Quantity) -> list[Range]:
    """Energy ranges in MeV: of one value or range, or of a list (``"1GeV,10GeV"`` or numbers in MeV).

    A pair of numbers, which is a range of angles or lengths, is no range of energies and refused.
    """
    if isinstance(value, tuple) and len(value) == 2 and not any(isinstance(item, str) for item in value):
        low, high = value
        raise ConditionError(
            f'energy {value!r} may mean a range or two energies; write "{low:g}-{high:g}MeV" for a range, or '
            f"[{low:g}, {high:g}] for two that showers take in turn"
        )
    items: list[Any] = [value] if isinstance(value, int | float | str | np.number) else list(value)
    items = [part for item in items for part in (item.split(",") if isinstance(item, str) else [item])]
    ranges = [parse_range(item, "energy") for item in items]
    if not ranges or any(low <= 0 for low, _ in ranges):
        raise ConditionError(f"energies must be positive, got {value!r}")
    return ranges
